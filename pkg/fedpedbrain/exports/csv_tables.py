"""Scores and rounds as CSV, as pandas and R read it without being told anything."""

from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

import pandas as pd

from fedpedbrain.base.files import replacing
from fedpedbrain.evaluation.case_values import case_values
from fedpedbrain.evaluation.scores import SCORE_COLUMNS
from fedpedbrain.evaluation.tables import read_results
from fedpedbrain.exports.round_values import RoundValue

# What values are made of, in the scores of cases but not among the values themselves.
_BESIDE_VALUES = ("true_volume_ml", "predicted_volume_ml", "probability")


def write_metrics_csv(
    path: str | Path,
    scores_paths: Sequence[str | Path],
    arms: Sequence[str],
    classes: Sequence[str],
    normal_class: str | None,
) -> None:
    """Write every value that the tables' means are made of, one row an arm, seed, case, target and metric.

    Means of a metric's rows are those of the summary: Dice is of cases with an outline alone, see ``case_values``.
    Beside them stand volumes, and the probability of each class, which is the row's target. Parameters ----------
    scores_paths : of all arms and seeds arms : in the order of the config, which the rows keep
    """
    scores = pd.concat(map(read_results, scores_paths))[list(SCORE_COLUMNS)]
    beside = scores[scores["metric"].isin(_BESIDE_VALUES)]
    values = pd.concat([case_values(scores, classes, normal_class), beside])[list(SCORE_COLUMNS)]
    places = {arm: place for place, arm in enumerate(arms)}
    values = values.sort_values("arm", key=lambda names: names.map(places), kind="stable")
    with replacing(path) as temporary:
        values.to_csv(temporary, index=False)


def write_rounds_csv(path: str | Path, values: Sequence[RoundValue]) -> None:
    """Write every value of every round, one a row."""
    columns = [field.name for field in fields(RoundValue)]
    with replacing(path) as temporary:
        pd.DataFrame(map(asdict, values), columns=columns).to_csv(temporary, index=False)
