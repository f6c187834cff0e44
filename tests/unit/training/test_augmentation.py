import math

import numpy as np
import pytest
import torch
from fedpedbrain.training.augmentation import Augmentation, Change
from torch import Tensor

IDENTITY = {
    "crop_fraction": 1.0,
    "rotation_degrees": 0.0,
    "zoom_spread": 0.0,
    "flip_probability": 0.0,
    "gamma_spread": 0.0,
}
ALL = {
    "crop_fraction": 0.8,
    "rotation_degrees": 20.0,
    "zoom_spread": 0.2,
    "flip_probability": 0.5,
    "gamma_spread": 0.3,
}
CROP_AND_FLIP = IDENTITY | {"crop_fraction": 0.8, "flip_probability": 0.5}
# Changes nothing by itself, but has planes sampled rather than cut out.
SAMPLED = IDENTITY | {"rotation_degrees": 1e-9}


def random_batch(num_cases: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (num_cases, 2, 3, 6, 8), generator=generator, dtype=torch.uint8)
    return images, torch.randint(0, 2, (num_cases, 1, 3, 6, 8), generator=generator, dtype=torch.uint8)


def rows_of(*row: float, height: int = 2) -> Tensor:
    """One case of one channel and two slices, uint8 (1, 1, 2, height, W), all rows alike."""
    return torch.tensor(row).byte().expand(1, 1, 2, height, -1).contiguous()


def draw(settings: dict, num_cases: int, first: int = 0) -> list[Change]:
    augmentation = Augmentation(settings)
    return [augmentation.draw("case", first + number) for number in range(num_cases)]


def apply(settings: dict, images: Tensor, masks: Tensor, first: int = 0) -> tuple[Tensor, Tensor]:
    """Augment, case n with the draw of case ``first + n``."""
    return Augmentation(settings)(images, masks, draw(settings, len(images), first))


# What comes out.


@pytest.mark.parametrize("settings", [IDENTITY, SAMPLED], ids=["cut out", "sampled"])
def test_identity_settings_change_nothing(settings):
    images, masks = random_batch()
    found_images, found_masks = apply(settings, images, masks)
    torch.testing.assert_close(found_images, images / 255, rtol=0.0, atol=1e-5)
    assert torch.equal(found_masks, masks)


@pytest.mark.parametrize("settings", [IDENTITY, CROP_AND_FLIP, ALL], ids=["nothing", "crop and flip", "all"])
def test_images_become_fractions_of_255_and_masks_stay_0_or_1(settings):
    images, masks = random_batch(8)
    images[:, :, :, :3], images[:, :, :, 3:] = 0, 255
    before = images.clone(), masks.clone()
    found_images, found_masks = apply(settings, images, masks)
    assert found_images.dtype == torch.float32
    assert found_images.shape == images.shape
    assert found_masks.shape == masks.shape
    assert found_images.is_contiguous(memory_format=torch.channels_last_3d)
    assert (found_images.min(), found_images.max()) == (0.0, 1.0)
    assert set(found_masks.unique().tolist()) == {0, 1}
    assert torch.equal(images, before[0])
    assert torch.equal(masks, before[1])


@pytest.mark.parametrize("settings", [IDENTITY, CROP_AND_FLIP, ALL], ids=["nothing", "crop and flip", "all"])
def test_a_study_without_regions_has_no_masks_to_change(settings):
    images, masks = random_batch()
    found_images, found_masks = apply(settings, images, masks[:, :0])
    assert torch.equal(found_images, apply(settings, images, masks)[0])
    assert found_masks.shape == (3, 0, 3, 6, 8)


@pytest.mark.parametrize("settings", [CROP_AND_FLIP, ALL], ids=["crop and flip", "all"])
def test_a_change_does_not_depend_on_the_batch(settings):
    images, masks = random_batch(4)
    together = apply(settings, images, masks)
    alone = apply(settings, images[2:3], masks[2:3], first=2)
    torch.testing.assert_close(together[0][2:3], alone[0])
    assert torch.equal(together[1][2:3], alone[1])


@pytest.mark.parametrize("settings", [CROP_AND_FLIP, ALL], ids=["crop and flip", "all"])
def test_image_and_mask_move_alike(settings):
    masks = torch.zeros(8, 1, 3, 24, 24, dtype=torch.uint8)
    masks[..., 6:14, 9:17] = 1
    found_images, found_masks = apply(settings | {"gamma_spread": 0.0}, masks * 255, masks)
    assert ((found_images > 0.5) != (found_masks > 0)).float().mean() < 0.02
    assert (found_masks != masks).any()


# Mirror.


@pytest.mark.parametrize("settings", [IDENTITY, SAMPLED], ids=["cut out", "sampled"])
def test_a_flip_mirrors_image_and_mask_from_left_to_right(settings):
    images, masks = random_batch()
    found_images, found_masks = apply(settings | {"flip_probability": 1.0}, images, masks)
    torch.testing.assert_close(found_images, images.flip(-1) / 255, rtol=0.0, atol=1e-5)
    assert torch.equal(found_masks, masks.flip(-1))


