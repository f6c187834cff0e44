"""Scores of an arm's predictions in one long, tidy table."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fedpedbrain.base.cases import HELD_OUT, Shard
from fedpedbrain.base.files import read_table, write_table
from fedpedbrain.data.grid.dataset import ShardDataset
from fedpedbrain.evaluation.mask_pair import MaskPair
from fedpedbrain.study.metric_facts import REGION_METRICS

# The rule is named in the rows that it decided, whether it gave the value or left the case out (value nan).
SCORE_COLUMNS = ("arm", "seed", "case", "patient", "site", "split", "class", "target", "metric", "value", "empty_rule")


def region_scores(pair: MaskPair) -> Iterator[tuple[str, float, str]]:
    """Yield (metric, value, empty rule) of one region of one case: every row of ``REGION_METRICS``, and both volumes.

    The rule of a metric for empty masks is named where it decided.
    """
    for metric, facts in REGION_METRICS.items():
        is_decided = not pair.empty.isdisjoint(facts.decided_by)
        yield metric, REGION_METRICS.load(metric)(pair), facts.empty_rule if is_decided else ""
    yield "true_volume_ml", pair.true_ml, ""
    yield "predicted_volume_ml", pair.predicted_ml, ""


def score_predictions_files(
    masks_path: str | Path,
    probabilities_path: str | Path,
    shards: Sequence[Shard],
    scores_path: str | Path,
    arm: str,
    seed: int,
    regions: Sequence[str],
    settings: Mapping[str, float],
) -> None:
    """Score an arm's predictions: one row a case, target (a region or a class) and metric.

    Parameters
    ----------
    settings : ``surface_tolerance_mm`` and ``lesion_overlap`` of ``MaskPair``
    """
    dataset = ShardDataset(shards, HELD_OUT)
    masks = np.load(masks_path, mmap_mode="r")
    rows: list[dict[str, Any]] = []
    common_of = {}
    for row, case in enumerate(dataset.cases):
        common = {"arm": arm, "seed": seed, "case": case.case, "patient": case.patient, "site": case.site}
        common |= {"split": case.split, "class": case.class_name, "empty_rule": ""}
        common_of[case.case] = common
        truth = dataset.mask(row)
        for index, region in enumerate(regions):
            predicted = masks[row, index].astype(bool)
            pair = MaskPair(predicted, truth[index].astype(bool), case.grid_spacing_mm, **settings)
            for metric, value, rule in region_scores(pair):
                rows.append({**common, "target": region, "metric": metric, "value": value, "empty_rule": rule})
    for entry in read_table(probabilities_path):
        common = common_of[entry["case"]]
        rows.append({**common, "target": entry["class"], "metric": "probability", "value": entry["probability"]})
    write_table(scores_path, SCORE_COLUMNS, rows)
