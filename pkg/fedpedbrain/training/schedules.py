"""Learning rates as a function of the round alone; schedules are chosen in ``study.training_facts``."""

import math

from fedpedbrain.study.training_facts import SCHEDULES


def constant(settings: dict, round_number: int) -> float:
    """1."""
    return 1.0


def step(settings: dict, round_number: int) -> float:
    """``step_factor`` for every ``step_rounds`` rounds that have passed."""
    return settings["step_factor"] ** ((round_number - 1) // settings["step_rounds"])


def _part_left(settings: dict, round_number: int) -> float:
    return 1.0 - min((round_number - 1) / settings["horizon_rounds"], 1.0)


def cosine(settings: dict, round_number: int) -> float:
    """From 1 down to ``final_factor`` along half a cosine, which ends at ``horizon_rounds``."""
    height = 0.5 * (1.0 - math.cos(math.pi * _part_left(settings, round_number)))
    return settings["final_factor"] + (1.0 - settings["final_factor"]) * height


def polynomial(settings: dict, round_number: int) -> float:
    """From 1 down to ``final_factor`` as a power of the part of ``horizon_rounds`` that is left."""
    left = _part_left(settings, round_number) ** settings["polynomial_power"]
    return settings["final_factor"] + (1.0 - settings["final_factor"]) * left


def learning_rate_of_round(learning_rate: float, schedule: dict, round_number: int) -> float:
    """Learning rate of a round (counted from 1), where ``learning_rate`` is the schedule's highest.

    A function of the round alone, never of how many rounds the study has: adding rounds changes none of the
    earlier ones. A schedule with an end takes it from ``horizon_rounds``.
    """
    warmth = min(round_number / (schedule["warmup_rounds"] + 1), 1.0)
    return warmth * learning_rate * SCHEDULES.load(schedule["name"])(schedule, round_number)
