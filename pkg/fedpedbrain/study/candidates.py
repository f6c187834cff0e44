"""Candidates: whatever is scored on the held-out patients, an arm's best model or models made elsewhere.

``study.study.Study.candidates`` builds them from the config. ``models_of_candidate`` of ``rules/rounds.smk`` says which
files each has, and the rule ``predict_cases`` predicts with them.
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
    model_paths : its model files; none where that is an arm's best model
    mean_of : ``probabilities`` or ``logits``, of which the mean over its models is taken; "" as the study says
    """

    name: str
    sites: Sequence[str]
    model_paths: Sequence[str] = ()
    mean_of: str = ""

    @property
    def is_arm(self) -> bool:
        """Whether the study trains it."""
        return not self.model_paths

    @property
    def description(self) -> dict[str, Any]:
        """Models made elsewhere in plain values, for the report."""
        models = ", ".join(Path(path).name for path in self.model_paths)
        return {"name": self.name, "model": models, "sites": list(self.sites)}


def build_candidates(arms: Mapping[str, Arm], blocks: Sequence[Mapping[str, Any]]) -> dict[str, Candidate]:
    """Every candidate by name: the arms, then the models that ``candidates`` of the config names."""
    candidates = {name: Candidate(name, arm.sites) for name, arm in arms.items()}
    for block in blocks:
        if block["name"] in candidates:
            raise StudyError(f"candidates: {block['name']!r} is the name of another candidate or arm; rename it")
        candidates[block["name"]] = Candidate(block["name"], (), _model_paths(block), block.get("mean_of", ""))
    return candidates


def _model_paths(block: Mapping[str, Any]) -> list[str]:
    """The files of a candidate made elsewhere; refuses both of ``model`` and ``models``, and none of them."""
    name = block["name"]
    if ("model" in block) == ("models" in block):
        raise StudyError(f"candidates: {name!r} needs either model, a path, or models, a list of paths; write one")
    if "mean_of" in block and "model" in block:
        raise StudyError(f"candidates: {name!r} has one model, so there is no mean; remove mean_of")
    return [block["model"]] if "model" in block else list(block["models"])
