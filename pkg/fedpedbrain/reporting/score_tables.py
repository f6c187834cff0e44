"""Tables of the report that hold scores: the headline, every measure, differences, and what a site gains."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedpedbrain.evaluation.tables import POOLED_SCOPE
from fedpedbrain.reporting.answers import describe_difference, federated_arms, local_arms, main_arms, site_gains
from fedpedbrain.reporting.results import (
    MISSING,
    Estimate,
    Measure,
    Results,
    all_measures,
    count_noun,
    format_change,
    format_score,
    headline_measures,
)
from fedpedbrain.reporting.style import readable, sentence_case
from fedpedbrain.reporting.tables import Cell, Group, Table


@dataclass(frozen=True)
class Strip:
    """An interval on a scale around 0, in percent of the scale's width."""

    low: float
    high: float
    dot: float


@dataclass(frozen=True)
class HeadlineRow:
    """One arm in the headline table."""

    arm: str
    colour: str
    score: Cell
    difference: Cell
    reading: str
    strip: Strip | None


@dataclass(frozen=True)
class HeadlineGroup:
    """One measure of the headline table; its strips go from -limit to +limit."""

    title: str
    limit: float
    rows: list[HeadlineRow]


def headline_table(results: Results, study: Mapping[str, Any], colours: Mapping[str, str]) -> list[HeadlineGroup]:
    """Main arms one by one and local arms together, measure by measure, on all test patients."""
    groups = []
    for measure in headline_measures(study["regions"], study["classes"]):
        differences = {arm: results.difference(arm, measure) for arm in main_arms(study)}
        ends = [abs(end) for d in differences.values() if d for end in (d.value, d.low, d.high) if math.isfinite(end)]
        limit = max(0.05, math.ceil(20.0 * max(ends, default=0.0)) / 20.0)
        rows = []
        for arm, difference in differences.items():
            value = results.value(arm, measure)
            if value is not None:
                rows.append(_headline_row(arm, colours[arm], value, difference, limit))
        alone = _local_row(results, study, measure)
        if rows:
            first = results.value(rows[0].arm, measure)
            words = [sentence_case(measure.title), count_noun(first.num_cases, "test case"), first.caveat]
            groups.append(HeadlineGroup(", ".join(filter(None, words)), limit, [*rows, *alone]))
    return groups


def _headline_row(arm: str, colour: str, value: Estimate, difference: Estimate | None, limit: float) -> HeadlineRow:
    score = Cell(format_score(value.value), value.interval)
    if difference is None:
        return HeadlineRow(arm, colour, score, Cell(MISSING), "reference", None)
    strip = None
    if difference.has_interval:
        strip = Strip(*(50.0 + 50.0 * end / limit for end in (difference.low, difference.high, difference.value)))
    change = Cell(format_change(difference.value), difference.change_interval)
    return HeadlineRow(arm, colour, score, change, difference.reading, strip)


def _local_row(results: Results, study: Mapping[str, Any], measure: Measure) -> list[HeadlineRow]:
    arms = list(local_arms(study).values())
    values = [value.value for arm in arms if (value := results.value(arm, measure))]
    differences = [difference for arm in arms if (difference := results.difference(arm, measure))]
    if not values or not differences:
        return []
    changes = [difference.value for difference in differences]
    readings = [difference.reading for difference in differences]
    counts = [f"{word} ({readings.count(word)})" for word in dict.fromkeys(readings)]
    score, change = Cell(format_score(values[0])), Cell(format_change(changes[0]))
    if len(values) > 1:
        score = Cell(f"{format_score(min(values))} to {format_score(max(values))}")
        change = Cell(f"{format_change(min(changes))} to {format_change(max(changes))}")
    return [HeadlineRow(count_noun(len(values), "local arm"), "", score, change, ", ".join(counts), None)]


def score_table(results: Results, study: Mapping[str, Any], colours: Mapping[str, str], scopes: Sequence[str]) -> Table:
    """Every measure of every arm, a group of rows a scope."""
    measures = [
        measure
        for measure in all_measures(study["regions"], study["classes"], study["normal_class"])
        if any(results.value(arm, measure, scope) for arm in colours for scope in scopes)
    ]
    groups = []
    for scope in scopes:
        estimates = {arm: [results.value(arm, measure, scope) for measure in measures] for arm in colours}
        present = [next(filter(None, column), None) for column in zip(*estimates.values(), strict=True)]
        counts = [Cell(f"n = {known.num_cases}", known.caveat) if known else Cell(MISSING) for known in present]
        rows = [[Cell("cases"), *counts]]
        for arm, row in estimates.items():
            rows.append([Cell(readable(arm), colour=colours[arm]), *map(_score_cell, row)])
        groups.append(Group(sentence_case(scope) if scope == POOLED_SCOPE else scope, rows))
    return Table("", ["Arm", *(sentence_case(measure.title) for measure in measures)], groups)


def _score_cell(estimate: Estimate | None) -> Cell:
    if estimate is None:
        return Cell(MISSING)
    spread = f"seeds ± {format_score(estimate.seed_sd)}" if math.isfinite(estimate.seed_sd) else ""
    return Cell(format_score(estimate.value), "\n".join(filter(None, (estimate.interval, spread))))


def difference_table(
    results: Results, study: Mapping[str, Any], colours: Mapping[str, str], scopes: Sequence[str]
) -> Table:
    """Paired differences of every arm to the reference arm with their readings."""
    measures = headline_measures(study["regions"], study["classes"])
    groups = []
    for scope in scopes:
        rows = []
        for arm in colours:
            differences = [results.difference(arm, measure, scope) for measure in measures]
            if any(differences):
                cells = [Cell(d.reading, describe_difference(d)) if d else Cell(MISSING) for d in differences]
                rows.append([Cell(readable(arm), colour=colours[arm]), *cells])
        if rows:
            groups.append(Group(sentence_case(scope) if scope == POOLED_SCOPE else scope, rows))
    caption = f"Difference to {readable(study['reference_arm'])}, case by case on the same patients"
    return Table(caption, ["Arm", *(sentence_case(measure.title) for measure in measures)], groups)


def gain_table(results: Results, study: Mapping[str, Any], colours: Mapping[str, str]) -> Table:
    """Every federated arm beside the site's own local arm, on that site's test patients."""
    groups = []
    for measure in headline_measures(study["regions"], study["classes"]):
        rows = []
        for arm in federated_arms(study):
            for site, gain in site_gains(results, study, arm, measure).items():
                joint, alone = (results.value(name, measure, site) for name in (arm, local_arms(study)[site]))
                scores = [Cell(format_score(estimate.value), estimate.interval) for estimate in (joint, alone)]
                name = Cell(readable(arm), colour=colours[arm])
                count = Cell(str(joint.num_cases), joint.caveat)
                rows.append([Cell(site), name, count, *scores, Cell(format_change(gain))])
        if rows:
            groups.append(Group(sentence_case(measure.title), rows))
    columns = ["Site", "Federated arm", "Cases", "Federated", "Its own local arm", "Gain"]
    return Table("What each site gains over its own local arm (differences of means)", columns, groups, (0, 1))
