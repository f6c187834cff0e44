"""The study's answer in plain sentences, every number of which comes from the tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedpedbrain.base.cases import EXTERNAL, TEST, TRAIN, VALIDATION
from fedpedbrain.evaluation.tables import POOLED_SCOPE
from fedpedbrain.reporting.figures.style import readable, sentence_case
from fedpedbrain.reporting.numbers import NO_VALUE, count_noun, format_names, format_score
from fedpedbrain.reporting.results import Estimate, Measure, Results, headline_measures

# With more arms than this beside the reference, sentences count arms instead of naming the numbers of each.
MOST_ARMS_ONE_BY_ONE = 4


@dataclass(frozen=True)
class Finding:
    """One paragraph of the answer: a few words on what it is about, and its sentences."""

    topic: str
    text: str


def local_site_of(arm: Mapping[str, Any]) -> str | None:
    """The site of a local arm, None for an arm that learns from several."""
    return arm["sites"][0] if len(arm["sites"]) == 1 else None


def scored_names(study: Mapping[str, Any]) -> list[str]:
    """Whatever is scored: the arms, then models made elsewhere."""
    return [candidate["name"] for candidate in (*study["arms"], *study["candidates"])]


def main_arms(study: Mapping[str, Any]) -> list[str]:
    """The reference arm, then every candidate that is not a local arm; all arms in a study of local ones."""
    reference = study["reference_arm"]
    names = [name for name in scored_names(study) if name != reference]
    local = {arm["name"] for arm in study["arms"] if local_site_of(arm)}
    return [reference, *([name for name in names if name not in local] or names)]


def local_arms(study: Mapping[str, Any]) -> dict[str, str]:
    """Site to its local arm, without those that count as main arms."""
    shown = main_arms(study)
    return {site: arm["name"] for arm in study["arms"] if (site := local_site_of(arm)) and arm["name"] not in shown}


def federated_arms(study: Mapping[str, Any]) -> list[str]:
    """Arms whose participants train apart and exchange weights."""
    return [arm["name"] for arm in study["arms"] if arm["exchanges_weights"]]


def describe_value(estimate: Estimate) -> str:
    """A score with its interval, or why it has none."""
    ends = estimate.interval or (f"({estimate.caveat})" if estimate.caveat else "")
    return f"{estimate.score} {ends}".strip()


def describe_difference(estimate: Estimate) -> str:
    """A paired difference with its interval."""
    return f"{estimate.change} {estimate.change_interval}".strip()


def describe_study(study: Mapping[str, Any], audit: Mapping[str, Any]) -> str:
    """What was compared, and on whom."""
    training = [site for site in audit["sites"] if site["role"] != EXTERNAL]
    external = [site for site in audit["sites"] if site["role"] == EXTERNAL]
    counts = {split: sum(site["splits"].get(split, 0) for site in training) for split in (TRAIN, VALIDATION, TEST)}
    num_patients = sum(site["num_patients"] for site in training)
    num_seeds = len(study["seeds"])
    times = "once (one seed)" if num_seeds == 1 else f"{num_seeds} times (seeds)"
    text = (
        f"{count_noun(len(study['arms']), 'arm')} of one network and one start, "
        f"{count_noun(study['num_rounds'], 'round')} each, trained {times}, "
        f"on {count_noun(num_patients, 'patient')} of {count_noun(len(training), 'site')} "
        f"({format_names([site['site'] for site in training])}): {count_noun(counts[TRAIN], 'case')} to train on, "
        f"{counts[VALIDATION]} to choose the round, {counts[TEST]} to test on. "
        "No patient stands in two of these groups."
    )
    if external:
        num_external = sum(site["num_patients"] for site in external)
        text += (
            f" Apart from these, {count_noun(num_external, 'patient')} of {count_noun(len(external), 'external site')} "
            f"({format_names([site['site'] for site in external])}), where no arm trained."
        )
    return text


def readings_of(
    results: Results, arms: Sequence[str], measure: Measure, scope: str = POOLED_SCOPE
) -> dict[str, list[str]]:
    """What is to be read from the differences to the reference, and of which arms."""
    readings: dict[str, list[str]] = {}
    for arm in arms:
        difference = results.difference(arm, measure, scope)
        if difference is not None:
            readings.setdefault(difference.reading, []).append(arm)
    return dict(sorted(readings.items()))


def _describe_many(results: Results, arms: Sequence[str], measure: Measure, scope: str = POOLED_SCOPE) -> list[str]:
    """Where many arms lie beside the reference, and which of them differ from it."""
    values = {arm: value.value for arm in arms if (value := results.value(arm, measure, scope))}
    if not values:
        return []
    best, worst = max(values, key=values.__getitem__), min(values, key=values.__getitem__)
    readings = readings_of(results, arms, measure, scope)
    words = [f"{reading}: {format_names(list(map(readable, names)))}" for reading, names in readings.items()]
    if len(readings) == 1:
        words = [f"{next(iter(readings))} for all"]
    return [
        f"The {len(values)} other arms go from {format_score(values[worst])} ({_holders(values, worst)}) to "
        f"{format_score(values[best])} ({_holders(values, best)}). Differences to the reference, case by case: "
        f"{'; '.join(words)}."
    ]


def _holders(values: Mapping[str, float], arm: str) -> str:
    """An arm, and how many others have its value."""
    num_others = sum(value == values[arm] for value in values.values()) - 1
    return f"{readable(arm)} and {count_noun(num_others, 'other')}" if num_others else readable(arm)


def find_measure(results: Results, study: Mapping[str, Any], measure: Measure) -> Finding | None:
    """How every arm does on all test patients, by one measure."""
    reference, *others = main_arms(study)
    base = results.value(reference, measure)
    if base is None:
        return None
    name = readable(reference)
    sentences = [f"{sentence_case(name)} reaches {describe_value(base)} on {count_noun(base.num_cases, 'test case')}."]
    is_many = len(others) > MOST_ARMS_ONE_BY_ONE
    sentences += _describe_many(results, others, measure) if is_many else []
    for arm in [] if is_many else others:
        value, difference = results.value(arm, measure), results.difference(arm, measure)
        if value is None or difference is None:
            continue
        part = f", {100 * value.value / base.value:.0f} % of {name}" if base.value > 0 else ""
        sentences.append(
            f"{readable(arm)} reaches {describe_value(value)}{part}; "
            f"case by case the difference is {describe_difference(difference)}: {difference.reading}."
        )
    alone = [value.value for arm in local_arms(study).values() if (value := results.value(arm, measure))]
    if alone:
        scores = format_score(alone[0])
        if len(alone) > 1:
            scores = f"{format_score(min(alone))} to {format_score(max(alone))}"
        sentences.append(f"A site's own local arm, scored on the same patients of all sites, reaches {scores}.")
    return Finding(sentence_case(measure.title), " ".join(sentences))


def site_gains(results: Results, study: Mapping[str, Any], arm: str, measure: Measure) -> dict[str, Estimate]:
    """At each site with a local arm: this arm less the local arm, case by case on that site's test patients."""
    return {site: gain for site in study["training_sites"] if (gain := results.gain(arm, site, measure))}


