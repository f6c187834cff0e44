"""Tables of the report as plain values, which its template only lays out: cohort, arms, rounds, cost."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedpedbrain.cohort import SPLITS
from fedpedbrain.reporting.results import MISSING, count_noun, format_bytes, format_names, format_score
from fedpedbrain.reporting.style import readable, sentence_case

_WEIGHTINGS = {
    "cases": "by its number of training cases",
    "steps": "by its number of optimizer steps",
    "uniform": "all alike",
}


@dataclass(frozen=True)
class Cell:
    """One cell: its text, a smaller second line, the colour of the arm that it names."""

    text: str
    detail: str = ""
    colour: str = ""


@dataclass(frozen=True)
class Group:
    """Rows under a common heading ("" for none)."""

    heading: str
    rows: list[list[Cell]]


@dataclass(frozen=True)
class Table:
    """A table; columns whose index is in ``words`` hold words, the others numbers."""

    caption: str
    columns: list[str]
    groups: list[Group]
    words: tuple[int, ...] = (0,)


def cohort_tables(study: Mapping[str, Any], audit: Mapping[str, Any]) -> list[Table]:
    """Who is in the cohort, and what the images are like, site by site."""
    sites = audit["sites"]
    listed = [name for name in study["classes"] if any(name in site["classes"] for site in sites)]
    others = sorted({name for site in sites for name in site["classes"]} - set(listed)) if study["classes"] else []
    classes = [*listed, *others]
    splits = [split for split in SPLITS if any(site["splits"].get(split) for site in sites)]
    people = [
        [Cell(site["site"]), Cell(site["role"]), Cell(str(site["num_patients"])), Cell(str(site["num_cases"]))]
        + [Cell(str(site["splits"].get(split, 0))) for split in splits]
        + [Cell(str(site["classes"].get(name, 0))) for name in classes]
        for site in sites
    ]
    names = [*map(sentence_case, splits), *map(readable, classes)]
    tables = [
        Table(
            "Cases by site, split and class", ["Site", "Role", "Patients", "Cases", *names], [Group("", people)], (0, 1)
        )
    ]
    images = []
    for site in sites:
        volumes = [site["median_volume_ml"].get(region) for region in study["regions"]]
        images.append(
            [Cell(site["site"]), Cell(", ".join(site["shapes"])), Cell(", ".join(site["spacings_mm"]))]
            + ([Cell(str(site["num_empty_masks"]))] if study["regions"] else [])
            + [Cell(MISSING if volume is None else f"{volume:.1f}") for volume in volumes]
        )
    columns = ["Site", "Voxels (D x H x W)", "Spacing (mm)", *(["Cases without outline"] if study["regions"] else [])]
    columns += [f"Median {readable(region)} (ml)" for region in study["regions"]]
    return [*tables, Table("Images and outlines by site", columns, [Group("", images)], (0, 1, 2))]


def arm_table(study: Mapping[str, Any], colours: Mapping[str, str]) -> Table:
    """Every arm's way of training in words."""
    rows = []
    for arm in study["arms"]:
        exchanges = len(arm["participants"]) > 1
        weights = (
            _WEIGHTINGS.get(arm["weighting"], arm["weighting"]) if exchanges else "one participant, nothing to weigh"
        )
        state = "kept from round to round" if arm["keep_optimizer_state"] else "fresh in every round"
        name = Cell(readable(arm["name"]), colour=colours[arm["name"]])
        rows.append([name, Cell(_how_it_trains(arm)), Cell(weights), Cell(state)])
    columns = ["Arm", "How it trains", "A participant's weight in the average", "Optimizer state"]
    return Table("The arms of the study", columns, [Group("", rows)], (0, 1, 2, 3))


def _how_it_trains(arm: Mapping[str, Any]) -> str:
    sites = format_names(arm["sites"])
    if len(arm["participants"]) > 1:
        return f"Federated: {sites} train apart and exchange weights every round; images stay at their site."
    if len(arm["sites"]) > 1:
        return f"Pooled: the images of {sites} in one place."
    return f"Local: {sites} alone."


def selection_table(selections: Sequence[Mapping[str, Any]], colours: Mapping[str, str]) -> Table:
    """The round of each arm and seed that was chosen on validation patients."""
    keys = {
        "dice": "Dice",
        "accuracy": "Accuracy",
        "selection_score": "Score it was chosen by",
        "training_loss": "Loss",
    }
    rows = []
    for item in selections:
        numbers = [Cell(format_score(math.nan if item[key] is None else float(item[key]))) for key in keys]
        name = Cell(readable(item["arm"]), colour=colours[item["arm"]])
        rows.append([name, Cell(str(item["seed"])), Cell(f"{item['round']} of {item['num_rounds']}"), *numbers])
    return Table("Selected rounds, on validation patients", ["Arm", "Seed", "Round", *keys.values()], [Group("", rows)])


def cost_table(
    study: Mapping[str, Any],
    selections: Sequence[Mapping[str, Any]],
    uploads: Mapping[str, Sequence[float]],
    colours: Mapping[str, str],
) -> Table:
    """What a round of each arm costs, and what its sites send.

    Parameters
    ----------
    selections : of all arms and seeds; each arm's first seed is shown
    uploads : arm to the bytes that its participants send together, one number a round, of its first seed
    """
    first = {item["arm"]: item for item in reversed(selections)}
    rows = []
    for arm in study["arms"]:
        item, sent = first[arm["name"]], uploads[arm["name"]]
        cells = [Cell(str(item["lineage"]["num_cases"])), Cell(str(item["lineage"]["num_steps"]))]
        cells.append(Cell(format_bytes(item["model_bytes"])))
        if len(arm["participants"]) > 1:
            cells.append(Cell(format_bytes(sent[-1] / len(arm["participants"]))))
            cells.append(Cell(format_bytes(sum(sent)), count_noun(len(sent), "round")))
        else:
            cells += [Cell("nothing"), Cell("nothing")]
        rows.append([Cell(readable(arm["name"]), colour=colours[arm["name"]]), *cells])
    columns = [
        "Arm",
        "Cases a round",
        "Optimizer steps a round",
        "Model file",
        "Sent by a site a round",
        "Sent by all sites",
    ]
    return Table("Cost by arm", columns, [Group("", rows)])
