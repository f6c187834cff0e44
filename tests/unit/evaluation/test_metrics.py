import math

import numpy as np
import pytest
from fedpedbrain.evaluation.metrics import bootstrap_interval, confusion_matrix, dice_coefficient, macro_f1
from sklearn.metrics import confusion_matrix as sklearn_confusion_matrix
from sklearn.metrics import f1_score


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


def test_confusions_have_the_true_class_in_the_row():
    found = confusion_matrix(np.array([0, 0, 1, 2, 2, 2]), np.array([0, 1, 1, 0, 2, 2]), 3)
    assert found.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 2]]
    assert found.dtype == np.int64


def test_confusions_of_nobody_are_zeros():
    nobody = np.array([], dtype=np.int64)
    assert confusion_matrix(nobody, nobody, 2).tolist() == [[0, 0], [0, 0]]


def test_macro_f1_worked():
    # F1 2/3 of the first class (1 hit, 1 missed) and 4/5 of the second (2 hits, 1 wrong).
    assert macro_f1(np.array([[1, 1], [0, 2]])) == pytest.approx((2 / 3 + 4 / 5) / 2)


def test_macro_f1_counts_a_class_of_one_case_in_full():
    # F1 0 of the first class, 4/5 of the second.
    assert macro_f1(np.array([[0, 1], [0, 2]])) == pytest.approx((0.0 + 4 / 5) / 2)


def test_macro_f1_leaves_out_classes_that_do_not_occur():
    # The third class is predicted once and never true: it lowers the first one's F1, but is no class of its own.
    assert macro_f1(np.array([[1, 0, 1], [0, 2, 0], [0, 0, 0]])) == pytest.approx((2 / 3 + 1.0) / 2)


def test_macro_f1_of_nobody_is_unknown():
    assert math.isnan(macro_f1(np.zeros((3, 3), dtype=np.int64)))


@pytest.mark.parametrize("seed", range(5))
def test_confusions_and_macro_f1_agree_with_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    truth, predicted = rng.integers(0, 4, 50), rng.integers(0, 5, 50)
    matrix = confusion_matrix(truth, predicted, 5)
    np.testing.assert_array_equal(matrix, sklearn_confusion_matrix(truth, predicted, labels=range(5)))
    present = sorted(set(truth))
    expected = f1_score(truth, predicted, labels=present, average="macro", zero_division=0)
    assert macro_f1(matrix) == pytest.approx(expected)


def interval(values, groups, num_samples: int = 2000, level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    return bootstrap_interval(np.array(values, dtype=float), np.array(groups), num_samples, level, seed)


def test_equal_values_have_an_interval_without_width():
    assert interval([0.7] * 5, list("abcde")) == pytest.approx((0.7, 0.7), abs=1e-12)


def test_one_patient_tells_nothing_of_the_spread():
    assert all(map(math.isnan, interval([0.1, 0.9, 0.5], ["a", "a", "a"])))
    assert all(map(math.isnan, interval([], [])))


def test_cases_of_a_patient_are_drawn_together():
    # Drawn together the means are 0, 1/2 and 1, the outer ones a quarter of the time; drawn apart 0, 1/4, ... 1.
    together = interval([0.0, 0.0, 1.0, 1.0], ["a", "a", "b", "b"], level=0.6)
    apart = interval([0.0, 0.0, 1.0, 1.0], ["a", "b", "c", "d"], level=0.6)
    assert together == (0.0, 1.0)
    assert apart == (0.25, 0.75)


def test_a_patient_with_more_cases_weighs_more():
    # Means of the draws aa, ab, ba and bb: 0, 1/4, 1/4 and 1. Counted by patients the middle would be 1/2.
    assert interval([0.0, 0.0, 0.0, 1.0], ["a", "a", "a", "b"], level=0.4) == (0.25, 0.25)


def test_the_interval_of_a_normal_sample_is_the_textbooks():
    rng = np.random.default_rng(1)
    values = rng.normal(0.0, 1.0, 400)
    low, high = interval(values, np.arange(400))
    half = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - half, abs=0.02)
    assert high == pytest.approx(values.mean() + half, abs=0.02)


def test_a_higher_level_is_wider():
    values, groups = np.arange(10.0), np.arange(10)
    narrow, wide = interval(values, groups, level=0.5), interval(values, groups, level=0.99)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_the_interval_is_a_function_of_the_seed():
    values, groups = np.arange(10.0), np.arange(10)
    assert interval(values, groups, seed=1) == interval(values, groups, seed=1)
    assert interval(values, groups, num_samples=100, seed=1) != interval(values, groups, num_samples=100, seed=2)


def test_the_order_of_the_cases_does_not_change_the_interval():
    values, groups = np.arange(10.0), np.array(list("abcdefghij"))
    turned = interval(values[::-1], groups[::-1])
    assert interval(values, groups) == pytest.approx(turned)
