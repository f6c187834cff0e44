"""Scores of a diagnosis over a group of cases, and the bins of a reliability diagram.

Precision, recall, F1 and AUROC are scikit-learn's. Whatever cannot be computed is nan: the recall of a class without a
case, the precision of one that is never predicted, the AUROC of one without a case or without any other.
"""

import math
from collections.abc import Mapping
from functools import partial

import numpy as np
from sklearn.metrics import precision_recall_fscore_support, roc_auc_score

from fedpedbrain.study.metric_facts import GROUP_METRICS


def class_scores(truth: np.ndarray, probabilities: np.ndarray) -> dict[str, np.ndarray]:
    """Precision, recall, F1 and AUROC (one against the rest) of every class, each float (K,).

    Parameters
    ----------
    truth : int (N,), index of each case's class
    probabilities : float (N, K)
    """
    num_classes = probabilities.shape[1]
    predicted = probabilities.argmax(1)
    precision, recall, f1, _ = precision_recall_fscore_support(
        truth, predicted, labels=np.arange(num_classes), zero_division=np.nan
    )
    # scikit-learn calls the F1 of a class that does not occur 0 as soon as it is predicted.
    f1 = np.where(np.bincount(truth, minlength=num_classes) > 0, f1, math.nan)
    auroc = [
        roc_auc_score(truth == index, probabilities[:, index]) if 0 < np.sum(truth == index) < len(truth) else math.nan
        for index in range(num_classes)
    ]
    return {"precision": precision, "recall": recall, "f1": f1, "auroc": np.array(auroc)}


def group_scores(by_class: Mapping[str, np.ndarray], of_all: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Macro-F1, balanced accuracy and macro AUROC: means over the classes where ``class_scores`` could be computed.

    So a class without a case neither helps nor harms.

    Parameters
    ----------
    by_class : metric to float (..., K), of all cases or of draws of them
    of_all : ``class_scores`` of all cases, which say what classes count; a draw without one of these has no score

    Returns
    -------
    metric to float (...)
    """
    sources = {metric: facts.mean_of for metric, facts in GROUP_METRICS.items() if facts.mean_of}
    known = {metric: by_class[source][..., ~np.isnan(of_all[source])] for metric, source in sources.items()}
    return {
        metric: values.mean(-1) if values.shape[-1] else np.full(values.shape[:-1], math.nan)
        for metric, values in known.items()
    }


def weighted_class_scores(truth: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """``class_scores`` of the same cases, each counted so many times, of many such counts at once.

    scikit-learn takes one set of weights a call, and the thousands of draws of an interval would take it minutes; the
    tests hold one against the other.

    Parameters
    ----------
    truth, probabilities : see ``class_scores``
    weights : float (B, N)

    Returns
    -------
    metric to float (B, K)
    """
    classes = np.eye(probabilities.shape[1], dtype=bool)
    is_true, is_predicted = classes[truth], classes[probabilities.argmax(1)]
    num_true, num_predicted = weights @ is_true, weights @ is_predicted
    hits = weights @ (is_true & is_predicted)
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            "precision": hits / num_predicted,
            "recall": hits / num_true,
            "f1": np.where(num_true > 0, 2.0 * hits / (num_true + num_predicted), math.nan),
            "auroc": np.stack(list(map(partial(_weighted_auroc, weights), is_true.T, probabilities.T)), axis=1),
        }


def _weighted_auroc(weights: np.ndarray, is_true: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Part of the pairs of a case of the class and another that the probability puts in order; a tie is half, (B,)."""
    inside, outside = weights[:, is_true], weights[:, ~is_true]
    apart = probability[is_true][:, None] - probability[~is_true][None]
    in_order = (inside @ np.heaviside(apart, 0.5) * outside).sum(1)
    return in_order / (inside.sum(1) * outside.sum(1))


def reliability_bins(
    truth: np.ndarray, probabilities: np.ndarray, num_bins: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cases by the probability of their most probable class, in bins of equal width; an upper edge belongs to its bin.

    Returns
    -------
    number of cases, mean probability and accuracy of every bin, each (B,); nan where a bin has no case
    """
    confidence, right, index = _binned(truth, probabilities, num_bins)
    counts = np.bincount(index, minlength=num_bins)
    sums = [np.bincount(index, weights=values, minlength=num_bins) for values in (confidence, right)]
    filled = np.where(counts > 0, counts, np.nan)
    return counts, sums[0] / filled, sums[1] / filled


def _binned(truth: np.ndarray, probabilities: np.ndarray, num_bins: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of every case the probability of the most probable class, 1 where that is the true one, and the bin, (N,)."""
    confidence = probabilities.max(1)
    right = (probabilities.argmax(1) == truth).astype(float)
    # Less than a rounding error below an edge is on it.
    return confidence, right, np.clip(np.ceil(confidence * num_bins - 1e-9).astype(int) - 1, 0, num_bins - 1)


def calibration_error(counts: np.ndarray, mean_probability: np.ndarray, accuracy: np.ndarray) -> float:
    """Expected calibration error (Guo et al., 2017): mean distance of probability and accuracy, by cases a bin.

    With few cases a bin it is above 0 even for true probabilities.
    """
    gaps = np.abs(mean_probability - accuracy)
    return float(np.nansum(counts * gaps) / counts.sum()) if counts.sum() else math.nan


def weighted_calibration_error(
    truth: np.ndarray, probabilities: np.ndarray, weights: np.ndarray, num_bins: int
) -> np.ndarray:
    """``calibration_error`` of the same cases, each counted so many times: weights float (B, N), errors float (B,)."""
    confidence, right, index = _binned(truth, probabilities, num_bins)
    gaps = np.zeros((len(truth), num_bins))
    gaps[np.arange(len(truth)), index] = confidence - right
    with np.errstate(invalid="ignore"):
        return np.abs(weights @ gaps).sum(1) / weights.sum(1)
