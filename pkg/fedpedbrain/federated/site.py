"""One site's work in one round: from the round's start to an update, a site state and a few numbers."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from fedpedbrain.cohort import TRAIN
from fedpedbrain.data.dataset import ShardDataset
from fedpedbrain.errors import StudyError
from fedpedbrain.files import sha256_of_file, write_json
from fedpedbrain.lineage import digest_of
from fedpedbrain.models.files import ModelFile, load_model_file, load_tensors, save_model_file, save_tensors
from fedpedbrain.seeds import derive_seed
from fedpedbrain.training.epochs import SiteRound, train_model
from fedpedbrain.training.execution import explained_memory, prepare_training
from fedpedbrain.training.optimizers import (
    build_optimizer,
    learning_rate_of_round,
    restore_site_state,
    site_state_of,
)

logger = logging.getLogger(__name__)


def _check_start(start: ModelFile, path: str | Path, work: SiteRound, digest: str) -> None:
    """Refuse to train from a model of another arm, round or setting."""
    expected = (work.seed, work.round - 1)
    found = (start.lineage.seed, start.lineage.round)
    if found != expected:
        raise StudyError(f"{path}: expected seed and round {expected}, found {found}; delete it and run again")
    wanted = "initial" if work.round == 1 else "global"
    if start.lineage.kind != wanted:
        raise StudyError(f"{path}: expected a model of kind {wanted!r}, found {start.lineage.kind!r}")
    if start.lineage.kind == "global" and (start.lineage.arm, start.lineage.settings_digest) != (
        work.arm,
        digest,
    ):
        raise StudyError(
            f"{path}: expected a model of arm {work.arm!r} with settings {digest[:12]}, found arm "
            f"{start.lineage.arm!r} with {start.lineage.settings_digest[:12]}; delete it and run again"
        )


def train_site_files(
    start_path: str | Path,
    shard_folders: Sequence[str | Path],
    previous_state_path: str | Path | None,
    update_path: str | Path,
    state_path: str | Path,
    metrics_path: str | Path,
    work: SiteRound,
    settings: Mapping,
    keep_optimizer_state: bool,
    digest: str,
    device: torch.device,
) -> None:
    """Train one site for one round.

    Parameters
    ----------
    start_path : the round's start, one model for all sites of the arm
    shard_folders : shards to train on; several for a pooled site
    previous_state_path : site state of the round before, None in the first round
    update_path, state_path, metrics_path : written; the state stays at the site
    settings : the ``training`` block of the config
    keep_optimizer_state : continue the optimizer of the round before rather than start a fresh one
    digest : settings digest of the arm
    """
    torch.manual_seed(derive_seed(work.seed, "training", work.round, work.site))
    start = load_model_file(start_path)
    _check_start(start, start_path, work, digest)
    dataset = ShardDataset(shard_folders, {TRAIN})
    if not len(dataset):
        raise StudyError(f"site {work.site}: no training case; give it cases, or make cohort.splits' fractions smaller")
    rate = learning_rate_of_round(settings["optimizer"], settings["schedule"], work.round)
    logger.info("%s, %d cases, learning rate %g, on %s", work, len(dataset), rate, device)
    state = load_tensors(previous_state_path)["optimizer"] if previous_state_path is not None else None
    who = f"arm {work.arm}, site {work.site}, round {work.round}"
    with explained_memory(who, settings, start.spec.preprocessing["grid"]):
        model = prepare_training(start.to_model(), settings, device)
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        optimizer = build_optimizer(weights, settings["optimizer"], rate)
        if keep_optimizer_state and state is not None:
            restore_site_state(optimizer, state, rate)
        losses = train_model(model, optimizer, dataset, start.spec.classes, settings, work, device)
    num_steps = settings["epochs_per_round"] * -(-len(dataset) // settings["batch_size"])
    lineage = replace(
        start.lineage,
        kind="update",
        arm=work.arm,
        round=work.round,
        site=work.site,
        num_cases=len(dataset),
        num_steps=num_steps,
        settings_digest=digest,
        parent_sha256=sha256_of_file(start_path),
        cases_sha256=digest_of({case.case: case.sha256 for case in dataset.cases}),
        updates=(),
    )
    save_model_file(update_path, ModelFile(start.spec, lineage, model.state_dict()))
    save_tensors(state_path, {"optimizer": site_state_of(optimizer) if keep_optimizer_state else None})
    metrics = {
        "arm": work.arm,
        "seed": work.seed,
        "round": work.round,
        "site": work.site,
        "num_cases": len(dataset),
        "num_steps": num_steps,
        "learning_rate": rate,
        "epoch_losses": losses,
        "update_bytes": Path(update_path).stat().st_size,
    }
    write_json(metrics_path, metrics)
