"""Tables that compare the arms on the same held-out patients."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import confusion_matrix

from fedpedbrain.evaluation.case_values import case_values, diagnoses, estimate, paired_values, scopes_of
from fedpedbrain.evaluation.classification import calibration_error, class_scores, group_scores, reliability_bins
from fedpedbrain.evaluation.intervals import MIN_PATIENTS_FOR_INTERVAL
from fedpedbrain.evaluation.metric_facts import METRICS
from fedpedbrain.evaluation.scores import SCORE_COLUMNS
from fedpedbrain.evaluation.significance import (
    fewest_patients_for_test,
    holm_p_values,
    judge_margin,
    signed_rank_p_value,
)
from fedpedbrain.evaluation.site_comparison import cross_sites, joining_gains, site_gaps
from fedpedbrain.evaluation.tables import (
    CONFUSION_COLUMNS,
    DIAGNOSIS,
    DIFFERENCE_COLUMNS,
    RELIABILITY_COLUMNS,
    SUMMARY_COLUMNS,
    TEST_COLUMNS,
    read_results,
    write_results,
)


def summarize(values: pd.DataFrame, settings: Mapping[str, Any]) -> pd.DataFrame:
    """Mean of every arm, scope, target and metric; see ``estimate``."""
    rows = []
    for scope, split, part in scopes_of(values):
        for (target, metric, arm), group in part.groupby(["target", "metric", "arm"], observed=True):
            found = estimate(group, settings)
            place = {"arm": arm, "scope": scope, "split": split, "target": target, "metric": metric}
            rows.append(place | found | {"value": found["mean"], "empty_rule": METRICS[metric].empty_rule})
    return pd.DataFrame(rows, columns=SUMMARY_COLUMNS)


def compare_with_reference(values: pd.DataFrame, settings: Mapping[str, Any]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Paired differences of every arm to the reference arm, and tests of them.

    Returns
    -------
    the tables of differences and of tests, the same rows in both
    """
    reference = settings["reference_arm"]
    differences, tests = [], []
    for scope, split, part in scopes_of(values):
        arms = [arm for arm in part["arm"].sort_values().unique() if arm != reference]
        pairs = {arm: paired_values(part, arm, reference) for arm in arms}
        place = {"reference": reference, "scope": scope, "split": split}
        tested = []
        for arm, pair in pairs.items():
            for (target, metric), group in pair.groupby(["target", "metric"]):
                found = estimate(group, settings)
                row = place | {"arm": arm, "target": target, "metric": metric}
                facts = {"difference": found["mean"], "empty_rule": METRICS[metric].empty_rule}
                differences.append(row | found | facts)
                by_patient = group.dropna(subset="value").groupby("patient")["value"].mean().to_numpy()
                tested.append(row | found | {"by_patient": by_patient})
        tests += judge_differences(tested, settings)
    return pd.DataFrame(differences, columns=DIFFERENCE_COLUMNS), pd.DataFrame(tests, columns=TEST_COLUMNS)


