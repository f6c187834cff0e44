"""Rotation, scaling and mirrors of samples by worked answers; what is drawn, and from what."""

import math

import numpy as np
import pytest
import torch
from fedpedbrain.base.choices import defaults_of
from fedpedbrain.study.augmentation_facts import AUGMENTATIONS
from fedpedbrain.training.volume_augmentation import VolumeAugmentation
from torch import Tensor

DEFAULTS = defaults_of(AUGMENTATIONS["volume"].options)
NOTHING = DEFAULTS | {name: 0.0 for name in DEFAULTS if name.endswith("_probability") and name != "channel_probability"}
EVERYTHING = DEFAULTS | {name: 1.0 for name in DEFAULTS if name.endswith("_probability")}
CUBE, FLAT = (2, 12, 12, 12), (2, 1, 24, 20)
ISOTROPIC = (1.0, 1.0, 1.0)


def sure(*names: str, **options) -> dict:
    """Settings of which these happen for sure and no others."""
    return NOTHING | {f"{name}_probability": 1.0 for name in names} | options


def draws(settings: dict, shape=CUBE, spacing_mm=ISOTROPIC, num: int = 300) -> list:
    augmentation = VolumeAugmentation(settings)
    return [augmentation.draw("case", number, shape=shape, spacing_mm=spacing_mm) for number in range(num)]


def apply(settings: dict, images: Tensor, masks: Tensor, spacing_mm=ISOTROPIC) -> tuple[Tensor, Tensor]:
    """Augment a batch that was read as it is, case n with draw n."""
    augmentation = VolumeAugmentation(settings)
    shape = tuple(images.shape[1:])
    changes = [augmentation.draw("case", number, shape=shape, spacing_mm=spacing_mm) for number in range(len(images))]
    return augmentation(images, masks, changes)


def random_batch(shape=CUBE, num: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (num, *shape), generator=generator, dtype=torch.uint8)
    return images, (images[:, :1] > 128).byte()


@pytest.mark.parametrize("shape", [CUBE, FLAT], ids=["cube", "slice"])
def test_settings_without_any_change_scale_to_one_alone(shape):
    images, masks = random_batch(shape)
    found_images, found_masks = apply(NOTHING, images, masks)
    torch.testing.assert_close(found_images, images / 255.0)
    assert torch.equal(found_masks, masks)
    assert found_images.is_contiguous(memory_format=torch.channels_last_3d)


def test_z_scores_stay_as_they_are():
    images, masks = random_batch()
    scores = (images.float() / 50.0 - 2.0).half()
    assert torch.equal(apply(NOTHING, scores, masks)[0], scores.float())


@pytest.mark.parametrize("shape", [CUBE, (3, 3, 24, 20)], ids=["cube", "slices"])
def test_every_change_at_once_is_finite_and_leaves_what_it_is_given(shape):
    images, masks = random_batch(shape)
    before = images.clone(), masks.clone()
    found_images, found_masks = apply(EVERYTHING, images, masks)
    assert found_images.isfinite().all()
    assert found_images.shape == images.shape
    assert found_masks.dtype == torch.uint8
    assert set(found_masks.unique().tolist()) == {0, 1}
    assert torch.equal(images, before[0])
    assert torch.equal(masks, before[1])


def test_a_study_without_regions_is_augmented():
    images, masks = random_batch()
    assert apply(EVERYTHING, images, masks[:, :0])[1].shape == (3, 0, *CUBE[1:])


def test_a_case_is_changed_alike_wherever_it_stands_in_a_batch():
    images, masks = random_batch(num=6)
    augmentation = VolumeAugmentation(DEFAULTS | {"rotation_probability": 0.5, "noise_probability": 0.5})
    changes = [augmentation.draw("case", number, shape=CUBE, spacing_mm=ISOTROPIC) for number in range(6)]
    whole = augmentation(images, masks, changes)
    order = [4, 1, 5]
    part = augmentation(images[order], masks[order], [changes[number] for number in order])
    torch.testing.assert_close(part[0], whole[0][order], rtol=0.0, atol=1e-6)
    assert torch.equal(part[1], whole[1][order])


# Rotation and scaling.


