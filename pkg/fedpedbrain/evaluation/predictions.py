"""Predictions of an arm's best model on the held-out patients."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap

from fedpedbrain.cohort import HELD_OUT
from fedpedbrain.data.dataset import ShardDataset
from fedpedbrain.files import replacing, write_table
from fedpedbrain.models.files import load_model_file
from fedpedbrain.models.prediction import decide_regions, most_probable_class, predict_probabilities

PROBABILITY_COLUMNS = ("case", "class", "probability")


def predict_cases_files(
    model_path: str | Path,
    shard_folders: Sequence[str | Path],
    masks_path: str | Path,
    probabilities_path: str | Path,
    decision: Mapping[str, Any],
    device: torch.device,
) -> None:
    """Predict the held-out cases of the given shards.

    Writes ``masks`` uint8 (N, R, D, H, W), 0 or 1, rows in the order of the shards' held-out cases, and one row a case
    and class of probabilities. ``decision`` holds the arguments of ``decide_regions`` from the config.
    """
    model_file = load_model_file(model_path)
    dataset = ShardDataset(shard_folders, HELD_OUT)
    grid = tuple(model_file.spec.preprocessing["grid"])
    images = (dataset.image(row) for row in range(len(dataset)))
    predictions = predict_probabilities(model_file.to_model(), images, device)
    rows = []
    with replacing(masks_path) as temporary:
        masks = open_memmap(temporary, "w+", np.uint8, (len(dataset), len(model_file.spec.regions), *grid))
        for row, (regions, class_probabilities) in enumerate(predictions):
            if regions is not None:
                predicted_class = most_probable_class(class_probabilities, model_file.spec.classes)
                voxel_ml = dataset.cases[row].grid_voxel_ml
                masks[row] = decide_regions(regions, voxel_ml, predicted_class=predicted_class, **decision)
            if class_probabilities is not None:
                rows += [
                    {"case": dataset.cases[row].case, "class": name, "probability": float(probability)}
                    for name, probability in zip(model_file.spec.classes, class_probabilities, strict=True)
                ]
        masks.flush()
    write_table(probabilities_path, PROBABILITY_COLUMNS, rows)
