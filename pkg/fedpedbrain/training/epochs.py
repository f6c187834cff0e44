"""Training a network on batches of cases: steps and epochs."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import torch
from torch import nn

from fedpedbrain.base.cases import UNKNOWN_CLASS_INDEX
from fedpedbrain.base.seeds import derive_seed
from fedpedbrain.data.grid.dataset import ShardDataset
from fedpedbrain.study.training_facts import SAMPLERS, sampler_of
from fedpedbrain.training.batches import Batch, SiteRound, shuffled_order
from fedpedbrain.training.execution import autocast, training_batch_norms
from fedpedbrain.training.losses.joint import JointLoss, class_weights
from fedpedbrain.training.optimizers import begin_training, end_training
from fedpedbrain.training.private import is_private, poisson_order, private_epochs

logger = logging.getLogger(__name__)

# Changes the gradients of parameters, by name, in place.
GradientCorrection = Callable[[Mapping[str, nn.Parameter]], None]


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

    sampler = SAMPLERS.load(sampler_of(settings))
    # Networks that see neighbouring slices say how many on either side.
    context = getattr(model, "context", 0)

    def batches(epoch: int) -> Iterator[Batch | None]:
        return sampler(dataset, class_indices, settings, work, epoch, device, draw, context)

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
