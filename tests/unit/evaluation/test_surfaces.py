import math

import numpy as np
import pytest
from fedpedbrain.evaluation.surfaces import grid_diagonal_mm, surface_distances
from scipy.ndimage import gaussian_filter

GRID, SPACING_MM = (8, 10, 12), (6.0, 2.0, 1.5)


def mask(*boxes: tuple, grid=GRID) -> np.ndarray:
    """A bool mask of the union of boxes, each a slice an axis."""
    filled = np.zeros(grid, dtype=bool)
    for box in boxes:
        filled[box] = True
    return filled


def blob(seed: int, grid=GRID) -> np.ndarray:
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal(grid), 1.5)
    return noise > np.quantile(noise, 0.8)


def test_one_voxel_beside_another_is_as_far_as_their_centres():
    there, here = mask((2, 3, 4)), mask((3, 5, 8))
    found = surface_distances(there, here, SPACING_MM)
    expected = math.hypot(6.0, 2 * 2.0, 4 * 1.5)
    assert found.hd95_mm == pytest.approx(expected)
    assert found.surface_dice(expected) == 1.0
    assert found.surface_dice(expected - 0.01) == 0.0


@pytest.mark.parametrize(("axis", "shift_mm"), list(enumerate(SPACING_MM)))
def test_a_shift_by_a_voxel_is_as_long_as_the_voxel_there(axis, shift_mm):
    block = mask((slice(2, 4), slice(3, 5), slice(4, 6)))
    assert surface_distances(np.roll(block, 1, axis), block, SPACING_MM).hd95_mm == pytest.approx(shift_mm)


def test_equal_masks_have_no_distance():
    found = surface_distances(blob(0), blob(0), SPACING_MM)
    assert (found.hd95_mm, found.surface_dice(0.0)) == (0.0, 1.0)


def test_the_inside_of_a_mask_does_not_count():
    full = mask((slice(1, 7), slice(1, 9), slice(1, 11)))
    hollow = full & ~mask((slice(2, 6), slice(2, 8), slice(2, 10)))
    # The outer surface is the same; the hollow one has an inner one too, all of it surface.
    assert surface_distances(full, hollow, SPACING_MM).hd95_mm == 0.0


def test_surface_dice_counts_the_surface_voxels_of_both_alike():
    # Of 1 and 3 surface voxels, the one and its double agree.
    found = surface_distances(mask((0, 0, 0)), mask((0, 0, slice(0, 3))), (1.0, 1.0, 1.0))
    assert found.surface_dice(0.5) == 2 / 4
    assert found.surface_dice(1.0) == 3 / 4


def test_the_larger_direction_counts():
    short, long = mask((0, 0, 0)), mask((0, 0, slice(0, 12)))
    assert surface_distances(short, long, (1.0, 1.0, 1.0)).hd95_mm == pytest.approx(0.95 * 11)
    assert surface_distances(long, short, (1.0, 1.0, 1.0)).hd95_mm == pytest.approx(0.95 * 11)


def test_a_tolerance_of_whole_voxels_does_not_fail_by_rounding():
    found = surface_distances(mask((0, 0, 0)), mask((0, 0, 3)), (1.0, 1.0, 0.1))
    assert found.surface_dice(0.3) == 1.0


def test_a_single_slice_is_a_plane_with_an_outline():
    plane = mask((0, slice(1, 9), slice(1, 11)), grid=(1, 10, 12))
    rim = plane & ~mask((0, slice(2, 8), slice(2, 10)), grid=(1, 10, 12))
    assert surface_distances(plane, rim, SPACING_MM).hd95_mm == 0.0


def test_the_diagonal_goes_from_corner_to_corner():
    corners = (mask((0, 0, 0)), mask((7, 9, 11)))
    assert grid_diagonal_mm(GRID, SPACING_MM) == pytest.approx(surface_distances(*corners, SPACING_MM).hd95_mm)