def ball(shape: tuple[int, int, int], centre, radius_mm: float, spacing_mm) -> Tensor:
    """uint8 (1, 1, D, H, W): 1 within a radius of a point, both in mm from the middle."""
    places = [(torch.arange(size) - (size - 1) / 2) * mm for size, mm in zip(shape, spacing_mm, strict=True)]
    grid = torch.meshgrid(*places, indexing="ij")
    squares = sum((axis - middle) ** 2 for axis, middle in zip(grid, centre, strict=True))
    return (squares <= radius_mm**2).byte()[None, None]


def centre_mm(mask: Tensor, spacing_mm) -> Tensor:
    shape = torch.tensor(mask.shape[2:])
    return (mask[0, 0].nonzero().float().mean(0) - (shape - 1) / 2) * torch.tensor(spacing_mm)


@pytest.mark.parametrize("number", range(5))
def test_a_rotation_keeps_distances_and_volumes_in_mm(number):
    # 40 x 60 x 60 voxels of 2 x 1 x 1.5 mm; a ball of 10 mm, 15 mm from the middle.
    spacing, shape = (2.0, 1.0, 1.5), (40, 60, 60)
    mask = ball(shape, (8.0, -12.0, 4.0), 10.0, spacing)
    augmentation = VolumeAugmentation(sure("rotation"))
    change = augmentation.draw("case", number, shape=(1, *shape), spacing_mm=spacing)
    assert not change.is_plane
    _, found = augmentation(mask * 255, mask, [change])
    where = centre_mm(found, spacing)
    assert where.norm().item() == pytest.approx(centre_mm(mask, spacing).norm().item(), abs=0.3)
    assert (where - centre_mm(mask, spacing)).norm() > 1.0
    assert found.sum().item() == pytest.approx(mask.sum().item(), rel=0.05)
    # Still a ball.
    assert (found == ball(shape, where.tolist(), 10.0, spacing)).float().mean() > 0.99


@pytest.mark.parametrize("shape", [(1, 64, 64), (3, 64, 64), (20, 64, 64)])
def test_flat_samples_turn_in_their_plane_alone(shape):
    mask = torch.zeros(1, 1, *shape, dtype=torch.uint8)
    mask[:, :, :1] = ball((1, *shape[1:]), (0.0, -9.0, 14.0), 8.0, (5.0, 1.0, 0.8))
    augmentation = VolumeAugmentation(sure("rotation", "scaling", scaling_range=[0.8, 0.8]))
    change = augmentation.draw("case", 0, shape=(1, *shape), spacing_mm=(5.0, 1.0, 0.8))
    assert change.is_plane
    _, found = augmentation(mask * 255, mask, [change])
    assert not found[:, :, 1:].any()
    before, after = (centre_mm(part[:, :, :1], (5.0, 1.0, 0.8)) for part in (mask, found))
    assert after.norm().item() == pytest.approx(0.8 * before.norm().item(), abs=0.3)


def test_scaling_multiplies_the_size_of_what_is_shown():
    mask = ball((40, 40, 40), (0.0, 0.0, 0.0), 8.0, ISOTROPIC)
    for factor in (0.7, 1.4):
        _, found = apply(sure("scaling", scaling_range=[factor, factor]), mask * 255, mask)
        assert found.sum().item() == pytest.approx(factor**3 * mask.sum().item(), rel=0.05)


def test_regions_that_exclude_each_other_still_do_in_a_voxel_between_them():
    # Of five voxels shown twice as large, the second and the fourth lie in the middle between two.
    left = torch.zeros(1, 1, 1, 5, 5, dtype=torch.uint8)
    left[..., :2] = 1
    masks = torch.cat([left, 1 - left], dim=1)
    _, found = apply(sure("scaling", scaling_range=[2.0, 2.0]), masks[:, :1] * 255, masks)
    assert found[0, :, 0, 2].tolist() == [[1, 0, 0, 0, 0], [0, 0, 1, 1, 1]]


def test_rotation_and_scaling_keep_to_their_limits():
    angles, factors = [], []
    for change in draws(sure("rotation", "scaling"), shape=FLAT):
        scale = math.sqrt(np.linalg.det(change.matrix[1:, 1:]))
        factors.append(1.0 / scale)
        angles.append(math.degrees(math.atan2(change.matrix[2, 1], change.matrix[1, 1])))
    assert -180.0 <= min(angles) < -170.0
    assert 170.0 < max(angles) <= 180.0
    assert 0.7 <= min(factors) < 0.72
    assert 1.37 < max(factors) <= 1.4
    # As often smaller as larger.
    assert 0.4 < np.mean([factor < 1.0 for factor in factors]) < 0.6


