"""Scores of a diagnosis over a group of cases, and the bins of a reliability diagram.

Precision, recall, F1 and AUROC are scikit-learn's. Whatever cannot be computed is nan: the recall of a class without a
case, the precision of one that is never predicted, the AUROC of one without a case or without any other.
"""

import math
from collections.abc import Mapping

import numpy as np
from sklearn.metrics import precision_recall_fscore_support, roc_auc_score


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


def group_scores(by_class: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Macro-F1, balanced accuracy and macro AUROC: means over the classes where ``class_scores`` could be computed.

    So a class without a case neither helps nor harms.
    """
    sources = {"macro_f1": "f1", "balanced_accuracy": "recall", "auroc": "auroc"}
    known = {metric: by_class[source][~np.isnan(by_class[source])] for metric, source in sources.items()}
    return {metric: float(values.mean()) if len(values) else math.nan for metric, values in known.items()}


def reliability_bins(
    truth: np.ndarray, probabilities: np.ndarray, num_bins: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cases by the probability of their most probable class, in bins of equal width; an upper edge belongs to its bin.

    Returns
    -------
    number of cases, mean probability and accuracy of every bin, each (B,); nan where a bin has no case
    """
    confidence = probabilities.max(1)
    right = (probabilities.argmax(1) == truth).astype(float)
    # Less than a rounding error below an edge is on it.
    index = np.clip(np.ceil(confidence * num_bins - 1e-9).astype(int) - 1, 0, num_bins - 1)
    counts = np.bincount(index, minlength=num_bins)
    sums = [np.bincount(index, weights=values, minlength=num_bins) for values in (confidence, right)]
    filled = np.where(counts > 0, counts, np.nan)
    return counts, sums[0] / filled, sums[1] / filled


def calibration_error(counts: np.ndarray, mean_probability: np.ndarray, accuracy: np.ndarray) -> float:
    """Expected calibration error (Guo et al., 2017): mean distance of probability and accuracy, by cases a bin.

    With few cases a bin it is above 0 even for true probabilities.
    """
    gaps = np.abs(mean_probability - accuracy)
    return float(np.nansum(counts * gaps) / counts.sum()) if counts.sum() else math.nan
