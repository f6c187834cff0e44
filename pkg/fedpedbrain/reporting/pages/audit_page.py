"""The audit to look at: one HTML file with what is in the cohort, what looks wrong, and which cases are one image."""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from PIL import Image

from fedpedbrain.base.cases import SPLITS, Shard
from fedpedbrain.base.files import read_table, replacing
from fedpedbrain.data.checks.case_measures import label_of
from fedpedbrain.data.checks.duplicates import EXACT
from fedpedbrain.data.grid.dataset import ShardDataset
from fedpedbrain.data.grid.intensity import to_grey_levels
from fedpedbrain.reporting.figures.style import readable
from fedpedbrain.reporting.numbers import NO_VALUE
from fedpedbrain.reporting.pages.pages import load_pictures, page_environment, template_text
from fedpedbrain.reporting.tables.tables import Cell, Group, Table, cohort_tables
from fedpedbrain.reporting.words.source_notes import SOURCE_NOTES

# More pairs than a reader looks through; the table of duplicates has them all.
MOST_SHOWN_PAIRS = 48
_THUMBNAIL_PIXELS = 128


def orientation_table(sites: Sequence[Mapping[str, Any]]) -> Table:
    """How the images of every site lie in the patient, and slices that show nothing."""
    rows = []
    for site in sites:
        found = [f"{name or 'unknown'} ({count})" for name, count in site["orientations"].items()]
        rows.append([Cell(site["site"]), Cell(", ".join(found)), Cell(str(site["num_cases_with_blank_slices"]))])
    columns = ["Site", "Slices and axes (cases)", "Cases with blank slices on the grid"]
    return Table("Orientation by site", columns, [Group("", rows)], (0, 1))


def outline_table(sites: Sequence[Mapping[str, Any]], regions: Sequence[str]) -> Table:
    """Volumes of the outlines of every site, and cases whose outline the grid does not hold."""
    rows = []
    for site in sites:
        cells = [Cell(site["site"]), Cell(str(site["num_cut_cases"]))]
        for region in regions:
            values = site["volume_quartiles_ml"][region]
            cells += [Cell(NO_VALUE if values is None else f"{value:.1f}") for value in values or [None] * 3]
        rows.append(cells)
    quartiles = [
        f"{readable(region)}, {name}" for region in regions for name in ("lower quartile", "median", "upper quartile")
    ]
    columns = ["Site", "Outlines cut at the grid", *quartiles]
    caption = "Outlines by site; volumes on the network's grid in ml, of cases that have the region"
    return Table(caption, columns, [Group("", rows)], (0,))


def histogram_path(parts: Sequence[float], width: float, height: float) -> str:
    """The outline of a histogram as the ``d`` of an SVG path.

    Parameters
    ----------
    parts : of the voxels in each bin
    width, height : of the drawing; the fullest bin reaches the height
    """
    tops = height - height * np.asarray(parts) / max(max(parts), 1e-12)
    edges = np.linspace(0.0, width, len(tops) + 1)
    steps = [f"V{top:.1f}H{right:.1f}" for top, right in zip(tops, edges[1:], strict=True)]
    return f"M0,{height:.1f}{''.join(steps)}V{height:.1f}Z"


def thumbnail_uri(image: np.ndarray) -> str:
    """The middle slice of a case's first channel as the ``data:`` address of a PNG.

    Parameters
    ----------
    image : uint8 or float16 (C, D, H, W)
    """
    picture = Image.fromarray(to_grey_levels(image[:1])[0, image.shape[1] // 2])
    picture = picture.resize((_THUMBNAIL_PIXELS, _THUMBNAIL_PIXELS), Image.Resampling.BICUBIC)
    with io.BytesIO() as file:
        picture.save(file, "PNG", optimize=True)
        return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def show_pairs(pairs: Sequence[Mapping[str, str]], dataset: ShardDataset) -> list[dict[str, Any]]:
    """The pairs as the page shows them, each with a picture of both cases."""
    row_of = {case.case: row for row, case in enumerate(dataset.cases)}
    shown = []
    for pair in pairs:
        sides = [
            {
                "case": pair[f"case_{side}"],
                "words": ", ".join(
                    (pair[f"site_{side}"], pair[f"split_{side}"], readable(label_of(pair[f"class_name_{side}"])))
                ),
                "picture": thumbnail_uri(dataset.image(row_of[pair[f"case_{side}"]])),
            }
            for side in ("a", "b")
        ]
        shown.append(
            {
                "sides": sides,
                "is_leak": pair["is_leak"] == "yes",
                "classes_differ": pair["classes_differ"] == "yes",
                "is_exact": pair["kind"] == EXACT,
                "bits": pair["bits"],
                "correlation": pair["correlation"],
            }
        )
    return shown


def count_pairs(pairs: Sequence[Mapping[str, str]]) -> Table:
    """How many pairs there are within and across sites, by kind, and how many of them are leaks."""
    rows = []
    for where, across in (("within a site", False), ("across sites", True)):
        here = [pair for pair in pairs if (pair["site_a"] != pair["site_b"]) == across]
        counts = [
            len(here),
            sum(pair["kind"] == EXACT for pair in here),
            sum(pair["is_leak"] == "yes" for pair in here),
            sum(pair["classes_differ"] == "yes" for pair in here),
        ]
        rows.append([Cell(where), *(Cell(str(count)) for count in counts)])
    columns = ["Pairs", "All", "Exact copies", "Across splits", "Of two classes"]
    return Table("Pairs of cases that look like one image", columns, [Group("", rows)], (0,))


def write_audit_page_files(
    audit_path: str | Path,
    duplicates_path: str | Path,
    shards: Sequence[Shard],
    quality_paths: Sequence[str | Path],
    page_path: str | Path,
    title: str,
    cohort: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> None:
    """Write the page of the audit.

    Parameters
    ----------
    audit_path, duplicates_path : the audit, and the pairs of cases that are one image
    shards : one per site, for the pictures of pairs
    quality_paths : pictures of every site's cases, named as the site
    title, cohort, settings : of the study, and its ``cohort`` and ``audit`` blocks
    """
    audit = json.loads(Path(audit_path).read_text(encoding="utf-8"))
    pairs = read_table(duplicates_path)
    regions = [region["name"] for region in cohort["regions"]]
    tables = cohort_tables({"classes": cohort["classes"], "regions": regions}, audit)
    content = {
        "title": title,
        "css": Markup(template_text("report.css") + template_text("audit.css")),
        "source": cohort["source"],
        "source_note": SOURCE_NOTES.get(cohort["source"], ""),
        "sites": audit["sites"],
        "num_cases": sum(site["num_cases"] for site in audit["sites"]),
        "num_patients": sum(site["num_patients"] for site in audit["sites"]),
        "notes": audit["notes"],
        "num_leaks": sum(pair["is_leak"] == "yes" for pair in pairs),
        "people_table": tables[0],
        "image_tables": [tables[1], orientation_table(audit["sites"])],
        "quality": load_pictures(quality_paths),
        "outline_table": outline_table(audit["sites"], regions) if regions else None,
        "histograms": {site["site"]: histogram_path(site["intensity_parts"], 320, 90) for site in audit["sites"]},
        "pair_table": count_pairs(pairs),
        "num_pairs": len(pairs),
        "pairs": show_pairs(pairs[:MOST_SHOWN_PAIRS], ShardDataset(shards, SPLITS)),
        "settings": settings,
    }
    with replacing(page_path) as temporary:
        temporary.write_text(page_environment().get_template("audit.html.j2").render(content), encoding="utf-8")
