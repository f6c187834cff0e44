"""How often intervals hold the true difference, and how often tests find one that is not there.

Simulated studies of four sites whose difference between two arms is known. Prints tables; leaves with an error if the
method of the study misses its aim at 30 patients. An argument is the number of studies of each kind, 1000 without.
"""

import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from fedpedbrain.base.cases import DIAGNOSIS
from fedpedbrain.evaluation.classification import calibration_error, class_scores, group_scores, reliability_bins
from fedpedbrain.evaluation.diagnosis_scores import score_group
from fedpedbrain.evaluation.intervals import bootstrap_interval
from fedpedbrain.evaluation.significance import holm_p_values, signed_rank_p_value
from scipy.stats import norm, t

LEVEL, NUM_DRAWS = 0.95, 1000
TAIL = (1.0 - LEVEL) / 2.0
SITE_SHARES = np.array([0.4, 0.3, 0.2, 0.1])
NUMBERS_OF_PATIENTS = (12, 20, 30, 60)
NUM_ARMS = 6
AIM, MOST_FALSE_FINDINGS = (0.93, 0.97), 0.06
# Of scores of a diagnosis, which are held to less: those of few cases of a class move in steps.
LEAST_OF_DIAGNOSES, NUM_BINS = 0.9, 10
CLASSES = ("one", "two", "three")
# Of the classes at each site, and how far the true class stands out there.
CLASS_SHARES = np.array([[0.5, 0.3, 0.2], [0.3, 0.5, 0.2], [0.3, 0.4, 0.3], [0.3, 0.3, 0.4]])
CONTRAST = np.array([2.0, 1.7, 1.4, 2.2])
# Cases a site from which the true means are taken.
_MANY = 1_000_000

Generator = np.random.Generator


def dice_pairs(generator: Generator, sites: np.ndarray) -> np.ndarray:
    """Differences of two Dice of the same case: bounded, skewed, larger where a case is hard, sites differ."""
    hardness = generator.beta(2.0, 6.0, sites.shape)
    reference = 1.0 - np.clip(hardness * generator.uniform(0.6, 1.4, sites.shape), 0.0, 1.0)
    worse = np.array([1.0, 1.1, 1.3, 0.9])[sites]
    return 1.0 - np.clip(hardness * generator.uniform(0.6, 1.8, sites.shape) * worse, 0.0, 1.0) - reference


def unlike_sites(generator: Generator, sites: np.ndarray) -> np.ndarray:
    """The same, with sites that differ by more than their patients do."""
    return dice_pairs(generator, sites) + np.array([0.0, -0.08, -0.15, 0.05])[sites]


def rare_failures(generator: Generator, sites: np.ndarray) -> np.ndarray:
    """Small differences, but one case in twenty in which the arm loses the tumour."""
    reference = generator.beta(8.0, 2.0, sites.shape)
    small = np.array([0.0, -0.02, -0.03, 0.01])[sites] + 0.04 * generator.standard_normal(sites.shape)
    arm = np.clip(reference + small, 0.0, 1.0)
    is_lost = generator.random(sites.shape) < 0.05
    return np.where(is_lost, arm * generator.random(sites.shape), arm) - reference


def right_or_wrong(generator: Generator, sites: np.ndarray) -> np.ndarray:
    """Differences of accuracy: -1, 0 or 1, most of them 0."""
    reference = generator.random(sites.shape) < 0.85
    return (generator.random(sites.shape) < np.where(reference, 0.88, 0.3)).astype(float) - reference


SCENARIOS = {
    "pairs of Dice": dice_pairs,
    "sites unlike each other": unlike_sites,
    "one case in 20 lost": rare_failures,
    "right or wrong": right_or_wrong,
}
# What the study's method is held to; the others are beyond what so few patients tell by any method.
HELD_TO_AIM = ("pairs of Dice", "sites unlike each other")


def sites_of(num_patients: int) -> np.ndarray:
    """Site of each patient, int (P,)."""
    borders = np.round(np.cumsum(SITE_SHARES) * num_patients).astype(int)
    return np.searchsorted(borders, np.arange(num_patients), side="right")


def true_mean(differences: Callable, sites: np.ndarray) -> float:
    """Mean difference of other patients of these sites, each site as large as it is."""
    generator = np.random.default_rng(1)
    of_site = [differences(generator, np.full(_MANY, site)).mean() for site in range(len(SITE_SHARES))]
    return float(np.mean(np.array(of_site)[sites]))


