"""Bootstrap intervals of means over patients."""

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
    stratum : int (P,), the site of each patient; see ``group_patients``
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

    A site with one patient says nothing of its spread: it counts as part of the smallest other one.

    Parameters
    ----------
    values : float (N,), one value a case
    patients, sites : (N,), of each case
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
    _, stratum = np.unique(stratum, return_inverse=True)
    return Patients(np.bincount(patient_of, weights=values), np.bincount(patient_of), stratum)


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
    tail = _expanded_tail(grouped, (1.0 - level) / 2.0)
    if math.isnan(tail):
        return math.nan, math.nan
    low, high = np.quantile(_drawn_means(grouped, num_samples, seed), [tail, 1.0 - tail])
    return float(low), float(high)


def _expanded_tail(grouped: Patients, tail: float) -> float:
    """The tail of the bootstrap distribution that holds what Student's t has in ``tail``; nan without any spread."""
    # Of a mean of cases, what a patient adds to its deviation.
    deviations = grouped.sums - grouped.mean * grouped.counts
    if np.ptp(deviations) < 1e-12:
        return math.nan
    sizes = np.bincount(grouped.stratum)
    centres = np.bincount(grouped.stratum, deviations) / sizes
    squares = np.bincount(grouped.stratum, (deviations - centres[grouped.stratum]) ** 2)
    # Of each site, the variance that it adds; a draw has ``squares`` of it.
    added = sizes * squares / (sizes - 1)
    if squares.sum() < 1e-20:
        return math.nan
    freedom = added.sum() ** 2 / np.sum(added**2 / (sizes - 1))
    return float(ndtr(stdtrit(freedom, tail) * math.sqrt(added.sum() / squares.sum())))


def _drawn_means(grouped: Patients, num_samples: int, seed: int) -> np.ndarray:
    """Means over as many patients of each site as it has, drawn with replacement."""
    generator = np.random.default_rng(seed)
    total, count = np.zeros(num_samples), np.zeros(num_samples)
    for stratum in range(grouped.stratum.max() + 1):
        members = np.flatnonzero(grouped.stratum == stratum)
        drawn = members[generator.integers(0, len(members), (num_samples, len(members)))]
        total += grouped.sums[drawn].sum(1)
        count += grouped.counts[drawn].sum(1)
    return total / count
