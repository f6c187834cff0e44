"""What is known of every round, one value a row: losses, validation scores, bytes sent, lengths of updates."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedpedbrain.base.files import read_table
from fedpedbrain.evaluation.validation import read_validations
from fedpedbrain.federated.site_metrics import SiteMetrics, read_round_metrics

# In place of a site, of which no name holds a space.
WHOLE_ARM = "all sites"
# Names in the exports, by column of an arm's history.
_OF_HISTORY = {
    "training_loss": "training_loss",
    "dice": "validation_dice",
    "accuracy": "validation_accuracy",
    "selection_score": "selection_score",
    "uploaded_bytes": "uploaded_bytes",
    "num_updates": "num_updates",
}
# The same, by key of a site's training metrics and by column of the comparison of updates.
_OF_TRAINING = {
    "learning_rate": "learning_rate",
    "update_norm": "update_norm",
    "update_bytes": "uploaded_bytes",
    "num_cases": "num_cases",
    "num_steps": "num_steps",
}
# What has no meaning where nothing is sent; jobs of such an arm write the size of their model all the same.
_OF_EXCHANGE = ("uploaded_bytes", "num_updates")
_OF_INSPECTION = {"share": "weight_share", "cosine_to_others": "cosine_to_others"}


@dataclass(frozen=True)
class RoundValue:
    """One value of one round; ``site`` is ``WHOLE_ARM`` where it is of the arm as a whole."""

    arm: str
    seed: int
    round: int
    site: str
    metric: str
    value: float


@dataclass(frozen=True)
class RoundValueFiles:
    """What rounds left behind, of all arms and seeds.

    Attributes
    ----------
    histories : of each arm and seed
    trainings : metrics of each round, those of all its sites
    validations : what each site wrote of each block of rounds
    inspections : of each round whose updates can be read one by one
    """

    histories: Sequence[str | Path]
    trainings: Sequence[str | Path]
    validations: Sequence[str | Path]
    inspections: Sequence[str | Path]


def load_round_values(
    files: RoundValueFiles, arms: Sequence[Mapping[str, Any]], sites: Sequence[str]
) -> list[RoundValue]:
    """Every value that is known, arm by arm, seed by seed and round by round, of all sites together first.

    Parameters
    ----------
    arms : as the study describes them, in the order of the config
    sites : in the order of the config
    """
    values = [
        *(value for path in files.histories for row in read_table(path) for value in _renamed(row, _OF_HISTORY)),
        *(value for item in read_round_metrics(files.trainings) for value in _of_training(item)),
        *(value for item in read_validations(files.validations) for value in _of_validation(item)),
        *(value for path in files.inspections for row in read_table(path) for value in _renamed(row, _OF_INSPECTION)),
    ]
    arm_places, site_places = _places(arm["name"] for arm in arms), _places([WHOLE_ARM, *sites])
    exchanging = {arm["name"] for arm in arms if arm["exchanges_weights"]}

    def is_known(item: RoundValue) -> bool:
        return math.isfinite(item.value) and (item.arm in exchanging or item.metric not in _OF_EXCHANGE)

    def place(item: RoundValue) -> tuple[Any, ...]:
        # A pooled arm's one participant is no site of the config.
        return arm_places[item.arm], item.seed, item.round, site_places.get(item.site, 0), item.site

    return sorted(filter(is_known, values), key=place)


def _places(names: Iterable[str]) -> dict[str, int]:
    return {name: place for place, name in enumerate(names)}


def _value(row: Mapping[str, Any], site: str, metric: str, value: float) -> RoundValue:
    return RoundValue(row["arm"], int(row["seed"]), int(row["round"]), site, metric, value)


def _renamed(row: Mapping[str, Any], names: Mapping[str, str]) -> Iterator[RoundValue]:
    """The named entries of a row; what is empty there is left out."""
    for key, metric in names.items():
        if row.get(key) not in (None, ""):
            yield _value(row, row.get("site", WHOLE_ARM), metric, float(row[key]))


def _of_training(metrics: SiteMetrics) -> Iterator[RoundValue]:
    """Of a site's round; nothing where its training failed and the round went on without it."""
    if not metrics.missing:
        row = metrics.to_dict()
        yield _value(row, metrics.site, "training_loss", metrics.epoch_losses[-1])
        yield from _renamed(row, _OF_TRAINING)


def _of_validation(validation: Mapping[str, Any]) -> Iterator[RoundValue]:
    """Means over each site's own validation patients."""
    cases = validation["cases"]
    for site in dict.fromkeys(case["site"] for case in cases):
        for key, metric in (("dice", "validation_dice"), ("correct", "validation_accuracy")):
            known = [float(case[key]) for case in cases if case["site"] == site and case[key] is not None]
            if known:
                yield _value(validation, site, metric, sum(known) / len(known))
