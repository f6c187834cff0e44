"""Training a network on cases: seeded batches, steps, epochs."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from fedpedbrain.base.seeds import derive_seed
from fedpedbrain.data.grid.dataset import ShardDataset
from fedpedbrain.training.augmentation import Augmentation
from fedpedbrain.training.execution import autocast, training_batch_norms
from fedpedbrain.training.losses import UNKNOWN_CLASS_INDEX, JointLoss, class_weights
from fedpedbrain.training.optimizers import begin_training, end_training
from fedpedbrain.training.private import is_private, poisson_order, private_epochs

logger = logging.getLogger(__name__)

# Changes the gradients of parameters, by name, in place.
GradientCorrection = Callable[[Mapping[str, nn.Parameter]], None]


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


def shuffled_order(num_cases: int, batch_size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Draw the cases of each step of an epoch: every case once, the last batch may be smaller; int64 (B,) a step."""
    order = rng.permutation(num_cases)
    return [order[start : start + batch_size] for start in range(0, num_cases, batch_size)]


def epoch_batches(
    dataset: ShardDataset,
    class_indices: np.ndarray,
    settings: Mapping,
    work: SiteRound,
    epoch: int,
    device: torch.device,
    draw: Callable[[int, int, np.random.Generator], list[np.ndarray]] = shuffled_order,
) -> Iterator[Batch | None]:
    """Go through a site's training cases in the seeded order that ``draw`` makes; None for a batch without cases."""
    augmentation = Augmentation(settings["augmentation"])
    rng = np.random.default_rng(derive_seed(work.seed, "order", work.round, epoch, work.site))
    for rows in draw(len(dataset), settings["batch_size"], rng):
        if not len(rows):
            yield None
            continue
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
    correct: GradientCorrection = lambda parameters: None,
) -> list[float]:
    """Train on batches, epoch by epoch; returns the mean loss of each epoch.

    Gradients of a batch computed in parts add up to those of the whole. ``correct`` is called before every step with
    the trained parameters by name, their gradients being those of the loss, shortened where they were too long.
    """
    weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
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
            nn.utils.clip_grad_norm_(weights.values(), settings["max_gradient_norm"])
            correct(weights)
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
    correct: GradientCorrection = lambda parameters: None,
    privacy: Mapping | None = None,
) -> list[float]:
    """Train for the round's local epochs; returns the mean loss of each. The weights are then those to be used.

    Parameters
    ----------
    settings : the ``training`` block
    correct : as of ``train_epochs``
    privacy : ``clip_norm`` and ``noise_multiplier`` of DP-SGD; None or a multiplier of 0 for none
    """
    class_indices = dataset.class_indices(classes, UNKNOWN_CLASS_INDEX)
    weights = class_weights(settings["loss"], classes, class_indices).to(device)
    loss = JointLoss(settings["loss"], weights)
    draw = poisson_order if is_private(privacy) else shuffled_order

    def batches(epoch: int) -> Iterator[Batch | None]:
        return epoch_batches(dataset, class_indices, settings, work, epoch, device, draw)

    num_epochs = settings["epochs_per_round"]
    begin_training(optimizer)
    epochs = map(batches, range(1, num_epochs + 1))
    if is_private(privacy):
        seed = derive_seed(work.seed, "private noise", work.arm, work.round, work.site)
        losses = private_epochs(model, optimizer, loss, epochs, settings, privacy, len(dataset), seed)
    else:
        losses = train_epochs(model, optimizer, loss, epochs, settings, correct)
    if end_training(optimizer):
        refresh_batch_statistics(model, batches(num_epochs))
    return losses
