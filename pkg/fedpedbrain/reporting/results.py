"""Looking up results in the study's tables."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from fedpedbrain.base.cases import DIAGNOSIS, EXTERNAL, TEST
from fedpedbrain.evaluation.intervals import MIN_PATIENTS_FOR_INTERVAL
from fedpedbrain.evaluation.significance import largest_unseen_share
from fedpedbrain.evaluation.tables import POOLED_SCOPE, read_results
from fedpedbrain.reporting.figures.style import readable, sentence_case
from fedpedbrain.reporting.numbers import NO_VALUE, format_change, format_score
from fedpedbrain.study.metric_facts import (
    AMOUNTS,
    GROUP_METRICS,
    METRICS,
    OF_CLASSES,
    OF_DIAGNOSIS,
    OUTLINES,
    shown_in,
)

TOO_FEW_PATIENTS = "too few patients for an interval"
ALL_ALIKE = "all patients alike, so no interval"
FEW_OF_A_CLASS = "no interval: a class has too few patients, or all are alike"
_KEYS = ("arm", "scope", "target", "metric")


@dataclass(frozen=True)
class Estimate:
    """A mean over cases, or a mean paired difference, with its interval (nan where there is none).

    Attributes
    ----------
    value, low, high : the mean and the ends of its interval over patients
    num_cases, num_patients : what it is made of
    seed_sd : standard deviation of the seeds' own means, nan of one seed
    metric : what was measured
    empty_rule : name of the metric's rule for empty masks, "" where it has none
    num_by_rule, num_left_out : cases whose value that rule gave, and cases that it left out
    """

    value: float
    low: float
    high: float
    num_cases: int
    num_patients: int
    seed_sd: float = math.nan
    metric: str = ""
    empty_rule: str = ""
    num_by_rule: int = 0
    num_left_out: int = 0

    @property
    def is_known(self) -> bool:
        """Whether anything was measured."""
        return math.isfinite(self.value)

    @property
    def has_interval(self) -> bool:
        """Whether both ends are known."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    @property
    def caveat(self) -> str:
        """Why there is no interval, "" where there is one."""
        if self.has_interval:
            return ""
        if self.num_patients < MIN_PATIENTS_FOR_INTERVAL:
            return TOO_FEW_PATIENTS
        return FEW_OF_A_CLASS if self.metric in GROUP_METRICS else ALL_ALIKE

    @property
    def is_same(self) -> bool:
        """Whether a difference is 0 in every one of enough patients."""
        return self.caveat == ALL_ALIKE and self.value == 0.0

    @property
    def bound(self) -> str:
        """How many patients could differ where none of these does, "" elsewhere."""
        if not self.is_same:
            return ""
        most = format_score(100.0 * largest_unseen_share(self.num_patients), 1)
        return f"at most {most} % of patients could differ"

    @property
    def _digits(self) -> int:
        return METRICS[self.metric].digits if self.metric else 3

    @property
    def score(self) -> str:
        """The value as a score."""
        return format_score(self.value, self._digits)

    @property
    def change(self) -> str:
        """The value as a difference, with its sign."""
        return format_change(self.value, self._digits)

    @property
    def interval(self) -> str:
        """The interval in brackets, or "" where there is none."""
        return self._brackets(format_score)

    @property
    def change_interval(self) -> str:
        """The interval in brackets, ends with a sign, or "" where there is none."""
        return self._brackets(format_change)

    def _brackets(self, write: Callable[[float, int], str]) -> str:
        ends = [write(end, self._digits) for end in (self.low, self.high)]
        return f"[{', '.join(ends)}]" if self.has_interval else ""

    @property
    def seeds(self) -> str:
        """The spread over seeds, or "" of one seed."""
        spread = format_score(self.seed_sd, self._digits)
        return "" if spread == NO_VALUE else f"seeds ± {spread}"

    @property
    def rule(self) -> str:
        """The rule for empty masks by its name, and how many cases it decided; "" where it decided none."""
        decided = [f"{self.num_by_rule} of {self.num_cases}"] if self.num_by_rule else []
        decided += [f"{self.num_left_out} left out"] if self.num_left_out else []
        return f"{self.empty_rule}: {', '.join(decided)}" if decided else ""

    @property
    def reading(self) -> str:
        """A difference in words, with its bound."""
        return "; ".join(filter(None, (self.short_reading, self.bound)))

    @property
    def short_reading(self) -> str:
        """A difference in words; what its interval does not exclude is not claimed."""
        if not self.has_interval:
            return f"the same in all {self.num_patients} patients" if self.is_same else self.caveat
        if self.low > 0:
            return "higher"
        return "lower" if self.high < 0 else "no difference shown"


