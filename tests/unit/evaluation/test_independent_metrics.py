"""Every metric of a region against SimpleITK, in three dimensions and in two."""

import numpy as np
import pytest
from fedpedbrain.evaluation.mask_pair import MaskPair
from fedpedbrain.evaluation.scores import region_scores
from fedpedbrain.study.metric_facts import METRICS, REGION_METRICS
from scipy.ndimage import gaussian_filter
from simpleitk_metrics import measure_region

SETTINGS = {"surface_tolerance_mm": 2.0, "lesion_overlap": 0.3}
GRIDS = {"3-D": (6, 9, 11), "2-D": (1, 9, 11)}
SPACINGS_MM = {"isotropic": (1.0, 1.0, 1.0), "anisotropic": (5.0, 0.7, 1.3)}
NOTHING, ALL = (), (slice(None), slice(None), slice(None))
LAST = (-1, slice(3, 6), slice(2, 7))
# Boxes of the prediction and of the truth, from the first slice or the last one, so that they fit both grids.
CASES = {
    "both empty": ([NOTHING], [NOTHING]),
    "empty prediction": ([NOTHING], [LAST]),
    "empty truth": ([LAST], [NOTHING]),
    "one voxel each, apart": ([(0, 2, 3)], [(-1, 7, 9)]),
    "one voxel each, the same": ([(0, 2, 3)], [(0, 2, 3)]),
    "one voxel in a corner": ([(0, 0, 0)], [LAST]),
    "touching the border": ([(0, slice(0, 5), slice(6, None))], [(0, slice(0, 4), slice(7, None))]),
    "the whole grid": ([ALL], [LAST]),
    "the whole grid twice": ([ALL], [ALL]),
    "one inside the other": ([(slice(None), slice(1, 8), slice(1, 10))], [LAST]),
    "two lesions and one": ([(0, slice(0, 2), 2), (-1, slice(6, 9), 9)], [(0, slice(0, 3), 2)]),
    "two lesions and their bridge": ([(0, 4, slice(1, 10))], [(0, 4, slice(1, 4)), (0, 4, slice(6, 9))]),
}


def filled(grid: tuple[int, ...], boxes: list[tuple]) -> np.ndarray:
    mask = np.zeros(grid, dtype=np.uint8)
    for box in boxes:
        if box:
            mask[box] = 1
    return mask


def assert_scores_agree(predicted, truth, spacing_mm, settings=SETTINGS) -> None:
    pair = MaskPair(predicted.astype(bool), truth.astype(bool), spacing_mm, **settings)
    found = {metric: value for metric, value, _ in region_scores(pair)}
    expected = measure_region(predicted, truth, spacing_mm, **settings)
    assert set(found) == set(expected) >= set(REGION_METRICS)
    # SimpleITK's distance maps are single precision.
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-5, nan_ok=True)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("spacing", SPACINGS_MM)
@pytest.mark.parametrize("grid", GRIDS)
def test_scores_of_a_region_agree_with_simpleitk_on_edge_cases(grid, spacing, case):
    predicted, truth = (filled(GRIDS[grid], boxes) for boxes in CASES[case])
    assert_scores_agree(predicted, truth, SPACINGS_MM[spacing])


@pytest.mark.parametrize("num_slices", [1, 7])
@pytest.mark.parametrize("seed", range(6))
def test_scores_of_a_region_agree_with_simpleitk_on_random_masks(seed, num_slices):
    generator = np.random.default_rng(seed)
    grid, spacing_mm = (num_slices, *generator.integers(4, 18, 2)), tuple(generator.uniform(0.5, 6.0, 3))
    smooth = gaussian_filter(generator.standard_normal((2, *grid)), (0, 0.8, 0.8, 0.8))
    predicted, truth = (smooth > np.quantile(smooth, generator.uniform(0.6, 0.95))).astype(np.uint8)
    settings = {"surface_tolerance_mm": generator.uniform(0.5, 6.0), "lesion_overlap": generator.uniform(0.05, 0.9)}
    assert_scores_agree(predicted, truth, spacing_mm, settings)


def test_every_metric_says_what_computes_it_and_what_it_is_held_against():
    assert all(facts.origin.computed_with and facts.origin.tested_against for facts in METRICS.values())
