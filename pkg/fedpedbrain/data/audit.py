"""The audit of a cohort: what is there, site by site, and what a careful reader should know of it."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fedpedbrain.cohort import EXTERNAL, SPLITS, UNKNOWN_CLASS, VALIDATION, Case
from fedpedbrain.data.dataset import ShardDataset
from fedpedbrain.files import read_table, write_json, write_table

COUNT_COLUMNS = ("site", "class", "split", "num_cases", "num_patients")
UNKNOWN_LABEL = "unknown"


def _label(class_name: str) -> str:
    return UNKNOWN_LABEL if class_name == UNKNOWN_CLASS else class_name


def _most_common(values: Sequence[str], count: int = 4) -> list[str]:
    return [value for value, _ in Counter(values).most_common(count)]


def _case_notes(
    case: Case, images: np.ndarray, masks: np.ndarray, outlines: Mapping[str, tuple[float, float]], cohort: Mapping
) -> Iterator[str]:
    """What looks wrong with one case; see ``audit_site``."""
    regions = [region["name"] for region in cohort["regions"]]
    if any(not channel.any() for channel in images):
        yield "a channel of the image is blank"
    if outlines and case.class_name == cohort["normal_class"] and cohort["normal_class"]:
        yield f"is {case.class_name!r} but a region is outlined"
    if regions and not outlines and case.class_name != cohort["normal_class"]:
        yield f"{_label(case.class_name)!r} without any outlined region"
    for region, plane in zip(regions, masks, strict=True):
        scan_ml, cut_ml = outlines.get(region, (0.0, 0.0))
        if cut_ml:
            yield f"{cut_ml:.3g} of {scan_ml:.3g} ml of {region} lie outside the head's box and are cut away"
        if scan_ml and not plane.any():
            yield f"{region} of {scan_ml:.3g} ml vanishes on the grid: its Dice leaves this case out"
    if cohort["classes"] and case.class_name == UNKNOWN_CLASS:
        yield "class unknown, counts for segmentation alone"


def audit_site(
    site: str, dataset: ShardDataset, outlines: Mapping[str, Mapping[str, tuple[float, float]]], cohort: Mapping
) -> tuple[dict[str, Any], list[str]]:
    """Describe one site's shard.

    Parameters
    ----------
    dataset : all cases of the site
    outlines : case to what its mask outlines in the scan, as ``measure_outlines`` gives it
    cohort : the ``cohort`` block of the config

    Returns
    -------
    counts and sizes, and one line a case that looks wrong
    """
    notes: list[str] = []
    volumes: dict[str, list[float]] = {region["name"]: [] for region in cohort["regions"]}
    num_empty = 0
    for row, case in enumerate(dataset.cases):
        mask = dataset.mask(row)
        num_empty += bool(volumes) and not mask.any()
        for plane, values in zip(mask, volumes.values(), strict=True):
            if plane.any():
                values.append(float(plane.sum()) * case.grid_voxel_ml)
        found = _case_notes(case, dataset.image(row), mask, outlines.get(case.case, {}), cohort)
        notes += [f"site {site}, case {case.case}: {note}" for note in found]
    cases = dataset.cases
    facts = {
        "site": site,
        "role": "external" if site in cohort["sites"]["external"] else "training",
        "num_patients": len({case.patient for case in cases}),
        "num_cases": len(cases),
        "splits": {split: sum(case.split == split for case in cases) for split in SPLITS},
        "classes": dict(sorted(Counter(_label(case.class_name) for case in cases).items())),
        "shapes": _most_common(["x".join(map(str, case.shape)) for case in cases]),
        "spacings_mm": _most_common(["x".join(f"{size:.2f}" for size in case.spacing_mm) for case in cases]),
        "num_empty_masks": int(num_empty),
        "median_volume_ml": {
            region: float(np.median(values)) if values else None for region, values in volumes.items()
        },
    }
    return facts, notes


def sites_without_validation(sites: Sequence[Mapping[str, Any]]) -> list[str]:
    """Note training sites that no patient validates."""
    return [
        f"site {facts['site']}: no validation patient; an arm that trains on this site alone takes its last round"
        for facts in sites
        if facts["role"] == "training" and not facts["splits"][VALIDATION]
    ]


def count_cases(dataset: ShardDataset) -> list[dict[str, Any]]:
    """Cases and patients by site, class and split, one row each."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for case in dataset.cases:
        groups.setdefault((case.site, _label(case.class_name), case.split), []).append(case.patient)
    return [
        dict(zip(COUNT_COLUMNS, (*key, len(patients), len(set(patients))), strict=True))
        for key, patients in sorted(groups.items())
    ]


def missing_classes(dataset: ShardDataset, cohort: Mapping) -> list[str]:
    """Notes on classes that no training site or no test patient has."""
    notes = []
    for split in (split for split in SPLITS if split != EXTERNAL):
        present = {case.class_name for case in dataset.cases if case.split == split}
        notes += [f"class {name}: no {split} case at any site" for name in cohort["classes"] if name not in present]
    return notes


def _left_out_notes(left_out_path: str | Path) -> list[str]:
    """Notes on participants whom the study leaves out, by their site."""
    return [
        f"left out: {row['num_participants']} participant(s) of site {row['site']!r}, which is none of cohort.sites"
        for row in read_table(left_out_path)
    ]


def _read_outlines(path: str | Path) -> dict[str, dict[str, tuple[float, float]]]:
    outlines: dict[str, dict[str, tuple[float, float]]] = {}
    for row in read_table(path):
        outlines.setdefault(row["case"], {})[row["region"]] = (float(row["scan_ml"]), float(row["cut_ml"]))
    return outlines


def audit_cohort_files(
    shard_folders: Sequence[str | Path],
    left_out_path: str | Path,
    audit_path: str | Path,
    table_path: str | Path,
    cohort: Mapping,
) -> None:
    """Write the audit of all shards: facts and notes as JSON, counts as a table.

    Parameters
    ----------
    shard_folders : one a site, named as the site
    left_out_path : participants at sites that are none of the study's
    cohort : the ``cohort`` block of the config
    """
    sites, notes = [], _left_out_notes(left_out_path)
    for folder in map(Path, shard_folders):
        outlines = _read_outlines(folder / "outlines.tsv")
        facts, site_notes = audit_site(folder.name, ShardDataset([folder], SPLITS), outlines, cohort)
        sites.append(facts)
        notes += site_notes
    everyone = ShardDataset(shard_folders, SPLITS)
    notes += sites_without_validation(sites) + missing_classes(everyone, cohort)
    write_table(table_path, COUNT_COLUMNS, count_cases(everyone))
    write_json(audit_path, {"sites": sites, "notes": notes})
