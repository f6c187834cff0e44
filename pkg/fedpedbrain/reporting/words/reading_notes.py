"""Sentences beside tables and figures without which their numbers would be misread; each from config and tables."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fedpedbrain.reporting.figures.style import readable
from fedpedbrain.reporting.numbers import count_noun, format_names
from fedpedbrain.reporting.results import Measure, Results, metric_title
from fedpedbrain.reporting.tables.tables import count_validation_patients
from fedpedbrain.reporting.words.arms_in_words import describe_recipes


def notes_part(
    results: Results, study: Mapping[str, Any], audit: Mapping[str, Any], selections: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """All of these sentences, as the report's sections name them."""
    return {
        "selection_notes": describe_selection(study, audit, selections),
        "recipe_note": describe_recipes(study),
        "outline_note": describe_outline_rules(study, audit),
        "volume_cases": count_volume_cases(results, study),
    }


def count_volume_cases(results: Results, study: Mapping[str, Any]) -> str:
    """How many test cases and cases of external sites have an outline, region by region, and how each is drawn."""
    parts = []
    for region in study["regions"]:
        # Dice is over the same cases as the figure: those with an outline.
        dice = Measure(region, "dice", "")
        test = [results.value(study["reference_arm"], dice)]
        external = [results.value(study["reference_arm"], dice, site) for site in results.external_sites]
        tested, outside = (sum(value.num_cases for value in found if value) for found in (test, external))
        words = f"{count_noun(tested, 'test case')} (filled)"
        if outside:
            words += f" and {count_noun(outside, 'case')} of external sites (open)"
        parts.append(f"{readable(region)} {words}" if len(study["regions"]) > 1 else words)
    return "; ".join(parts)


def grid_in_words(preprocessing: Mapping[str, Any]) -> str:
    """How large the network's grid is: ``24 x 48 x 48 voxels``, or by which rule each case's own size comes about."""
    if preprocessing["grid"] is not None:
        return f"{' x '.join(map(str, preprocessing['grid']))} voxels"
    spacing = preprocessing["voxel_spacing_mm"]
    voxels = "the scan's own voxels" if isinstance(spacing, str) else f"voxels of {' x '.join(map(str, spacing))} mm"
    return f"each case's own size, {voxels}"


def is_scored_on_grid(study: Mapping[str, Any]) -> bool:
    """Whether held-out cases are compared on the network's grid alone, not in their scans' voxels."""
    return study["config"]["evaluation"]["geometry"] == "grid"


def describe_geometry(study: Mapping[str, Any]) -> str:
    """Where masks are compared."""
    grid = grid_in_words(study["config"]["preprocessing"])
    if is_scored_on_grid(study):
        return f"Scores are computed on the network's grid ({grid}), not on the scanner's images."
    return (
        "Scores are computed in the scans' own voxels, against the masks as the sites drew them. What a network "
        f"predicts on its grid ({grid}) is laid back there."
    )


def describe_outline_rules(study: Mapping[str, Any], audit: Mapping[str, Any]) -> str:
    """What decides on outlines and on when two agree, and the size of the voxels that this must be read against."""
    settings = study["config"]["evaluation"]
    rules = [
        f"Surfaces agree within {settings['surface_tolerance_mm']:g} mm; a lesion is found where the other outline "
        f"holds {100 * settings['lesion_overlap']:g} % of its voxels; predicted regions below "
        f"{settings['smallest_region_ml']:g} ml are left out."
    ]
    rules += filter(None, [_describe_components(study)])
    if study["normal_class"] and settings["empty_when_normal"]:
        rules.append(f"A case predicted as {readable(study['normal_class'])} gets no outline.")
    geometry, axes = ("grid", "D x H x W") if is_scored_on_grid(study) else ("scan", "axes as stored")
    sites_of: dict[tuple[float, ...], list[str]] = {}
    for site in audit["sites"]:
        if site["held_out_spacing_mm"]:
            spacing = tuple(round(size, 1) for size in site["held_out_spacing_mm"][geometry])
            sites_of.setdefault(spacing, []).append(site["site"])
    if sites_of:
        sizes = [
            f"{' x '.join(f'{size:.1f}' for size in spacing)} mm ({math.prod(spacing) / 1000:.2g} ml)"
            + (f" at {format_names(sites)}" if len(sites_of) > 1 else "")
            for spacing, sites in sites_of.items()
        ]
        rules.append(
            f"Read these against a voxel of the {geometry} ({axes}, median over held-out cases): {format_names(sizes)}."
        )
    return " ".join(rules)


def _describe_components(study: Mapping[str, Any]) -> str:
    """Which components of a predicted region are left out, and who chose that."""
    tried = study["config"]["evaluation"]["component_filters"]
    count = len(tried["smallest_ml"]) * len(tried["largest_only"])
    if not study["regions"] or (count == 1 and tried == {"smallest_ml": [0.0], "largest_only": [False]}):
        return ""
    if count > 1:
        return (
            f"Which components of a region are left out was chosen on validation patients among {count} settings, for "
            "every model and region (filters.json beside the model)."
        )
    parts = [f"those below {tried['smallest_ml'][0]:g} ml"] if tried["smallest_ml"][0] else []
    parts += ["all except the largest"] if tried["largest_only"][0] else []
    return f"Of the components of a predicted region {format_names(parts)} are left out."


def _describe_validation(study: Mapping[str, Any]) -> str:
    """By how much rounds are validated more cheaply than the chosen models are scored."""
    evaluation = study["config"]["evaluation"]
    words = "Rounds are validated on the network's grid, without mirrored copies or component filters"
    if not any(arm["training"].get("patch") for arm in study["arms"]):
        return f"{words}."
    validated, scored = (100 * evaluation["windows"][key] for key in ("validation_overlap", "overlap"))
    return f"{words}, in windows that overlap by {validated:g} % ({scored:g} % where models are scored)."


def describe_selection(
    study: Mapping[str, Any], audit: Mapping[str, Any], selections: Sequence[Mapping[str, Any]]
) -> list[str]:
    """By whom and by what rounds were chosen, and which arms might have gone on to improve."""
    everyone = count_validation_patients(audit, study["training_sites"])
    parts = [metric_title("dice", study)] if study["regions"] else []
    score = format_names([*parts, *(["accuracy"] if study["classes"] else [])])
    mean = f"the mean of {score}" if study["regions"] and study["classes"] else score
    notes = [
        f"Curves are over {count_noun(everyone, 'validation patient')}, all of the training sites. An arm's round is "
        "the one with the highest score over those of its own sites, since a local arm has no others; the score is "
        f"{mean}. {_describe_validation(study)}"
    ]
    counts = sorted({item["num_validated"] for item in selections})
    if counts[0] < study["num_rounds"]:
        span = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        notes.append(f"Of an arm's {study['num_rounds']} rounds {span} were validated; the chosen one is among these.")
    last = [
        readable(item["arm"]) + (f" (seed {item['seed']})" if len(study["seeds"]) > 1 else "")
        for item in selections
        if item["selection_score"] is not None and item["round"] == item["num_rounds"]
    ]
    if last:
        notes.append(f"No plateau shown for {format_names(last)}: the best round is the last.")
    return notes
