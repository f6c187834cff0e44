"""Optimizers, and learning rates as a function of the round."""

import math
from collections.abc import Callable, Iterable

import torch
from torch import nn

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,
    "sgd": torch.optim.SGD,
}


def build_optimizer(parameters: Iterable[nn.Parameter], settings: dict, learning_rate: float) -> torch.optim.Optimizer:
    """Make the optimizer that the ``training.optimizer`` block describes, at this round's learning rate."""
    options = {"lr": learning_rate, "weight_decay": settings["weight_decay"], "fused": True}
    if settings["name"] == "sgd":
        options["momentum"] = settings["momentum"]
    return OPTIMIZERS[settings["name"]](parameters, **options)


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
