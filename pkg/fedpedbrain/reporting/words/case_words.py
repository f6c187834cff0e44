"""What the gallery says of a case: why it is shown, what is there, what an arm predicts."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from fedpedbrain.base.cases import Case
from fedpedbrain.evaluation.case_choice import BETWEEN, ONLY, ChosenCase
from fedpedbrain.reporting.figures.style import readable, sentence_case

# Classes that are named with their probability, the most probable first, and the least that is worth a line.
_MOST_CLASSES, _LEAST_PROBABILITY = 3, 0.01


def describe_choice(chosen: ChosenCase, arm: str, has_classes: bool) -> str:
    """Why a case is shown, as a sentence without its full stop.

    Parameters
    ----------
    arm : whose scores put the cases in order
    has_classes : whether the study has classes: a case without one then is of a group of its own
    """
    group = f"{chosen.split} case{'' if chosen.place == ONLY else 's'}"
    if has_classes:
        group += f" of class {readable(chosen.class_name)}" if chosen.class_name else " without a diagnosis"
    if chosen.place == ONLY:
        return f"The only {group}"
    if chosen.place == BETWEEN:
        return f"Rank {chosen.rank} of the {chosen.num_cases} {group} from worst to best under {readable(arm)}"
    return f"{sentence_case(chosen.place)} of the {chosen.num_cases} {group} under {readable(arm)}"


class CaseScores:
    """The scores of one arm and seed, in words.

    Parameters
    ----------
    rows : of the scores table
    """

    def __init__(self, rows: Sequence[Mapping[str, str]]) -> None:
        self.seed = rows[0]["seed"]
        self._values: dict[str, dict[tuple[str, str], float]] = defaultdict(dict)
        for row in rows:
            self._values[row["case"]][row["target"], row["metric"]] = float(row["value"])

    def true_lines(self, case: Case, regions: Sequence[str]) -> tuple[str, ...]:
        """How large the case's regions are, one a line."""
        volumes = [self._values[case.case][region, "true_volume_ml"] for region in regions]
        return tuple(
            _named(region, regions) + (f"{volume:.1f} ml" if volume > 0 else "none")
            for region, volume in zip(regions, volumes, strict=True)
        )

    def lines(self, case: Case, regions: Sequence[str]) -> tuple[str, ...]:
        """What the arm predicts for a case: each region, then the most probable classes, one a line."""
        values = self._values[case.case]
        lines = [_named(region, regions) + _region_words(values, region) for region in regions]
        return (*lines, *self.class_lines(case))

    def class_lines(self, case: Case) -> tuple[str, ...]:
        """The most probable classes with their probabilities, one a line, the first with whether it is right."""
        values = self._values[case.case]
        probabilities = {target: value for (target, metric), value in values.items() if metric == "probability"}
        ordered = sorted(probabilities, key=lambda name: -probabilities[name])[:_MOST_CLASSES]
        lines = [
            f"{readable(name)} {100 * probabilities[name]:.0f} %"
            for number, name in enumerate(ordered)
            if number == 0 or probabilities[name] >= _LEAST_PROBABILITY
        ]
        if lines:
            verdict = "correct" if ordered[0] == case.class_name else "wrong"
            lines[0] += f" ({verdict if case.class_name else 'truth unknown'})"
        return tuple(lines)


def _named(region: str, regions: Sequence[str]) -> str:
    return f"{readable(region)}: " if len(regions) > 1 else ""


def _region_words(values: Mapping[tuple[str, str], float], region: str) -> str:
    """Dice says nothing about a case without this region: there the predicted volume is what counts."""
    predicted = values[region, "predicted_volume_ml"]
    if values[region, "true_volume_ml"] > 0:
        return f"Dice {values[region, 'dice']:.3f}, {predicted:.1f} ml"
    return f"{predicted:.1f} ml outlined, none is there" if predicted > 0 else "nothing outlined (correct)"
