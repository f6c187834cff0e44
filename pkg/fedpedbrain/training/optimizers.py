"""Optimizers, what a site keeps of them, and learning rates as a function of the round."""

import inspect
import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from schedulefree import AdamWScheduleFree
from torch import nn

# Class and further options of each.
OPTIMIZERS: dict[str, tuple[type[torch.optim.Optimizer], dict[str, Any]]] = {
    "adamw": (torch.optim.AdamW, {"fused": True}),
    "adam": (torch.optim.Adam, {"fused": True}),
    "sgd": (torch.optim.SGD, {"fused": True}),
    # Defazio et al., "The Road Less Scheduled", NeurIPS 2024.
    "schedule_free_adamw": (AdamWScheduleFree, {}),
}


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
    optimizer_class, options = OPTIMIZERS[settings["name"]]
    if settings["name"] == "sgd":
        options = options | {"momentum": settings["momentum"]}
    return eager(optimizer_class)(parameters, lr=learning_rate, weight_decay=settings["weight_decay"], **options)


def begin_training(optimizer: torch.optim.Optimizer) -> None:
    """Before the first step: a schedule-free optimizer puts the weights where it takes gradients."""
    if isinstance(optimizer, AdamWScheduleFree):
        optimizer.train()


def end_training(optimizer: torch.optim.Optimizer) -> bool:
    """After the last step: a schedule-free optimizer puts the weights where they are to be used; True if it did."""
    if not isinstance(optimizer, AdamWScheduleFree):
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


def _constant(settings: dict, round_number: int) -> float:
    return 1.0


def _step(settings: dict, round_number: int) -> float:
    return settings["step_factor"] ** ((round_number - 1) // settings["step_rounds"])


def _part_left(settings: dict, round_number: int) -> float:
    return 1.0 - min((round_number - 1) / settings["horizon_rounds"], 1.0)


def _cosine(settings: dict, round_number: int) -> float:
    height = 0.5 * (1.0 - math.cos(math.pi * _part_left(settings, round_number)))
    return settings["final_factor"] + (1.0 - settings["final_factor"]) * height


def _polynomial(settings: dict, round_number: int) -> float:
    left = _part_left(settings, round_number) ** settings["polynomial_power"]
    return settings["final_factor"] + (1.0 - settings["final_factor"]) * left


SCHEDULES: dict[str, Callable[[dict, int], float]] = {
    "constant": _constant,
    "step": _step,
    "cosine": _cosine,
    "polynomial": _polynomial,
}


def learning_rate_of_round(learning_rate: float, schedule: dict, round_number: int) -> float:
    """Learning rate of a round (counted from 1), where ``learning_rate`` is the schedule's highest.

    A function of the round alone, never of how many rounds the study has: adding rounds changes none of the
    earlier ones. A schedule with an end takes it from ``horizon_rounds``.
    """
    warmth = min(round_number / (schedule["warmup_rounds"] + 1), 1.0)
    return warmth * learning_rate * SCHEDULES[schedule["name"]](schedule, round_number)
