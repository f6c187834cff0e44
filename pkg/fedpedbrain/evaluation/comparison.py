"""Tables that compare the arms on the same held-out patients, and whether their differences are real.

Intervals of means and differences are made by ``case_values.estimate`` (``intervals.bootstrap_interval``), those of
scores that a group alone has by ``diagnosis_scores``. ``judge_differences`` tests differences
(``significance.signed_rank_p_value``), corrects them over the arms of one target, metric and scope (``holm_p_values``)
and compares them with the margin (``judge_margin``). Intervals are not corrected.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import confusion_matrix

from fedpedbrain.evaluation.case_values import case_values, diagnoses, estimate, paired_values, scopes_of
from fedpedbrain.evaluation.classification import reliability_bins
from fedpedbrain.evaluation.diagnosis_scores import GroupScores, class_arrays, score_diagnoses
from fedpedbrain.evaluation.intervals import MIN_PATIENTS_FOR_INTERVAL
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
    DIFFERENCE_COLUMNS,
    MODEL_COLUMNS,
    RELIABILITY_COLUMNS,
    SUMMARY_COLUMNS,
    TEST_COLUMNS,
    read_results,
    write_results,
)
from fedpedbrain.study.metric_facts import METRICS

# (scope, split) to arm to its scores, see ``score_diagnoses``.
Diagnosed = Mapping[tuple[str, str], Mapping[str, GroupScores]]


def summarize(values: pd.DataFrame, diagnosed: Diagnosed, settings: Mapping[str, Any]) -> pd.DataFrame:
    """Means of every arm, scope, target and metric, see ``estimate``, and scores of groups of diagnoses."""
    rows = []
    for scope, split, part in scopes_of(values):
        for (target, metric, arm), group in part.groupby(["target", "metric", "arm"], observed=True):
            place = {"arm": arm, "scope": scope, "split": split, "target": target, "metric": metric}
            rows.append(place | estimate(group, settings) | {"empty_rule": METRICS[metric].empty_rule})
    for (scope, split), arms in diagnosed.items():
        for arm, scores in arms.items():
            place = {"arm": arm, "scope": scope, "split": split}
            rows += [place | found for found in scores.estimates(settings["confidence_level"])]
    return pd.DataFrame(rows, columns=SUMMARY_COLUMNS)


def summarize_models(
    summary: pd.DataFrame,
    values: pd.DataFrame,
    known: pd.DataFrame,
    classes: Sequence[str],
    settings: Mapping[str, Any],
) -> pd.DataFrame:
    """The summary of every model, one arm and one seed, by itself.

    Parameters
    ----------
    summary : over all seeds
    values, known : of all arms and seeds, see ``case_values`` and ``diagnoses``
    """
    seeds = values["seed"].unique()
    if len(seeds) == 1:
        # No need to draw the same bootstrap samples once more.
        return summary.assign(seed=seeds[0])[list(MODEL_COLUMNS)]
    parts = []
    for seed, of_seed in values.groupby("seed"):
        diagnosed = score_diagnoses(known[known["seed"] == seed], classes, settings)
        parts.append(summarize(of_seed, diagnosed, settings).assign(seed=seed))
    return pd.concat(parts)[list(MODEL_COLUMNS)]


def compare_with_reference(
    values: pd.DataFrame, diagnosed: Diagnosed, settings: Mapping[str, Any]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Paired differences of every arm to the reference arm, and tests of them.

    Parameters
    ----------
    values : one value a case, seed, target and metric, see ``case_values``

    Returns
    -------
    the tables of differences and of tests, the same rows in both
    """
    reference = settings["reference_arm"]
    differences, tests = [], []
    for scope, split, part in scopes_of(values):
        rows = []
        for arm in part["arm"].sort_values().unique():
            if arm != reference:
                place = {"arm": arm, "reference": reference, "scope": scope, "split": split}
                of_cases = _case_differences(part, arm, settings)
                of_groups = _group_differences(diagnosed.get((scope, split), {}), arm, settings)
                rows += [place | row for row in (*of_cases, *of_groups)]
        differences += [row | {"difference": row["value"]} for row in rows]
        tests += judge_differences(rows, settings)
    return pd.DataFrame(differences, columns=DIFFERENCE_COLUMNS), pd.DataFrame(tests, columns=TEST_COLUMNS)


