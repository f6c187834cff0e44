import numpy as np
import pytest
from fedpedbrain.evaluation.dice import dice_coefficient


def voxels(*values: int) -> np.ndarray:
    return np.array(values, np.uint8).reshape(1, 1, -1)


@pytest.mark.parametrize(
    ("predicted", "truth", "expected"),
    [
        (voxels(1, 1, 0, 0), voxels(1, 1, 0, 0), 1.0),
        (voxels(1, 1, 0, 0), voxels(0, 1, 1, 0), 0.5),
        (voxels(1, 1, 1, 1), voxels(1, 0, 0, 0), 0.4),
        (voxels(1, 0, 0, 0), voxels(0, 1, 0, 0), 0.0),
        (voxels(0, 0, 0, 0), voxels(0, 0, 0, 0), 1.0),
        (voxels(1, 0, 0, 0), voxels(0, 0, 0, 0), 0.0),
        (voxels(0, 0, 0, 0), voxels(1, 0, 0, 0), 0.0),
    ],
    ids=["equal", "half", "too much", "beside", "both empty", "empty truth", "empty prediction"],
)
def test_dice(predicted, truth, expected):
    assert dice_coefficient(predicted, truth) == expected
    assert dice_coefficient(predicted.astype(bool), truth) == expected


def test_dice_of_large_volumes_does_not_overflow():
    ones = np.ones((10, 100, 100), np.uint8)
    assert dice_coefficient(ones, ones) == 1.0
