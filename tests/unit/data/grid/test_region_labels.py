import numpy as np
import pytest
from fedpedbrain.data.grid.geometry import label_regions


def region(*places: int) -> np.ndarray:
    found = np.zeros((1, 1, 6), dtype=bool)
    found[0, 0, list(places)] = True
    return found


@pytest.mark.parametrize(
    ("regions", "labels"),
    [
        ([region(0, 1), region(3)], [1, 1, 0, 2, 0, 0]),
        ([region(0, 1, 2, 3), region(1, 2)], [1, 2, 2, 1, 0, 0]),
        ([region(1, 2), region(0, 1, 2, 3), region(2)], [2, 1, 3, 2, 0, 0]),
        ([region(1), region(1)], [0, 2, 0, 0, 0, 0]),
        ([region(), region(5)], [0, 0, 0, 0, 0, 2]),
        ([], [0, 0, 0, 0, 0, 0]),
    ],
)
def test_of_regions_that_overlap_the_smallest_lies_on_top(regions, labels):
    found = label_regions(regions, (1, 1, 6))
    assert found.dtype == np.uint8
    assert found[0, 0].tolist() == labels
