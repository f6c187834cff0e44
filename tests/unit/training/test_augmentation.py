import numpy as np
import pytest
import torch
from fedpedbrain.training.augmentation import Augmentation

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


def random_batch(num_cases: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(num_cases, 2, 3, 6, 8, generator=generator)
    return images, (torch.rand(num_cases, 1, 3, 6, 8, generator=generator) > 0.5).float()


def apply(settings: dict, images, masks, first: int = 0):
    """Augment, case n with the draw of case ``first + n``."""
    augmentation = Augmentation(settings)
    return augmentation(images, masks, [augmentation.draw("case", first + n) for n in range(len(images))])


def test_identity_settings_change_nothing():
    images, masks = random_batch()
    found_images, found_masks = apply(IDENTITY, images, masks)
    torch.testing.assert_close(found_images, images, rtol=0.0, atol=1e-5)
    assert torch.equal(found_masks, masks)


def test_a_flip_mirrors_image_and_mask_from_left_to_right():
    images, masks = random_batch()
    found_images, found_masks = apply(IDENTITY | {"flip_probability": 1.0}, images, masks)
    torch.testing.assert_close(found_images, images.flip(-1), rtol=0.0, atol=1e-5)
    assert torch.equal(found_masks, masks.flip(-1))


def test_half_of_the_cases_are_flipped():
    augmentation = Augmentation(IDENTITY | {"flip_probability": 0.5})
    flipped = [augmentation.draw("case", number)[0][0, 0] < 0 for number in range(400)]
    assert np.mean(flipped) == pytest.approx(0.5, abs=0.1)


def test_a_crop_is_stretched_to_the_full_plane():
    # The left half of a ramp of 8 columns, twice as wide: columns at 0.25 steps of a half.
    image = torch.arange(8.0).div(8).expand(1, 1, 2, 8, 8)
    crop = np.array([[0.5, 0, 0, -0.5], [0, 0.5, 0, -0.5], [0, 0, 1, 0]], np.float32)
    found, _ = Augmentation(IDENTITY)(image, None, [(crop, 1.0)])
    # At the image's own border there is nothing to interpolate with.
    expected = torch.tensor([0.0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3.25]) / 8
    torch.testing.assert_close(found[0, 0, 1, 4], expected)


def test_a_mask_is_cropped_to_the_nearest_voxels():
    mask = torch.tensor([0.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0]).expand(1, 1, 2, 8, 8).contiguous()
    crop = np.array([[0.5, 0, 0, -0.5], [0, 0.5, 0, -0.5], [0, 0, 1, 0]], np.float32)
    _, found = Augmentation(IDENTITY)(mask, mask, [(crop, 1.0)])
    assert found[0, 0, 1, 4].tolist() == [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0]


def test_a_crop_leaves_the_slices():
    image = torch.arange(4.0).div(4).reshape(1, 1, 4, 1, 1).expand(1, 1, 4, 6, 6).contiguous()
    found, _ = apply(IDENTITY | {"crop_fraction": 0.7}, image, None)
    torch.testing.assert_close(found, image, rtol=0.0, atol=1e-5)


def test_a_crop_stays_inside_the_image_and_moves_with_the_case():
    augmentation = Augmentation(IDENTITY | {"crop_fraction": 0.75})
    changes = np.array([augmentation.draw("case", number)[0] for number in range(200)])
    np.testing.assert_array_equal(changes[:, range(3), range(3)], np.tile(np.float32([0.75, 0.75, 1.0]), (200, 1)))
    shifts = changes[:, :2, 3]
    assert np.abs(shifts).max() <= 0.25
    assert shifts.min() < -0.2
    assert shifts.max() > 0.2


def test_a_rotation_keeps_lengths_and_angles_in_mm():
    # A plane of 100 mm by 200 mm: half its height is 50 mm, half its width 100 mm.
    augmentation = Augmentation(IDENTITY | {"rotation_degrees": 30.0})
    half_mm = np.diag([100.0, 50.0])
    for number in range(20):
        matrix = augmentation.draw("case", number, aspect=0.5)[0][:2, :2]
        in_mm = half_mm @ matrix @ np.linalg.inv(half_mm)
        np.testing.assert_allclose(in_mm @ in_mm.T, np.eye(2), atol=1e-6)


def test_a_quarter_turn_puts_columns_into_rows():
    image = torch.arange(4.0).div(4).expand(1, 1, 2, 4, 4).contiguous()
    turn = np.array([[0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0]], np.float32)
    found, _ = Augmentation(IDENTITY)(image, None, [(turn, 1.0)])
    torch.testing.assert_close(found[0, 0, 0, :, 0], torch.tensor([0.75, 0.5, 0.25, 0.0]))


def test_rotation_and_zoom_keep_to_their_spread():
    augmentation = Augmentation(IDENTITY | {"rotation_degrees": 20.0, "zoom_spread": 0.2})
    matrices = np.array([augmentation.draw("case", number)[0][:2, :2] for number in range(300)])
    degrees = np.degrees(np.arctan2(matrices[:, 1, 0], matrices[:, 0, 0]))
    zooms = 1.0 / np.hypot(matrices[:, 0, 0], matrices[:, 1, 0])
    assert -20.0 <= degrees.min() < -18.0
    assert 18.0 < degrees.max() <= 20.0
    assert 0.8 <= zooms.min() < 0.82
    assert 1.18 < zooms.max() <= 1.2


def test_image_and_mask_move_alike():
    masks = torch.zeros(8, 1, 3, 24, 24)
    masks[..., 6:14, 9:17] = 1.0
    found_images, found_masks = apply(ALL | {"gamma_spread": 0.0}, masks.clone(), masks)
    assert ((found_images > 0.5) != (found_masks > 0.5)).float().mean() < 0.02
    assert (found_masks != masks).any()


def test_masks_stay_0_or_1_and_images_in_their_range():
    images, masks = random_batch(8)
    found_images, found_masks = apply(ALL, images, masks)
    assert set(found_masks.unique().tolist()) == {0.0, 1.0}
    assert 0.0 <= found_images.min() <= found_images.max() <= 1.0
    assert found_images.shape == images.shape


def test_gamma_is_the_exponent_of_the_intensities():
    images = torch.tensor([0.0, 0.25, 0.5, 1.0]).expand(1, 1, 2, 4, 4).contiguous()
    identity = np.eye(3, 4, dtype=np.float32)
    found, _ = Augmentation(IDENTITY)(images, None, [(identity, 2.0)])
    torch.testing.assert_close(found[0, 0, 0, 0], torch.tensor([0.0, 0.0625, 0.25, 1.0]), rtol=0.0, atol=1e-5)


def test_gamma_keeps_to_its_spread():
    augmentation = Augmentation(IDENTITY | {"gamma_spread": 0.3})
    gammas = [augmentation.draw("case", number)[1] for number in range(200)]
    assert 0.7 <= min(gammas) < 0.75
    assert 1.25 < max(gammas) <= 1.3


def test_a_change_does_not_depend_on_the_batch():
    images, masks = random_batch(4)
    together = apply(ALL, images, masks)
    alone = apply(ALL, images[2:3], masks[2:3], first=2)
    torch.testing.assert_close(together[0][2:3], alone[0])
    assert torch.equal(together[1][2:3], alone[1])


def test_the_same_seed_parts_draw_the_same_change_and_others_another():
    augmentation = Augmentation(ALL)
    first, again, other = (augmentation.draw(0, 1, epoch, "sub-01") for epoch in (1, 1, 2))
    np.testing.assert_array_equal(first[0], again[0])
    assert first[1] == again[1] != other[1]


def test_a_study_without_regions_has_no_masks_to_change():
    images, _ = random_batch()
    empty = torch.zeros(3, 0, 3, 6, 8)
    found_images, found_masks = apply(ALL, images, empty)
    assert found_images.shape == images.shape
    assert found_masks.shape == empty.shape
