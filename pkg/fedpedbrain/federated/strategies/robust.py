"""Averages that a few wrong updates cannot move far. Sites count alike, whatever their number of cases."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from fedpedbrain.errors import StudyError
from fedpedbrain.federated.averaging import average_weights
from fedpedbrain.federated.strategies.strategy import Memory, RoundUpdates, Strategy, Weights


class ElementWise(Strategy):
    """Combines element by element what all sites sent; the updates of a round are in memory together.

    Parameters
    ----------
    combine_rows : one value an element, float64 (...), from rows float64 (N sites, ...)
    """

    def __init__(self, combine_rows: Callable[[Tensor], Tensor]) -> None:
        self._combine_rows = combine_rows

    def combine(self, parent: Weights, updates: RoundUpdates, state: Memory) -> tuple[dict[str, Tensor], Memory]:
        """Combine every floating-point entry; counters take the largest."""
        all_weights = [update.weights for update in updates]
        combined = {}
        for name, first in all_weights[0].items():
            rows = torch.stack([weights[name] for weights in all_weights])
            combined[name] = (
                self._combine_rows(rows.double()).to(first.dtype) if first.is_floating_point() else rows.amax(0)
            )
        return combined, {}


def _median_of_rows(rows: Tensor) -> Tensor:
    ordered, middle = rows.sort(0).values, len(rows) // 2
    return ordered[middle] if len(rows) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def _trimmed_mean_of_rows(rows: Tensor, trim_fraction: float) -> Tensor:
    cut = int(trim_fraction * len(rows) + 1e-9)
    if cut == 0:
        return rows.mean(0)
    return rows.sort(0).values[cut : len(rows) - cut].mean(0)


def coordinate_median() -> ElementWise:
    """Yin et al., "Byzantine-Robust Distributed Learning", ICML 2018: the median, of even numbers the middle's mean."""
    return ElementWise(_median_of_rows)


def trimmed_mean(trim_fraction: float) -> ElementWise:
    """Yin et al., "Byzantine-Robust Distributed Learning", ICML 2018: the mean without the extremes of each element.

    ``trim_fraction`` of the sites, rounded down, is left out at each end.
    """
    return ElementWise(partial(_trimmed_mean_of_rows, trim_fraction=trim_fraction))


class Krum(Strategy):
    """Blanchard et al., "Machine Learning with Adversaries", NeurIPS 2017; Multi-Krum where more than one is selected.

    An update's score is the sum of its squared distances to its ``sites - num_byzantine - 2`` nearest others; the mean
    of the ``num_selected`` updates of lowest score is taken.
    """

    def __init__(self, num_byzantine: int, num_selected: int) -> None:
        self._num_byzantine, self._num_selected = num_byzantine, num_selected

    def combine(self, parent: Weights, updates: RoundUpdates, state: Memory) -> tuple[dict[str, Tensor], Memory]:
        """Take the mean of the updates nearest to their neighbours; of equal scores the earlier name."""
        rows = list(updates)
        num_near = len(rows) - self._num_byzantine - 2
        if num_near < 1 or self._num_selected > len(rows):
            needed = max(self._num_byzantine + 3, self._num_selected)
            raise StudyError(
                f"{updates.where}: krum has {len(rows)} updates, needs at least {needed} with num_byzantine "
                f"{self._num_byzantine} and num_selected {self._num_selected}; lower these"
            )
        distances = torch.zeros(len(rows), len(rows), dtype=torch.float64)
        for name in sorted(updates.parameter_names):
            values = torch.stack([row.weights[name].flatten() for row in rows]).double()
            distances += torch.cdist(values, values, compute_mode="donot_use_mm_for_euclid_dist").square()
        # The nearest of all is the update itself.
        scores = distances.sort(1).values[:, 1 : num_near + 1].sum(1)
        chosen = torch.argsort(scores, stable=True)[: self._num_selected].sort().values
        return average_weights((rows[index].weights, 1.0) for index in chosen.tolist()), {}
