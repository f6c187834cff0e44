"""The audit of a cohort: what is there, site by site, and what a careful reader should know of it."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fedpedbrain.base.cases import EXTERNAL, HELD_OUT, SPLITS, TRAIN, UNKNOWN_CLASS, VALIDATION, Shard
from fedpedbrain.base.files import read_table, write_json, write_table
from fedpedbrain.data.checks.case_measures import CaseMeasures, label_of, measure_case, measure_columns
from fedpedbrain.data.checks.duplicates import EXACT
from fedpedbrain.data.grid.dataset import ShardDataset
from fedpedbrain.data.grid.intensity import to_grey_levels

COUNT_COLUMNS = ("site", "class", "split", "num_cases", "num_patients")
_QUARTILES = (25, 50, 75)
# Pairs of cases that are named one by one; the others are counted.
_MOST_NAMED_PAIRS = 3


def _most_common(values: Sequence[str], count: int = 4) -> list[str]:
    return [value for value, _ in Counter(values).most_common(count)]


def measure_site(
    dataset: ShardDataset, outlines: Mapping[str, Mapping[str, tuple[float, float]]], cohort: Mapping
) -> Iterator[CaseMeasures]:
    """Measure all cases of one site, one case in memory at a time.

    Parameters
    ----------
    dataset : all cases of the site
    outlines : case to what its mask outlines in the scan, as ``measure_outlines`` gives it
    cohort : the ``cohort`` block of the config
    """
    for row, case in enumerate(dataset.cases):
        images = to_grey_levels(dataset.image(row))
        yield measure_case(case, images, dataset.mask(row), outlines.get(case.case, {}), cohort)


def audit_site(site: str, measured: Sequence[CaseMeasures], cohort: Mapping) -> tuple[dict[str, Any], list[str]]:
    """Describe one site.

    Parameters
    ----------
    measured : all cases of the site
    cohort : the ``cohort`` block of the config

    Returns
    -------
    counts and sizes, and one line a case that looks wrong
    """
    cases = [item.case for item in measured]
    regions = [region["name"] for region in cohort["regions"]]
    volumes = {region: [item.grid_ml[region] for item in measured if item.grid_ml[region] > 0.0] for region in regions}
    quartiles = {
        region: [float(value) for value in np.percentile(values, _QUARTILES)] if values else None
        for region, values in volumes.items()
    }
    intensities = np.sum([item.intensities for item in measured], axis=0)
    held_out = [case for case in cases if case.split in HELD_OUT]
    spacings_mm = {
        "scan": [case.spacing_mm for case in held_out],
        "grid": [case.grid_spacing_mm for case in held_out],
    }
    facts = {
        "site": site,
        "role": "external" if site in cohort["sites"]["external"] else "training",
        "num_patients": len({case.patient for case in cases}),
        "num_cases": len(cases),
        "splits": {split: sum(case.split == split for case in cases) for split in SPLITS},
        "patients_by_split": {split: len({case.patient for case in cases if case.split == split}) for split in SPLITS},
        "classes": dict(sorted(Counter(label_of(case.class_name) for case in cases).items())),
        "shapes": _most_common(["x".join(map(str, case.shape)) for case in cases]),
        "spacings_mm": _most_common(["x".join(f"{size:.2f}" for size in case.spacing_mm) for case in cases]),
        "held_out_spacing_mm": {name: np.median(values, axis=0).tolist() for name, values in spacings_mm.items()}
        if held_out
        else None,
        "orientations": dict(Counter(case.orientation for case in cases).most_common()),
        "num_empty_masks": sum(not any(item.grid_ml.values()) for item in measured) if regions else 0,
        "median_volume_ml": {region: values and values[1] for region, values in quartiles.items()},
        "volume_quartiles_ml": quartiles,
        "num_cut_cases": sum(any(item.cut_ml.values()) for item in measured),
        "num_cases_with_blank_slices": sum(item.num_blank_slices > 0 for item in measured),
        "intensity_parts": (intensities / max(intensities.sum(), 1)).round(6).tolist(),
    }
    notes = [f"site {site}, case {item.case.case}: {problem}" for item in measured for problem in item.problems]
    return facts, notes


def sites_without_validation(sites: Sequence[Mapping[str, Any]]) -> list[str]:
    """Note training sites that no patient validates."""
    return [
        f"site {facts['site']}: no validation patient; an arm that trains on this site alone takes its last round"
        for facts in sites
        if facts["role"] == "training" and not facts["splits"][VALIDATION]
    ]


def small_sites(sites: Sequence[Mapping[str, Any]], fewest_patients: int) -> list[str]:
    """Note sites of few patients."""
    return [
        f"site {facts['site']}: {facts['num_patients']} patients, fewer than {fewest_patients}: scores of this site "
        "alone say little, and its own arm learns little"
        for facts in sites
        if facts["num_patients"] < fewest_patients
    ]


def unequal_classes(dataset: ShardDataset, largest_ratio: float) -> list[str]:
    """Note training sites, and the cohort, where one class has many times the training cases of another.

    Classes that a site has not at all are no matter of a ratio; ``classes_lacking_at_sites`` names them.
    """
    counts: dict[str, Counter] = {}
    for case in dataset.cases:
        if case.split == TRAIN and case.class_name != UNKNOWN_CLASS:
            for place in (f"site {case.site}", "all training sites"):
                counts.setdefault(place, Counter())[case.class_name] += 1
    notes = []
    for place, classes in counts.items():
        (most, many), (fewest, few) = classes.most_common()[0], classes.most_common()[-1]
        if many >= largest_ratio * few:
            notes.append(
                f"{place}: classes are unequal, {many} training cases of {most} to {few} of {fewest} "
                f"({many / few:.1f} to 1); see training.loss.balance_classes"
            )
    return notes


def duplicate_notes(pairs: Sequence[Mapping[str, str]]) -> list[str]:
    """What pairs of cases that are one image mean for the study: the leaks by name, then how many there are.

    Parameters
    ----------
    pairs : rows of the table of duplicates, the worst first
    """
    leaks = [pair for pair in pairs if pair["is_leak"] == "yes"]
    notes = [f"LEAK: {_describe_pair(pair)}" for pair in leaks[:_MOST_NAMED_PAIRS]]
    if len(leaks) > _MOST_NAMED_PAIRS:
        notes.append(f"LEAK: {len(leaks) - _MOST_NAMED_PAIRS} more pairs across splits; see duplicates.tsv")
    contradictions = [pair for pair in pairs if pair["classes_differ"] == "yes"]
    notes += [f"one image, two classes: {_describe_pair(pair)}" for pair in contradictions[:_MOST_NAMED_PAIRS]]
    if pairs:
        num_exact = sum(pair["kind"] == EXACT for pair in pairs)
        across = sum(pair["site_a"] != pair["site_b"] for pair in pairs)
        notes.append(
            f"{len(pairs)} pairs of cases look like one image ({num_exact} are exact copies), {across} of them across "
            f"sites, {len(leaks)} of them across splits; see duplicates.tsv"
        )
    return notes


def _describe_pair(pair: Mapping[str, str]) -> str:
    sides = [
        f"case {pair[f'case_{side}']} (site {pair[f'site_{side}']}, {pair[f'split_{side}']}, "
        f"{label_of(pair[f'class_name_{side}'])})"
        for side in ("a", "b")
    ]
    if pair["kind"] == EXACT:
        return f"{sides[0]} is, voxel by voxel, {sides[1]}"
    return f"{sides[0]} looks like {sides[1]}: {pair['bits']} of 64 bits differ, correlation {pair['correlation']}"


def tabulate_cases(dataset: ShardDataset) -> list[dict[str, Any]]:
    """Cases and patients by site, class and split, one row each."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for case in dataset.cases:
        groups.setdefault((case.site, label_of(case.class_name), case.split), []).append(case.patient)
    return [
        dict(zip(COUNT_COLUMNS, (*key, len(patients), len(set(patients))), strict=True))
        for key, patients in sorted(groups.items())
    ]


