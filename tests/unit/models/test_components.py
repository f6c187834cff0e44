import json

import numpy as np
import pytest
from fedpedbrain.models.components import ComponentFilter, read_filters

# Components of 3, 1 and 2 voxels; the last two touch at a corner of the first.
REGION = np.zeros((2, 4, 8), dtype=bool)
REGION[0, 0, :3] = True
REGION[1, 3, 0] = True
REGION[0, 2, 6:] = True


def kept(region=REGION, voxel_ml=0.5, **settings) -> list[int]:
    """Indices of the voxels that stay."""
    return np.flatnonzero(ComponentFilter(**settings).keep(region, voxel_ml)).tolist()


LARGE, SINGLE, PAIR = [0, 1, 2], [56], [22, 23]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, LARGE + PAIR + SINGLE),
        ({"smallest_component_ml": 0.5}, LARGE + PAIR + SINGLE),
        ({"smallest_component_ml": 0.6}, LARGE + PAIR),
        ({"smallest_component_ml": 1.0}, LARGE + PAIR),
        ({"smallest_component_ml": 1.01}, LARGE),
        ({"smallest_component_ml": 2.0}, []),
        ({"largest_only": True}, LARGE),
        ({"largest_only": True, "smallest_component_ml": 2.0}, []),
    ],
)
def test_components_below_the_smallest_volume_go_or_all_except_the_largest(settings, expected):
    assert kept(**settings) == expected


def test_the_same_filter_keeps_more_of_larger_voxels():
    assert kept(voxel_ml=2.0, smallest_component_ml=2.0) == LARGE + PAIR + SINGLE


def test_voxels_that_share_a_corner_are_one_component():
    region = np.zeros((2, 2, 2), dtype=bool)
    region[0, 0, 0] = region[1, 1, 1] = True
    assert kept(region, 1.0, smallest_component_ml=2.0) == [0, 7]


@pytest.mark.parametrize("settings", [{"smallest_component_ml": 1.0}, {"largest_only": True}])
def test_an_empty_region_stays_empty_and_the_region_itself_as_it_is(settings):
    assert kept(np.zeros((2, 2, 2), dtype=bool), **settings) == []
    before = REGION.copy()
    kept(**settings)
    assert (before == REGION).all()


def test_of_a_region_of_which_nothing_was_chosen_the_study_decides(tmp_path):
    path = tmp_path / "filters.json"
    path.write_text(json.dumps({"core": {"chosen": {"smallest_component_ml": 2.0, "largest_only": True}}}))
    otherwise = {"smallest_component_ml": 0.5, "largest_only": False}
    assert read_filters(path, ["whole", "core"], otherwise) == [ComponentFilter(0.5), ComponentFilter(2.0, True)]
    assert read_filters(None, ["whole", "core"], otherwise) == [ComponentFilter(0.5)] * 2