@dataclass(frozen=True)
class Sample:
    """Differences of one study's patients float (P,), and their sites int (P,)."""

    values: np.ndarray
    sites: np.ndarray

    @cached_property
    def drawn(self) -> np.ndarray:
        """Patients drawn from all, float (B, P)."""
        size = len(self.values)
        return self.values[np.random.default_rng(0).integers(0, size, (NUM_DRAWS, size))]

    @cached_property
    def drawn_by_site(self) -> np.ndarray:
        """Patients drawn within their sites, float (B, P)."""
        generator = np.random.default_rng(0)
        parts = []
        for site in np.unique(self.sites):
            values = self.values[self.sites == site]
            parts.append(values[generator.integers(0, len(values), (NUM_DRAWS, len(values)))])
        return np.concatenate(parts, axis=1)


def standard_error(values: np.ndarray) -> np.ndarray:
    """Of the mean over the last axis; never 0, by which a studentised bootstrap would divide."""
    return np.maximum(values.std(-1, ddof=1), 1e-9) / math.sqrt(values.shape[-1])


def student(sample: Sample) -> tuple[float, float]:
    half = t.ppf(1.0 - TAIL, len(sample.values) - 1) * standard_error(sample.values)
    return sample.values.mean() - half, sample.values.mean() + half


def percentile(sample: Sample) -> tuple[float, float]:
    return tuple(np.quantile(sample.drawn.mean(1), [TAIL, 1.0 - TAIL]))


def percentile_by_site(sample: Sample) -> tuple[float, float]:
    return tuple(np.quantile(sample.drawn_by_site.mean(1), [TAIL, 1.0 - TAIL]))


def expanded_percentile(sample: Sample) -> tuple[float, float]:
    size = len(sample.values)
    tail = norm.cdf(t.ppf(TAIL, size - 1) * math.sqrt(size / (size - 1)))
    return tuple(np.quantile(sample.drawn.mean(1), [tail, 1.0 - tail]))


def bias_corrected(sample: Sample) -> tuple[float, float]:
    """BCa (Efron, 1987)."""
    values, means = sample.values, sample.drawn.mean(1)
    deviations = values - values.mean()
    if not deviations.any():
        return values.mean(), values.mean()
    below = np.mean(means < values.mean()) + 0.5 * np.mean(means == values.mean())
    shift = norm.ppf(np.clip(below, 1.0 / NUM_DRAWS, 1.0 - 1.0 / NUM_DRAWS))
    acceleration = (deviations**3).sum() / (6.0 * (deviations**2).sum() ** 1.5)
    turned = [shift + norm.ppf(tail) for tail in (TAIL, 1.0 - TAIL)]
    return tuple(np.quantile(means, [norm.cdf(shift + z / (1.0 - acceleration * z)) for z in turned]))


def studentised(sample: Sample) -> tuple[float, float]:
    mean, error = sample.values.mean(), standard_error(sample.values)
    ratios = (sample.drawn.mean(1) - mean) / standard_error(sample.drawn)
    low, high = np.quantile(ratios, [TAIL, 1.0 - TAIL])
    return mean - high * error, mean - low * error


def study_interval(sample: Sample) -> tuple[float, float]:
    patients = np.arange(len(sample.values))
    return bootstrap_interval(sample.values, patients, sample.sites, NUM_DRAWS, LEVEL, seed=0)


USED = "expanded percentile by site (used)"
METHODS = {
    "Student's t": student,
    "percentile": percentile,
    "percentile by site": percentile_by_site,
    "BCa": bias_corrected,
    "studentised": studentised,
    "expanded percentile": expanded_percentile,
    USED: study_interval,
}


def coverages(scenario: str, num_patients: int, num_studies: int, methods: dict[str, Callable]) -> dict[str, float]:
    """Part of the intervals that hold the true mean, by method."""
    sites = sites_of(num_patients)
    truth = true_mean(SCENARIOS[scenario], sites)
    generator = np.random.default_rng(num_patients)
    held, given = dict.fromkeys(methods, 0), dict.fromkeys(methods, 0)
    for _ in range(num_studies):
        sample = Sample(SCENARIOS[scenario](generator, sites), sites)
        for name, method in methods.items():
            low, high = method(sample)
            held[name] += low <= truth <= high
            given[name] += not math.isnan(low)
    return {name: held[name] / given[name] for name in methods}


