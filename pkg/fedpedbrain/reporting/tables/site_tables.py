"""Tables of sites: the worst one, what each gains by joining, and how well arms do where they did not train."""

from collections.abc import Mapping, Sequence
from typing import Any

from fedpedbrain.base.cases import TEST
from fedpedbrain.evaluation.site_comparison import ALL_BUT_ONE, ALL_SITES, MIN_PATIENTS_OF_SITE, ONE_SITE
from fedpedbrain.reporting.figures.style import readable, sentence_case
from fedpedbrain.reporting.numbers import NO_VALUE, format_score
from fedpedbrain.reporting.results import Estimate, Measure, Results, headline_measures
from fedpedbrain.reporting.tables.tables import Cell, Group, Table, detail_lines
from fedpedbrain.reporting.words.answers import federated_arms, site_gains


def gap_table(results: Results, study: Mapping[str, Any], colours: Mapping[str, str]) -> Table | None:
    """Worst and best training site of every arm, and the gap between them; None where sites are too few or small."""
    groups = []
    for measure in headline_measures(study):
        rows = []
        for arm in colours:
            gap = results.gap(arm, measure)
            if gap:
                left_out = f"{gap['num_too_small']} too small" if gap["num_too_small"] else ""
                rows.append(
                    [
                        Cell(readable(arm), colour=colours[arm]),
                        Cell(str(gap["worst_site"]) if gap["gap"] else "all alike"),
                        Cell(format_score(gap["worst"])),
                        Cell(str(gap["best_site"]) if gap["gap"] else "all alike"),
                        Cell(format_score(gap["best"])),
                        Cell(format_score(gap["gap"])),
                        Cell(str(gap["num_sites"]), left_out),
                    ]
                )
        groups += [Group(sentence_case(measure.title), rows)] if rows else []
    columns = ["Arm", "Worst site", "its score", "Best site", "its score", "Gap", "Sites"]
    caption = f"Worst and best training site, among those with at least {MIN_PATIENTS_OF_SITE} test patients"
    return Table(caption, columns, groups, (0, 1, 3)) if groups else None


def gain_table(results: Results, study: Mapping[str, Any], colours: Mapping[str, str]) -> Table | None:
    """Every federated arm less the site's own local arm, on that site's test patients; None without local arms."""
    groups = []
    for measure in headline_measures(study):
        rows = [
            [
                Cell(site),
                Cell(readable(arm), colour=colours[arm]),
                Cell(str(gain.num_cases)),
                Cell(gain.change, detail_lines(gain.change_interval, gain.seeds, gain.rule)),
                Cell(gain.reading),
            ]
            for arm in federated_arms(study)
            for site, gain in site_gains(results, study, arm, measure).items()
        ]
        groups += [Group(sentence_case(measure.title), rows)] if rows else []
    columns = ["Site", "Federated arm", "Cases", "Gain", "Reading"]
    caption = "What each site gains over its own local arm, case by case on its test patients"
    return Table(caption, columns, groups, (0, 1, 4)) if groups else None


def cross_site_table(results: Results, study: Mapping[str, Any], colours: Mapping[str, str]) -> Table | None:
    """Every arm trained at one site, at every site; None where no arm is.

    Rows are what was trained on, columns where it was tested.
    """
    arms = [arm for arm in colours if _kind(results, arm) == ONE_SITE]
    sites = [*results.test_sites, *results.external_sites]
    groups = []
    for measure in headline_measures(study):
        rows = [
            [
                Cell(readable(arm), colour=colours[arm]),
                *(_place_cell(results.value(arm, measure, site), _is_own(results, arm, site)) for site in sites),
            ]
            for arm in arms
            if any(results.value(arm, measure, site) for site in sites)
        ]
        groups += [Group(sentence_case(measure.title), rows)] if rows else []
    columns = ["Trained at one site", *(f"Tested at {site}" for site in sites)]
    return Table("Trained at one site, tested at every one", columns, groups) if groups else None


def left_out_table(results: Results, study: Mapping[str, Any], colours: Mapping[str, str]) -> Table | None:
    """Arms that leave a site out, at that site, beside the arms of all sites; None where no arm leaves one out."""
    leaving = [arm for arm in colours if _kind(results, arm) == ALL_BUT_ONE]
    joined = [arm for arm in colours if _kind(results, arm) == ALL_SITES]
    groups = []
    for measure in headline_measures(study):
        rows = []
        for arm in leaving:
            for site in _left_out(results, arm, measure):
                there = [results.value(name, measure, site) for name in (arm, *joined)]
                rows.append([Cell(site), Cell(readable(arm), colour=colours[arm]), *map(_place_cell, there)])
        groups += [Group(sentence_case(measure.title), rows)] if rows else []
    columns = ["Site left out", "Arm", "At that site", *(f"{readable(arm)}, trained there too" for arm in joined)]
    caption = "Leave one site out: how well an arm does at the training site that it never saw"
    return Table(caption, columns, groups, (0, 1)) if groups else None


def _kind(results: Results, arm: str) -> str:
    return next((row["kind"] for row in results.cross_sites if row["arm"] == arm), "")


def _is_own(results: Results, arm: str, site: str) -> bool:
    return any(row["is_own_site"] for row in results.cross_sites if (row["arm"], row["tested_on"]) == (arm, site))


def _left_out(results: Results, arm: str, measure: Measure) -> Sequence[str]:
    """Training sites with a score that the arm did not learn from."""
    return [
        row["tested_on"]
        for row in results.cross_sites
        if (row["arm"], row["target"], row["metric"]) == (arm, measure.target, measure.metric)
        and not row["is_own_site"]
        and row["split"] == TEST
    ]


def _place_cell(estimate: Estimate | None, is_own: bool = False) -> Cell:
    if estimate is None:
        return Cell(NO_VALUE)
    own = "its own site" if is_own else ""
    return Cell(estimate.score, detail_lines(estimate.interval, f"n = {estimate.num_cases}", own, estimate.rule))
