"""Validation of rounds: each site scores their models on its own validation patients, and the scores are joined."""

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
from fedpedbrain.evaluation.dice import dice_coefficient
from fedpedbrain.federated.personal import load_model_of_site
from fedpedbrain.models.files import ModelFile
from fedpedbrain.models.prediction import PredictionPlan, predict_cases

# Whose scores a file of validation holds.
_OWNER = ("arm", "seed", "round")


def validate_site(
    model_file: ModelFile,
    dataset: ShardDataset,
    decision: Mapping[str, Any],
    device: torch.device,
    plan: PredictionPlan,
) -> dict[str, Any]:
    """Score a round's model on one site's validation patients.

    Parameters
    ----------
    model_file : the global model, or the site's personal one
    dataset : the site's validation cases
    decision : arguments of ``decide_regions`` from the config
    plan : how windows overlap; neither mirrored copies nor filters of components are needed to choose a round

    Returns
    -------
    ``arm``, ``seed`` and ``round`` of the model, and ``cases``: one entry per case with its mean Dice over the regions
    that its mask outlines, and whether its class was found; None where nothing is known
    """
    entries = []
    images, voxels_ml = map(dataset.image, range(len(dataset))), [case.grid_voxel_ml for case in dataset.cases]
    for row, prediction in enumerate(predict_cases([model_file], images, voxels_ml, decision, device, plan)):
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


def join_validations(blocks: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """All sites' scores of each round, in the order of the rounds and of the sites in which they are given.

    Parameters
    ----------
    blocks : what errors call the scores of one site, such as the path of their file, to one entry per round: its
        ``site`` and what ``validate_site`` returned

    Raises
    ------
    StudyError : names a round that other sites have scored than the first one
    """
    rounds: dict[tuple[Any, ...], dict[str, tuple[str, Sequence[Any]]]] = {}
    for name, block in blocks.items():
        for scores in block:
            owner = tuple(scores[key] for key in _OWNER)
            rounds.setdefault(owner, {})[scores["site"]] = (name, scores["cases"])
    joined = []
    sites = list(next(iter(rounds.values()), ()))
    for owner, of_sites in rounds.items():
        if list(of_sites) != sites:
            names = ", ".join(name for name, _ in of_sites.values())
            whose = "arm {}, seed {}, round {}".format(*owner)
            raise StudyError(
                f"{names}: {whose}: expected scores of {', '.join(sites)}, found those of {', '.join(of_sites)}; "
                "delete this arm's validation folder and run again"
            )
        cases = [entry for _, entries in of_sites.values() for entry in entries]
        joined.append({**dict(zip(_OWNER, owner, strict=True)), "cases": cases})
    return joined


def read_validations(paths: Sequence[str | Path]) -> list[dict[str, Any]]:
    """All sites' scores of each round that they validated, joined as by ``join_validations``.

    Parameters
    ----------
    paths : what each site wrote of each block of rounds, the blocks of a site in order
    """
    return join_validations({str(path): json.loads(Path(path).read_text(encoding="utf-8")) for path in paths})


def validate_site_files(
    model_paths: Sequence[str | Path],
    state_paths: Sequence[str | Path],
    state_rounds: Sequence[int | None],
    shards: Sequence[Shard],
    site: str,
    validation_path: str | Path,
    settings: Mapping[str, Any],
    device: torch.device,
) -> None:
    """Score the models of a block of rounds, one after the other, on one site's validation patients.

    Writes one entry per round.

    Parameters
    ----------
    model_paths : the global model of each round
    state_paths : of the site, each once, in the order of their rounds
    state_rounds : of each model, the round of the state whose weights the site has for itself; None where it has none
    shards : of the site
    settings : arguments of ``decide_regions`` from the config, and of models that were trained on patches the
        ``overlap`` of their windows
    """
    decision = {key: value for key, value in settings.items() if key != "overlap"}
    plan = PredictionPlan(overlap=settings.get("overlap", 0.0))
    state_of = dict(zip(sorted({number for number in state_rounds if number is not None}), state_paths, strict=True))
    dataset = ShardDataset(shards, {VALIDATION})
    block = []
    for model_path, number in zip(model_paths, state_rounds, strict=True):
        model_file = load_model_of_site(model_path, state_of.get(number), site)
        block.append({"site": site} | validate_site(model_file, dataset, decision, device, plan))
    write_json(validation_path, block)
