"""The audit of a cohort: what is there, site by site, and what a careful reader should know of it."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fedpedbrain.cohort import EXTERNAL, SPLITS, UNKNOWN_CLASS
from fedpedbrain.data.dataset import ShardDataset
from fedpedbrain.files import replacing, write_table

COUNT_COLUMNS = ("site", "class", "split", "num_cases", "num_patients")
UNKNOWN_LABEL = "unknown"


def _label(class_name: str) -> str:
    return UNKNOWN_LABEL if class_name == UNKNOWN_CLASS else class_name


def _most_common(values: Sequence[str], count: int = 4) -> list[str]:
    return [value for value, _ in Counter(values).most_common(count)]


def audit_site(site: str, dataset: ShardDataset, cohort: Mapping) -> tuple[dict[str, Any], list[str]]:
    """Describe one site's shard.

    Parameters
    ----------
    dataset : all cases of the site
    cohort : the ``cohort`` block of the config

    Returns
    -------
    counts and sizes, and one line a case that looks wrong
    """
    notes: list[str] = []
    volumes: dict[str, list[float]] = {region["name"]: [] for region in cohort["regions"]}
    num_empty = 0
    for row, case in enumerate(dataset.cases):
        where = f"site {site}, case {case.case}"
        mask = dataset.mask(row)
        outlined = bool(mask.any())
        num_empty += bool(volumes) and not outlined
        for plane, values in zip(mask, volumes.values(), strict=True):
            if plane.any():
                values.append(float(plane.sum()) * case.grid_voxel_ml)
        if any(not channel.any() for channel in dataset.image(row)):
            notes.append(f"{where}: a channel of the image is blank")
        if volumes and outlined and case.class_name == cohort["normal_class"] and cohort["normal_class"]:
            notes.append(f"{where}: is {case.class_name!r} but a region is outlined")
        if volumes and not outlined and case.class_name != cohort["normal_class"]:
            notes.append(f"{where}: {_label(case.class_name)!r} without any outlined region")
        if cohort["classes"] and case.class_name == UNKNOWN_CLASS:
            notes.append(f"{where}: class unknown, counts for segmentation alone")
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


def audit_cohort_files(
    shard_folders: Sequence[str | Path], audit_path: str | Path, table_path: str | Path, cohort: Mapping
) -> None:
    """Write the audit of all shards: facts and notes as JSON, counts as a table.

    Parameters
    ----------
    shard_folders : one a site, named as the site
    cohort : the ``cohort`` block of the config
    """
    sites, notes = [], []
    for folder in map(Path, shard_folders):
        facts, site_notes = audit_site(folder.name, ShardDataset([folder], SPLITS), cohort)
        sites.append(facts)
        notes += site_notes
    everyone = ShardDataset(shard_folders, SPLITS)
    notes += missing_classes(everyone, cohort)
    write_table(table_path, COUNT_COLUMNS, count_cases(everyone))
    with replacing(audit_path) as temporary:
        temporary.write_text(json.dumps({"sites": sites, "notes": notes}, indent=1) + "\n")