def test_half_of_the_cases_are_flipped():
    flipped = [change.mirrored for change in draw(IDENTITY | {"flip_probability": 0.5}, 400)]
    assert np.mean(flipped) == pytest.approx(0.5, abs=0.1)


# Crop.

HALF = IDENTITY | {"crop_fraction": 0.5}


@pytest.mark.parametrize(
    ("shift", "mirrored", "expected"),
    [
        # Columns at steps of 0.5, half of one before the first: 0.25 of the way between neighbours, then 0.75.
        (0.0, False, [0, 2, 6, 10, 14, 18, 22, 24]),
        # 5 places for 4 of 8 columns: the third begins at column 2.
        (0.5, False, [16, 18, 22, 26, 30, 34, 38, 40]),
        (0.999, False, [32, 34, 38, 42, 46, 50, 54, 56]),
        (0.0, True, [24, 22, 18, 14, 10, 6, 2, 0]),
    ],
    ids=["left", "middle", "right", "mirrored"],
)
def test_a_window_of_an_image_is_stretched_to_the_full_plane(shift, mirrored, expected):
    image = rows_of(0, 8, 16, 24, 32, 40, 48, 56, height=8)
    found, _ = Augmentation(HALF)(image, image[:, :0], [Change(shift=(0.0, shift), mirrored=mirrored)])
    torch.testing.assert_close(found[0, 0, 1, 4] * 255, torch.tensor(expected).float())


def test_a_windows_rows_are_stretched_like_its_columns():
    image = rows_of(0, 8, 16, 24, 32, 40, 48, 56, height=8).transpose(-1, -2)
    found, _ = Augmentation(HALF)(image, image[:, :0], [Change(shift=(0.5, 0.0))])
    expected = torch.tensor([16.0, 18.0, 22.0, 26.0, 30.0, 34.0, 38.0, 40.0])
    torch.testing.assert_close(found[0, 0, 1, :, 4] * 255, expected)


def test_a_window_of_a_mask_takes_the_nearest_voxels():
    mask = rows_of(0, 1, 0, 1, 1, 0, 0, 0, height=8)
    _, found = Augmentation(HALF)(mask, mask, [Change()])
    assert found[0, 0, 1, 4].tolist() == [0, 0, 1, 1, 0, 0, 1, 1]


def test_the_nearest_voxel_is_that_under_a_voxels_centre():
    # Six columns on eight: centres at 0.375, 1.125, 1.875, 2.625 and so on, as linear interpolation has them, too.
    mask = rows_of(0, 1, 0, 1, 0, 1, 0, 0, height=8)
    _, found = Augmentation(IDENTITY | {"crop_fraction": 0.75})(mask, mask, [Change()])
    assert found[0, 0, 1, 4].tolist() == [0, 1, 1, 0, 1, 0, 0, 1]


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_window_is_the_same_cut_out_and_sampled(mirrored):
    images, masks = random_batch(1)
    changes = [Change(shift=(0.9, 0.0), mirrored=mirrored)]
    cut_out, sampled = (
        Augmentation(settings | {"crop_fraction": 0.8})(images, masks, changes) for settings in (IDENTITY, SAMPLED)
    )
    # At its border a window that is cut out has nothing beyond it to interpolate with.
    torch.testing.assert_close(cut_out[0][..., 1:-1, 1:-1], sampled[0][..., 1:-1, 1:-1], rtol=0.0, atol=1e-5)
    assert torch.equal(cut_out[1], sampled[1])


def test_a_crop_leaves_the_slices():
    images = torch.arange(4).byte().reshape(1, 1, 4, 1, 1).expand(1, 1, 4, 6, 6).contiguous()
    found_images, found_masks = apply(IDENTITY | {"crop_fraction": 0.7}, images, images)
    torch.testing.assert_close(found_images, images / 255, rtol=0.0, atol=1e-5)
    assert torch.equal(found_masks, images)


def test_a_crop_stays_inside_the_image_and_reaches_all_its_places():
    # Of 8 columns or rows 6 are kept: three places, in which the mark at the third is the third, second or first kept.
    mask = rows_of(0, 0, 1, 0, 0, 0, 0, 0, height=8)
    settings = IDENTITY | {"crop_fraction": 0.75}
    places = {(0, 0, 0, 1, 0, 0, 0, 0), (0, 1, 1, 0, 0, 0, 0, 0), (1, 0, 0, 0, 0, 0, 0, 0)}
    assert {tuple(apply(settings, mask, mask, first)[1][0, 0, 0, 0].tolist()) for first in range(60)} == places
    mask = mask.transpose(-1, -2)
    assert {tuple(apply(settings, mask, mask, first)[1][0, 0, 0, :, 0].tolist()) for first in range(60)} == places


# Rotation and zoom.


def test_a_quarter_turn_puts_columns_into_rows():
    image = rows_of(0, 64, 128, 192, height=4)
    found, _ = Augmentation(SAMPLED)(image, image, [Change(angle=math.pi / 2)])
    torch.testing.assert_close(found[0, 0, 0, :, 0] * 255, torch.tensor([192.0, 128.0, 64.0, 0.0]))


