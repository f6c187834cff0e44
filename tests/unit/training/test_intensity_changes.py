"""Worked answers of the changes of intensities."""

import pytest
import torch
from fedpedbrain.training.intensity_changes import (
    add_noise,
    blur,
    blur_matrix,
    change_contrast,
    low_resolution_matrix,
    lower_resolution,
    multiply,
    take_inverted_power,
    take_power,
)
from torch import Tensor
from torch.nn import functional


def volumes_of(*rows: list[float]) -> Tensor:
    """One volume of 1 x 1 x W voxels per row."""
    return torch.tensor(rows).view(len(rows), 1, 1, -1)


def random_volumes(num: int = 3) -> Tensor:
    return torch.rand(num, 4, 6, 8, generator=torch.Generator().manual_seed(0))


def test_intensities_are_multiplied_volume_by_volume():
    found = multiply(volumes_of([1.0, 2.0], [1.0, 2.0]), torch.tensor([0.5, 2.0]))
    assert found.flatten(1).tolist() == [[0.5, 1.0], [2.0, 4.0]]


def test_contrast_changes_the_distance_from_the_mean_within_the_range():
    less, more = change_contrast(volumes_of([0.0, 1.0, 5.0], [0.0, 1.0, 5.0]), torch.tensor([0.5, 2.0]))
    assert less.flatten().tolist() == [1.0, 1.5, 3.5]
    assert more.flatten().tolist() == [0.0, 0.0, 5.0]


def test_a_power_keeps_mean_and_deviation():
    volumes = random_volumes() * 5.0 - 2.0
    for change in (take_power, take_inverted_power):
        found = change(volumes, torch.tensor([0.7, 1.0, 1.5]))
        torch.testing.assert_close(found.mean((1, 2, 3)), volumes.mean((1, 2, 3)), rtol=0.0, atol=1e-5)
        torch.testing.assert_close(found.std((1, 2, 3)), volumes.std((1, 2, 3)), rtol=1e-5, atol=0.0)
        torch.testing.assert_close(found[1], volumes[1], rtol=0.0, atol=1e-5)
        assert not torch.allclose(found[0], volumes[0], atol=0.01)


def test_a_power_takes_middle_values_down_and_an_inverted_one_up():
    # 0, 1/2 and 1 have mean 1/2 and deviation sqrt(6)/6, their squares mean 5/12 and deviation sqrt(26)/12.
    volume, two = volumes_of([0.0, 0.5, 1.0]), torch.tensor([2.0])
    middle = 0.5 + (0.25 - 5 / 12) * (6**0.5 / 6) / (26**0.5 / 12)
    assert take_power(volume, two).flatten()[1].item() == pytest.approx(middle, abs=1e-6)
    assert take_inverted_power(volume, two).flatten()[1].item() == pytest.approx(1.0 - middle, abs=1e-6)


@pytest.mark.parametrize("change", [take_power, take_inverted_power, change_contrast])
def test_a_volume_of_one_intensity_stays(change):
    volume = torch.full((1, 2, 3, 4), 0.3)
    torch.testing.assert_close(change(volume, torch.tensor([1.5])), volume)


def test_noise_has_the_stated_part_of_the_volumes_deviation():
    volumes = torch.stack([torch.linspace(-1.0, 1.0, 32**3), torch.linspace(0.0, 0.1, 32**3)]).view(2, 32, 32, 32)
    noise = add_noise(volumes, torch.tensor([0.1, 0.5]), [1, 2]) - volumes
    expected = volumes.std((1, 2, 3)) * torch.tensor([0.1, 0.5])
    torch.testing.assert_close(noise.std((1, 2, 3)), expected, rtol=0.02, atol=0.0)
    assert (noise.mean((1, 2, 3)).abs() < 0.03 * expected).all()


def test_noise_follows_from_its_seed_alone():
    volumes = random_volumes(1).repeat(3, 1, 1, 1)
    found = add_noise(volumes, torch.full((3,), 0.1), [7, 8, 7])
    assert torch.equal(found[0], found[2])
    assert not torch.equal(found[0], found[1])


@pytest.mark.parametrize("values", [[0.5, 1.0, 0.7], [0.05, 1.0, 0.6]])
@pytest.mark.parametrize("build", [blur_matrix, low_resolution_matrix])
def test_means_along_an_axis_keep_a_constant(build, values):
    rows = build(7, torch.tensor(values)).sum(-1)
    torch.testing.assert_close(rows, torch.ones(3, 7))


def test_a_blur_spreads_a_voxel_as_a_gaussian():
    volume = torch.zeros(1, 9, 9, 9)
    volume[0, 4, 4, 4] = 1.0
    found = blur(volume, torch.tensor([0.8]), is_plane=False)
    # Gaussian weights at distance 1 and sqrt(3) over that of the middle.
    assert (found[0, 4, 4, 5] / found[0, 4, 4, 4]).item() == pytest.approx(0.4578, abs=1e-3)
    assert (found[0, 5, 5, 3] / found[0, 4, 4, 4]).item() == pytest.approx(0.4578**3, abs=1e-3)
    assert found.sum().item() == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("fraction", [0.5, 0.62, 0.8, 1.0])
@pytest.mark.parametrize("size", [1, 7, 16])
def test_a_low_resolution_is_that_of_pytorchs_resizing(size, fraction):
    row = torch.rand(1, 1, size, generator=torch.Generator().manual_seed(1))
    coarse = max(1, round(size * fraction))
    down = functional.interpolate(row, coarse, mode="nearest-exact")
    expected = functional.interpolate(down, size, mode="linear", align_corners=False)
    found = low_resolution_matrix(size, torch.tensor([fraction]))[0] @ row[0, 0]
    torch.testing.assert_close(found, expected[0, 0])


@pytest.mark.parametrize("change", [blur, lower_resolution])
def test_in_a_plane_slices_stay_apart(change):
    volumes = torch.zeros(2, 5, 6, 8)
    volumes[:, 2] = random_volumes(2)[:, 0]
    found = change(volumes, torch.tensor([0.6, 0.9]), is_plane=True)
    assert not found[:, [0, 1, 3, 4]].any()
    assert not torch.allclose(found[:, 2], volumes[:, 2])
    assert change(volumes, torch.tensor([0.6, 0.9]), is_plane=False)[:, 1].any()
