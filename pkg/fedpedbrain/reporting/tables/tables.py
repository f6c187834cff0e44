"""Tables of the report as plain values, which its template only lays out: cohort, arms, rounds, cost."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedpedbrain.base.cases import SPLITS, VALIDATION
from fedpedbrain.reporting.figures.style import readable, sentence_case
from fedpedbrain.reporting.numbers import NO_VALUE, count_noun, format_bytes, format_score


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


def detail_lines(*lines: str) -> str:
    """A cell's second line and those below it, without the empty ones."""
    return "\n".join(filter(None, lines))


@dataclass(frozen=True)
class Upload:
    """What the sites of a round send together; sites that are absent or whose training failed send nothing."""

    num_bytes: float
    num_updates: int


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
            + [Cell(NO_VALUE if volume is None else f"{volume:.1f}") for volume in volumes]
        )
    columns = ["Site", "Voxels (D x H x W)", "Spacing (mm)", *(["Cases without outline"] if study["regions"] else [])]
    columns += [f"Median {readable(region)} (ml)" for region in study["regions"]]
    return [*tables, Table("Images and outlines by site", columns, [Group("", images)], (0, 1, 2))]


def count_validation_patients(audit: Mapping[str, Any], sites: Sequence[str]) -> int:
    """Validation patients of some sites."""
    return sum(site["patients_by_split"][VALIDATION] for site in audit["sites"] if site["site"] in sites)


def selection_table(
    selections: Sequence[Mapping[str, Any]],
    study: Mapping[str, Any],
    audit: Mapping[str, Any],
    colours: Mapping[str, str],
) -> Table:
    """The round of each arm and seed that was chosen on validation patients of the arm's own sites."""
    patients = {arm["name"]: count_validation_patients(audit, arm["sites"]) for arm in study["arms"]}
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
        facts = [str(item["seed"]), f"{item['round']} of {item['num_rounds']}", str(patients[item["arm"]])]
        rows.append([name, *map(Cell, facts), *numbers])
    columns = ["Arm", "Seed", "Round", "Patients it was chosen by", *keys.values()]
    return Table("Selected rounds, on validation patients", columns, [Group("", rows)])


def cost_table(
    study: Mapping[str, Any],
    selections: Sequence[Mapping[str, Any]],
    uploads: Mapping[str, Sequence[Upload]],
    colours: Mapping[str, str],
) -> Table:
    """What a round of each arm costs, and what its sites send.

    Parameters
    ----------
    selections : of all arms and seeds; each arm's first seed is shown
    uploads : arm to what its participants send, round by round, of its first seed
    """
    first = {item["arm"]: item for item in reversed(selections)}
    number = study["config"]["training"]["epochs_per_round"]
    passes = "1 pass" if number == 1 else f"{number} passes over each"
    rows = []
    for arm in study["arms"]:
        item, sent = first[arm["name"]], uploads[arm["name"]]
        cells = [Cell(str(item["lineage"]["num_cases"]), passes), Cell(str(item["lineage"]["num_steps"]))]
        cells.append(Cell(format_bytes(item["model_bytes"])))
        if arm["exchanges_weights"]:
            total, number = sum(upload.num_bytes for upload in sent), sum(upload.num_updates for upload in sent)
            cells.append(Cell(format_bytes(total / number) if number else NO_VALUE))
            cells.append(Cell(format_bytes(total), f"{count_noun(number, 'update')}, {count_noun(len(sent), 'round')}"))
        else:
            cells += [Cell("nothing"), Cell("nothing")]
        rows.append([Cell(readable(arm["name"]), colour=colours[arm["name"]]), *cells])
    columns = [
        "Arm",
        "Cases a round",
        "Optimizer steps a round",
        "Model file",
        "An update of a site",
        "Sent by all sites (upload alone)",
    ]
    return Table("Cost by arm", columns, [Group("", rows)])


def privacy_table(accounts: Sequence[Mapping[str, Any]], colours: Mapping[str, str]) -> Table | None:
    """What the noise of each arm is worth, of several seeds the weakest; None where no arm has any.

    Parameters
    ----------
    accounts : contents of the privacy files of all private arms and seeds
    """
    weakest: dict[tuple[str, str], tuple[Mapping[str, Any], float]] = {}
    for account in accounts:
        for level in ("site_level", "example_level"):
            part, key = account[level], (account["arm"], level)
            if part and (key not in weakest or part["epsilon"] > weakest[key][0]["epsilon"]):
                weakest[key] = (part, account["delta"])
    rows = [
        [
            Cell(readable(arm), colour=colours[arm]),
            Cell(sentence_case(part["neighbours"])),
            Cell(f"{part['epsilon']:.3g}"),
            Cell(f"{delta:g}"),
            Cell(f"{part['clip_norm']:g}"),
            Cell(f"{part['noise_multiplier']:g}"),
            Cell(" ".join(f"{sentence_case(warning)}." for warning in part["warnings"])),
        ]
        for (arm, _), (part, delta) in weakest.items()
    ]
    if not rows:
        return None
    columns = ["Arm", "What cannot be told apart", "Epsilon", "Delta", "Shortened to", "Noise multiplier", "Beware"]
    return Table("Differential privacy over all rounds", columns, [Group("", rows)], (0, 1, 6))
