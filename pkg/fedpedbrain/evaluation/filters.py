"""The choice of component filters, per region, on validation patients alone."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from fedpedbrain.base.cases import VALIDATION, Shard
from fedpedbrain.base.files import write_json
from fedpedbrain.data.grid.dataset import ShardDataset
from fedpedbrain.evaluation.dice import dice_coefficient
from fedpedbrain.evaluation.predictions import load_candidate, predict_dataset
from fedpedbrain.models.components import ComponentFilter
from fedpedbrain.models.files import load_model_file
from fedpedbrain.models.prediction import PredictionPlan, decide_regions, most_probable_class


class ValidatedCase(NamedTuple):
    """What was found in a validation case before any component was filtered.

    Attributes
    ----------
    regions, truth : bool (R, D, H, W)
    voxel_ml : volume of one voxel
    """

    regions: np.ndarray
    truth: np.ndarray
    voxel_ml: float


def try_filters(
    cases: Iterable[ValidatedCase], regions: Sequence[str], tried: Sequence[ComponentFilter], smallest_region_ml: float
) -> dict[str, Any]:
    """Score every filter on every region, over the cases whose mask outlines it, and choose the best.

    Of filters that score alike the first is chosen; the first, too, where no case outlines the region.

    Returns
    -------
    region to ``num_cases``, ``tried`` (each filter's settings and mean ``dice``, None without a case) and ``chosen``
    """
    scores: dict[str, list[list[float]]] = {name: [] for name in regions}
    for case in cases:
        for name, region, truth in zip(regions, case.regions, case.truth.astype(bool), strict=True):
            if truth.any():
                kept = (item.keep(region, case.voxel_ml) for item in tried)
                large = (mask if mask.sum() * case.voxel_ml >= smallest_region_ml else mask & False for mask in kept)
                scores[name].append([dice_coefficient(mask, truth) for mask in large])
    return {name: _choose(of_cases, tried) for name, of_cases in scores.items()}


def _choose(scores: Sequence[Sequence[float]], tried: Sequence[ComponentFilter]) -> dict[str, Any]:
    """The filter with the highest mean over cases, of which each has one Dice per filter."""
    means = np.mean(scores, axis=0).tolist() if scores else [None] * len(tried)
    best = int(np.argmax(means)) if scores else 0
    return {
        "num_cases": len(scores),
        "tried": [item.settings | {"dice": mean} for item, mean in zip(tried, means, strict=True)],
        "chosen": tried[best].settings,
    }


def choose_filters_files(
    model_paths: Sequence[str | Path],
    personal_paths: Mapping[str, str | Path],
    shards: Sequence[Shard],
    filters_path: str | Path,
    tried: Sequence[Mapping[str, Any]],
    decision: Mapping[str, Any],
    expected: Mapping[str, Any],
    plan: PredictionPlan,
    device: torch.device,
) -> None:
    """Predict the validation cases of the given shards and write what ``try_filters`` finds.

    Parameters
    ----------
    model_paths : for all sites that are not in ``personal_paths``; of several models the mean is taken
    personal_paths : site to the model that predicts its cases
    tried : arguments of each ``ComponentFilter``
    decision : arguments of ``decide_regions`` from the config
    expected : as of ``load_candidate``
    plan : as in the predictions that are filtered
    """
    model_files = load_candidate(model_paths, expected)
    personal = {site: load_model_file(path) for site, path in personal_paths.items()}
    dataset = ShardDataset(shards, {VALIDATION})
    predictions = predict_dataset(model_files, personal, dataset, device, plan)
    unfiltered, classes = {**decision, "smallest_region_ml": 0.0}, model_files[0].spec.classes
    cases = (
        ValidatedCase(
            decide_regions(
                regions, case.grid_voxel_ml, predicted_class=most_probable_class(of_classes, classes), **unfiltered
            ),
            dataset.mask(row),
            case.grid_voxel_ml,
        )
        for row, (case, (regions, of_classes)) in enumerate(zip(dataset.cases, predictions, strict=True))
    )
    filters = [ComponentFilter(**settings) for settings in tried]
    write_json(filters_path, try_filters(cases, model_files[0].spec.regions, filters, decision["smallest_region_ml"]))