# What is read around a sample.


@pytest.mark.parametrize("shape", [(2, 10, 24, 20), (2, 3, 24, 20)], ids=["volume", "slices"])
def test_what_reach_says_is_all_that_is_looked_at(shape):
    augmentation = VolumeAugmentation(sure("rotation", "scaling"))
    changes = [augmentation.draw("case", number, shape=shape, spacing_mm=(2.0, 1.0, 1.0)) for number in range(4)]
    reach = augmentation.reach(shape[1:], changes)
    assert all(length >= size and (length - size) % 2 == 0 for length, size in zip(reach, shape[1:], strict=True))
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (4, 2, *reach), generator=generator, dtype=torch.uint8)
    masks = (images[:, :1] > 128).byte()
    read = augmentation(images, masks, changes)
    wider = [torch.nn.functional.pad(part, (3,) * 6, value=value) for part, value in ((images, 255), (masks, 1))]
    if changes[0].is_plane:
        assert reach[0] == 3
        wider = [part[:, :, 3:-3] for part in wider]
    torch.testing.assert_close(augmentation(*wider, changes)[0], read[0], rtol=0.0, atol=1e-5)
    smaller = [part[..., 2:-2] for part in (images, masks)]
    assert (augmentation(*smaller, changes)[0] - read[0]).abs().max() > 0.1


def test_without_rotation_and_scaling_nothing_beyond_the_sample_is_read():
    augmentation = VolumeAugmentation(NOTHING)
    assert augmentation.reach((10, 24, 20), draws(NOTHING, num=3)) == (10, 24, 20)


# Mirrors.


def test_images_and_masks_are_mirrored_along_the_named_axes_alone():
    images, masks = random_batch(num=1)
    for names, axes in ((["W"], [-1]), (["H", "D"], [-2, -3])):
        found = apply(sure("mirror", mirror_axes=names), images, masks)
        torch.testing.assert_close(found[0], images.flip(axes) / 255.0)
        assert torch.equal(found[1], masks.flip(axes))


def test_each_axis_is_mirrored_on_its_own():
    changes = draws(DEFAULTS | {"mirror_axes": ["H", "W"]}, num=400)
    for axes in ((), (-2,), (-1,), (-2, -1)):
        assert 0.18 < np.mean([set(change.mirrored) == set(axes) for change in changes]) < 0.32
    assert not any(change.mirrored for change in draws(DEFAULTS | {"mirror_axes": []}, num=20))


# Draws.


def test_the_same_seed_parts_draw_the_same_and_others_another():
    augmentation = VolumeAugmentation(EVERYTHING)
    first, again, other = (
        augmentation.draw(0, 1, epoch, "sub-01", 0, shape=CUBE, spacing_mm=ISOTROPIC) for epoch in (1, 1, 2)
    )
    for name, value in vars(first).items():
        np.testing.assert_array_equal(getattr(again, name), value)
    assert first.noise_seed != other.noise_seed
    assert not np.array_equal(first.matrix, other.matrix)


@pytest.mark.parametrize(
    ("name", "probability"),
    [
        ("noise", 0.1),
        ("blur", 0.1),
        ("brightness", 0.15),
        ("contrast", 0.15),
        ("low_resolution", 0.125),
        ("inverted_gamma", 0.1),
        ("gamma", 0.3),
    ],
)
def test_a_channel_is_changed_as_often_as_nnu_net_does(name, probability):
    values = np.array([getattr(change, name) for change in draws(DEFAULTS, num=2000)])
    assert np.mean(~np.isnan(values)) == pytest.approx(probability, abs=0.02)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("noise", 0.0, 0.1),
        ("blur", 0.5, 1.0),
        ("brightness", 0.75, 1.25),
        ("contrast", 0.75, 1.25),
        ("low_resolution", 0.5, 1.0),
        ("inverted_gamma", 0.7, 1.5),
        ("gamma", 0.7, 1.5),
    ],
)
def test_values_keep_to_their_range(name, low, high):
    values = np.array([getattr(change, name) for change in draws(EVERYTHING)])
    margin = 0.05 * (high - low)
    assert low <= values.min() < low + margin
    assert high - margin < values.max() <= high