def _case_differences(part: pd.DataFrame, arm: str, settings: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Means of an arm's values less the reference arm's, case by case, and ``by_patient``, each patient's mean."""
    for (target, metric), group in paired_values(part, arm, settings["reference_arm"]).groupby(["target", "metric"]):
        by_patient = group.dropna(subset="value").groupby("patient")["value"].mean().to_numpy()
        facts = {"target": target, "metric": metric, "empty_rule": METRICS[metric].empty_rule}
        yield facts | estimate(group, settings) | {"by_patient": by_patient}


def _group_differences(
    scores: Mapping[str, GroupScores], arm: str, settings: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """An arm's scores of a group of diagnoses less the reference arm's; nothing where nothing is diagnosed."""
    if arm in scores:
        yield from scores[arm].less(scores[settings["reference_arm"]]).estimates(settings["confidence_level"])


def judge_differences(rows: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Test the differences of one scope: signed ranks, corrected over the arms of a measure, and non-inferiority.

    Parameters
    ----------
    rows : each with target, metric, the ends of the interval and, where a patient alone has a score, ``by_patient``:
        the mean difference of each patient
    settings : ``confidence_level`` and ``noninferiority_margin`` (metric to margin)
    """
    families: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        families.setdefault((row["target"], row["metric"]), []).append(row)
    tested = []
    for (_, metric), family in families.items():
        fewest = fewest_patients_for_test(len(family), 1.0 - settings["confidence_level"])
        by_patient = [row.get("by_patient", np.empty(0)) for row in family]
        enough = [len(patients) >= max(fewest, MIN_PATIENTS_FOR_INTERVAL) for patients in by_patient]
        p_values = list(map(signed_rank_p_value, by_patient))
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


def count_diagnoses(known: pd.DataFrame, classes: Sequence[str], num_bins: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Count what was taken for what, and how often the most probable class was right.

    Parameters
    ----------
    known : cases with probabilities, see ``diagnoses``
    num_bins : of the reliability diagrams

    Returns
    -------
    the table of confusions (summed over seeds), and the bins of the reliability diagrams (over the predictions of all
    seeds)
    """
    confusions, bins = [], []
    for scope, split, part in scopes_of(known):
        for arm, group in part.groupby("arm", observed=True):
            columns = zip(*reliability_bins(*class_arrays(group, classes), num_bins), strict=True)
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
    return pd.DataFrame(confusions, columns=CONFUSION_COLUMNS), pd.DataFrame(bins, columns=RELIABILITY_COLUMNS)


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
    table_paths : where to write ``summary``, ``models``, ``differences``, ``tests``, ``confusion``, ``reliability``,
        ``sites``, ``gains`` and ``cross_sites``
    arms : arm to the sites that it learns from, in the order of the config, which the tables keep
    sites : in the order of the config
    settings : what the config's ``evaluation`` block says of tables
    """
    scores = pd.concat(map(read_results, scores_paths))[list(SCORE_COLUMNS)]
    for column, order in (("arm", list(arms)), ("site", sites)):
        scores[column] = pd.Categorical(scores[column], categories=order, ordered=True)
    values = case_values(scores, classes, normal_class)
    known = diagnoses(scores, classes)
    confusion, reliability = count_diagnoses(known, classes, settings["reliability_bins"])
    diagnosed = score_diagnoses(known, classes, settings)
    summary = summarize(values, diagnosed, settings)
    differences, tests = compare_with_reference(values, diagnosed, settings)
    tables = {
        "summary": summary,
        "models": summarize_models(summary, values, known, classes, settings),
        "differences": differences,
        "tests": tests,
        "confusion": confusion,
        "reliability": reliability,
        "sites": site_gaps(summary, classes),
        "gains": joining_gains(values, diagnosed, arms, settings),
        "cross_sites": cross_sites(summary, arms),
    }
    write_results(tables, table_paths)
