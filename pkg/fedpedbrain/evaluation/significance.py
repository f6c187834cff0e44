"""Tests of paired differences, corrected for the number of arms, and what they say of a margin.

``evaluation.comparison.judge_differences`` calls them for every arm and metric, with the margins of the config
(``evaluation.noninferiority_margin``), and writes the table of tests, which the report reads.
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import wilcoxon

from fedpedbrain.study.metric_facts import HIGHER, LOWER

NON_INFERIOR, INFERIOR, NOT_SHOWN = "non-inferior", "inferior", "not shown"
# Differences of scores that are equal but for the rounding of their last digits are ties.
_DIGITS = 12


def fewest_patients_for_test(num_tests: int, level: float) -> int:
    """Number of patients from which a corrected signed-rank test can reach a level at all.

    The smallest p-value of n patients is 2 / 2^n, where all differ the same way; Holm's correction multiplies the
    smallest of several by their number.

    Parameters
    ----------
    num_tests : how many are corrected together
    level : such as 0.05
    """
    return math.ceil(math.log2(2.0 * num_tests / level) - 1e-9)


def largest_unseen_share(num_patients: int) -> float:
    """The largest part of patients who could differ though none of so many did, at one-sided 97.5 %.

    The exact bound of Clopper and Pearson (1934) for 0 of n: with a larger part, n patients without any difference
    would be seen in less than 2.5 % of studies.

    Parameters
    ----------
    num_patients : at least 1
    """
    return 1.0 - 0.025 ** (1.0 / num_patients)


def signed_rank_p_value(differences: np.ndarray) -> float:
    """Two-sided p-value of the Wilcoxon (1945) signed-rank test, one difference a patient, float (P,).

    Patients without a difference are left out before the ranks. SciPy's test is exact for few patients (by
    permutations where differences are tied), and uses the normal approximation beyond.
    """
    differences = np.round(differences, _DIGITS)
    differences = differences[differences != 0.0]
    return float(wilcoxon(differences).pvalue) if len(differences) else 1.0


def holm_p_values(p_values: Sequence[float]) -> list[float]:
    """Holm's (1979) step-down correction of p-values that are judged together."""
    order = np.argsort(p_values, kind="stable")
    corrected, largest = [0.0] * len(p_values), 0.0
    for place, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[index]))
        corrected[index] = largest
    return corrected


def judge_margin(low: float, high: float, margin: float, better: str) -> str:
    """What the interval of a difference to the reference says of a margin of non-inferiority.

    Non-inferior is an arm whose whole interval is better than the reference less the margin (a 95 % interval asks for
    2.5 % one-sided, as the CONSORT extension for non-inferiority trials has it), inferior one whose whole interval is
    worse.

    Parameters
    ----------
    low, high : ends of the interval, nan where there is none
    margin : the difference that would still be accepted, above 0
    better : ``HIGHER`` or ``LOWER``

    Returns
    -------
    ``NON_INFERIOR``, ``INFERIOR``, ``NOT_SHOWN``, or "" without an interval
    """
    if math.isnan(low) or math.isnan(high):
        return ""
    worst, best = {HIGHER: (low, high), LOWER: (-high, -low)}[better]
    if worst > -margin:
        return NON_INFERIOR
    return INFERIOR if best < -margin else NOT_SHOWN
