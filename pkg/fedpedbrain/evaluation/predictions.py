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
from fedpedbrain.models.prediction import predict_cases

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
    voxels_ml = [case.grid_voxel_ml for case in dataset.cases]
    predictions = predict_cases(model_file, images, voxels_ml, decision, device)
    rows = []
    with replacing(masks_path) as temporary:
        masks = open_memmap(temporary, "w+", np.uint8, (len(dataset), len(model_file.spec.regions), *grid))
        for row, prediction in enumerate(predictions):
            if prediction.regions is not None:
                masks[row] = prediction.regions
            rows += [
                {"case": dataset.cases[row].case, "class": name, "probability": probability}
                for name, probability in prediction.probabilities.items()
            ]
        masks.flush()
    write_table(probabilities_path, PROBABILITY_COLUMNS, rows)
