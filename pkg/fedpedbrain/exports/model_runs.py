"""Every model of the study as experiment trackers see it: a run with parameters, values by round, and final scores."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedpedbrain.base.cases import TEST
from fedpedbrain.evaluation.tables import POOLED_SCOPE, read_results
from fedpedbrain.exports.round_values import RoundValue
from fedpedbrain.reporting.results import Estimate, estimates_by_key
from fedpedbrain.reporting.words.arms_in_words import how_it_trains, kind_of, who_trains

ModelKey = tuple[str, int]
# What of an arm is not a setting of it, or is said by another parameter.
_NO_SETTINGS = (
    "name",
    "participants",
    "sites",
    "left_out",
    "phases",
    "keep_optimizer_state",
    "is_repartitioned",
    "exchanges_weights",
    "recipe",
    "strategy_words",
    "weight_words",
)
# Where trackers have what sites' own models score on test patients: it is not the run's model.
_WITH_OWN_MODELS = "test_with_sites_own_models"
# What trackers show at single sites; they have a file for every value.
_AT_SITES = ("dice", "accuracy")


@dataclass(frozen=True)
class ModelScore:
    """One score of one model on patients that nobody trained on.

    Attributes
    ----------
    scope, split : on whom, as in the table of models
    target, metric : what was measured
    estimate : the value with its interval over patients
    """

    scope: str
    split: str
    target: str
    metric: str
    estimate: Estimate

    @property
    def tag(self) -> str:
        """Its name in a tracker: ``test/whole_lesion/dice``, at one site ``external_at_west/diagnosis/accuracy``."""
        where = TEST if self.scope == POOLED_SCOPE else f"{self.split}_at_{self.scope}"
        return f"{where}/{self.target}/{self.metric}"


@dataclass(frozen=True)
class ModelRun:
    """One arm and seed.

    Attributes
    ----------
    arm, seed : which
    words : who trains and how, in sentences
    parameters : settings, by their place in the config; numbers, words and truth values, all else as JSON
    selection : contents of ``selection.json``: the round that was chosen, and where the model comes from
    values : what is known of its rounds
    scores : of the chosen model
    own_model_scores : of a personal arm, those of its sites' own models, each on its site's test patients
    """

    arm: str
    seed: int
    words: str
    parameters: Mapping[str, Any]
    selection: Mapping[str, Any]
    values: Sequence[RoundValue]
    scores: Sequence[ModelScore]
    own_model_scores: Sequence[ModelScore] = ()

    @property
    def final_values(self) -> dict[str, float]:
        """Final scores by tag: all of them on all test patients, with the ends of intervals; a few at each site."""
        tags = [(score.tag, score) for score in self.scores]
        tags += [(score.tag.replace(TEST, _WITH_OWN_MODELS, 1), score) for score in self.own_model_scores]
        values = {}
        for tag, score in tags:
            is_pooled = score.scope == POOLED_SCOPE
            if is_pooled or score.metric in _AT_SITES:
                values[tag] = score.estimate.value
            if is_pooled and score.estimate.has_interval:
                values |= {f"{tag}_low": score.estimate.low, f"{tag}_high": score.estimate.high}
        return values


def load_model_scores(path: str | Path) -> dict[ModelKey, list[ModelScore]]:
    """Read the table of models; what could not be measured is left out."""
    keys = ("arm", "seed", "scope", "split", "target", "metric")
    scores: dict[ModelKey, list[ModelScore]] = {}
    for (arm, seed, *place), estimate in estimates_by_key(read_results(path), "value", keys).items():
        if estimate.is_known:
            scores.setdefault((arm, int(seed)), []).append(ModelScore(*place, estimate))
    return scores


def load_selections(paths: Sequence[str | Path]) -> dict[ModelKey, dict[str, Any]]:
    """Read which round of each arm and seed was chosen."""
    selections = [json.loads(Path(path).read_text(encoding="utf-8")) for path in paths]
    return {(selection["arm"], selection["seed"]): selection for selection in selections}


def build_runs(
    study: Mapping[str, Any],
    selections: Mapping[ModelKey, Mapping[str, Any]],
    values: Sequence[RoundValue],
    scores: Mapping[ModelKey, Sequence[ModelScore]],
) -> list[ModelRun]:
    """A run for every arm and seed, in the order of the config."""
    values_of: dict[ModelKey, list[RoundValue]] = {}
    for value in values:
        values_of.setdefault((value.arm, value.seed), []).append(value)
    return [
        ModelRun(
            arm["name"],
            seed,
            f"{who_trains(arm, study)}. {how_it_trains(arm)}",
            run_parameters(arm, seed, study),
            selections[arm["name"], seed],
            values_of.get((arm["name"], seed), []),
            *_by_model(arm, scores.get((arm["name"], seed), [])),
        )
        for arm in study["arms"]
        for seed in study["seeds"]
    ]


def _by_model(arm: Mapping[str, Any], scores: Sequence[ModelScore]) -> tuple[list[ModelScore], list[ModelScore]]:
    """Scores of the arm's chosen model, and those of its sites' own models; sites that it left out have none."""
    places = (POOLED_SCOPE, *arm["sites"]) if arm["is_personal"] else ()
    common: list[ModelScore] = []
    own: list[ModelScore] = []
    for score in scores:
        (own if score.split == TEST and score.scope in places else common).append(score)
    return common, own


def run_parameters(arm: Mapping[str, Any], seed: int, study: Mapping[str, Any]) -> dict[str, Any]:
    """What decides a run: the arm's settings, then those that all arms share."""
    config = study["config"]
    intensity = config["preprocessing"]["intensity"]
    chosen = intensity["name"]
    shared = {
        "network": arm["network"],
        "training": arm["training"],
        # Values that are taken as they are have no options.
        "preprocessing": config["preprocessing"] | {"intensity": {"name": chosen, chosen: intensity.get(chosen, {})}},
    }
    settings = {key: value for key, value in arm.items() if key not in _NO_SETTINGS}
    # A phase's sites, many in a large study, are named by the words.
    settings["phases"] = [{key: value for key, value in phase.items() if key != "sites"} for phase in arm["phases"]]
    who = {"arm": arm["name"], "seed": seed, "kind": kind_of(arm), "sites": ", ".join(arm["sites"])}
    return who | {"rounds": study["num_rounds"]} | dict(flat(settings | shared))


def flat(settings: Mapping[str, Any], place: str = "") -> Iterator[tuple[str, Any]]:
    """Settings by their dotted place; lists and what is not set as JSON, blocks without entries not at all."""
    for key, value in settings.items():
        inner = f"{place}.{key}" if place else key
        if isinstance(value, Mapping):
            yield from flat(value, inner)
        else:
            yield inner, value if isinstance(value, str | bool | int | float) else json.dumps(value)
