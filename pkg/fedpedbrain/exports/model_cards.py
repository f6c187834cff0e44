"""Model cards in the Hugging Face form, every number of which comes from the study's tables."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import jinja2
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from fedpedbrain.base.cases import EXTERNAL, TEST, TRAIN, VALIDATION
from fedpedbrain.evaluation.tables import POOLED_SCOPE
from fedpedbrain.exports.model_runs import ModelRun, ModelScore
from fedpedbrain.reporting.figures.style import readable, sentence_case
from fedpedbrain.reporting.numbers import NO_VALUE, format_names
from fedpedbrain.reporting.results import Estimate, Measure, headline_measures, measure_groups
from fedpedbrain.reporting.words.answers import describe_value
from fedpedbrain.reporting.words.arms_in_words import weight_in_words
from fedpedbrain.reporting.words.reading_notes import describe_geometry, grid_in_words
from fedpedbrain.reporting.words.source_notes import SOURCE_NOTES
from fedpedbrain.study.metric_facts import GROUP_METRICS

# As the hub names them, by whether a study has regions.
_TASKS = {True: "image-segmentation", False: "image-classification"}
_GRID = "grid (feet to head, front to back, right to left)"
# Settings that a card names, by their place in the config and what they are called there.
_SETTINGS = {
    "network.name": "network",
    "preprocessing.grid": _GRID,
    "training.epochs_per_round": "epochs a round",
    "training.batch_size": "batch size",
    "training.optimizer.name": "optimizer",
    "training.optimizer.learning_rate": "learning rate",
    "training.schedule.name": "schedule",
    "optimizer_state": "optimizer state after a round",
}
_OUTLINE_SETTINGS = {"training.loss.segmentation": "loss of the outlines"}
_DIAGNOSIS_SETTINGS = {"training.loss.classification": "loss of the diagnosis"}
SeedsKey = tuple[str, str, str, str]


@dataclass(frozen=True)
class CardFacts:
    """What the cards of a study are made of, beside what each model has of its own.

    Attributes
    ----------
    study : ``Study.export_description`` and ``versions`` (name to version)
    audit : audit of the cohort
    over_seeds : means over all seeds, by arm, scope, target and metric
    privacy : what noise is worth, by arm and seed, for those that have any
    """

    study: Mapping[str, Any]
    audit: Mapping[str, Any]
    over_seeds: Mapping[SeedsKey, Estimate]
    privacy: Mapping[tuple[str, int], Mapping[str, Any]]


def build_card(run: ModelRun, facts: CardFacts) -> ModelCard:
    """The card of one model.

    Raises
    ------
    ValueError : the library cannot make sense of the card's metadata
    """
    study = facts.study
    arm = next(arm for arm in study["arms"] if arm["name"] == run.arm)
    names = _SETTINGS | (_OUTLINE_SETTINGS if study["regions"] else {})
    names |= _DIAGNOSIS_SETTINGS if study["classes"] else {}
    content = {
        "run": run,
        "arm": arm,
        "study": study,
        "name": _name(run),
        "source_note": SOURCE_NOTES.get(study["source"], ""),
        "settings": {words: run.parameters[place] for place, words in names.items()}
        | {_GRID: grid_in_words(study["config"]["preprocessing"])},
        "geometry_note": describe_geometry(study),
        "weight": weight_in_words(arm),
        "sites": _site_rows(arm, facts.audit),
        "classes": _class_counts(arm, study["classes"], facts.audit),
        "score_rows": list(_score_rows(run.scores, run.arm, facts)),
        "privacy": facts.privacy.get((run.arm, run.seed)),
        "group_measures": format_names(_group_measures(study)),
        "level": f"{100 * study['config']['evaluation']['confidence_level']:g} %",
    }
    body = _environment().get_template("model_card.md.j2").render(content)
    return ModelCard(f"---\n{_metadata(run, study).to_yaml()}\n---\n\n{body}")


def _name(run: ModelRun) -> str:
    return f"{readable(run.arm)}, seed {run.seed}"


def _environment() -> jinja2.Environment:
    """What renders the card: Markdown, so that free text alone is escaped; a name without a value is an error."""
    folder = resources.files("fedpedbrain.exports") / "templates"
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: (folder / name).read_text(encoding="utf-8")),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"readable": readable, "sentence_case": sentence_case, "literal": _literal}
    return environment


def _literal(text: str) -> str:
    """Text in a line of Markdown that shows as it is, HTML too (https://spec.commonmark.org/0.31.2/#backslash-escapes)."""
    return re.sub(r"([\\`*_\[\]<>&#|~$])", r"\\\1", text)


def _metadata(run: ModelRun, study: Mapping[str, Any]) -> ModelCardData:
    """What the hub reads. Without a licence: which one weights have, those decide who publish them."""
    hub_data = study["config"]["flpedbrain"]["repository"] if study["source"] == "flpedbrain" else None
    measures = headline_measures(study)
    results = [
        _eval_result(score, measure, study, hub_data or study["source"])
        for measure in measures
        for score in run.scores
        if _is_of(score, measure) and (score.scope == POOLED_SCOPE or score.split == EXTERNAL)
    ]
    words = [study["anatomy"][name].lower().replace(" ", "-") for name in ("organ", "finding")]
    tags = ["federated-learning", "medical-imaging", "mri", *words]
    return ModelCardData(
        model_name=f"{study['title']}: {_name(run)}",
        library_name="fedpedbrain",
        pipeline_tag=_TASKS[bool(study["regions"])],
        tags=[*tags, "simulated-data"] if study["source"] == "phantom" else tags,
        datasets=[hub_data] if hub_data else None,
        metrics=list(dict.fromkeys(measure.metric for measure in measures)),
        eval_results=results or None,
    )


def _is_of(score: ModelScore, measure: Measure) -> bool:
    return (score.target, score.metric) == (measure.target, measure.metric)


def _eval_result(score: ModelScore, measure: Measure, study: Mapping[str, Any], data: str) -> EvalResult:
    # Of all arms the same patients, also where the model learnt from some of these sites alone.
    tested = f"test patients of {format_names(study['training_sites'])}"
    where = tested if score.scope == POOLED_SCOPE else f"external site {score.scope}"
    return EvalResult(
        task_type=_TASKS[measure.target in study["regions"]],
        dataset_type=data,
        dataset_name=f"{study['title']}: {where}",
        dataset_config=score.scope,
        dataset_split=score.split,
        metric_type=score.metric,
        metric_name=sentence_case(measure.title),
        metric_value=score.estimate.value,
    )


def _site_rows(arm: Mapping[str, Any], audit: Mapping[str, Any]) -> list[list[Any]]:
    """Numbers of patients and cases of every site, and what the site is to this model."""
    rows = []
    for site in audit["sites"]:
        splits, is_own = site["splits"], site["site"] in arm["sites"]
        # Of other arms' training cases at a site this model knows nothing.
        known = [splits[TRAIN], splits[VALIDATION]] if is_own else [NO_VALUE, NO_VALUE]
        role = "trained on" if is_own else "never seen in training"
        rows.append([site["site"], role, site["num_patients"], *known, splits[TEST] + splits[EXTERNAL]])
    return rows


def _class_counts(arm: Mapping[str, Any], classes: Sequence[str], audit: Mapping[str, Any]) -> dict[str, int]:
    """Cases of each class over all sites that the model learnt from; small numbers of single sites are not told."""
    sites = [site["classes"] for site in audit["sites"] if site["site"] in arm["sites"]]
    return {name: sum(site.get(name, 0) for site in sites) for name in classes}


def _group_measures(study: Mapping[str, Any]) -> list[str]:
    """What the measures of a group of cases are called that the table of scores can have."""
    groups = measure_groups(study)
    return [measure.title for group in groups.values() for measure in group if measure.metric in GROUP_METRICS]


def _score_rows(scores: Sequence[ModelScore], arm: str, facts: CardFacts) -> Iterator[tuple[str, ...]]:
    """Rows of the table of scores: headline measures everywhere, all others on all test patients together."""
    study = facts.study
    headline = headline_measures(study)
    groups = measure_groups(study)
    known = {(measure.target, measure.metric) for measure in headline}
    others = [
        measure for group in groups.values() for measure in group if (measure.target, measure.metric) not in known
    ]
    for measure in [*headline, *others]:
        for score in scores:
            if _is_of(score, measure) and (measure in headline or score.scope == POOLED_SCOPE):
                estimate = score.estimate
                mean = facts.over_seeds.get((arm, score.scope, score.target, score.metric))
                over_seeds = f"{mean.score} ({mean.seeds})" if mean and mean.seeds else ""
                where = score.scope if score.scope == POOLED_SCOPE else f"{score.scope} ({score.split})"
                yield (
                    sentence_case(measure.title),
                    where,
                    str(estimate.num_cases),
                    str(estimate.num_patients),
                    describe_value(estimate),
                    over_seeds,
                )
