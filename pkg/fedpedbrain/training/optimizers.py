"""Optimizers, and what a site keeps of them."""

import inspect
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from fedpedbrain.study.training_facts import OPTIMIZERS


def eager(optimizer_class: type[torch.optim.Optimizer]) -> type[torch.optim.Optimizer]:
    """Make a subclass that works without ``torch._dynamo``, whose import takes longer than a round of a small site.

    PyTorch 2.13 imports it in two places, both only to tell its compiler what to leave alone: in the wrapper that gives
    ``step`` its gradient mode, and in ``torch._compile._disable_dynamo`` around the bookkeeping methods. Nothing here
    compiles an optimizer, so ``step`` runs without gradients and without the wrapper, and the methods are marked as
    dealt with.
    """
    for name in ("add_param_group", "load_state_dict", "state_dict", "zero_grad"):
        plain = inspect.unwrap(getattr(optimizer_class, name))
        vars(plain).setdefault("__dynamo_disable", plain)
    step = torch.no_grad()(inspect.unwrap(optimizer_class.step))
    return type(optimizer_class.__name__, (optimizer_class,), {"step": step})


def build_optimizer(parameters: Iterable[nn.Parameter], settings: dict, learning_rate: float) -> torch.optim.Optimizer:
    """Make the optimizer that the ``training.optimizer`` block describes, at this round's learning rate."""
    facts = OPTIMIZERS[settings["name"]]
    options = {**facts.arguments, **{name: settings[name] for name in facts.options}}
    optimizer_class = eager(OPTIMIZERS.load(settings["name"]))
    return optimizer_class(parameters, lr=learning_rate, weight_decay=settings["weight_decay"], **options)


def _has_two_modes(optimizer: torch.optim.Optimizer) -> bool:
    """Whether weights lie elsewhere in training than in use; PyTorch's own optimizers know no modes."""
    return hasattr(optimizer, "eval")


def begin_training(optimizer: torch.optim.Optimizer) -> None:
    """Before the first step: a schedule-free optimizer puts the weights where it takes gradients."""
    if _has_two_modes(optimizer):
        optimizer.train()


def end_training(optimizer: torch.optim.Optimizer) -> bool:
    """After the last step: a schedule-free optimizer puts the weights where they are to be used; True if it did."""
    if not _has_two_modes(optimizer):
        return False
    optimizer.eval()
    return True


# A schedule-free optimizer keeps a second point beside the weights (z in the paper, the weights being x).
_POINT = "z"


def site_state_of(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """What a site keeps of its optimizer: its state, the second point as a distance from the weights.

    So the point moves along when the next round starts from other weights, those averaged over the sites.
    """
    state = optimizer.state_dict()
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    moved = {
        index: values | {_POINT: values[_POINT] - weights[index].detach()} if _POINT in values else values
        for index, values in state["state"].items()
    }
    return state | {"state": moved}


def restore_site_state(optimizer: torch.optim.Optimizer, state: dict[str, Any], learning_rate: float) -> None:
    """Continue from what ``site_state_of`` kept, at this round's learning rate, around the present weights."""
    optimizer.load_state_dict(state)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
        for weight in group["params"]:
            if _POINT in optimizer.state[weight]:
                optimizer.state[weight][_POINT].add_(weight.detach())
