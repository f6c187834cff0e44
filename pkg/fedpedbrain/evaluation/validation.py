"""Validation of a round: each site scores the model on its own validation patients, and the scores are joined."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fedpedbrain.base.cases import VALIDATION, Shard
from fedpedbrain.base.errors import StudyError
from fedpedbrain.base.files import write_json
from fedpedbrain.data.grid.dataset import ShardDataset
from fedpedbrain.evaluation.metrics import dice_coefficient
from fedpedbrain.federated.personal import load_model_of_site
from fedpedbrain.models.files import ModelFile
from fedpedbrain.models.prediction import predict_cases

# Whose scores a file of validation holds.
_OWNER = ("arm", "seed", "round")


def validate_site(
    model_file: ModelFile, dataset: ShardDataset, decision: Mapping[str, Any], device: torch.device
) -> dict[str, Any]:
    """Score a round's model on one site's validation patients.

    Parameters
    ----------
    model_file : the global model, or the site's personal one
    dataset : the site's validation cases
    decision : arguments of ``decide_regions`` from the config

    Returns
    -------
    ``arm``, ``seed`` and ``round`` of the model, and ``cases``: one entry per case with its mean Dice over the regions
    that its mask outlines, and whether its class was found; None where nothing is known
    """
    entries = []
    images, voxels_ml = map(dataset.image, range(len(dataset))), [case.grid_voxel_ml for case in dataset.cases]
    for row, prediction in enumerate(predict_cases(model_file, images, voxels_ml, decision, device)):
        case = dataset.cases[row]
        dice = correct = None
        if prediction.regions is not None:
            outlined = [
                dice_coefficient(region, truth)
                for region, truth in zip(prediction.regions, dataset.mask(row), strict=True)
                if truth.any()
            ]
            dice = float(np.mean(outlined)) if outlined else None
        if case.class_name in prediction.probabilities:
            correct = prediction.predicted_class == case.class_name
        entries.append({"case": case.case, "site": case.site, "dice": dice, "correct": correct})
    return {key: getattr(model_file.lineage, key) for key in _OWNER} | {"cases": entries}


def join_validations(validations: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """All sites' scores of one round, in the order in which the sites are given.

    Parameters
    ----------
    validations : what errors call a site's scores, such as the path of their file, to what ``validate_site`` returned

    Raises
    ------
    StudyError : names scores of another arm, seed or round than the first
    """
    owner = {key: next(iter(validations.values()))[key] for key in _OWNER}
    for name, validation in validations.items():
        found = {key: validation[key] for key in _OWNER}
        if found != owner:
            raise StudyError(f"{name}: expected scores of {owner}, found {found}; delete it and run again")
    return owner | {"cases": [entry for validation in validations.values() for entry in validation["cases"]]}


def validate_site_files(
    model_path: str | Path,
    state_path: str | Path | None,
    shards: Sequence[Shard],
    site: str,
    validation_path: str | Path,
    decision: Mapping[str, Any],
    device: torch.device,
) -> None:
    """Score a round's model on one site's validation patients, and write one entry per case.

    Parameters
    ----------
    model_path : the global model
    state_path : of the site, where it has weights for itself; else None
    shards : of the site
    decision : as of ``validate_site``
    """
    model_file = load_model_of_site(model_path, state_path, site)
    write_json(validation_path, validate_site(model_file, ShardDataset(shards, {VALIDATION}), decision, device))


def join_validation_files(site_paths: Sequence[str | Path], validation_path: str | Path) -> None:
    """Join what each site wrote of a round, in the order of the sites."""
    validations = {str(path): json.loads(Path(path).read_text(encoding="utf-8")) for path in site_paths}
    write_json(validation_path, join_validations(validations))
