"""One value a case, seed, target and metric: what means, intervals and tests are made of."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from fedpedbrain.base.cases import DIAGNOSIS, HELD_OUT, TEST
from fedpedbrain.evaluation.intervals import bootstrap_interval
from fedpedbrain.evaluation.tables import POOLED_SCOPE
from fedpedbrain.study.metric_facts import REGION_METRICS

CASE_KEYS = ["arm", "seed", "case", "patient", "site", "split", "class"]
_VALUE_KEYS = ["target", "metric", "site", "patient", "case", "seed"]


def case_values(scores: pd.DataFrame, classes: Sequence[str], normal_class: str | None) -> pd.DataFrame:
    """Reduce scores to one value per case, seed, target and metric.

    Metrics of a region are over cases whose truth is not empty; ``dice_all_cases`` is over all, where two empty
    masks count 1; ``empty_in_normal`` is 1 where a normal case's predicted mask is empty; ``accuracy`` is 1 where the
    most probable class is the true one. The rule for empty masks of a metric is ``empty_rule`` of its row in
    ``study.metric_facts.REGION_METRICS``.

    Returns
    -------
    columns ``CASE_KEYS``, target, metric, value (nan where the rule for empty masks leaves the case out), empty_rule
    (its name where it decided, else "")
    """
    keys = ["arm", "seed", "case", "target"]
    of_volumes = scores[scores["metric"].isin(["true_volume_ml", "predicted_volume_ml"])]
    parts = []
    if len(of_volumes):
        volumes = of_volumes.set_index([*keys, "metric"])["value"].unstack("metric")
        regions = scores[scores["metric"].isin(list(REGION_METRICS))].join(volumes, on=keys)
        dice = regions[regions["metric"] == "dice"]
        normal = dice[dice["class"] == normal_class]
        empty = (normal["predicted_volume_ml"] == 0).astype(float)
        parts += [
            regions[regions["true_volume_ml"] > 0],
            dice.assign(metric="dice_all_cases"),
            normal.assign(metric="empty_in_normal", value=empty, empty_rule=""),
        ]
    known = diagnoses(scores, classes)
    right = (known["predicted"] == known["class"]).astype(float)
    parts.append(known.assign(target=DIAGNOSIS, metric="accuracy", value=right, empty_rule=""))
    return pd.concat(parts)[[*CASE_KEYS, "target", "metric", "value", "empty_rule"]]


def diagnoses(scores: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """Cases whose class is known, seed by seed, with the probability of every class and the most probable one.

    Returns
    -------
    columns ``CASE_KEYS``, one of each class, and predicted; no rows where nothing is diagnosed
    """
    probabilities = scores[(scores["metric"] == "probability") & scores["class"].isin(classes)]
    if probabilities.empty:
        return pd.DataFrame(columns=[*CASE_KEYS, *classes, "predicted"])
    wide = probabilities.set_index([*CASE_KEYS, "target"])["value"].unstack("target")[list(classes)]
    return wide.assign(predicted=wide.idxmax(axis=1)).reset_index()


def scopes_of(values: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Yield (scope, split, rows): all test patients, then every site in its order, external ones last."""
    yield POOLED_SCOPE, TEST, values[values["split"] == TEST]
    for split in HELD_OUT:
        for site, rows in values[values["split"] == split].groupby("site", observed=True):
            yield str(site), split, rows


def paired_values(part: pd.DataFrame, arm: str, other: str) -> pd.DataFrame:
    """An arm's values less another's, case by case and seed by seed; the rule for empty masks that decided either."""
    both = part[part["arm"] == arm].merge(part[part["arm"] == other], on=_VALUE_KEYS, suffixes=("", "_of_other"))
    rules = both["empty_rule"].where(both["empty_rule"] != "", both["empty_rule_of_other"])
    values = both["value"] - both["value_of_other"]
    return both.assign(value=values, empty_rule=rules)[[*_VALUE_KEYS, "value", "empty_rule"]]


def estimate(group: pd.DataFrame, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Mean of a group of values over cases, with its interval over patients and its spread over seeds.

    A case's values are averaged over seeds first; ``seed_sd`` is the standard deviation of the seeds' own means.

    Parameters
    ----------
    group : values of one arm, or differences of two, of one target and metric
    settings : ``bootstrap_samples``, ``confidence_level`` and ``seed``
    """
    known = group[group["value"].notna()]
    values = known["value"].to_numpy(dtype=float)
    case_of, cases = pd.factorize(known["case"])
    _, first = np.unique(case_of, return_index=True)
    patients, sites = (known[column].to_numpy(dtype=str)[first] for column in ("patient", "site"))
    means, seed_means = _means(values, case_of), _means(values, pd.factorize(known["seed"])[0])
    low, high = bootstrap_interval(
        means, patients, sites, settings["bootstrap_samples"], settings["confidence_level"], settings["seed"]
    )
    return {
        "num_cases": len(cases),
        "num_patients": len(np.unique(patients)),
        "value": means.mean() if len(means) else np.nan,
        "low": low,
        "high": high,
        "seed_sd": seed_means.std(ddof=1) if len(seed_means) > 1 else np.nan,
        "num_by_rule": known["case"][known["empty_rule"] != ""].nunique(),
        "num_left_out": group["case"].nunique() - len(cases),
    }


def _means(values: np.ndarray, group_of: np.ndarray) -> np.ndarray:
    """Mean of each group, by its number."""
    return np.bincount(group_of, weights=values) / np.bincount(group_of)
