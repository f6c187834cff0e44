"""Scores of an arm's predictions in one long, tidy table."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fedpedbrain.cohort import HELD_OUT
from fedpedbrain.data.dataset import ShardDataset
from fedpedbrain.evaluation.metrics import dice_coefficient
from fedpedbrain.files import read_table, write_table

SCORE_COLUMNS = ("arm", "seed", "case", "patient", "site", "split", "class", "target", "metric", "value")


def region_scores(predicted: np.ndarray, truth: np.ndarray, voxel_ml: float) -> Iterator[tuple[str, float]]:
    """Yield (metric, value) of one region of one case; both volumes are (D, H, W), 0 or 1."""
    yield "dice", dice_coefficient(predicted, truth)
    yield "true_volume_ml", float(truth.sum() * voxel_ml)
    yield "predicted_volume_ml", float(predicted.sum() * voxel_ml)


def score_predictions_files(
    masks_path: str | Path,
    probabilities_path: str | Path,
    shard_folders: Sequence[str | Path],
    scores_path: str | Path,
    arm: str,
    seed: int,
    regions: Sequence[str],
) -> None:
    """Score an arm's predictions: one row a case, target (a region or a class) and metric."""
    dataset = ShardDataset(shard_folders, HELD_OUT)
    masks = np.load(masks_path, mmap_mode="r")
    rows: list[dict[str, Any]] = []
    common_of = {}
    for row, case in enumerate(dataset.cases):
        common = {"arm": arm, "seed": seed, "case": case.case, "patient": case.patient, "site": case.site}
        common |= {"split": case.split, "class": case.class_name}
        common_of[case.case] = common
        for index, region in enumerate(regions):
            for metric, value in region_scores(masks[row, index], dataset.mask(row)[index], case.grid_voxel_ml):
                rows.append({**common, "target": region, "metric": metric, "value": value})
    for entry in read_table(probabilities_path):
        common = common_of[entry["case"]]
        rows.append({**common, "target": entry["class"], "metric": "probability", "value": entry["probability"]})
    write_table(scores_path, SCORE_COLUMNS, rows)
