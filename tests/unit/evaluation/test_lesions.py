import math

import numpy as np
import pytest
import simpleitk_metrics
from fedpedbrain.evaluation.lesions import LesionCounts, count_lesions

GRID = (4, 6, 8)


def mask(*boxes: tuple) -> np.ndarray:
    filled = np.zeros(GRID, dtype=bool)
    for box in boxes:
        filled[box] = True
    return filled


def test_an_empty_mask_has_no_lesion():
    found = count_lesions(mask(), mask((0, 0, 0)), 0.1)
    assert found == LesionCounts(0, 0)
    assert math.isnan(found.part_covered)


def test_voxels_that_share_a_corner_are_one_lesion():
    assert count_lesions(mask((0, 0, 0), (1, 1, 1)), mask(), 0.1).number == 1
    assert count_lesions(mask((0, 0, 0), (2, 0, 0)), mask(), 0.1).number == 2


@pytest.mark.parametrize(("least_overlap", "found"), [(0.25, 1), (0.26, 0)])
def test_a_lesion_is_found_from_the_least_overlap_on(least_overlap, found):
    assert count_lesions(mask((0, 0, slice(0, 8))), mask((0, 0, slice(0, 2))), least_overlap).num_covered == found


def test_a_lesion_beside_the_prediction_is_not_found_however_small_the_overlap():
    assert count_lesions(mask((0, 0, 0)), mask((0, 0, 1)), 1e-9).num_covered == 0


def test_a_prediction_that_joins_two_lesions_finds_both():
    two, one = mask((0, 0, slice(0, 2)), (0, 0, slice(5, 8))), mask((0, 0, slice(0, 8)))
    assert count_lesions(two, one, 0.5).num_covered == 2
    assert count_lesions(one, two, 0.5).num_covered == 1


def test_parts_of_a_prediction_find_a_lesion_together():
    lesion, parts = mask((0, 0, slice(0, 8))), mask((0, 0, slice(0, 2)), (0, 0, slice(6, 8)))
    assert count_lesions(lesion, parts, 0.5).num_covered == 1


@pytest.mark.parametrize("seed", range(10))
def test_lesions_agree_with_simpleitk(seed):
    generator = np.random.default_rng(seed)
    lesions, other = generator.random((2, *GRID)) < 0.12
    number, num_covered = simpleitk_metrics.count_lesions(lesions, other, 0.4)
    assert count_lesions(lesions, other, 0.4) == LesionCounts(number, num_covered)
