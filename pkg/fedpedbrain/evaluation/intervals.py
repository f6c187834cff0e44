"""Bootstrap intervals over patients: of means, and of scores that only a group of cases has."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, stdtrit

# With fewer, even a sign test of patients who all differ the same way cannot reach 5 %: 2 / 2^5 is 6 %, 2 / 2^6 is 3 %.
MIN_PATIENTS_FOR_INTERVAL = 6


@dataclass(frozen=True)
class Patients:
    """Patients of some sites, whose cases are drawn together.

    Attributes
    ----------
    sums, counts : float, int (P,), of the values of each patient's cases
    stratum : int (P,), the site of each patient; see ``number_patients``
    """

    sums: np.ndarray
    counts: np.ndarray
    stratum: np.ndarray

    @property
    def mean(self) -> float:
        """Mean over cases."""
        return float(self.sums.sum() / self.counts.sum())


def group_patients(values: np.ndarray, patients: np.ndarray, sites: np.ndarray) -> Patients:
    """Gather the values of cases by patient, and patients by site.

    Parameters
    ----------
    values : float (N,), one value a case
    patients, sites : (N,), of each case
    """
    patient_of, stratum = number_patients(patients, sites)
    return Patients(np.bincount(patient_of, weights=values), np.bincount(patient_of), stratum)


def number_patients(patients: np.ndarray, sites: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number the patients in the order of their names, and gather them by site.

    A site with one patient says nothing of its spread: it counts as part of the smallest other one.

    Returns
    -------
    number of each case's patient int (N,), and number of each patient's stratum int (P,)
    """
    _, first, patient_of = np.unique(patients, return_index=True, return_inverse=True)
    _, stratum = np.unique(sites[first], return_inverse=True)
    sizes = np.bincount(stratum)
    alone = np.flatnonzero(sizes == 1)
    if len(alone) == len(sizes):
        stratum = np.zeros_like(stratum)
    elif len(alone):
        smallest = int(np.argmin(np.where(sizes == 1, len(stratum) + 1, sizes)))
        stratum = np.where(np.isin(stratum, alone), smallest, stratum)
    return patient_of, np.unique(stratum, return_inverse=True)[1]


def bootstrap_interval(
    values: np.ndarray, patients: np.ndarray, sites: np.ndarray, num_samples: int, level: float, seed: int
) -> tuple[float, float]:
    """Expanded percentile bootstrap interval of a mean, patients drawn within their sites.

    The sites are those of the study and not a sample of others, so each keeps its number of patients in every draw, and
    the interval speaks of other patients of these sites. The percentiles are moved outwards for few patients (the
    expanded percentile interval of Hesterberg, 2015), with the variance of a stratified mean and its degrees of freedom
    by Satterthwaite (1946): plain percentiles of stratified draws cover a mean of 30 patients about 90 % of the time
    instead of 95 %. The ends never leave the range of the draws, as those of a studentised bootstrap do.

    Parameters
    ----------
    values : float (N,), one value a case
    patients, sites : (N,), of each case; all cases of a patient are drawn together
    num_samples, level, seed : bootstrap samples, coverage such as 0.95, and seed of the draws

    Returns
    -------
    lower and upper end; nan for fewer than ``MIN_PATIENTS_FOR_INTERVAL`` patients, and where all patients are alike,
    from which no spread can be read
    """
    if len(np.unique(patients)) < MIN_PATIENTS_FOR_INTERVAL:
        return math.nan, math.nan
    grouped = group_patients(values, patients, sites)
    # Of a mean of cases, what a patient adds to its deviation.
    deviations = grouped.sums - grouped.mean * grouped.counts
    tail = _expanded_tail(deviations, grouped.stratum, (1.0 - level) / 2.0)
    if math.isnan(tail):
        return math.nan, math.nan
    drawn = draw_patients(grouped.stratum, num_samples, seed)
    low, high = np.quantile(drawn @ grouped.sums / (drawn @ grouped.counts), [tail, 1.0 - tail])
    return float(low), float(high)


def score_interval(
    score: float,
    drawn: np.ndarray,
    without_one: np.ndarray,
    stratum: np.ndarray,
    level: float,
    drawing_bias: bool = False,
    lowest: float = 0.0,
) -> tuple[float, float]:
    """The same interval of a score that is no mean over cases, such as the F1 of a class, or of a paired difference.

    What a patient adds to the score's deviation is taken from the score without the patient (the jackknife). The ends
    are percentiles of the draws, so that they never leave what the score can be: beside a reference that is right in
    every patient, no difference of accuracy is above 0 and no end is. Only a score that drawing itself makes larger
    (a calibration error) is moved so that the mean of the draws is the score, the number that the interval is of.

    Parameters
    ----------
    score : of all patients, nan where it cannot be computed
    drawn : float (B,), of the draws of ``draw_patients``; nan where a draw has nobody of whom the score speaks
    without_one : float (P,), without each patient
    stratum : int (P,), of ``number_patients``
    drawing_bias : whether the score of a draw is on average another than that of the sample
    lowest : what a score that is moved can be at least; at most it is 1

    Returns
    -------
    lower and upper end; nan for fewer than ``MIN_PATIENTS_FOR_INTERVAL`` patients, without any spread, and where more
    draws than may lie beyond an end have no score
    """
    tail, is_known = (1.0 - level) / 2.0, np.isfinite(drawn)
    if len(stratum) < MIN_PATIENTS_FOR_INTERVAL or math.isnan(score) or 1.0 - is_known.mean() > tail:
        return math.nan, math.nan
    deviations = np.nan_to_num(score - without_one)
    tail = _expanded_tail(deviations, stratum, tail)
    if math.isnan(tail):
        return math.nan, math.nan
    known = drawn[is_known]
    ends = np.quantile(known, [tail, 1.0 - tail])
    if drawing_bias:
        ends = (ends - known.mean() + score).clip(lowest, 1.0)
    return float(ends[0]), float(ends[1])


def _expanded_tail(deviations: np.ndarray, stratum: np.ndarray, tail: float) -> float:
    """The tail of the bootstrap distribution that holds what Student's t has in ``tail``; nan without any spread.

    Parameters
    ----------
    deviations, stratum : float, int (P,), what each patient adds to the deviation, in any unit, and the site
    """
    if np.ptp(deviations) < 1e-12:
        return math.nan
    sizes = np.bincount(stratum)
    centres = np.bincount(stratum, deviations) / sizes
    squares = np.bincount(stratum, (deviations - centres[stratum]) ** 2)
    # Of each site, the variance that it adds; a draw has ``squares`` of it.
    added = sizes * squares / (sizes - 1)
    if squares.sum() < 1e-20:
        return math.nan
    freedom = added.sum() ** 2 / np.sum(added**2 / (sizes - 1))
    return float(ndtr(stdtrit(freedom, tail) * math.sqrt(added.sum() / squares.sum())))


def draw_patients(stratum: np.ndarray, num_samples: int, seed: int) -> np.ndarray:
    """How often each patient is drawn, int (B, P): as many patients of each site as it has, with replacement."""
    generator = np.random.default_rng(seed)
    times = np.zeros((num_samples, len(stratum)), dtype=int)
    for number in range(stratum.max() + 1):
        members = np.flatnonzero(stratum == number)
        drawn = generator.integers(0, len(members), (num_samples, len(members)))
        places = drawn + len(members) * np.arange(num_samples)[:, None]
        counts = np.bincount(places.ravel(), minlength=num_samples * len(members))
        times[:, members] = counts.reshape(num_samples, len(members))
    return times
