"""Arms as a study describes them to its report."""

from functools import cache
from pathlib import Path

import yaml
from fedpedbrain.study.arms import Arm
from fedpedbrain.study.recipes import build_recipe
from fedpedbrain.study.strategy_facts import WITHOUT_EXCHANGE, merged_block

CONFIG = Path(__file__).resolve().parents[2] / "config.yaml"


@cache
def default_config() -> dict:
    """The default study's config."""
    return yaml.safe_load(CONFIG.read_text(encoding="utf-8"))


def arm(name: str, participants: dict[str, list[str]], control: bool = False, num_rounds: int = 3, **block) -> dict:
    """An arm as the study describes it; ``block`` is laid over the settings of plain FedAvg."""
    defaults = {**WITHOUT_EXCHANGE, "weighting": "cases", "optimizer_state": "kept"}
    built = Arm(name, participants, merged_block(defaults, block), control, dict)
    who = {"name": name, "participants": participants, "sites": built.sites}
    recipe = build_recipe(default_config(), built.block)
    return {**who, "left_out": built.left_out([0], num_rounds), **built.description, **recipe.description}
