"""Example-level differential privacy of one site's training: DP-SGD by Opacus.

Abadi et al., "Deep Learning with Differential Privacy", CCS 2016: every case's gradient is shortened to a norm, noise
is added to their sum, and chance decides which cases a step takes. What is done with weights after that costs nothing
more. The losses that are returned and logged are no part of it: they are computed from the cases without noise.
"""

import logging
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from fedpedbrain.errors import StudyError
from fedpedbrain.models.outputs import Logits
from fedpedbrain.training.execution import autocast
from fedpedbrain.training.losses import JointLoss

if TYPE_CHECKING:
    from opacus.optimizers import DPOptimizer

    from fedpedbrain.training.epochs import Batch

logger = logging.getLogger(__name__)


def check_private(model: nn.Module, settings: Mapping, privacy: Mapping) -> None:
    """Refuse what lets one case into another's gradient, and what Opacus cannot follow.

    Parameters
    ----------
    settings : the ``training`` block
    privacy : ``clip_norm``, largest L2 norm of one case's gradient, and ``noise_multiplier``, over ``clip_norm``

    Raises
    ------
    StudyError : of the first obstacle: the key or layer and what to do
    """
    who = "example-level privacy"
    for name, layer in model.named_modules():
        learns = any(weight.requires_grad for weight in layer.parameters(recurse=False))
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and (layer.training or learns):
            raise StudyError(
                f"{who}: {name} is a {type(layer).__name__}, which mixes the cases of a batch; "
                "set network.name: unet, which has none"
            )
    for key in ("compile", "checkpoint_activations"):
        if settings[key]:
            raise StudyError(f"{who}: gradients case by case do not work with training.{key}; set it to false")
    if settings["loss"]["balance_classes"]:
        raise StudyError(
            f"{who}: training.loss.balance_classes lets every case change the weight of the others; set it to false, "
            "and training.loss.class_weights if need be"
        )
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


class CaseLoss(JointLoss):
    """The joint loss with nothing shared between cases; their mean is ``JointLoss`` where all class weights are 1.

    There a class weight counts relative to the others of the batch. Here it is a plain factor, and an unknown class
    takes nothing away from the other cases' part of the classification.
    """

    def of_cases(self, logits: Logits, masks: Tensor, class_indices: Tensor) -> Tensor:
        """Return the loss of each case, float32 (B,); arguments as of ``JointLoss``."""
        parts = []
        if logits.segmentation is not None:
            parts.append(self._factors[0] * self._segmentation(logits.segmentation, masks.float(), self._gamma))
        if logits.classification is not None:
            losses = self._classification(logits.classification, class_indices, self._gamma)
            parts.append(self._factors[1] * self._weight_of(class_indices) * losses)
        return torch.stack(parts).sum(0)


@contextmanager
def case_gradients(model: nn.Module) -> Iterator[None]:
    """Have the backward pass of a sum over cases leave each one's gradient in ``weight.grad_sample``, (B, *weight).

    Opacus's hooks cannot see through layers that overwrite their input: those write beside it for that long.
    """
    from opacus.grad_sample import GradSampleHooks

    overwriting = [layer for layer in model.modules() if getattr(layer, "inplace", False)]
    for layer in overwriting:
        layer.inplace = False
    hooks = GradSampleHooks(model, loss_reduction="sum")
    try:
        with warnings.catch_warnings():
            # The first layer's input, the image, needs no gradient.
            warnings.filterwarnings("ignore", "Full backward hook is firing")
            yield
    finally:
        hooks.cleanup()
        for layer in overwriting:
            layer.inplace = True


def make_private(
    optimizer: torch.optim.Optimizer, privacy: Mapping, batch_size: float, max_gradient_norm: float, seed: int
) -> "DPOptimizer":
    """Wrap an optimizer: its steps clip what ``case_gradients`` leaves, sum it, add noise, divide by ``batch_size``.

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


def _step(
    model: nn.Module, private: "DPOptimizer", loss_function: CaseLoss, batch: "Batch | None", settings: Mapping
) -> float:
    """Take one step on a batch, None for one without cases; returns the sum of its cases' losses."""
    total = 0.0
    parts = [] if batch is None else list(batch.parts(settings["micro_batch_size"]))
    for number, part in enumerate(parts, start=1):
        # Keeps the sum of the parts before: their clipped gradients.
        private.zero_grad(set_to_none=True)
        with autocast(settings["precision"], part.images.device):
            logits = model(part.images)
        loss = loss_function.of_cases(logits, part.masks, part.class_indices).sum()
        loss.backward()
        for weight in private.params:
            # Under autocast they are bfloat16, in which a norm is too coarse to be a bound.
            weight.grad_sample = weight.grad_sample.to(weight.dtype)
        private.signal_skip_step(number < len(parts))
        private.step()
        total += float(loss.detach())
    if not parts:
        private.zero_grad(set_to_none=True)
        for weight in private.params:
            weight.grad_sample = weight.new_zeros((0, *weight.shape))
        private.step()
    return total


def private_epochs(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss_function: CaseLoss,
    epochs: Iterable[Iterable["Batch | None"]],
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
    losses = []
    with case_gradients(model):
        private = make_private(optimizer, privacy, batch_size, settings["max_gradient_norm"], seed)
        for number, batches in enumerate(epochs, start=1):
            total, num_drawn = 0.0, 0
            for batch in batches:
                total += _step(model, private, loss_function, batch, settings)
                num_drawn += 0 if batch is None else len(batch.images)
            losses.append(total / max(num_drawn, 1))
            logger.info("epoch %d: loss %.4f of %d cases drawn", number, losses[-1], num_drawn)
    return losses
