"""What the sites sent: which updates stand out, and who took part in which round."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from fedpedbrain.base.files import read_table
from fedpedbrain.reporting.figures.style import readable, sentence_case
from fedpedbrain.reporting.numbers import NO_VALUE, count_noun, format_names
from fedpedbrain.reporting.tables.tables import Cell, Group, Table
from fedpedbrain.reporting.words.arms_in_words import rounds_in_words

# An update stands out where it is this many times as long as the median of the others of its round, or points away.
LENGTH_RATIO = 3.0
OUTLIER_RULE = (
    "An update stands out where it points away from the mean of the others of its round (cosine below 0), or where it "
    f"is more than {LENGTH_RATIO:g} times as long as their median. That is a reason to look, not a proof: sites with "
    "other cases differ too, updates of few steps or with noise point anywhere, and of two "
    "sites that disagree both stand out."
)


@dataclass(frozen=True)
class Update:
    """One update; numbers are nan where it is missing or where there is none.

    Attributes
    ----------
    norm : length of the difference to the model that the site started from
    cosine : of that difference to the mean of the other sites'
    """

    arm: str
    seed: int
    round: int
    site: str
    is_missing: bool
    share: float
    norm: float
    cosine: float


@dataclass(frozen=True)
class Mark:
    """An update that stands out, and why.

    Attributes
    ----------
    reason : in words
    measures : by which it stands out: ``norm``, ``cosine`` or both
    """

    update: Update
    reason: str
    measures: frozenset[str]


def load_updates(paths: Iterable[str | Path]) -> list[Update]:
    """Read the inspections of all rounds."""
    return [
        Update(
            row["arm"],
            int(row["seed"]),
            int(row["round"]),
            row["site"],
            row["missing"] == "1",
            *(float(row[key] or "nan") for key in ("share", "norm", "cosine_to_others")),
        )
        for path in paths
        for row in read_table(path)
    ]


def find_marks(updates: Iterable[Update]) -> list[Mark]:
    """Which updates stand out by ``OUTLIER_RULE``."""
    marks = []
    for _, of_round in _grouped(updates, lambda update: (update.arm, update.seed, update.round)):
        there = _there(of_round)
        for update in there:
            others = [other.norm for other in there if other is not update]
            usual = median(others) if others else math.nan
            reasons = {}
            if update.cosine < 0:
                reasons["cosine"] = "points away from the others"
            if update.norm > LENGTH_RATIO * usual:
                times = f"{update.norm / usual:.3g} times as long as" if usual else "longer than"
                reasons["norm"] = f"{times} their median"
            if reasons:
                marks.append(Mark(update, " and ".join(reasons.values()), frozenset(reasons)))
    return marks


def _grouped(items: Iterable[Any], key: Callable[[Any], Any]) -> Iterable[tuple[Any, list[Any]]]:
    """Items of equal keys together, in the order of the keys' first appearance."""
    groups: dict[Any, list[Any]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups.items()


def describe_marks(marks: Sequence[Mark], several_seeds: bool) -> list[str]:
    """One sentence an arm and site with updates that stand out."""
    sentences = []
    for (arm, site), of_site in _grouped(marks, lambda mark: (mark.update.arm, mark.update.site)):
        kinds = _grouped(of_site, lambda mark: mark.reason)
        if len(kinds) > 3:
            kinds = [("points away or is much longer", of_site)]
        parts = [f"{_rounds([mark.update for mark in same], several_seeds)} ({reason})" for reason, same in kinds]
        sentences.append(f"{readable(arm)}: {site} in {format_names(parts)}")
    return sentences


def _rounds(updates: Sequence[Update], several_seeds: bool) -> str:
    """The rounds of updates in words, seed by seed where there are several."""
    parts = []
    for seed, of_seed in _grouped(updates, lambda update: update.seed):
        words = rounds_in_words({update.round for update in of_seed})
        parts.append(f"{words} of seed {seed}" if several_seeds else words)
    return "; ".join(parts)


def describe_disagreeing_sites(updates: Iterable[Update], several_seeds: bool) -> list[str]:
    """One sentence an arm in some of whose rounds every update points away from the others."""
    of_rounds = _grouped(updates, lambda update: (update.arm, update.seed, update.round))
    present = [there for _, of_round in of_rounds if (there := _there(of_round))]
    split = [there[0] for there in present if all(update.cosine < 0 for update in there)]
    return [
        f"{readable(arm)}: in {_rounds(of_arm, several_seeds)} all sites disagree, so that none of them is the odd one"
        for arm, of_arm in _grouped(split, lambda update: update.arm)
    ]


def _there(updates: Iterable[Update]) -> list[Update]:
    return [update for update in updates if not update.is_missing]


def updates_table(updates: Sequence[Update], marks: Sequence[Mark], several_seeds: bool) -> Table:
    """Every site of every arm over all rounds: how much it counts, how far it goes, how it agrees with the others."""
    marked = {id(mark.update) for mark in marks}
    groups = []
    for arm, of_arm in _grouped(updates, lambda update: update.arm):
        rows = []
        for site, of_site in sorted(_grouped(of_arm, lambda update: update.site)):
            there = _there(of_site)
            if there:
                outliers = [update for update in there if id(update) in marked]
                where = _rounds(outliers, several_seeds) if outliers else "none"
                rows.append([Cell(site), *_site_cells(there, several_seeds), Cell(where)])
        groups.append(Group(readable(arm), rows))
    columns = ["Site", "Share in the average", "Length", "Longest", "Cosine to the others", "Lowest", "Stands out in"]
    return Table("Each site's updates over all rounds (medians)", columns, groups, (0, 6))


def _site_cells(updates: Sequence[Update], several_seeds: bool) -> list[Cell]:
    """One site's share, length, longest, cosine and lowest cosine."""
    longest = max(updates, key=lambda update: update.norm)
    cells = [
        f"{median(update.share for update in updates):.2f}",
        f"{median(update.norm for update in updates):.3g}",
        f"{longest.norm:.3g} ({_rounds([longest], several_seeds)})",
    ]
    known = [update for update in updates if not math.isnan(update.cosine)]
    if not known:
        return [*map(Cell, cells), Cell(NO_VALUE), Cell(NO_VALUE)]
    lowest = min(known, key=lambda update: update.cosine)
    cosines = [_signed(median(update.cosine for update in known))]
    cosines += [f"{_signed(lowest.cosine)} ({_rounds([lowest], several_seeds)})"]
    return [*map(Cell, cells), *map(Cell, cosines)]


def _signed(value: float) -> str:
    """Two digits, with a true minus."""
    return f"{value:.2f}".replace("-", "\u2212")


@dataclass(frozen=True)
class UpdatesPart:
    """What the report says of the updates.

    Attributes
    ----------
    num_updates, num_arms : that were looked at
    marked : a sentence an arm and site with updates that stand out
    disagreement : a sentence an arm with rounds in which every site stands out by its direction
    table : of all arms
    """

    num_updates: int
    num_arms: int
    num_marked: int
    marked: list[str]
    disagreement: list[str]
    table: Table


def updates_part(updates: Sequence[Update], several_seeds: bool) -> UpdatesPart | None:
    """What the report says of the updates; nothing where none was looked at."""
    if not updates:
        return None
    marks = find_marks(updates)
    return UpdatesPart(
        sum(not update.is_missing for update in updates),
        len({update.arm for update in updates}),
        len(marks),
        describe_marks(marks, several_seeds),
        describe_disagreeing_sites(updates, several_seeds),
        updates_table(updates, marks, several_seeds),
    )


def participation_table(
    study: Mapping[str, Any], updates: Sequence[Update], colours: Mapping[str, str]
) -> Table | None:
    """Who took no part in which rounds, and why; None where everybody always took part."""
    reasons = ("absent", "not drawn", "training failed")
    rounds: dict[tuple[str, str, int], dict[str, set[int]]] = {}
    for arm in study["arms"]:
        for item in arm["left_out"]:
            place = rounds.setdefault((arm["name"], item["site"], item["seed"]), {})
            place.setdefault(item["reason"], set()).add(item["round"])
    for update in updates:
        if update.is_missing:
            place = rounds.setdefault((update.arm, update.site, update.seed), {})
            place.setdefault(reasons[-1], set()).add(update.round)
    several_seeds = len(study["seeds"]) > 1
    shown = [reason for reason in reasons if any(reason in place for place in rounds.values())]
    order = list(colours)
    rows = []
    for arm, site, seed in sorted(rounds, key=lambda key: (order.index(key[0]), key[1:])):
        place = rounds[arm, site, seed]
        who = [Cell(readable(arm), colour=colours[arm]), Cell(site), *([Cell(str(seed))] if several_seeds else [])]
        rows.append([*who, *(Cell(rounds_in_words(place[key]) if key in place else "") for key in shown)])
    if not rows:
        return None
    columns = ["Arm", "Site", *(["Seed"] if several_seeds else []), *map(sentence_case, shown)]
    words = tuple(number for number, column in enumerate(columns) if column != "Seed")
    caption = f"Rounds that went without a site, of {count_noun(study['num_rounds'], 'round')}"
    return Table(caption, columns, [Group("", rows)], words)
