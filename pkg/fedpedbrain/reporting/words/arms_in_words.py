"""What each arm is, in words: who trains, what a round does, in which form updates travel and what protects them."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fedpedbrain.reporting.figures.style import readable, sentence_case
from fedpedbrain.reporting.numbers import NO_VALUE, format_names
from fedpedbrain.reporting.tables.tables import Cell, Group, Table

ArmValues = Mapping[str, Any]
StudyValues = Mapping[str, Any]

_BATCH_NORM = {
    "average": "",
    "local": "Statistics of batch normalisation stay at their site.",
    "frozen": "Statistics of batch normalisation stay as they were at the start.",
}
_BITS = {
    "float32": "in 32 bits",
    "bfloat16": "in 16 bits (bfloat16)",
    "float16": "in 16 bits (float16)",
    "int8": "in 8 bits (int8)",
}
_CONTENT = {"weights": "whole weights", "difference": "differences to the round's start"}
_WEIGHTINGS = {
    "cases": "by its number of training cases",
    "steps": "by its number of optimizer steps",
    "uniform": "all alike",
}
PERSONAL_NOTE = (
    "Test patients of a site are scored with that site's own model, external ones and those of a site without one with "
    "the common model."
)


def kind_of(arm: ArmValues) -> str:
    """``federated``, ``control`` (federated, cases shared out at random), ``pooled`` or ``local``."""
    if arm["exchanges_weights"]:
        return "control" if arm["is_repartitioned"] else "federated"
    return "pooled" if len(arm["sites"]) > 1 else "local"


def sites_left_out(arm: ArmValues, study: StudyValues) -> list[str]:
    """Training sites that a federated arm never hears of."""
    return [site for site in study["training_sites"] if site not in arm["sites"]] if kind_of(arm) == "federated" else []


def strategy_of(arm: ArmValues) -> str:
    """The strategy's name and what it does."""
    strategy = arm["strategy"]
    return f"{sentence_case(readable(strategy['name']))}: {arm['strategy_words']}"


def who_trains(arm: ArmValues, study: StudyValues) -> str:
    """Whose cases the arm learns from, and where these lie."""
    sites, left_out = format_names(arm["sites"]), sites_left_out(arm, study)
    if left_out:
        return f"Federated without {format_names(left_out)}: {sites} train apart"
    return {
        "federated": f"Federated: {sites} train apart",
        "control": f"Control: the cases of {sites} shared out at random, as many to each as it has; they train apart",
        "pooled": f"Pooled: the images of {sites} in one place",
        "local": f"Local: {sites} alone",
    }[kind_of(arm)]


def how_it_trains(arm: ArmValues) -> str:
    """What happens in a round, in sentences; what goes without saying is not said."""
    recipe = recipe_in_words(arm)
    if not arm["exchanges_weights"]:
        parts = ["No exchange.", recipe, _BATCH_NORM[arm["batch_norm"]], *_privacy(arm["privacy"])]
        return " ".join(filter(None, parts))
    parts = [f"{strategy_of(arm)}.", recipe, _BATCH_NORM[arm["batch_norm"]], _exchange(arm["exchange"])]
    parts += [*_phases(arm), *_participation(arm), *_privacy(arm["privacy"])]
    if arm["is_personal"]:
        parts.append(PERSONAL_NOTE)
    return " ".join(filter(None, parts))


def recipe_in_words(arm: ArmValues) -> str:
    """What of the arm's training and network is not the study's; "" where nothing is."""
    own = [f"{place} {_value_in_words(value)}" for place, value in arm["recipe"].items()]
    return f"A recipe of its own: {', '.join(own)}." if own else ""


