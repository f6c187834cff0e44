"""Tables of the report that hold scores: the headline, every measure, and differences."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fedpedbrain.evaluation.significance import NOT_SHOWN
from fedpedbrain.evaluation.tables import POOLED_SCOPE
from fedpedbrain.reporting.figures.style import readable, sentence_case
from fedpedbrain.reporting.numbers import NO_VALUE, count_noun, format_change, format_score
from fedpedbrain.reporting.results import (
    TOO_FEW_PATIENTS,
    Estimate,
    Judgement,
    Measure,
    Results,
    class_measures,
    headline_measures,
)
from fedpedbrain.reporting.tables.tables import Cell, Group, Table, detail_lines
from fedpedbrain.reporting.words.answers import describe_difference, local_arms, main_arms
from fedpedbrain.reporting.words.arms_in_words import arms_of_other_recipes
from fedpedbrain.study.metric_facts import METRICS


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
    reading: Cell
    strip: Strip | None


@dataclass(frozen=True)
class HeadlineGroup:
    """One measure of the headline table; its strips go from -limit to +limit.

    Attributes
    ----------
    margin_place : where minus the margin of non-inferiority lies, in percent of a strip; None without a margin
    """

    title: str
    limit: float
    margin_place: float | None
    rows: list[HeadlineRow]


def headline_table(results: Results, study: Mapping[str, Any], colours: Mapping[str, str]) -> list[HeadlineGroup]:
    """Main arms one by one and local arms together, measure by measure, on all test patients."""
    groups, across = [], arms_of_other_recipes(study)
    for measure in headline_measures(study):
        differences = {arm: results.difference(arm, measure) for arm in main_arms(study)}
        ends = [abs(end) for d in differences.values() if d for end in (d.value, d.low, d.high) if math.isfinite(end)]
        margin = study["config"]["evaluation"]["noninferiority_margin"].get(measure.metric)
        limit = max(0.05, math.ceil(20.0 * max([*ends, margin or 0.0])) / 20.0)
        rows = []
        for arm, difference in differences.items():
            value = results.value(arm, measure)
            if value is not None:
                row = _headline_row(arm, colours[arm], value, difference, results.judgement(arm, measure), limit)
                rows.append(_marked(row) if arm in across else row)
        alone = _local_row(results, study, measure)
        if rows:
            first = results.value(rows[0].arm, measure)
            title = f"{sentence_case(measure.title)}, {count_noun(first.num_cases, 'test case')}"
            place = None if margin is None else 50.0 - 50.0 * margin / limit
            groups.append(HeadlineGroup(title, limit, place, [*rows, *alone]))
    return groups


def _marked(row: HeadlineRow) -> HeadlineRow:
    """A row whose difference is across recipes says so."""
    return replace(row, reading=replace(row.reading, detail=detail_lines(row.reading.detail, "across recipes")))


def _headline_row(
    arm: str,
    colour: str,
    value: Estimate,
    difference: Estimate | None,
    judgement: Judgement | None,
    limit: float,
) -> HeadlineRow:
    score = Cell(value.score, detail_lines(value.interval or value.caveat, value.seeds, value.rule))
    if difference is None:
        return HeadlineRow(arm, colour, score, Cell(NO_VALUE), Cell("reference"), None)
    strip = None
    if difference.has_interval:
        strip = Strip(*(50.0 + 50.0 * end / limit for end in (difference.low, difference.high, difference.value)))
    change = Cell(difference.change, detail_lines(difference.change_interval, difference.seeds))
    verdict = judgement.noninferiority if judgement else ""
    of_margin = f"non-inferiority {verdict}" if verdict == NOT_SHOWN else verdict
    reading = Cell(difference.short_reading, detail_lines(difference.bound, of_margin))
    return HeadlineRow(arm, colour, score, change, reading, strip)


def _local_row(results: Results, study: Mapping[str, Any], measure: Measure) -> list[HeadlineRow]:
    arms = list(local_arms(study).values())
    values = [value.value for arm in arms if (value := results.value(arm, measure))]
    differences = [difference for arm in arms if (difference := results.difference(arm, measure))]
    if not values or not differences:
        return []
    changes = [difference.value for difference in differences]
    readings = [difference.short_reading for difference in differences]
    counts = [f"{word} ({readings.count(word)})" for word in dict.fromkeys(readings)]
    score, change = Cell(format_score(values[0])), Cell(format_change(changes[0]))
    if len(values) > 1:
        score = Cell(f"{format_score(min(values))} to {format_score(max(values))}")
        change = Cell(f"{format_change(min(changes))} to {format_change(max(changes))}")
    return [HeadlineRow(count_noun(len(values), "local arm"), "", score, change, Cell(", ".join(counts)), None)]


def score_table(
    results: Results,
    colours: Mapping[str, str],
    scopes: Sequence[str],
    measures: Sequence[Measure],
    caption: str = "",
) -> Table | None:
    """Some measures of every arm, a group of rows a scope; None where none of them was measured there."""
    measures = [m for m in measures if any(results.value(arm, m, scope) for arm in colours for scope in scopes)]
    if not measures:
        return None
    groups = []
    for scope in scopes:
        estimates = {arm: [results.value(arm, measure, scope) for measure in measures] for arm in colours}
        present = [next(filter(None, column), None) for column in zip(*estimates.values(), strict=True)]
        with_cases = "{} of {} classes".format(*results.classes_with_cases(scope))
        columns = zip(measures, zip(*estimates.values(), strict=True), strict=True)
        counts = [_count_cell(column, with_cases if METRICS[m.metric].mean_of else "") for m, column in columns]
        if any(present):
            rows = [
                [Cell(readable(arm), colour=colours[arm]), *map(_score_cell, row)] for arm, row in estimates.items()
            ]
            heading = "" if scope == POOLED_SCOPE else scope
            groups.append(Group(heading, [[Cell("cases"), *counts], *rows]))
    return Table(caption, ["Arm", *(sentence_case(measure.title) for measure in measures)], groups)


def class_table(
    results: Results, study: Mapping[str, Any], colours: Mapping[str, str], scopes: Sequence[str], where: str
) -> Table | None:
    """Scores of each class against the rest, a group of rows a scope and class; None where nothing is diagnosed."""
    groups = []
    for scope, name in itertools.product(scopes, study["classes"]):
        scores = {arm: [results.value(arm, measure, scope) for measure in class_measures(name)] for arm in colours}
        known = next((estimate for row in scores.values() for estimate in row if estimate), None)
        if known:
            place = "" if scope == POOLED_SCOPE else f"{scope}: "
            title = f"{place}{readable(name)}, {count_noun(known.num_cases, 'case')}"
            groups.append(Group(title, _score_rows(scores, colours)))
    columns = ["Arm", *(sentence_case(measure.title) for measure in class_measures(""))]
    return Table(f"Each class against the rest, {where}", columns, groups) if groups else None


def _count_cell(column: Sequence[Estimate | None], classes: str) -> Cell:
    """How many cases a column's scores are of (the most, where a rule leaves out others with each arm), and classes."""
    known = [estimate for estimate in column if estimate]
    if not known:
        return Cell(NO_VALUE)
    largest = max(known, key=lambda estimate: estimate.num_cases)
    few = TOO_FEW_PATIENTS if largest.caveat == TOO_FEW_PATIENTS else ""
    return Cell(f"n = {largest.num_cases}", detail_lines(classes, few))