def find_gains(results: Results, study: Mapping[str, Any]) -> Finding | None:
    """Where a site gains or loses most by taking part, over all federated arms."""
    sentences = []
    for measure in headline_measures(study):
        gains = {
            (arm, site): gain
            for arm in federated_arms(study)
            for site, gain in site_gains(results, study, arm, measure).items()
        }
        if not gains:
            continue
        arms = list(dict.fromkeys(arm for arm, _ in gains))
        who = f"{readable(arms[0])} is" if len(arms) == 1 else f"{len(arms)} federated arms are"
        where = count_noun(len(gains), "site") if len(arms) == 1 else f"{len(gains)} comparisons"
        num_ahead = sum(gain.value > 0 for gain in gains.values())
        ends = [_describe_gain(gains, least(gains, key=lambda key: gains[key].value)) for least in (min, max)]
        span = f"is {ends[0]}" if len(gains) == 1 else f"goes from {ends[0]} to {ends[1]}"
        sentences.append(
            f"In {measure.title}, {who} ahead of a site's own local arm at {num_ahead} of {where}; the difference "
            f"{span}. Intervals show {_describe_sure(gains)}."
        )
    return Finding("What a site gains or loses by taking part", " ".join(sentences)) if sentences else None


def _describe_sure(gains: Mapping[tuple[str, str], Estimate]) -> str:
    """Where intervals lie above or below 0: by name where they are few."""
    sides = {
        "a gain": [key for key, gain in gains.items() if gain.low > 0],
        "a loss": [key for key, gain in gains.items() if gain.high < 0],
    }
    arms = {arm for arm, _ in gains}
    parts = []
    for word, keys in sides.items():
        names = [f"{site} ({readable(arm)})" if len(arms) > 1 else site for arm, site in keys]
        where = format_names(names) if len(names) <= MOST_ARMS_ONE_BY_ONE else f"{len(names)} of {len(gains)}"
        parts.append(f"{word} at {where}" if names else f"{word} nowhere")
    return " and ".join(parts)


