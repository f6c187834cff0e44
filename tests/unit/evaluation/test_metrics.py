import math

import numpy as np
import pytest
from fedpedbrain.evaluation.metrics import (
    MIN_PATIENTS_FOR_INTERVAL,
    bootstrap_interval,
    confusion_matrix,
    dice_coefficient,
    macro_f1,
)
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
    assert interval([0.7] * 6, list("abcdef")) == pytest.approx((0.7, 0.7), abs=1e-12)


@pytest.mark.parametrize("num_patients", range(MIN_PATIENTS_FOR_INTERVAL))
def test_few_patients_have_no_interval_however_many_their_cases(num_patients):
    patients = list("abcdef"[:num_patients])
    assert all(map(math.isnan, interval(np.linspace(0.0, 1.0, 4 * num_patients), patients * 4)))


def test_the_fewest_patients_with_an_interval_are_those_of_whom_a_sign_test_can_reach_5_percent():
    one_sided = 0.5**MIN_PATIENTS_FOR_INTERVAL
    assert 2 * one_sided < 0.05 < 4 * one_sided
    values = np.linspace(0.1, 0.6, MIN_PATIENTS_FOR_INTERVAL)
    low, high = interval(values, range(MIN_PATIENTS_FOR_INTERVAL))
    assert 0.1 < low < values.mean() < high < 0.6


@pytest.mark.parametrize(("num_patients", "least", "most"), [(10, 0.075, 0.125), (30, 0.05, 0.09)])
def test_an_interval_of_few_patients_misses_the_mean_more_often_than_it_says(num_patients, least, most):
    samples = np.random.default_rng(0).normal(size=(1500, num_patients))
    ends = [interval(sample, range(num_patients), num_samples=400) for sample in samples]
    missed = np.mean([low > 0.0 or high < 0.0 for low, high in ends])
    assert least < missed < most


def test_cases_of_a_patient_are_drawn_together():
    values, patients = [0.0, 0.1, 0.2, 0.4, 0.5, 0.9], list("abcdef")
    alone = interval(values, patients)
    assert interval(values * 2, patients * 2) == pytest.approx(alone)
    apart = interval(values * 2, list("abcdefghijkl"))
    assert alone[0] < apart[0] < apart[1] < alone[1]


def test_a_patient_with_more_cases_weighs_more():
    # Drawn once of six times, which is the middle of the draws, a's five cases face five others. Counted by patients
    # the middle would be 5/6.
    assert interval([0.0] * 5 + [1.0] * 5, list("aaaaabcdef"), level=0.2) == (0.5, 0.5)


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