def _score_rows(estimates: Mapping[str, Sequence[Estimate | None]], colours: Mapping[str, str]) -> list[list[Cell]]:
    return [[Cell(readable(arm), colour=colours[arm]), *map(_score_cell, row)] for arm, row in estimates.items()]


def _score_cell(estimate: Estimate | None) -> Cell:
    if estimate is None:
        return Cell(NO_VALUE)
    return Cell(estimate.score, detail_lines(estimate.interval, estimate.seeds, estimate.rule))


def difference_table(
    results: Results, study: Mapping[str, Any], colours: Mapping[str, str], scopes: Sequence[str]
) -> Table:
    """Paired differences of every arm to the reference arm with their readings."""
    measures = headline_measures(study)
    groups = []
    for scope in scopes:
        rows = []
        for arm in colours:
            differences = [results.difference(arm, measure, scope) for measure in measures]
            if any(differences):
                cells = list(map(_difference_cell, differences))
                rows.append([Cell(readable(arm), colour=colours[arm]), *cells])
        if rows:
            groups.append(Group(sentence_case(scope) if scope == POOLED_SCOPE else scope, rows))
    caption = f"Difference to {readable(study['reference_arm'])}, case by case on the same patients"
    return Table(caption, ["Arm", *(sentence_case(measure.title) for measure in measures)], groups)


def _difference_cell(difference: Estimate | None) -> Cell:
    if difference is None:
        return Cell(NO_VALUE)
    numbers = (describe_difference(difference), difference.bound, difference.seeds, difference.rule)
    return Cell(difference.short_reading, detail_lines(*numbers))
