"""Scores of a diagnosis that only a group of cases has, with their intervals over patients and paired differences."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fedpedbrain.base.cases import DIAGNOSIS
from fedpedbrain.evaluation.case_values import scopes_of
from fedpedbrain.evaluation.classification import (
    calibration_error,
    class_scores,
    group_scores,
    reliability_bins,
    weighted_calibration_error,
    weighted_class_scores,
)
from fedpedbrain.evaluation.intervals import (
    MIN_PATIENTS_FOR_INTERVAL,
    draw_patients,
    number_patients,
    score_interval,
)

# A patient drawn twice makes the gap of a bin wider, never narrower on average.
_BIASED_BY_DRAWING = ("calibration_error",)


@dataclass(frozen=True)
class GroupScores:
    """Scores of one arm's diagnoses of a group of cases, or paired differences of two arms' scores.

    Attributes
    ----------
    keys : (target, metric) of each of M scores; the target is the diagnosis, or a class against the rest
    sizes : target to its numbers of cases and patients, of a class those who have it
    by_seed : float (S, M)
    drawn, without_one : float (B, M), (P, M), means over seeds: of draws of patients, and without each patient
    stratum : int (P,), of ``number_patients``
    cases : (seed, case) of each of them
    lowest : what a score can be at least
    """

    keys: list[tuple[str, str]]
    sizes: Mapping[str, tuple[int, int]]
    by_seed: np.ndarray
    drawn: np.ndarray
    without_one: np.ndarray
    stratum: np.ndarray
    cases: frozenset[tuple[int, str]]
    lowest: float = 0.0

    def less(self, other: "GroupScores") -> "GroupScores":
        """These scores less another arm's of the same cases, seeds and draws."""
        if self.cases != other.cases:
            raise ValueError("scores of other cases: every arm is scored on the same ones")
        pairs = ((getattr(self, name), getattr(other, name)) for name in ("by_seed", "drawn", "without_one"))
        differences = (mine - theirs for mine, theirs in pairs)
        return GroupScores(self.keys, self.sizes, *differences, self.stratum, self.cases, lowest=-1.0)

    def estimates(self, level: float) -> Iterator[dict[str, Any]]:
        """Yield target, metric, numbers of cases and patients, value, ends of its interval, and spread over seeds.

        There is no interval for a class of fewer than ``MIN_PATIENTS_FOR_INTERVAL`` patients.
        """
        for column, (target, metric) in enumerate(self.keys):
            values = self.by_seed[:, column]
            num_cases, num_patients = self.sizes[target]
            low, high = np.nan, np.nan
            if num_patients >= MIN_PATIENTS_FOR_INTERVAL:
                parts = (values.mean(), self.drawn[:, column], self.without_one[:, column])
                low, high = score_interval(*parts, self.stratum, level, metric in _BIASED_BY_DRAWING, self.lowest)
            yield {
                "target": target,
                "metric": metric,
                "num_cases": num_cases,
                "num_patients": num_patients,
                "value": values.mean(),
                "low": low,
                "high": high,
                "seed_sd": values.std(ddof=1) if len(values) > 1 else np.nan,
            }


def class_arrays(group: pd.DataFrame, classes: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Index of the true class int (N,), and probabilities float (N, K)."""
    index_of = {name: index for index, name in enumerate(classes)}
    return group["class"].map(index_of).to_numpy(dtype=int), group[list(classes)].to_numpy(dtype=float)


def score_group(group: pd.DataFrame, classes: Sequence[str], settings: Mapping[str, Any]) -> GroupScores:
    """Score one arm's diagnoses of a group of cases, seed by seed, and what they would be with other patients.

    Equal patients are drawn alike, whatever the arm: so scores of two arms can be subtracted draw by draw.

    Parameters
    ----------
    group : cases with probabilities, see ``diagnoses``
    settings : ``bootstrap_samples``, ``seed`` and ``reliability_bins``
    """
    num_samples, num_bins = settings["bootstrap_samples"], settings["reliability_bins"]
    names, sites = (group[column].to_numpy(dtype=str) for column in ("patient", "site"))
    patient_of, stratum = number_patients(names, sites)
    left_out = 1 - np.eye(len(stratum), dtype=int)
    counts = np.concatenate([draw_patients(stratum, num_samples, settings["seed"]), left_out])
    by_seed, weighted = [], []
    for rows in group.reset_index(drop=True).groupby("seed").indices.values():
        truth, probabilities = class_arrays(group.iloc[rows], classes)
        of_all = class_scores(truth, probabilities)
        error = calibration_error(*reliability_bins(truth, probabilities, num_bins))
        by_seed.append(_in_a_row(of_all, group_scores(of_all, of_all) | {"calibration_error": np.array(error)}))
        weights = counts[:, patient_of[rows]]
        of_draws = weighted_class_scores(truth, probabilities, weights)
        errors = weighted_calibration_error(truth, probabilities, weights, num_bins)
        weighted.append(_in_a_row(of_draws, group_scores(of_draws, of_all) | {"calibration_error": errors}))
    metrics = [*group_scores(of_all, of_all), "calibration_error"]
    keys = [(DIAGNOSIS, metric) for metric in metrics] + [(name, metric) for metric in of_all for name in classes]
    members = {DIAGNOSIS: group} | {name: group[group["class"] == name] for name in classes}
    sizes = {target: (part["case"].nunique(), part["patient"].nunique()) for target, part in members.items()}
    drawn, without_one = np.split(np.mean(weighted, axis=0), [num_samples])
    cases = frozenset(group[["seed", "case"]].itertuples(index=False, name=None))
    return GroupScores(keys, sizes, np.array(by_seed), drawn, without_one, stratum, cases)


def _in_a_row(by_class: Mapping[str, np.ndarray], of_diagnosis: Mapping[str, np.ndarray]) -> np.ndarray:
    """Scores of the diagnosis float (...) and then those of classes float (..., K), side by side float (..., M)."""
    return np.concatenate([*(values[..., None] for values in of_diagnosis.values()), *by_class.values()], axis=-1)


def score_diagnoses(
    known: pd.DataFrame, classes: Sequence[str], settings: Mapping[str, Any]
) -> dict[tuple[str, str], dict[str, GroupScores]]:
    """Score every arm in every scope.

    Parameters
    ----------
    known : cases with probabilities, see ``diagnoses``
    settings : as of ``score_group``

    Returns
    -------
    (scope, split) to arm to its scores
    """
    return {
        (scope, split): {
            str(arm): score_group(group, classes, settings) for arm, group in part.groupby("arm", observed=True)
        }
        for scope, split, part in scopes_of(known)
    }
