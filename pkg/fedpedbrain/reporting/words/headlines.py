"""The first lines of a report: what each arm's differences to the reference say, overall and site by site."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedpedbrain.evaluation.significance import INFERIOR, NON_INFERIOR, NOT_SHOWN
from fedpedbrain.reporting.figures.style import readable, sentence_case
from fedpedbrain.reporting.numbers import format_names
from fedpedbrain.reporting.results import Estimate, Judgement, Measure, Results, headline_measures
from fedpedbrain.reporting.words.answers import (
    MOST_ARMS_ONE_BY_ONE,
    describe_difference,
    describe_value,
    main_arms,
    readings_of,
)


@dataclass(frozen=True)
class Verdict:
    """What one measure says: the measure, what is to be read from it, and the numbers behind (or "")."""

    subject: str
    reading: str
    numbers: str


@dataclass(frozen=True)
class Headline:
    """One arm's answer: who is compared with whom, and a verdict a measure."""

    opening: str
    verdicts: tuple[Verdict, ...]


def describe_margin(judgement: Judgement | None) -> str:
    """What is said of non-inferiority, "" where the config sets no margin or there is no interval."""
    if judgement is None or not judgement.noninferiority:
        return ""
    margin = f"at the margin of {judgement.margin:g}"
    return {
        NON_INFERIOR: f"non-inferior {margin}",
        INFERIOR: f"inferior, worse by more than the margin of {judgement.margin:g}",
        NOT_SHOWN: f"not shown to be non-inferior {margin}",
    }[judgement.noninferiority]


def headlines(results: Results, study: Mapping[str, Any]) -> list[Headline]:
    """The answer at its shortest: every main arm beside the reference."""
    measures = headline_measures(study)
    reference, *others = main_arms(study)
    if not others:
        scores = [(measure, results.value(reference, measure)) for measure in measures]
        parts = [Verdict(sentence_case(measure.title), describe_value(value), "") for measure, value in scores if value]
        return [Headline(f"Only one arm, {readable(reference)}, was trained: nothing is compared.", tuple(parts))]
    if len(others) > MOST_ARMS_ONE_BY_ONE:
        counted = [(measure, _answers(results, others, measure)) for measure in measures]
        verdicts = [Verdict(sentence_case(measure.title), _counts(arms), "") for measure, arms in counted if arms]
        return [Headline(f"{len(others)} arms against {readable(reference)}.", tuple(verdicts))]
    lines = []
    for arm in others:
        parts = [
            _verdict(measure, difference, results.judgement(arm, measure))
            for measure in measures
            if (difference := results.difference(arm, measure))
        ]
        if parts:
            lines.append(Headline(f"{readable(arm)} against {readable(reference)}.", tuple(parts)))
    return lines


def places(results: Results, study: Mapping[str, Any]) -> list[str]:
    """For every arm beside the reference: what is to be read at each site, and where nobody trained.

    Nothing where arms are too many for a sentence each.
    """
    reference, *others = main_arms(study)
    if len(others) > MOST_ARMS_ONE_BY_ONE:
        return []
    measures = headline_measures(study)
    kinds = {"At training sites": results.test_sites, "At sites where nobody trained": results.external_sites}
    sentences = []
    for arm in others:
        for words, sites in kinds.items():
            with_scores = sites == results.external_sites
            found = filter(None, (_place(results, arm, measure, sites, with_scores) for measure in measures))
            if parts := " ".join(found):
                sentences.append(f"{words}, {readable(arm)} against {readable(reference)}. {parts}")
    return sentences


def _place(results: Results, arm: str, measure: Measure, sites: Sequence[str], with_scores: bool) -> str:
    """What one measure's differences say of some sites, each with its numbers.

    Parameters
    ----------
    with_scores : name the scores of both arms, too
    """
    by_reading: dict[str, list[str]] = {}
    for site in sites:
        difference = results.difference(arm, measure, site)
        if difference:
            numbers = describe_difference(difference) if difference.has_interval else ""
            value = results.value(arm, measure, site)
            scored = f"{readable(arm)} {value.score}" if with_scores and value else ""
            inside = ", ".join(filter(None, (_with_count(numbers, difference), scored)))
            reading = place_reading(difference, results.judgement(arm, measure, site))
            by_reading.setdefault(reading, []).append(f"{site} ({inside})")
    parts = [f"{reading} at {format_names(names)}" for reading, names in by_reading.items()]
    return f"{sentence_case(measure.title)}: {'; '.join(parts)}." if parts else ""


def place_reading(difference: Estimate, judgement: Judgement | None) -> str:
    """What is to be read at a site: of the margin where the config sets one, since no difference shown is none."""
    if difference.is_same:
        return "the same in all patients"
    of_margin = judgement.noninferiority if judgement else ""
    if not of_margin:
        return difference.reading
    words = {NOT_SHOWN: "non-inferiority not shown"}.get(of_margin, of_margin)
    return f"{difference.reading}, {words}" if difference.reading in ("lower", "higher") else words


def _with_count(numbers: str, difference: Estimate) -> str:
    """Numbers and how many patients they stand on."""
    return ", ".join(filter(None, (numbers, f"n = {difference.num_patients}")))


def _verdict(measure: Measure, difference: Estimate, judgement: Judgement | None) -> Verdict:
    """What is to be read first, of the margin where the config sets one; then the numbers that it stands on."""
    by = f" by {difference.change[1:]}" if difference.reading in ("higher", "lower") else ""
    of_margin = describe_margin(judgement)
    reading = difference.reading + by if by or not of_margin else ""
    numbers = _with_count(difference.change_interval if by else describe_difference(difference), difference)
    return Verdict(sentence_case(measure.title), ", ".join(filter(None, (reading, of_margin))), numbers)


def _answers(results: Results, arms: Sequence[str], measure: Measure) -> dict[str, list[str]]:
    """What is to be said of the margin, of which arms; their readings where the config sets none."""
    answers: dict[str, list[str]] = {}
    for arm in arms:
        of_margin = describe_margin(results.judgement(arm, measure))
        if of_margin:
            answers.setdefault(of_margin, []).append(arm)
    return dict(sorted(answers.items())) or readings_of(results, arms, measure)


def _counts(readings: Mapping[str, Sequence[str]]) -> str:
    if len(readings) == 1:
        return f"{next(iter(readings))} for all"
    return ", ".join(f"{reading} for {len(arms)}" for reading, arms in readings.items())