def judge_differences(rows: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Test the differences of one scope: signed ranks, corrected over the arms of a measure, and non-inferiority.

    Parameters
    ----------
    rows : each with target, metric, the ends of the interval and ``by_patient``, the mean difference of each patient
    settings : ``confidence_level`` and ``noninferiority_margin`` (metric to margin)
    """
    families: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        families.setdefault((row["target"], row["metric"]), []).append(row)
    tested = []
    for (_, metric), family in families.items():
        fewest = fewest_patients_for_test(len(family), 1.0 - settings["confidence_level"])
        enough = [len(row["by_patient"]) >= max(fewest, MIN_PATIENTS_FOR_INTERVAL) for row in family]
        p_values = [signed_rank_p_value(row["by_patient"]) for row in family]
        # An arm that is not tested counts in the correction all the same: what is looked at does not depend on it.
        corrected = holm_p_values(p_values)
        margin = settings["noninferiority_margin"].get(metric)
        for row, is_tested, p_value, p_holm in zip(family, enough, p_values, corrected, strict=True):
            verdict = "" if margin is None else judge_margin(row["low"], row["high"], margin, METRICS[metric].better)
            tested.append(
                dict(row)
                | {"num_arms": len(family), "margin": margin, "noninferiority": verdict}
                | ({"p_value": p_value, "p_holm": p_holm} if is_tested else {})
            )
    return tested


def score_diagnoses(
    known: pd.DataFrame, classes: Sequence[str], num_bins: int
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Score the diagnosis over groups of cases, seed by seed; ``seed_sd`` is the spread of the seeds' scores.

    Parameters
    ----------
    known : cases with probabilities, see ``diagnoses``
    num_bins : of the reliability diagrams

    Returns
    -------
    rows of the summary (of the diagnosis and of each class), the table of confusions (summed over seeds), and the bins
    of the reliability diagrams (over the predictions of all seeds)
    """
    scored, confusions, bins = [], [], []
    for scope, split, part in scopes_of(known):
        for arm, group in part.groupby("arm", observed=True):
            place = {"arm": arm, "scope": scope, "split": split}
            scored += [place | row for row in _diagnosis_rows(group, classes, num_bins)]
            columns = zip(*reliability_bins(*_arrays(group, classes), num_bins), strict=True)
            bins += [
                (arm, scope, split, number / num_bins, (number + 1) / num_bins, *column)
                for number, column in enumerate(columns)
            ]
    for (arm, split), group in known.groupby(["arm", "split"], observed=True):
        matrix = confusion_matrix(group["class"], group["predicted"], labels=list(classes))
        confusions += [
            (arm, split, true_class, predicted_class, int(matrix[row, column]))
            for row, true_class in enumerate(classes)
            for column, predicted_class in enumerate(classes)
        ]
    return (
        pd.DataFrame(scored, columns=SUMMARY_COLUMNS),
        pd.DataFrame(confusions, columns=CONFUSION_COLUMNS),
        pd.DataFrame(bins, columns=RELIABILITY_COLUMNS),
    )


def _arrays(group: pd.DataFrame, classes: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Index of the true class int (N,), and probabilities float (N, K)."""
    index_of = {name: index for index, name in enumerate(classes)}
    return group["class"].map(index_of).to_numpy(dtype=int), group[list(classes)].to_numpy(dtype=float)


def _diagnosis_rows(group: pd.DataFrame, classes: Sequence[str], num_bins: int) -> list[dict[str, Any]]:
    """Scores of one arm and scope: of the diagnosis over all cases, and of each class over its own."""
    by_seed: dict[tuple[str, str], list[float]] = {}
    for _, part in group.groupby("seed"):
        truth, probabilities = _arrays(part, classes)
        by_class = class_scores(truth, probabilities)
        error = calibration_error(*reliability_bins(truth, probabilities, num_bins))
        for metric, value in (group_scores(by_class) | {"calibration_error": error}).items():
            by_seed.setdefault((DIAGNOSIS, metric), []).append(value)
        for metric, of_classes in by_class.items():
            for name, value in zip(classes, of_classes, strict=True):
                by_seed.setdefault((name, metric), []).append(float(value))
    rows = []
    for (target, metric), values in by_seed.items():
        counted = group if target == DIAGNOSIS else group[group["class"] == target]
        sizes = {"num_cases": counted["case"].nunique(), "num_patients": counted["patient"].nunique()}
        spread = float(np.std(values, ddof=1)) if len(values) > 1 else np.nan
        rows.append({"target": target, "metric": metric, **sizes, "value": np.mean(values), "seed_sd": spread})
    return rows


def compare_arms_files(
    scores_paths: Sequence[str | Path],
    table_paths: Mapping[str, str | Path],
    arms: Mapping[str, Sequence[str]],
    sites: Sequence[str],
    classes: Sequence[str],
    normal_class: str | None,
    settings: Mapping[str, Any],
) -> None:
    """Read the scores of all arms and seeds and write the tables of the report.

    Parameters
    ----------
    table_paths : where to write ``summary``, ``differences``, ``tests``, ``confusion``, ``reliability``, ``sites``,
        ``gains`` and ``cross_sites``
    arms : arm to the sites that it learns from, in the order of the config, which the tables keep
    sites : in the order of the config
    settings : what the config's ``evaluation`` block says of tables
    """
    scores = pd.concat(map(read_results, scores_paths))[list(SCORE_COLUMNS)]
    for column, order in (("arm", list(arms)), ("site", sites)):
        scores[column] = pd.Categorical(scores[column], categories=order, ordered=True)
    values = case_values(scores, classes, normal_class)
    of_diagnosis, confusion, reliability = score_diagnoses(
        diagnoses(scores, classes), classes, settings["reliability_bins"]
    )
    summary = summarize(values, settings)
    if len(of_diagnosis):
        summary = pd.concat([summary, of_diagnosis])
    differences, tests = compare_with_reference(values, settings)
    tables = {
        "summary": summary,
        "differences": differences,
        "tests": tests,
        "confusion": confusion,
        "reliability": reliability,
        "sites": site_gaps(summary, classes),
        "gains": joining_gains(values, arms, settings),
        "cross_sites": cross_sites(summary, arms),
    }
    write_results(tables, table_paths)