def classes_lacking_at_sites(dataset: ShardDataset, cohort: Mapping) -> list[str]:
    """Note training sites that have no training case of a class which another site has, one line a site.

    Classes that nobody trains on are ``missing_classes``'.
    """
    trained: dict[str, set[str]] = {site: set() for site in cohort["sites"]["training"]}
    for case in dataset.cases:
        if case.split == TRAIN:
            trained.setdefault(case.site, set()).add(case.class_name)
    notes = []
    for site, classes in trained.items():
        elsewhere = set().union(*trained.values()) - classes
        lacking = [name for name in cohort["classes"] if name in elsewhere]
        if lacking:
            notes.append(
                f"site {site}: no training case of {' or '.join(lacking)}; an arm that trains on this site alone "
                "cannot learn it"
            )
    return notes


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
    shards: Sequence[Shard],
    left_out_path: str | Path,
    duplicates_path: str | Path,
    audit_path: str | Path,
    table_path: str | Path,
    case_table_paths: Sequence[str | Path],
    cohort: Mapping,
    settings: Mapping,
) -> None:
    """Write the audit of all shards: facts and notes as JSON, counts as a table, and a table of cases a site.

    Parameters
    ----------
    shards : one per site, each folder named as its site
    left_out_path : participants at sites that are none of the study's
    duplicates_path : pairs of cases that are one image
    case_table_paths : one a site
    cohort, settings : the ``cohort`` and the ``audit`` block of the config
    """
    sites, site_notes = [], []
    columns = measure_columns([region["name"] for region in cohort["regions"]])
    for shard, table in zip(shards, case_table_paths, strict=True):
        folder = Path(shard.folder)
        dataset, outlines = ShardDataset([shard], SPLITS), _read_outlines(folder / "outlines.tsv")
        measured = list(measure_site(dataset, outlines, cohort))
        write_table(table, columns, (item.to_row() for item in measured))
        facts, found = audit_site(folder.name, measured, cohort)
        sites.append(facts)
        site_notes += found
    everyone = ShardDataset(shards, SPLITS)
    notes = [
        *duplicate_notes(read_table(duplicates_path)),
        *_left_out_notes(left_out_path),
        *small_sites(sites, settings["small_site_patients"]),
        *unequal_classes(everyone, settings["class_imbalance_ratio"]),
        *classes_lacking_at_sites(everyone, cohort),
        *site_notes,
        *sites_without_validation(sites),
        *missing_classes(everyone, cohort),
    ]
    write_table(table_path, COUNT_COLUMNS, tabulate_cases(everyone))
    write_json(audit_path, {"sites": sites, "notes": notes})
