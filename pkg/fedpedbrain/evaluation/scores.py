"""Scores of an arm's predictions in one long, tidy table."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fedpedbrain.base.cases import HELD_OUT, Shard
from fedpedbrain.base.files import read_table, write_table
from fedpedbrain.data.grid.dataset import ShardDataset
from fedpedbrain.evaluation.lesions import count_covered_lesions, count_lesions
from fedpedbrain.evaluation.metric_facts import REGION_METRICS
from fedpedbrain.evaluation.metrics import dice_coefficient
from fedpedbrain.evaluation.surfaces import grid_diagonal_mm, surface_distances

# The rule is named in the rows that it decided, whether it gave the value or left the case out (value nan).
SCORE_COLUMNS = ("arm", "seed", "case", "patient", "site", "split", "class", "target", "metric", "value", "empty_rule")


def region_scores(
    predicted: np.ndarray,
    truth: np.ndarray,
    spacing_mm: Sequence[float],
    surface_tolerance_mm: float,
    lesion_overlap: float,
) -> Iterator[tuple[str, float, str]]:
    """Yield (metric, value, empty rule) of one region of one case.

    Volumes are of the grid's voxels; errors of volume are predicted minus true, absolute but for ``volume_bias_ml``.
    What each metric is where a mask is empty stands in ``metric_facts``; the rule is named where it was applied.

    Parameters
    ----------
    predicted, truth : (D, H, W), 0 or 1
    spacing_mm : distance between voxel centres (D, H, W)
    surface_tolerance_mm : surfaces this close agree
    lesion_overlap : part of a lesion that the other mask must fill for it to count as found
    """
    predicted, truth = predicted.astype(bool), truth.astype(bool)
    voxel_ml = math.prod(spacing_mm) / 1000.0
    true_ml, predicted_ml = float(truth.sum() * voxel_ml), float(predicted.sum() * voxel_ml)
    is_empty = {"truth": not truth.any(), "prediction": not predicted.any()}
    values = {"dice": dice_coefficient(predicted, truth), "volume_error_ml": abs(predicted_ml - true_ml)}
    values["volume_bias_ml"] = predicted_ml - true_ml
    values["relative_volume_error"] = math.nan if is_empty["truth"] else abs(predicted_ml - true_ml) / true_ml
    values |= _surface_scores(predicted, truth, spacing_mm, surface_tolerance_mm)
    values |= _lesion_scores(predicted, truth, lesion_overlap)
    # Which mask has to be empty for a metric's rule to decide.
    deciding = {"relative_volume_error": ["truth"], "lesion_sensitivity": ["truth"], "lesion_precision": ["prediction"]}
    for metric, facts in REGION_METRICS.items():
        is_decided = any(is_empty[mask] for mask in deciding.get(metric, is_empty))
        yield metric, values[metric], facts.empty_rule if is_decided else ""
    yield "true_volume_ml", true_ml, ""
    yield "predicted_volume_ml", predicted_ml, ""


def _surface_scores(
    predicted: np.ndarray, truth: np.ndarray, spacing_mm: Sequence[float], tolerance_mm: float
) -> dict[str, float]:
    if predicted.any() and truth.any():
        distances = surface_distances(predicted, truth, spacing_mm)
        return {"surface_dice": distances.surface_dice(tolerance_mm), "hd95_mm": distances.hd95_mm}
    if predicted.any() or truth.any():
        return {"surface_dice": 0.0, "hd95_mm": grid_diagonal_mm(truth.shape, spacing_mm)}
    return {"surface_dice": 1.0, "hd95_mm": math.nan}


def _lesion_scores(predicted: np.ndarray, truth: np.ndarray, least_overlap: float) -> dict[str, float]:
    num_true, num_predicted = count_lesions(truth), count_lesions(predicted)
    num_found = count_covered_lesions(truth, predicted, least_overlap)
    num_right = count_covered_lesions(predicted, truth, least_overlap)
    return {
        "lesion_sensitivity": num_found / num_true if num_true else math.nan,
        "lesion_precision": num_right / num_predicted if num_predicted else math.nan,
    }


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
    settings : ``surface_tolerance_mm`` and ``lesion_overlap`` of ``region_scores``
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
            scored = region_scores(masks[row, index], truth[index], case.grid_spacing_mm, **settings)
            for metric, value, rule in scored:
                rows.append({**common, "target": region, "metric": metric, "value": value, "empty_rule": rule})
    for entry in read_table(probabilities_path):
        common = common_of[entry["case"]]
        rows.append({**common, "target": entry["class"], "metric": "probability", "value": entry["probability"]})
    write_table(scores_path, SCORE_COLUMNS, rows)