def _value_in_words(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def arms_of_other_recipes(study: StudyValues) -> list[str]:
    """Arms whose training or network is not the reference arm's."""
    reference = next(arm for arm in study["arms"] if arm["name"] == study["reference_arm"])
    return [arm["name"] for arm in study["arms"] if arm["recipe"] != reference["recipe"]]


def describe_recipes(study: StudyValues) -> str:
    """Which arms a difference to the reference compares across recipes, too; "" where there are none."""
    others = format_names(list(map(readable, arms_of_other_recipes(study))))
    if not others:
        return ""
    return (
        f"Across recipes: training or network of {others} differ from those of {readable(study['reference_arm'])} (see "
        "the arms of the study), so that such a difference is not one of who trains alone."
    )


def _exchange(exchange: Mapping[str, Any]) -> str:
    if exchange["dtype"] == "float32" and exchange["content"] == "weights":
        return ""
    feedback = ", adding what rounding took from the update before" if exchange["error_feedback"] else ""
    return f"Sites send {_CONTENT[exchange['content']]} {_BITS[exchange['dtype']]}{feedback}."


def rounds_in_words(numbers: Iterable[int]) -> str:
    """Numbers of rounds, runs of them joined: ``round 2``, ``rounds 1 to 3 and 7``."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    words = [text for run in runs for text in ([f"{run[0]} to {run[-1]}"] if len(run) > 2 else list(map(str, run)))]
    return f"{'round' if words == [words[0]] and words[0].isdigit() else 'rounds'} {format_names(words)}"


def _phases(arm: ArmValues) -> list[str]:
    """One sentence a phase; none where there is one of all sites at the study's learning rate."""
    sentences = []
    everyone = sorted(arm["participants"])
    for phase in arm["phases"]:
        first, last = phase["first_round"], phase["last_round"]
        when = f"From round {first} on" if last is None else sentence_case(rounds_in_words(range(first, last + 1)))
        who = "all sites" if sorted(phase["sites"]) == everyone else format_names(sorted(phase["sites"]))
        rate = "" if phase["learning_rate"] is None else f", learning rate {phase['learning_rate']:g}"
        start = ", going on from the best round before" if phase["start"] == "best" and first > 1 else ""
        sentences.append(f"{when}: {who}{rate}{start}.")
    is_plain = len(sentences) == 1 and sentences[0] == "From round 1 on: all sites."
    return [] if is_plain else sentences


def _participation(arm: ArmValues) -> list[str]:
    participation, sentences = arm["participation"], []
    if participation["fraction"] < 1.0:
        least = f", at least {participation['minimum_sites']}" if participation["minimum_sites"] > 1 else ""
        sentences.append(f"In each round {100 * participation['fraction']:.0f} % of the sites{least}, drawn at random.")
    sentences += [
        f"Absent: {site} in {rounds_in_words(rounds)}." for site, rounds in sorted(participation["absent"].items())
    ]
    if participation["allow_missing_sites"]:
        sentences.append("A round goes on without a site whose training fails.")
    return sentences


def _privacy(privacy: Mapping[str, Any]) -> list[str]:
    sentences, of_cases = [], privacy["example_level"]
    if privacy["clip_norm"] is not None:
        sentences.append(f"Differences are shortened to a length of {privacy['clip_norm']:g}.")
    if privacy["noise_multiplier"] > 0:
        sentences.append(f"The server adds noise to the average (multiplier {privacy['noise_multiplier']:g}).")
    if privacy["secure_sum"]:
        sentences.append("Secure sum: updates are masked, so that the server can read only their sum.")
    if of_cases["noise_multiplier"] > 0:
        sentences.append(
            f"DP-SGD: the gradient of every case is shortened to {of_cases['clip_norm']:g}, with noise "
            f"(multiplier {of_cases['noise_multiplier']:g})."
        )
    return sentences


def weight_in_words(arm: ArmValues) -> str:
    """How much a participant counts."""
    if not arm["exchanges_weights"]:
        return "nothing to weigh"
    return arm["weight_words"] or _WEIGHTINGS.get(arm["weighting"], arm["weighting"])


def arm_table(study: StudyValues, colours: Mapping[str, str]) -> Table:
    """Every arm's way of training in words."""
    rows = []
    for arm in study["arms"]:
        state = "kept" if arm["keep_optimizer_state"] else "fresh"
        name = Cell(readable(arm["name"]), colour=colours[arm["name"]])
        words = [who_trains(arm, study), how_it_trains(arm), weight_in_words(arm), state]
        rows.append([name, *map(Cell, words)])
    for candidate in study["candidates"]:
        name = Cell(readable(candidate["name"]), colour=colours[candidate["name"]])
        words = [f"Made elsewhere ({candidate['model']})", "Not trained in this study.", NO_VALUE, NO_VALUE]
        rows.append([name, *map(Cell, words)])
    columns = ["Arm", "Who trains", "How", "A site's weight in the average", "Optimizer state after a round"]
    return Table("The arms of the study", columns, [Group("", rows)], (0, 1, 2, 3, 4))


def describe_arms(study: StudyValues, shown: Sequence[str]) -> str:
    """What arms are, for a reader who meets their names for the first time; those of one kind in one sentence."""
    of_kind: dict[str, list[str]] = {}
    for arm in study["arms"]:
        if arm["name"] in shown:
            does = {
                "federated": "{learn} at every site by itself and {share} weights, not images",
                "control": "{learn} in the same way, but from cases shared out at random among the sites: a control",
                "pooled": "{learn} from all images in one place",
                "local": f"{{learn}} at {arm['sites'][0]} alone",
            }[kind_of(arm)]
            if sites_left_out(arm, study):
                does = "{learn} at every site but one by itself and {share} weights"
            of_kind.setdefault(does, []).append(_named(arm, study))
    elsewhere = [readable(item["name"]) for item in study["candidates"] if item["name"] in shown]
    if elsewhere:
        of_kind["{come} from elsewhere and {learn} nothing here"] = elsewhere
    parts = []
    for does, names in of_kind.items():
        one = len(names) == 1
        verbs = {verb: f"{verb}s" if one else verb for verb in ("learn", "share", "come")}
        words = does.format_map(verbs)
        parts.append(f"{format_names(names)} {words}")
    if any(kind_of(arm) == "local" and arm["name"] not in shown for arm in study["arms"]):
        parts.append("local arms learn at one site each")
    return f"{sentence_case('; '.join(parts))}."


def _named(arm: ArmValues, study: StudyValues) -> str:
    """An arm's name, with its strategy's and that of the site left out where the name does not tell."""
    name, left_out = readable(arm["name"]), sites_left_out(arm, study)
    told = [f"without {site}" for site in left_out if site not in name]
    strategy = readable(arm["strategy"]["name"])
    if arm["exchanges_weights"] and strategy != "FedAvg" and strategy.lower() not in name.lower():
        told.insert(0, strategy)
    return f"{name} ({', '.join(told)})" if told else name
