"""Candidates: whatever is scored on the held-out patients, an arm's best model or a model made elsewhere.

``study.study.Study.candidates`` builds them from the config. ``model_of_candidate`` of ``rules/rounds.smk`` says which
file each is, and the rule ``predict_cases`` predicts with it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedpedbrain.base.errors import StudyError
from fedpedbrain.study.arms import Arm


@dataclass(frozen=True)
class Candidate:
    """What is scored.

    Attributes
    ----------
    name : as in paths and tables
    sites : whose cases it learnt from, as far as the study knows; none of a model made elsewhere
    model_path : its model file, "" where that is an arm's best model
    """

    name: str
    sites: Sequence[str]
    model_path: str = ""

    @property
    def is_arm(self) -> bool:
        """Whether the study trains it."""
        return not self.model_path

    @property
    def description(self) -> dict[str, Any]:
        """A model made elsewhere in plain values, for the report."""
        return {"name": self.name, "model": Path(self.model_path).name, "sites": list(self.sites)}


def build_candidates(arms: Mapping[str, Arm], blocks: Sequence[Mapping[str, Any]]) -> dict[str, Candidate]:
    """Every candidate by name: the arms, then the models that ``candidates`` of the config names."""
    candidates = {name: Candidate(name, arm.sites) for name, arm in arms.items()}
    for block in blocks:
        if block["name"] in candidates:
            raise StudyError(f"candidates: {block['name']!r} is the name of another candidate or arm; rename it")
        candidates[block["name"]] = Candidate(block["name"], (), block["model"])
    return candidates
