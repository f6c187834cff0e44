"""One site's work in one round: from the round's start to an update, a site state and a few numbers."""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from fedpedbrain.cohort import TRAIN
from fedpedbrain.data.dataset import ShardDataset
from fedpedbrain.errors import StudyError
from fedpedbrain.files import replacing, sha256_of_file
from fedpedbrain.lineage import digest_of
from fedpedbrain.models.files import ModelFile, load_model_file, load_tensors, save_model_file, save_tensors
from fedpedbrain.models.prediction import to_device, to_network_input
from fedpedbrain.seeds import derive_seed
from fedpedbrain.training.augmentation import Augmentation
from fedpedbrain.training.losses import UNKNOWN_CLASS_INDEX, JointLoss
from fedpedbrain.training.optimizers import build_optimizer, learning_rate_of_round

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SiteRound:
    """Which work this is: it names the files and, with nothing else, seeds every random draw."""

    arm: str
    seed: int
    round: int
    site: str


@dataclass(frozen=True)
class Batch:
    """One optimizer step's cases: images float32 (B, C, D, H, W), masks float32 (B, R, D, H, W), classes int64 (B,)."""

    images: Tensor
    masks: Tensor
    class_indices: Tensor


def epoch_batches(
    dataset: ShardDataset,
    class_indices: np.ndarray,
    settings: Mapping,
    work: SiteRound,
    epoch: int,
    device: torch.device,
) -> Iterator[Batch]:
    """Go once through a site's training cases in a seeded order; the last batch may be smaller."""
    augmentation = Augmentation(settings["augmentation"])
    order = np.random.default_rng(derive_seed(work.seed, "order", work.round, epoch, work.site)).permutation(
        len(dataset)
    )
    for start in range(0, len(order), settings["batch_size"]):
        rows = order[start : start + settings["batch_size"]]
        images = to_network_input(np.stack([dataset.image(row) for row in rows]), device)
        masks = torch.from_numpy(np.stack([dataset.mask(row) for row in rows])).to(device).float()
        changes = [
            augmentation.draw(work.seed, work.round, epoch, dataset.cases[row].case, aspect=dataset.plane_aspect(row))
            for row in rows
        ]
        images, masks = augmentation(images, masks, changes)
        yield Batch(images, masks, torch.from_numpy(class_indices[rows]).to(device))


def train_epochs(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    dataset: ShardDataset,
    class_indices: np.ndarray,
    settings: Mapping,
    work: SiteRound,
    device: torch.device,
) -> list[float]:
    """Train for the round's local epochs; returns the mean loss of each epoch."""
    loss_function = JointLoss(**settings["loss"])
    losses = []
    model.train()
    for epoch in range(1, settings["epochs_per_round"] + 1):
        total = torch.zeros((), device=device)
        for batch in epoch_batches(dataset, class_indices, settings, work, epoch, device):
            optimizer.zero_grad(set_to_none=True)
            loss = loss_function(model(batch.images), batch.masks, batch.class_indices)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), settings["max_gradient_norm"])
            optimizer.step()
            total += loss.detach() * len(batch.images)
        losses.append(total.item() / len(dataset))
        logger.info("epoch %d of %d: loss %.4f", epoch, settings["epochs_per_round"], losses[-1])
    return losses


def _restore_optimizer(optimizer: torch.optim.Optimizer, state_path: str | Path | None, rate: float) -> None:
    """Continue from the site state of the round before, at this round's learning rate."""
    if state_path is None:
        return
    state = load_tensors(state_path)["optimizer"]
    if state is not None:
        optimizer.load_state_dict(state)
        for group in optimizer.param_groups:
            group["lr"] = rate


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
        raise StudyError(f"site {work.site}: no training case; see its splits in results/cohort/splits.tsv")
    class_indices = dataset.class_indices(start.spec.classes, UNKNOWN_CLASS_INDEX)
    model = to_device(start.to_model(), device)
    rate = learning_rate_of_round(settings["optimizer"], settings["schedule"], work.round)
    optimizer = build_optimizer(model.parameters(), settings["optimizer"], rate)
    _restore_optimizer(optimizer, previous_state_path if keep_optimizer_state else None, rate)
    logger.info("%s, %d cases, learning rate %g, on %s", work, len(dataset), rate, device)
    losses = train_epochs(model, optimizer, dataset, class_indices, settings, work, device)
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
    save_tensors(state_path, {"optimizer": optimizer.state_dict() if keep_optimizer_state else None})
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
    with replacing(metrics_path) as temporary:
        temporary.write_text(json.dumps(metrics, indent=1) + "\n")