def test_twice_the_zoom_shows_the_middle():
    mask = rows_of(0, 0, 1, 0, 1, 1, 0, 0, height=8)
    _, found = Augmentation(SAMPLED)(mask, mask, [Change(zoom=2.0)])
    assert found[0, 0, 1, 4].tolist() == [1, 1, 0, 0, 1, 1, 1, 1]


def test_beyond_the_image_its_border_goes_on_and_no_region_is():
    image = rows_of(100, 100, 100, 100, height=4)
    found_image, found_mask = Augmentation(SAMPLED)(image, image // 100, [Change(zoom=0.5)])
    torch.testing.assert_close(found_image * 255, image.float())
    assert found_mask[0, 0, 0].tolist() == [[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]


def length_mm(voxels: Tensor, spacing_mm: tuple[float, float]) -> float:
    """Distance between the two furthest marked voxels of a plane (H, W)."""
    places = voxels.nonzero() * torch.tensor(spacing_mm)
    return torch.cdist(places, places).max().item()


@pytest.mark.parametrize("zoom", [1.0, 0.7])
@pytest.mark.parametrize("degrees", [-90.0, -60.0, -30.0, 20.0, 45.0, 90.0])
def test_a_rotation_keeps_lengths_in_mm_but_for_the_zoom(degrees, zoom):
    # A plane of 60 x 60 voxels of 2 mm by 1 mm: a bar of 40 mm along its width, and how long it is when turned.
    mask = torch.zeros(1, 1, 1, 60, 60, dtype=torch.uint8)
    mask[..., 29:31, 10:51] = 1
    assert length_mm(mask[0, 0, 0], (2.0, 1.0)) == pytest.approx(40.0, abs=0.1)
    change = Change(angle=math.radians(degrees), zoom=zoom, aspect=2.0)
    _, found = Augmentation(SAMPLED)(mask, mask, [change])
    assert length_mm(found[0, 0, 0], (2.0, 1.0)) == pytest.approx(40.0 * zoom, abs=2.5)


@pytest.mark.parametrize("degrees", [-60.0, 30.0])
def test_a_rotation_keeps_right_angles_in_mm(degrees):
    # A disc of 20 mm stays one in a plane of 40 x 60 voxels of 2 mm by 1 mm.
    rows, columns = torch.meshgrid(torch.arange(40) * 2.0 - 39.0, torch.arange(60) * 1.0 - 29.5, indexing="ij")
    disc = (rows**2 + columns**2 <= 20.0**2).byte().expand(1, 1, 1, 40, 60).contiguous()
    _, found = Augmentation(SAMPLED)(disc, disc, [Change(angle=math.radians(degrees), aspect=80 / 60)])
    assert (found != disc).float().mean() < 0.02


def test_rotation_and_zoom_keep_to_their_spread():
    changes = draw(IDENTITY | {"rotation_degrees": 20.0, "zoom_spread": 0.2}, 300)
    degrees = [math.degrees(change.angle) for change in changes]
    zooms = [change.zoom for change in changes]
    assert -20.0 <= min(degrees) < -18.0
    assert 18.0 < max(degrees) <= 20.0
    assert 0.8 <= min(zooms) < 0.82
    assert 1.18 < max(zooms) <= 1.2


# Contrast.


def test_gamma_is_the_exponent_of_the_intensities():
    images = rows_of(0, 51, 102, 255)
    found, _ = Augmentation(IDENTITY | {"gamma_spread": 0.3})(images, images, [Change(gamma=2.0)])
    torch.testing.assert_close(found[0, 0, 0, 0], torch.tensor([0.0, 0.04, 0.16, 1.0]), rtol=0.0, atol=1e-5)


def test_every_case_has_its_own_gamma():
    images = rows_of(0, 51, 102, 255).repeat(2, 1, 1, 1, 1)
    augmentation = Augmentation(IDENTITY | {"gamma_spread": 0.3})
    found, _ = augmentation(images, images, [Change(), Change(gamma=2.0)])
    torch.testing.assert_close(found[:, 0, 0, 0, 1], torch.tensor([0.2, 0.04]), rtol=0.0, atol=1e-5)


def test_gamma_keeps_to_its_spread():
    gammas = [change.gamma for change in draw(IDENTITY | {"gamma_spread": 0.3}, 200)]
    assert 0.7 <= min(gammas) < 0.75
    assert 1.25 < max(gammas) <= 1.3


# Draws.


def test_the_same_seed_parts_draw_the_same_change_and_others_another():
    augmentation = Augmentation(ALL)
    first, again, other = (augmentation.draw(0, 1, epoch, "sub-01") for epoch in (1, 1, 2))
    assert first == again
    assert first != other


def test_identity_settings_draw_a_place_alone():
    for change in draw(IDENTITY, 20):
        assert change == Change(shift=change.shift)


def test_a_change_knows_its_planes_aspect():
    assert Augmentation(ALL).draw("case", shape=(2, 9, 30, 80), spacing_mm=(5.0, 2.0, 1.0)).aspect == 0.75
