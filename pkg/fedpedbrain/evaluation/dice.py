"""Dice, the overlap of two masks."""

import numpy as np


def dice_coefficient(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Dice (1945) of two binary volumes of one shape; 1 where both are empty, 0 where one is.

    An empty truth scores 0 or 1 only. So the mean of the metric ``dice`` is over cases with an outline, the mean of
    ``dice_all_cases`` is over all cases, and ``empty_in_normal`` counts normal cases whose predicted mask is empty
    (``evaluation/case_values.py``).
    """
    predicted, truth = predicted.astype(bool), truth.astype(bool)
    total = int(predicted.sum()) + int(truth.sum())
    if total == 0:
        return 1.0
    return 2.0 * int((predicted & truth).sum()) / total
