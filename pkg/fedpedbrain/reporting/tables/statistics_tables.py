"""The report's section on statistics: tests, margins of non-inferiority, spreads, and rules for empty masks."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from fedpedbrain.base.cases import DIAGNOSIS
from fedpedbrain.reporting.figures.style import readable, sentence_case
from fedpedbrain.reporting.numbers import NO_VALUE, count_noun, format_names
from fedpedbrain.reporting.results import (
    Estimate,
    Judgement,
    Measure,
    Results,
    class_measures,
    headline_measures,
    measure_groups,
    metric_title,
)
from fedpedbrain.reporting.tables.tables import Cell, Group, Table
from fedpedbrain.reporting.words.answers import describe_difference, main_arms, scored_names
from fedpedbrain.reporting.words.headlines import describe_margin
from fedpedbrain.study.metric_facts import EMPTY_RULES, METRICS, MetricOrigin

_OF_ALL = Measure(DIAGNOSIS, "accuracy", "")


def format_p_value(value: float) -> str:
    """Three digits after the point, and no smaller number than they can tell."""
    if not math.isfinite(value):
        return NO_VALUE
    return "<\u00a00.001" if value < 0.001 else f"{value:.3f}"


def statistics_part(results: Results, study: Mapping[str, Any], colours: Mapping[str, str]) -> dict[str, Any]:
    """What the section on statistics shows."""
    headline = headline_measures(study)
    shown = {(measure.target, measure.metric) for measure in headline}
    others = [
        measure
        for measures in measure_groups(study).values()
        for measure in measures
        if (measure.target, measure.metric) not in shown
    ]
    return {
        "margin_answers": answer_margins(results, study),
        "tests": test_table(results, study, colours, headline),
        "other_tests": test_table(results, study, colours, others),
        "class_tests": test_table(results, study, colours, measures_of_classes(study["classes"])),
        "disagreement": describe_disagreement(results, study, [*headline, *others]),
        "origins": origin_table(study),
        "empty_rules": {name: EMPTY_RULES[name] for name in results.empty_rules},
    }


def measures_of_classes(classes: Sequence[str]) -> list[Measure]:
    """The measures of every class, each with the class in its title."""
    return [
        replace(measure, title=f"{measure.title} of {readable(name)}")
        for name in classes
        for measure in class_measures(name)
    ]


def origin_table(study: Mapping[str, Any]) -> Table:
    """What computes each metric of the study, and what the project's tests hold it against."""
    measures = [m for group in measure_groups(study).values() for m in group]
    measures += class_measures("") if study["classes"] else []
    names: dict[MetricOrigin, dict[str, str]] = {}
    for measure in measures:
        names.setdefault(METRICS[measure.metric].origin, {})[measure.metric] = metric_title(measure.metric, study)
    rows = [
        [
            Cell(sentence_case(format_names(list(titles.values())))),
            Cell(origin.computed_with),
            Cell(origin.tested_against),
        ]
        for origin, titles in names.items()
    ]
    columns = ["Metric", "Computed with", "Tests of this project hold it against"]
    return Table("Where the metrics come from", columns, [Group("", rows)], (0, 1, 2))


def answer_margins(results: Results, study: Mapping[str, Any]) -> list[str]:
    """One sentence a measure with a margin: which arms are non-inferior to the reference, which not."""
    reference = study["reference_arm"]
    arms = [name for name in main_arms(study) if name != reference]
    sentences = []
    for measure in headline_measures(study):
        margin = study["config"]["evaluation"]["noninferiority_margin"].get(measure.metric)
        if margin is None:
            sentences.append(f"{sentence_case(measure.title)}: the config sets no margin, so nothing is said of it.")
            continue
        answers: dict[str, list[str]] = {}
        for arm in arms:
            difference = results.difference(arm, measure)
            if difference:
                words = describe_margin(results.judgement(arm, measure))
                answers.setdefault(words or _no_answer(difference, margin), []).append(readable(arm))
        parts = [
            f"{format_names(names)} {'is' if len(names) == 1 else 'are'} {words}" for words, names in answers.items()
        ]
        sentences += [f"{sentence_case(measure.title)}: {'; '.join(parts)}."] if parts else []
    return sentences


def describe_disagreement(results: Results, study: Mapping[str, Any], measures: Sequence[Measure]) -> str:
    """Why some intervals exclude 0 where the corrected test finds nothing; "" where none does."""
    significance = 1.0 - study["config"]["evaluation"]["confidence_level"]
    found = {}
    for measure, arm in itertools.product(measures, scored_names(study)):
        difference, judgement = results.difference(arm, measure), results.judgement(arm, measure)
        if difference and judgement and difference.reading in ("lower", "higher") and judgement.p_holm > significance:
            found[f"{measure.title} of {readable(arm)}"] = judgement.p_holm
    if not found:
        return ""
    where = max(found, key=found.__getitem__)
    return (
        f"{count_noun(len(found), 'interval')} {'excludes' if len(found) == 1 else 'exclude'} 0 where the corrected "
        f"test does not reject (largest corrected p {format_p_value(found[where])}: {where}). The interval is of the "
        "mean and not corrected, the test is of ranks: a few patients with large differences move the mean and hardly "
        "the ranks."
    )


def _no_answer(difference: Estimate, margin: float) -> str:
    return f"not judged at the margin of {margin:g} ({difference.reading})"


def test_table(
    results: Results, study: Mapping[str, Any], colours: Mapping[str, str], measures: Sequence[Measure]
) -> Table | None:
    """Differences to the reference with their tests, a group of rows a measure; None where nothing is compared.

    The spread over seeds has a column of its own: the interval over patients does not contain it.
    """
    has_seeds = len(study["seeds"]) > 1
    groups = []
    for measure in measures:
        rows = []
        for arm in colours:
            difference, judgement = results.difference(arm, measure), results.judgement(arm, measure)
            if difference and judgement:
                num_patients = str(difference.num_patients)
                # All patients count in the scores of a class, and those who have it are some of them.
                if measure.target in study["classes"] and (of_all := results.difference(arm, _OF_ALL)):
                    num_patients += f" of {of_all.num_patients}"
                cells = _test_cells(difference, judgement, num_patients, has_seeds)
                rows.append([Cell(readable(arm), colour=colours[arm]), *cells])
        groups += [Group(sentence_case(measure.title), rows)] if rows else []
    columns = ["Arm", "Patients", "Difference, interval over patients", *(["Spread over seeds"] if has_seeds else [])]
    columns += ["p", "p, corrected", "Non-inferior", "Rule for empty masks"]
    caption = f"Differences to {readable(study['reference_arm'])} on all test patients, with their tests"
    return Table(caption, columns, groups, (0, len(columns) - 2, len(columns) - 1)) if groups else None


def _test_cells(difference: Estimate, judgement: Judgement, num_patients: str, has_seeds: bool) -> list[Cell]:
    is_tested = math.isfinite(judgement.p_holm)
    num_arms = f"over {judgement.num_arms} arms" if is_tested and judgement.num_arms > 1 else ""
    margin = f"margin {judgement.margin:g}" if judgement.noninferiority else ""
    return [
        Cell(num_patients),
        Cell(describe_difference(difference), difference.bound or difference.caveat),
        *([Cell(difference.seeds.removeprefix("seeds ") or NO_VALUE)] if has_seeds else []),
        Cell(format_p_value(judgement.p_value)),
        Cell(format_p_value(judgement.p_holm), num_arms),
        Cell(sentence_case(judgement.noninferiority) or NO_VALUE, margin),
        Cell(difference.rule or NO_VALUE),
    ]
