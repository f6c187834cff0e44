"""Arms as a study describes them to its report."""

from fedpedbrain.study.arms import Arm
from fedpedbrain.study.strategy_facts import WITHOUT_EXCHANGE, merged_block


def arm(name: str, participants: dict[str, list[str]], control: bool = False, num_rounds: int = 3, **block) -> dict:
    """An arm as the study describes it; ``block`` is laid over the settings of plain FedAvg."""
    defaults = {**WITHOUT_EXCHANGE, "weighting": "cases", "optimizer_state": "kept"}
    built = Arm(name, participants, merged_block(defaults, block), control, dict)
    who = {"name": name, "participants": participants, "sites": built.sites}
    return {**who, "left_out": built.left_out([0], num_rounds), **built.description}
