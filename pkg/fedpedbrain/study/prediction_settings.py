"""How models are run on cases, and what is made of their probabilities."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

# Words of evaluation.test_time_flips for axes.
_FLIPS = {"none": [], "left_right": ["W"]}


@dataclass(frozen=True)
class PredictionSettings:
    """What ``evaluation``, ``inference`` and ``cohort`` say of predictions.

    Attributes
    ----------
    config : the checked config
    """

    config: Mapping[str, Any]

    @property
    def decision(self) -> dict[str, Any]:
        """What turns probabilities into regions: arguments of ``decide_regions``."""
        evaluation = self.config["evaluation"]
        return {
            "threshold": evaluation["threshold"],
            "smallest_region_ml": evaluation["smallest_region_ml"],
            "empty_class": self.config["cohort"]["normal_class"] if evaluation["empty_when_normal"] else None,
        }

    @property
    def flips(self) -> list[str]:
        """Axes along which mirrored copies of a case are predicted, too."""
        flips = self.config["evaluation"]["test_time_flips"]
        return _FLIPS[flips] if isinstance(flips, str) else flips

    def plan(self, mean_of: str = "") -> dict[str, Any]:
        """Arguments of ``PredictionPlan`` for a held-out case.

        Parameters
        ----------
        mean_of : of what a candidate's own mean is taken; "" as for all others
        """
        windows = self.config["evaluation"]["windows"]
        return {"flips": self.flips, "overlap": windows["overlap"], "mean_of": mean_of or windows["mean_of"]}

    @property
    def scan_plan(self) -> dict[str, Any]:
        """Of the arguments of ``ScanPlan``, how networks are run and what is decided."""
        window = self.config["inference"]["sliding_window"]
        return {
            "decision": self.decision,
            "network": self.plan() | ({} if window is None else {"overlap": window["overlap"]}),
            "is_whole": window is not None,
            "component_filter": self.tried_filters[0],
        }

    def validation(self, is_of_patches: bool) -> dict[str, Any]:
        """How rounds are validated: as decided, and networks of patches with the overlap of their windows."""
        overlap = {"overlap": self.config["evaluation"]["windows"]["validation_overlap"]}
        return self.decision | (overlap if is_of_patches else {})

    @cached_property
    def tried_filters(self) -> list[dict[str, Any]]:
        """Arguments of each ``ComponentFilter`` among which those of the regions are chosen."""
        tried = self.config["evaluation"]["component_filters"]
        return [
            {"smallest_component_ml": smallest_ml, "largest_only": largest_only}
            for largest_only, smallest_ml in product(tried["largest_only"], tried["smallest_ml"])
        ]

    @property
    def chooses_filters(self) -> bool:
        """Whether there is a choice among component filters: of one alone there is none, nor without a region."""
        return len(self.tried_filters) > 1 and bool(self.config["cohort"]["regions"])
