"""Which held-out cases the gallery shows: chosen by a rule, once, for the videos and for what explains the models."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from fedpedbrain.base.cases import TEST, UNKNOWN_CLASS, Shard
from fedpedbrain.base.files import read_table, write_table
from fedpedbrain.study.geometry_facts import GEOMETRIES

MEDIAN, WORST, BEST, ONLY, BETWEEN = "median", "worst", "best", "only", "between"
# How many of a group's first cases are the median, the worst and the best.
_NUM_PLACES = 3


@dataclass(frozen=True)
class ChosenCase:
    """A case to show, and why this one.

    Attributes
    ----------
    case : its name
    class_name : of the group that it was chosen from, ``UNKNOWN_CLASS`` for cases without a diagnosis
    split : of the group: ``test``, or ``external`` in a study whose training sites have no test patient
    place : in the group: ``MEDIAN``, ``WORST``, ``BEST``, ``ONLY`` or ``BETWEEN``
    rank, num_cases : from the worst (1) to the best of so many
    slice_index : of the slice that stands for the case, once its mask has been looked at
    """

    case: str
    class_name: str
    split: str
    place: str
    rank: int
    num_cases: int
    slice_index: int = 0


CHOICE_COLUMNS = tuple(field.name for field in fields(ChosenCase))


def values_for_ranking(scores: Sequence[Mapping[str, str]]) -> dict[str, tuple[float, float]]:
    """Two values a case by which cases are put in order, the second where the first is equal.

    The first is the mean Dice of the regions that the case has, or of all regions where it has none; the second is the
    probability of the true class. 0 stands for what a study or a case does not have.
    """
    values: dict[str, dict[tuple[str, str], float]] = defaultdict(dict)
    class_of = {}
    for row in scores:
        values[row["case"]][row["target"], row["metric"]] = float(row["value"])
        class_of[row["case"]] = row["class"]
    found = {}
    for case, known in values.items():
        dice = {target: value for (target, metric), value in known.items() if metric == "dice"}
        present = [value for target, value in dice.items() if known[target, "true_volume_ml"] > 0]
        mean = float(np.mean(present or list(dice.values()) or [0.0]))
        found[case] = (mean, known.get((class_of[case], "probability"), 0.0))
    return found


def spread_order(num_cases: int) -> list[int]:
    """Ranks from 0 on in the order in which they are shown: median, worst, best, then the middle of the widest gap."""
    order = list(dict.fromkeys([(num_cases - 1) // 2, 0, num_cases - 1])) if num_cases else []
    while len(order) < num_cases:
        known = sorted(order)
        first, last = max(pairwise(known), key=lambda gap: (gap[1] - gap[0], -gap[0]))
        order.append((first + last) // 2)
    return order


def _place(rank: int, num_cases: int) -> str:
    if num_cases == 1:
        return ONLY
    # Of two cases, the median is the worst: the later word counts.
    return {(num_cases - 1) // 2: MEDIAN, 0: WORST, num_cases - 1: BEST}.get(rank, BETWEEN)


def _describe(members: Sequence[str], rank: int, facts: Mapping[str, Mapping[str, str]]) -> ChosenCase:
    row = facts[members[rank]]
    return ChosenCase(members[rank], row["class"], row["split"], _place(rank, len(members)), rank + 1, len(members))


def choose_cases(scores: Sequence[Mapping[str, str]], classes: Sequence[str], num_cases: int) -> list[ChosenCase]:
    """Choose cases by a rule that nobody can bend.

    The classes come in turn (cases without a diagnosis last, in a study without classes they are all). The first class
    begins with its median, the next with its worst, the next with its best case and so on, so that few cases show every
    class and every kind of result; in the second and third turn each class goes on with the places that are left. Then
    come the cases in the middle of the widest gaps.

    Parameters
    ----------
    scores : the rows of the scores table of one arm and seed
    classes : in the order of the config
    num_cases : how many to choose at most
    """
    held_out = [row for row in scores if row["split"] == TEST] or list(scores)
    values, facts = values_for_ranking(held_out), {row["case"]: row for row in held_out}
    queues: list[list[ChosenCase]] = []
    for name in (*classes, UNKNOWN_CLASS):
        members = sorted(
            (case for case in facts if facts[case]["class"] == name), key=lambda case: (values[case], case)
        )
        order = spread_order(len(members))
        if members:
            turned = len(queues) % len(order[:_NUM_PLACES])
            order = order[turned:_NUM_PLACES] + order[:turned] + order[_NUM_PLACES:]
            queues.append([_describe(members, rank, facts) for rank in order])
    turns = max(map(len, queues), default=0)
    return [queue[turn] for turn in range(turns) for queue in queues if turn < len(queue)][:num_cases]


def largest_slice(masks: np.ndarray) -> int:
    """Index of the slice with the largest region, the middle one where there is none; masks (R, D, H, W)."""
    areas = masks.sum(axis=(0, 2, 3), dtype=np.int64)
    return int(areas.argmax()) if areas.any() else masks.shape[1] // 2


def choose_cases_files(
    scores_path: str | Path,
    shards: Sequence[Shard],
    choice_path: str | Path,
    classes: Sequence[str],
    num_cases: int,
    geometry: str,
) -> None:
    """Write the cases to show, with the slice of each that stands for it: that of the largest true region.

    Parameters
    ----------
    scores_path : of the arm that decides, one seed
    shards : of all sites
    classes, num_cases : see ``choose_cases``
    geometry : in which the cases are shown, a word of ``GEOMETRIES``
    """
    dataset = GEOMETRIES.load(geometry)().open(shards)
    row_of = {case.case: row for row, case in enumerate(dataset.cases)}
    chosen = choose_cases(read_table(scores_path), classes, num_cases)
    slices = [largest_slice(dataset.mask(row_of[case.case])) for case in chosen]
    rows = [asdict(replace(case, slice_index=index)) for case, index in zip(chosen, slices, strict=True)]
    write_table(choice_path, CHOICE_COLUMNS, rows)


def read_choice(path: str | Path) -> list[ChosenCase]:
    """The cases to show."""
    numbers = ("rank", "num_cases", "slice_index")
    return [ChosenCase(**row | {name: int(row[name]) for name in numbers}) for row in read_table(path)]
