"""Looking up results in the study's tables, and writing numbers the same way everywhere."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from fedpedbrain.cohort import EXTERNAL, TEST
from fedpedbrain.evaluation.intervals import MIN_PATIENTS_FOR_INTERVAL
from fedpedbrain.evaluation.tables import DIAGNOSIS, POOLED_SCOPE, read_results
from fedpedbrain.reporting.style import readable

MISSING = "–"
TOO_FEW_PATIENTS = "too few patients for an interval"
_KEYS = ["arm", "scope", "target", "metric"]


def format_score(value: float) -> str:
    """Three digits after the point, or a dash."""
    return f"{value:.3f}" if math.isfinite(value) else MISSING


def format_change(value: float) -> str:
    """Three digits with a sign (a true minus; none for what rounds to 0), or a dash."""
    if not math.isfinite(value):
        return MISSING
    return f"{value:+.3f}".replace("-", "\u2212") if round(value, 3) else "0.000"


def format_bytes(num_bytes: float) -> str:
    """Decimal units, as network links are sold in."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= size:
            return f"{num_bytes / size:.3g} {unit}"
    return f"{num_bytes:.0f} B"


def format_names(names: Sequence[str]) -> str:
    """Names as English writes a list."""
    return ", ".join(names) if len(names) < 2 else f"{', '.join(names[:-1])} and {names[-1]}"


def count_noun(number: int, noun: str) -> str:
    """A number and its noun: ``1 case``, ``2 cases``."""
    return f"{number} {noun if number == 1 else noun + 's'}"


@dataclass(frozen=True)
class Estimate:
    """A mean over cases, or a mean paired difference, with its interval (nan where there is none)."""

    value: float
    low: float
    high: float
    num_cases: int
    num_patients: int
    seed_sd: float = math.nan

    @property
    def has_interval(self) -> bool:
        """Whether both ends are known."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    @property
    def caveat(self) -> str:
        """Why there is no interval where patients are too few for one, "" elsewhere."""
        too_few = not self.has_interval and self.num_patients < MIN_PATIENTS_FOR_INTERVAL
        return TOO_FEW_PATIENTS if too_few else ""

    @property
    def interval(self) -> str:
        """The interval in brackets, or "" where there is none."""
        return f"[{format_score(self.low)}, {format_score(self.high)}]" if self.has_interval else ""

    @property
    def change_interval(self) -> str:
        """The interval in brackets, ends with a sign, or "" where there is none."""
        return f"[{format_change(self.low)}, {format_change(self.high)}]" if self.has_interval else ""

    @property
    def reading(self) -> str:
        """A difference in words; what its interval does not exclude is not claimed."""
        if not self.has_interval:
            return self.caveat or "no interval"
        if self.low > 0:
            return "higher"
        return "lower" if self.high < 0 else "no difference shown"


@dataclass(frozen=True)
class Measure:
    """What is measured: a metric of a region or of the diagnosis."""

    target: str
    metric: str
    title: str


def headline_measures(regions: Sequence[str], classes: Sequence[str]) -> list[Measure]:
    """The measures that answer the study's question: tumour Dice of each region, and accuracy."""
    measures = [Measure(region, "dice", f"tumour Dice ({readable(region)})") for region in regions]
    return measures + ([Measure(DIAGNOSIS, "accuracy", "accuracy of the diagnosis")] if classes else [])


def all_measures(regions: Sequence[str], classes: Sequence[str], normal_class: str | None) -> list[Measure]:
    """Every measure of the tables, those of one region side by side."""
    measures = []
    for region in regions:
        measures += [
            Measure(region, "dice", f"tumour Dice ({readable(region)})"),
            Measure(region, "dice_all_cases", f"all-case Dice ({readable(region)})"),
        ]
        if normal_class is not None:
            measures.append(Measure(region, "empty_in_normal", f"normal cases left empty ({readable(region)})"))
    if classes:
        measures += [Measure(DIAGNOSIS, "accuracy", "accuracy"), Measure(DIAGNOSIS, "macro_f1", "macro-F1")]
    return measures


class Results:
    """The summary and difference tables, by arm, scope and measure.

    Parameters
    ----------
    summary, differences : the tables that ``compare_arms_files`` writes
    """

    def __init__(self, summary: pd.DataFrame, differences: pd.DataFrame) -> None:
        self._summary = self._by_key(summary, "value")
        self._differences = self._by_key(differences, "difference")
        scopes = summary[["scope", "split"]].drop_duplicates().itertuples(index=False, name=None)
        self._split_of = {scope: split for scope, split in scopes if scope != POOLED_SCOPE}

    @classmethod
    def from_files(cls, summary_path: str | Path, differences_path: str | Path) -> "Results":
        """Read both tables."""
        return cls(read_results(summary_path), read_results(differences_path))

    @staticmethod
    def _by_key(table: pd.DataFrame, column: str) -> dict[tuple[str, ...], Estimate]:
        rows: list[Mapping[str, Any]] = table.to_dict("records")
        return {
            tuple(row[key] for key in _KEYS): Estimate(
                row[column],
                row["low"],
                row["high"],
                int(row["num_cases"]),
                int(row["num_patients"]),
                row.get("seed_sd", math.nan),
            )
            for row in rows
        }

    @property
    def test_sites(self) -> list[str]:
        """Training sites with test patients."""
        return [site for site, split in self._split_of.items() if split == TEST]

    @property
    def external_sites(self) -> list[str]:
        """External sites with patients."""
        return [site for site, split in self._split_of.items() if split == EXTERNAL]

    def value(self, arm: str, measure: Measure, scope: str = POOLED_SCOPE) -> Estimate | None:
        """An arm's mean, or None where nothing could be measured."""
        return _known(self._summary.get((arm, scope, measure.target, measure.metric)))

    def difference(self, arm: str, measure: Measure, scope: str = POOLED_SCOPE) -> Estimate | None:
        """An arm's mean paired difference to the reference arm, or None."""
        return _known(self._differences.get((arm, scope, measure.target, measure.metric)))


def _known(estimate: Estimate | None) -> Estimate | None:
    return estimate if estimate is not None and math.isfinite(estimate.value) else None