@dataclass(frozen=True)
class Judgement:
    """What the tests say of a difference; p-values are nan where patients are too few to be tested.

    Attributes
    ----------
    p_value, p_holm : of the signed-rank test, alone and corrected over ``num_arms`` arms
    num_patients : how many were compared
    margin : of non-inferiority, nan where the config sets none
    noninferiority : ``NON_INFERIOR``, ``INFERIOR``, ``NOT_SHOWN``, or "" without a margin or an interval
    """

    p_value: float
    p_holm: float
    num_arms: int
    num_patients: int
    margin: float
    noninferiority: str


@dataclass(frozen=True)
class Measure:
    """What is measured: a metric of a region or of the diagnosis."""

    target: str
    metric: str
    title: str


def headline_measures(study: Mapping[str, Any]) -> list[Measure]:
    """The measures that answer the study's question: Dice of each region where it is outlined, and accuracy."""
    title = metric_title("dice", study)
    measures = [Measure(region, "dice", f"{title} ({readable(region)})") for region in study["regions"]]
    return measures + ([Measure(DIAGNOSIS, "accuracy", "accuracy of the diagnosis")] if study["classes"] else [])


def panel_title(target: str, finding: str) -> str:
    """What a figure's panel shows of a region, where cases have the finding, or of the diagnosis."""
    return "Accuracy of the diagnosis" if target == DIAGNOSIS else f"{sentence_case(finding)} Dice: {readable(target)}"


def metric_title(metric: str, study: Mapping[str, Any]) -> str:
    """What a metric is called in a study, with its unit."""
    return METRICS[metric].full_title.format(finding=study["anatomy"]["finding"])


def measure_groups(study: Mapping[str, Any]) -> dict[str, list[Measure]]:
    """Every measure of regions and of the diagnosis, by the table that shows it."""
    regions = study["regions"]
    groups = {
        name: [
            Measure(region, metric, f"{metric_title(metric, study)}{f' ({readable(region)})' * (len(regions) > 1)}")
            for region in regions
            for metric in shown_in(name)
        ]
        for name in (OUTLINES, AMOUNTS)
    }
    if study["classes"]:
        groups[OF_DIAGNOSIS] = [Measure(DIAGNOSIS, metric, METRICS[metric].title) for metric in shown_in(OF_DIAGNOSIS)]
    return {name: measures for name, measures in groups.items() if measures}


def class_measures(name: str) -> list[Measure]:
    """The measures of one class."""
    return [Measure(name, metric, METRICS[metric].title) for metric in shown_in(OF_CLASSES)]