def diagnoses_of(generator: Generator, sites: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """True class int (P,) and probabilities float (P, K), too sure of themselves, of one patient a case."""
    borders = CLASS_SHARES.cumsum(1)[sites]
    truth = np.minimum((generator.random((len(sites), 1)) > borders).sum(1), len(CLASSES) - 1)
    evidence = generator.standard_normal((len(sites), len(CLASSES)))
    evidence[np.arange(len(sites)), truth] += CONTRAST[sites]
    powers = np.exp(2.5 * evidence)
    return truth, powers / powers.sum(1, keepdims=True)


def scores_of_diagnoses(truth: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    by_class = class_scores(truth, probabilities)
    error = calibration_error(*reliability_bins(truth, probabilities, NUM_BINS))
    return {**group_scores(by_class, by_class), "calibration_error": error}


def coverages_of_diagnoses(num_patients: int, num_studies: int) -> dict[str, float]:
    """Part of the intervals that hold what the score is on average over studies of as many patients, by metric."""
    sites, generator = sites_of(num_patients), np.random.default_rng(num_patients)
    settings = {"bootstrap_samples": NUM_DRAWS, "reliability_bins": NUM_BINS, "seed": 0}
    studies = [diagnoses_of(generator, sites) for _ in range(4 * num_studies)]
    truths = pd.DataFrame([scores_of_diagnoses(*study) for study in studies]).mean()
    who = {"seed": 0, "case": np.arange(num_patients).astype(str), "site": sites.astype(str)}
    held: dict[str, list[bool]] = {}
    for truth, probabilities in studies[:num_studies]:
        group = pd.DataFrame(probabilities, columns=list(CLASSES)).assign(**who, patient=who["case"])
        scored = score_group(group.assign(**{"class": np.array(CLASSES)[truth]}), CLASSES, settings)
        for found in scored.estimates(LEVEL):
            if found["target"] == DIAGNOSIS and not math.isnan(found["low"]):
                is_held = found["low"] <= truths[found["metric"]] <= found["high"]
                held.setdefault(found["metric"], []).append(is_held)
    return {metric: float(np.mean(values)) for metric, values in held.items()}


def false_findings(num_patients: int, num_studies: int) -> float:
    """Part of the studies of arms without any difference in which a corrected test finds one."""
    generator = np.random.default_rng(num_patients)
    found = 0
    for _ in range(num_studies):
        hardness = generator.beta(2.0, 6.0, num_patients)
        dice = 1.0 - np.clip(hardness * generator.uniform(0.6, 1.6, (NUM_ARMS + 1, num_patients)), 0.0, 1.0)
        p_values = [signed_rank_p_value(arm - dice[0]) for arm in dice[1:]]
        found += min(holm_p_values(p_values)) <= 1.0 - LEVEL
    return found / num_studies


def _table(title: str, rows: dict[str, list[float]]) -> Iterator[str]:
    yield f"\n{title:<36}" + "".join(f"{number:>8}" for number in NUMBERS_OF_PATIENTS)
    for name, values in rows.items():
        yield f"{name:<36}" + "".join(f"{value:>8.3f}" for value in values)


def main(num_studies: int) -> None:
    """Print all tables."""
    write = sys.stdout.write
    write(f"{num_studies} studies of each kind; columns are numbers of patients\n")
    missed = []
    for scenario in SCENARIOS:
        found = [coverages(scenario, number, num_studies, METHODS) for number in NUMBERS_OF_PATIENTS]
        rows = {name: [column[name] for column in found] for name in METHODS}
        write("\n".join(_table(f"Coverage: {scenario}", rows)) + "\n")
        at_30 = rows[USED][NUMBERS_OF_PATIENTS.index(30)]
        if scenario in HELD_TO_AIM and not AIM[0] <= at_30 <= AIM[1]:
            missed.append(f"{scenario}: {at_30:.3f}")
    found = [coverages_of_diagnoses(number, num_studies) for number in NUMBERS_OF_PATIENTS]
    rows = {metric: [column[metric] for column in found] for metric in found[0]}
    write("\n".join(_table("Coverage: scores of a diagnosis", rows)) + "\n")
    at_30 = {metric: values[NUMBERS_OF_PATIENTS.index(30)] for metric, values in rows.items()}
    missed += [f"{metric}: {value:.3f}" for metric, value in at_30.items() if value < LEAST_OF_DIAGNOSES]
    rates = [false_findings(number, num_studies) for number in NUMBERS_OF_PATIENTS]
    write("\n".join(_table("No difference", {f"some of {NUM_ARMS} tests rejects": rates})) + "\n")
    missed += [f"false findings: {rate:.3f}" for rate in rates if rate > MOST_FALSE_FINDINGS]
    if missed:
        raise SystemExit("missed its aim: " + ", ".join(missed))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
