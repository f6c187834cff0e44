"""Optimizers, and learning rates as a function of the round."""

import inspect
import math
from collections.abc import Callable, Iterable

import torch
from torch import nn

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,
    "sgd": torch.optim.SGD,
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
    options = {"lr": learning_rate, "weight_decay": settings["weight_decay"], "fused": True}
    if settings["name"] == "sgd":
        options["momentum"] = settings["momentum"]
    return eager(OPTIMIZERS[settings["name"]])(parameters, **options)


def _constant(settings: dict, round_number: int) -> float:
    return 1.0


def _step(settings: dict, round_number: int) -> float:
    return settings["step_factor"] ** ((round_number - 1) // settings["step_rounds"])


def _cosine(settings: dict, round_number: int) -> float:
    progress = min((round_number - 1) / settings["horizon_rounds"], 1.0)
    return settings["final_factor"] + (1.0 - settings["final_factor"]) * 0.5 * (1.0 + math.cos(math.pi * progress))


SCHEDULES: dict[str, Callable[[dict, int], float]] = {"constant": _constant, "step": _step, "cosine": _cosine}


def learning_rate_of_round(settings: dict, schedule: dict, round_number: int) -> float:
    """Learning rate of a round (counted from 1).

    A function of the round alone, never of how many rounds the study has: adding rounds changes none of the
    earlier ones. A schedule with an end takes it from ``horizon_rounds``.
    """
    return settings["learning_rate"] * SCHEDULES[schedule["name"]](schedule, round_number)
