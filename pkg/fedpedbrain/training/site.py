"""One site's work in one round: from the round's start to an update, a site state and a few numbers."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from fedpedbrain.cohort import TRAIN
from fedpedbrain.data.dataset import ShardDataset
from fedpedbrain.errors import StudyError
from fedpedbrain.files import sha256_of_file, write_json
from fedpedbrain.lineage import digest_of
from fedpedbrain.models.files import ModelFile, load_model_file, load_tensors, save_model_file, save_tensors
from fedpedbrain.seeds import derive_seed
from fedpedbrain.training.augmentation import Augmentation
from fedpedbrain.training.execution import autocast, explained_memory, prepare_training, training_batch_norms
from fedpedbrain.training.losses import UNKNOWN_CLASS_INDEX, JointLoss, class_weights
from fedpedbrain.training.optimizers import (
    begin_training,
    build_optimizer,
    end_training,
    learning_rate_of_round,
    restore_site_state,
    site_state_of,
)

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
    """One optimizer step's cases: images float32 (B, C, D, H, W), masks uint8 (B, R, D, H, W), classes int64 (B,)."""

    images: Tensor
    masks: Tensor
    class_indices: Tensor

    def parts(self, size: int | None) -> Iterator["Batch"]:
        """The batch in parts of at most ``size`` cases; None for the whole."""
        tensors = (self.images, self.masks, self.class_indices)
        yield from (Batch(*part) for part in zip(*(t.split(size or len(t)) for t in tensors), strict=True))


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
        images, masks = (
            torch.from_numpy(np.stack([read(row) for row in rows])).to(device) for read in (dataset.image, dataset.mask)
        )
        cases = [dataset.cases[row] for row in rows]
        changes = [
            augmentation.draw(work.seed, work.round, epoch, case.case, aspect=case.plane_aspect(*images.shape[-2:]))
            for case in cases
        ]
        yield Batch(*augmentation(images, masks, changes), torch.from_numpy(class_indices[rows]).to(device))


def train_epochs(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss_function: JointLoss,
    epochs: Iterable[Iterable[Batch]],
    settings: Mapping,
) -> list[float]:
    """Train on batches, epoch by epoch; returns the mean loss of each epoch.

    Gradients of a batch computed in parts add up to those of the whole.
    """
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    losses = []
    for number, batches in enumerate(epochs, start=1):
        total, num_cases = 0.0, 0
        for batch in batches:
            optimizer.zero_grad(set_to_none=True)
            for part in batch.parts(settings["micro_batch_size"]):
                with autocast(settings["precision"], part.images.device):
                    logits = model(part.images)
                loss = loss_function(logits, part.masks, part.class_indices, batch.class_indices)
                loss.backward()
                total += loss.detach() * len(batch.images)
            nn.utils.clip_grad_norm_(weights, settings["max_gradient_norm"])
            optimizer.step()
            num_cases += len(batch.images)
        losses.append(float(total) / num_cases)
        logger.info("epoch %d: loss %.4f", number, losses[-1])
    return losses


@torch.no_grad()
def refresh_batch_statistics(model: nn.Module, batches: Iterable[Batch]) -> None:
    """Take batch normalisation's statistics anew from the present weights, as schedule-free training needs."""
    norms = training_batch_norms(model)
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        # None: the plain mean over the batches.
        norm.momentum = None
    for batch in batches:
        model(batch.images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def train_model(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    dataset: ShardDataset,
    classes: Sequence[str],
    settings: Mapping,
    work: SiteRound,
    device: torch.device,
) -> list[float]:
    """Train for the round's local epochs; returns the mean loss of each. The weights are then those to be used."""
    class_indices = dataset.class_indices(classes, UNKNOWN_CLASS_INDEX)
    weights = class_weights(settings["loss"], classes, class_indices)

    def batches(epoch: int) -> Iterator[Batch]:
        return epoch_batches(dataset, class_indices, settings, work, epoch, device)

    num_epochs = settings["epochs_per_round"]
    begin_training(optimizer)
    epochs = map(batches, range(1, num_epochs + 1))
    losses = train_epochs(model, optimizer, JointLoss(settings["loss"], weights.to(device)), epochs, settings)
    if end_training(optimizer):
        refresh_batch_statistics(model, batches(num_epochs))
    return losses


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