class Results:
    """The tables of the comparison, by arm, scope and measure.

    Parameters
    ----------
    tables : ``summary``, ``differences``, ``tests``, ``sites``, ``gains`` and ``cross_sites`` as
        ``compare_arms_files`` writes them
    """

    def __init__(self, tables: Mapping[str, pd.DataFrame]) -> None:
        summary = tables["summary"]
        self._summary = estimates_by_key(summary, "value", _KEYS)
        self._differences = estimates_by_key(tables["differences"], "difference", _KEYS)
        self._gains = estimates_by_key(tables["gains"], "gain", ("arm", "site", "target", "metric"))
        self._tests = {
            tuple(row[key] for key in _KEYS): Judgement(**{name: row[name] for name in Judgement.__annotations__})
            for row in tables["tests"].to_dict("records")
        }
        self._gaps = {(row["arm"], row["target"], row["metric"]): row for row in tables["sites"].to_dict("records")}
        self.cross_sites: list[dict[str, Any]] = tables["cross_sites"].to_dict("records")
        of_classes = summary[summary["metric"] == "recall"]
        self._class_sizes = of_classes.groupby(["scope", "target"])["num_cases"].max()
        scopes = summary[["scope", "split"]].drop_duplicates().itertuples(index=False, name=None)
        self._split_of = {scope: split for scope, split in scopes if scope != POOLED_SCOPE}

    @classmethod
    def from_files(cls, paths: Mapping[str, str | Path]) -> "Results":
        """Read the tables, each from the path of its name."""
        return cls({name: read_results(path) for name, path in paths.items()})

    @property
    def test_sites(self) -> list[str]:
        """Training sites with test patients."""
        return [site for site, split in self._split_of.items() if split == TEST]

    @property
    def external_sites(self) -> list[str]:
        """External sites with patients."""
        return [site for site, split in self._split_of.items() if split == EXTERNAL]

    @property
    def empty_rules(self) -> list[str]:
        """Names of the rules for empty masks that decided some case."""
        return sorted({estimate.empty_rule for estimate in self._summary.values() if estimate.rule})

    def classes_with_cases(self, scope: str) -> tuple[int, int]:
        """How many classes have a case in a scope, and how many there are."""
        sizes = self._class_sizes[self._class_sizes.index.get_level_values("scope") == scope]
        return int((sizes > 0).sum()), len(sizes)

    def value(self, arm: str, measure: Measure, scope: str = POOLED_SCOPE) -> Estimate | None:
        """An arm's mean, or None where nothing could be measured."""
        return _known(self._summary.get((arm, scope, measure.target, measure.metric)))

    def difference(self, arm: str, measure: Measure, scope: str = POOLED_SCOPE) -> Estimate | None:
        """An arm's mean paired difference to the reference arm, or None."""
        return _known(self._differences.get((arm, scope, measure.target, measure.metric)))

    def judgement(self, arm: str, measure: Measure, scope: str = POOLED_SCOPE) -> Judgement | None:
        """What the tests say of an arm's difference to the reference arm, or None."""
        return self._tests.get((arm, scope, measure.target, measure.metric))

    def gain(self, arm: str, site: str, measure: Measure) -> Estimate | None:
        """An arm's mean paired difference to the site's own local arm on the site's test patients, or None."""
        return _known(self._gains.get((arm, site, measure.target, measure.metric)))

    def gap(self, arm: str, measure: Measure) -> Mapping[str, Any] | None:
        """Worst and best site of an arm, as the table of sites has them, or None where sites are too few or small."""
        return self._gaps.get((arm, measure.target, measure.metric))


def estimates_by_key(table: pd.DataFrame, column: str, keys: Sequence[str]) -> dict[tuple[str, ...], Estimate]:
    """Estimates of a table by some of its columns.

    What its rows do not know of rules for empty masks is 0; a table of single models has no spread over seeds.
    """
    rules = ("num_by_rule", "num_left_out")
    return {
        tuple(row[key] for key in keys): Estimate(
            row[column],
            *(row[name] for name in ("low", "high", "num_cases", "num_patients")),
            row.get("seed_sd", math.nan),
            *(row[name] for name in ("metric", "empty_rule")),
            *(int(row[name]) if math.isfinite(row[name]) else 0 for name in rules),
        )
        for row in table.to_dict("records")
    }


def _known(estimate: Estimate | None) -> Estimate | None:
    return estimate if estimate is not None and estimate.is_known else None