def _describe_gain(gains: Mapping[tuple[str, str], Estimate], key: tuple[str, str]) -> str:
    arm, site = key
    arm_in_words = f"{readable(arm)} " if len({name for name, _ in gains}) > 1 else ""
    return f"{describe_difference(gains[key])} ({arm_in_words}at {site}, n = {gains[key].num_patients})"


def find_weak_spots(results: Results, study: Mapping[str, Any]) -> Finding | None:
    """The worst site and the worst recognised class of every main arm; nothing where arms are too many for it."""
    arms = main_arms(study)
    if len(arms) > MOST_ARMS_ONE_BY_ONE + 1:
        return None
    sentences = []
    for measure in headline_measures(study):
        gaps = {arm: gap for arm in arms if (gap := results.gap(arm, measure))}
        parts = [
            f"{gap['worst_site']} {_score_and_count(results, arm, measure, gap['worst_site'])} with {readable(arm)}"
            if gap["gap"] > 0
            else f"none with {readable(arm)}, all alike"
            for arm, gap in gaps.items()
        ]
        if parts:
            sentences.append(f"Worst training site by {measure.title}: {'; '.join(parts)}.")
    if study["classes"]:
        parts = [part for arm in arms if (part := _weakest_class(results, study, arm))]
        sentences += [f"Least recognised class (recall): {'; '.join(parts)}."] if parts else []
    return Finding("Where it is weakest", " ".join(sentences)) if sentences else None


def _score_and_count(results: Results, arm: str, measure: Measure, site: str) -> str:
    value = results.value(arm, measure, site)
    return f"{value.score} of {count_noun(value.num_cases, 'case')}" if value else NO_VALUE


def _weakest_class(results: Results, study: Mapping[str, Any], arm: str) -> str:
    recalls = {name: results.value(arm, Measure(name, "recall", ""), POOLED_SCOPE) for name in study["classes"]}
    known = {name: recall for name, recall in recalls.items() if recall}
    if not known:
        return ""
    worst = min(known, key=lambda name: known[name].value)
    if known[worst].value == 1.0:
        return f"none with {readable(arm)}, all cases of all classes are recognised"
    of = count_noun(known[worst].num_cases, "case")
    return f"{readable(worst)} {known[worst].score} of {of} with {readable(arm)}"


def find_external(results: Results, study: Mapping[str, Any]) -> Finding | None:
    """How the main arms do at sites that none of them has seen."""
    reference, *others = main_arms(study)
    sentences = []
    for site in results.external_sites:
        for measure in headline_measures(study):
            base = results.value(reference, measure, site)
            if base is None:
                continue
            parts = [f"{readable(reference)} {describe_value(base)}"]
            count = count_noun(base.num_cases, "case")
            if len(others) > MOST_ARMS_ONE_BY_ONE:
                many = " ".join(_describe_many(results, others, measure, site))
                sentences.append(f"At {site}, {measure.title} over {count}: {parts[0]}. {many}")
                continue
            for arm in others:
                value, difference = results.value(arm, measure, site), results.difference(arm, measure, site)
                if value and difference:
                    change = f"difference {describe_difference(difference)}: {difference.reading}"
                    parts.append(f"{readable(arm)} {describe_value(value)}, {change}")
            sentences.append(f"At {site}, {measure.title} over {count}: {'; '.join(parts)}.")
    return Finding("External sites", " ".join(sentences)) if sentences else None


def find_all(results: Results, study: Mapping[str, Any]) -> list[Finding]:
    """Every paragraph of the answer that this study has something to say on."""
    measures: Sequence[Measure] = headline_measures(study)
    findings = [find_measure(results, study, measure) for measure in measures]
    findings += [find_weak_spots(results, study), find_gains(results, study), find_external(results, study)]
    return [finding for finding in findings if finding is not None]
