"""Example-level differential privacy of one site's training: DP-SGD by Opacus.

Abadi et al., "Deep Learning with Differential Privacy", CCS 2016: every case's gradient is shortened to a norm, noise
is added to their sum, and chance decides which cases a step takes. What is done with weights after that costs nothing
more. The losses that are returned and logged are no part of it: they are computed from the cases without noise.

Cases go through the network one at a time, so that memory holds one gradient and their sum, whatever the batch.
"""

import logging
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from fedpedbrain.base.errors import StudyError
from fedpedbrain.training.batches import Batch
from fedpedbrain.training.execution import autocast, training_batch_norms
from fedpedbrain.training.losses.joint import JointLoss

if TYPE_CHECKING:
    from opacus.optimizers import DPOptimizer

logger = logging.getLogger(__name__)


def is_private(privacy: Mapping | None) -> bool:
    """Whether a site trains by DP-SGD: ``clip_norm`` and ``noise_multiplier``; None or a multiplier of 0 for not."""
    return privacy is not None and privacy["noise_multiplier"] > 0


def check_private(model: nn.Module, settings: Mapping, privacy: Mapping) -> None:
    """Refuse what would carry a case past clipping and noise.

    Parameters
    ----------
    settings : the ``training`` block
    privacy : ``clip_norm``, largest L2 norm of one case's gradient, and ``noise_multiplier``, over ``clip_norm``

    Raises
    ------
    StudyError : of the first obstacle: the key or layer and what to do
    """
    who = "example-level privacy"
    if training_batch_norms(model):
        raise StudyError(
            f"{who}: batch normalisation keeps statistics of the cases without noise; set the arm's batch_norm: "
            "frozen, or network.name: unet, which has none"
        )
    if settings["loss"]["balance_classes"]:
        raise StudyError(
            f"{who}: training.loss.balance_classes lets every case change the weight of the others; set it to false, "
            "and training.loss.class_weights if need be"
        )
    if settings.get("patch"):
        raise StudyError(f"{who}: an example has to be a case, training.patch makes several of one; set it to null")
    if privacy["noise_multiplier"] and not math.isfinite(privacy["clip_norm"]):
        raise StudyError(f"{who}: noise needs a finite clip_norm, found {privacy['clip_norm']}")


def steps_of_epoch(num_cases: int, batch_size: int) -> int:
    """Steps in which a site goes once through its cases, if only on average."""
    return -(-num_cases // batch_size)


def sample_rate(num_cases: int, batch_size: int) -> float:
    """Probability of each case to be in a step's batch, in (0, 1]."""
    return min(1.0, batch_size / num_cases)


def poisson_order(num_cases: int, batch_size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Draw the cases of each step of an epoch: every case for itself, with probability ``sample_rate``.

    Returns
    -------
    int64 (B,) a step, ascending; of any size from none to all, ``batch_size`` on average
    """
    rate = sample_rate(num_cases, batch_size)
    drawn = rng.random((steps_of_epoch(num_cases, batch_size), num_cases)) < rate
    return [np.flatnonzero(step) for step in drawn]


def make_private(
    optimizer: torch.optim.Optimizer, privacy: Mapping, batch_size: float, max_gradient_norm: float, seed: int
) -> "DPOptimizer":
    """Wrap an optimizer: its steps clip each ``weight.grad_sample``, sum, add noise, divide by ``batch_size``.

    Parameters
    ----------
    privacy : as of ``check_private``
    batch_size : cases of a step, on average: the number drawn would tell of the cases
    max_gradient_norm : the noisy gradient is shortened to it, as any gradient is
    seed : of the noise; who knows it can take the noise off again
    """
    from opacus.optimizers import DPOptimizer

    device = optimizer.param_groups[0]["params"][0].device
    private = DPOptimizer(
        optimizer,
        noise_multiplier=privacy["noise_multiplier"],
        # No noise of an infinite norm is not a number; the largest float shortens nothing either.
        max_grad_norm=min(privacy["clip_norm"], torch.finfo(torch.float64).max),
        expected_batch_size=batch_size,
        generator=torch.Generator(device).manual_seed(seed),
    )

    def finish(private: "DPOptimizer") -> None:
        for weight in private.params:
            # Opacus leaves gradients in the default order in memory. A fused optimizer goes by the weights' order and
            # would add numbers to the wrong weights.
            weight.grad = torch.empty_like(weight).copy_(weight.grad)
        nn.utils.clip_grad_norm_(private.params, max_gradient_norm)

    private.attach_step_hook(finish)
    return private


def _accumulate(private: "DPOptimizer") -> None:
    """Add the clipped gradient of one case to the sum of the step."""
    for weight in private.params:
        weight.grad_sample = weight.grad.unsqueeze(0)
    private.signal_skip_step()
    private.step()


def _step(
    model: nn.Module, private: "DPOptimizer", loss_function: JointLoss, batch: Batch | None, settings: Mapping
) -> float:
    """Take one step on a batch, None for one without cases; returns the sum of its cases' losses."""
    total = 0.0
    for case in () if batch is None else batch.parts(1):
        # Keeps the sum of the cases before.
        private.zero_grad(set_to_none=True)
        with autocast(settings["precision"], case.images.device):
            logits = model(case.images)
        loss = loss_function.of_cases(logits, case.masks, case.class_indices).sum()
        loss.backward()
        _accumulate(private)
        total += loss.detach()
    private.zero_grad(set_to_none=True)
    for weight in private.params:
        weight.grad_sample = weight.new_zeros((0, *weight.shape))
    private.step()
    return float(total)


def private_epochs(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss_function: JointLoss,
    epochs: Iterable[Iterable[Batch | None]],
    settings: Mapping,
    privacy: Mapping,
    num_cases: int,
    seed: int,
) -> list[float]:
    """Train on the batches of ``poisson_order``, as ``train_epochs`` does on others; the model stays a plain one.

    Parameters
    ----------
    epochs : batches of each epoch, None for one without cases, which is a step of noise alone
    settings : the ``training`` block
    privacy : as of ``check_private``
    num_cases : that the site trains on
    seed : of the noise

    Returns
    -------
    mean loss of each epoch over the cases that were drawn; 0 where none was. Not private: see above
    """
    check_private(model, settings, privacy)
    batch_size = num_cases * sample_rate(num_cases, settings["batch_size"])
    private = make_private(optimizer, privacy, batch_size, settings["max_gradient_norm"], seed)
    losses = []
    for number, batches in enumerate(epochs, start=1):
        total, num_drawn = 0.0, 0
        for batch in batches:
            total += _step(model, private, loss_function, batch, settings)
            num_drawn += 0 if batch is None else len(batch.images)
        losses.append(total / max(num_drawn, 1))
        logger.info("epoch %d: loss %.4f of %d cases drawn", number, losses[-1], num_drawn)
    return losses
