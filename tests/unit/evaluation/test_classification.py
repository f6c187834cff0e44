import math

import numpy as np
import pytest
from fedpedbrain.evaluation.classification import (
    calibration_error,
    class_scores,
    group_scores,
    reliability_bins,
    weighted_calibration_error,
    weighted_class_scores,
)
from scipy.stats import mannwhitneyu
from sklearn.calibration import calibration_curve
from sklearn.metrics import balanced_accuracy_score, f1_score, precision_recall_fscore_support, roc_auc_score

# Three cases of the first class, of which one is taken for the second, two of the second, none of the third.
TRUTH = np.array([0, 0, 0, 1, 1])
PROBABILITIES = np.array([[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.3, 0.5, 0.2], [0.2, 0.7, 0.1], [0.1, 0.6, 0.3]])


def random_group(seed: int, num_cases: int = 60) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet(np.ones(4), num_cases)
    return np.array([generator.choice(4, p=row) for row in probabilities]), probabilities


def scores_of_all(truth: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    by_class = class_scores(truth, probabilities)
    return {metric: float(value) for metric, value in group_scores(by_class, by_class).items()}


def test_scores_of_classes_worked():
    found = class_scores(TRUTH, PROBABILITIES)
    np.testing.assert_allclose(found["precision"], [1.0, 2 / 3, math.nan])
    np.testing.assert_allclose(found["recall"], [2 / 3, 1.0, math.nan])
    np.testing.assert_allclose(found["f1"], [0.8, 0.8, math.nan])
    # Every case of the first class has more of it than those of the second; the same for the second.
    np.testing.assert_allclose(found["auroc"], [1.0, 1.0, math.nan])


def test_scores_of_a_group_are_means_of_the_classes_that_occur():
    found = scores_of_all(TRUTH, PROBABILITIES)
    assert found == pytest.approx({"macro_f1": 0.8, "balanced_accuracy": 5 / 6, "auroc": 1.0})


def test_a_class_that_is_predicted_but_does_not_occur_harms_the_others_alone():
    # The third class takes one of three cases from the first: F1 4/5, recall 2/3. It has no F1 of its own.
    truth, predicted = np.array([0, 0, 0, 1]), np.array([0, 0, 2, 1])
    found = scores_of_all(truth, np.eye(3)[predicted])
    assert found["macro_f1"] == pytest.approx((4 / 5 + 1.0) / 2)
    assert found["balanced_accuracy"] == pytest.approx((2 / 3 + 1.0) / 2)


def test_a_group_of_one_class_has_no_auroc():
    found = scores_of_all(np.array([1, 1]), PROBABILITIES[3:])
    assert math.isnan(found["auroc"])
    assert found["macro_f1"] == 1.0


@pytest.mark.parametrize("seed", range(5))
def test_scores_of_classes_agree_with_their_definitions(seed):
    truth, probabilities = random_group(seed)
    found, predicted = class_scores(truth, probabilities), probabilities.argmax(1)
    for index in range(4):
        hits = np.sum((truth == index) & (predicted == index))
        assert found["precision"][index] == pytest.approx(hits / np.sum(predicted == index))
        assert found["recall"][index] == pytest.approx(hits / np.sum(truth == index))
        assert found["f1"][index] == pytest.approx(2 * hits / (np.sum(truth == index) + np.sum(predicted == index)))
        mine, others = probabilities[truth == index, index], probabilities[truth != index, index]
        expected = mannwhitneyu(mine, others).statistic / (len(mine) * len(others))
        assert found["auroc"][index] == pytest.approx(expected)


def test_reliability_bins_worked():
    counts, probability, accuracy = reliability_bins(TRUTH, PROBABILITIES, 5)
    # Most probable: 0.8, 0.6, 0.5, 0.7, 0.6; the third is wrong. 0.6 ends the bin from 0.4, 0.8 the one from 0.6.
    assert counts.tolist() == [0, 0, 3, 2, 0]
    np.testing.assert_allclose(probability, [math.nan, math.nan, 1.7 / 3, 0.75, math.nan])
    np.testing.assert_allclose(accuracy, [math.nan, math.nan, 2 / 3, 1.0, math.nan])
    assert calibration_error(counts, probability, accuracy) == pytest.approx((3 * 0.1 + 2 * 0.25) / 5)


def test_certainty_that_is_right_has_no_calibration_error():
    bins = reliability_bins(TRUTH, np.eye(3)[TRUTH], 10)
    assert bins[0].tolist() == [0] * 9 + [5]
    assert calibration_error(*bins) == 0.0


def test_certainty_that_is_wrong_has_all_of_it():
    assert calibration_error(*reliability_bins(TRUTH, np.eye(3)[(TRUTH + 1) % 3], 10)) == 1.0


@pytest.mark.parametrize("seed", range(5))
def test_bins_agree_with_scikit_learn(seed):
    truth, probabilities = random_group(seed)
    counts, probability, accuracy = reliability_bins(truth, probabilities, 8)
    right = probabilities.argmax(1) == truth
    expected = calibration_curve(right, probabilities.max(1), n_bins=8)
    np.testing.assert_allclose(accuracy[counts > 0], expected[0])
    np.testing.assert_allclose(probability[counts > 0], expected[1])


@pytest.mark.parametrize("seed", range(3))
def test_scores_of_a_group_agree_with_scikit_learn(seed):
    truth, probabilities = random_group(seed)
    predicted = probabilities.argmax(1)
    expected = {
        "macro_f1": f1_score(truth, predicted, average="macro"),
        "balanced_accuracy": balanced_accuracy_score(truth, predicted),
        "auroc": roc_auc_score(truth, probabilities, multi_class="ovr"),
    }
    assert scores_of_all(truth, probabilities) == pytest.approx(expected)


# Weighted cases, of which the draws of intervals are made.


@pytest.mark.parametrize("seed", range(3))
def test_scores_of_weighted_cases_agree_with_scikit_learn(seed):
    truth, probabilities = random_group(seed)
    # Ties of probabilities, too.
    probabilities = np.round(probabilities, 1)
    weights = np.random.default_rng(seed).integers(0, 4, (2, len(truth)))
    found = weighted_class_scores(truth, probabilities, weights)
    for draw, weight in enumerate(weights):
        expected = precision_recall_fscore_support(truth, probabilities.argmax(1), sample_weight=weight)
        for metric, values in zip(("precision", "recall", "f1"), expected, strict=False):
            np.testing.assert_allclose(found[metric][draw], values)
        for index in range(4):
            area = roc_auc_score(truth == index, probabilities[:, index], sample_weight=weight)
            assert found["auroc"][draw, index] == pytest.approx(area)


def test_a_case_counted_twice_is_two_cases():
    truth, probabilities = random_group(0, 20)
    weights = np.random.default_rng(1).integers(0, 3, (1, 20))
    counted = np.repeat(np.arange(20), weights[0])
    expected = class_scores(truth[counted], probabilities[counted])
    found = weighted_class_scores(truth, probabilities, weights)
    for metric, values in expected.items():
        np.testing.assert_allclose(found[metric][0], values)
    error = calibration_error(*reliability_bins(truth[counted], probabilities[counted], 5))
    assert weighted_calibration_error(truth, probabilities, weights, 5) == pytest.approx([error])


def test_a_draw_without_a_class_that_counts_has_no_score_of_the_group():
    # The second class, which has cases among all, is not drawn; the third never occurs and is missed by nobody.
    of_all, of_draw = class_scores(TRUTH, PROBABILITIES), weighted_class_scores(TRUTH, PROBABILITIES, np.eye(5)[:1])
    assert all(np.isnan(values).all() for values in group_scores(of_draw, of_all).values())
    of_draw = weighted_class_scores(TRUTH, PROBABILITIES, np.ones((1, 5)))
    assert group_scores(of_draw, of_all)["macro_f1"] == pytest.approx([0.8])
