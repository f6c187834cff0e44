"""Averages that a few wrong updates cannot move far. Sites count alike, whatever their number of cases."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from fedpedbrain.base.errors import StudyError
from fedpedbrain.federated.exchange.averaging import weighted_mean
from fedpedbrain.federated.strategies.strategy import Combined, Memory, RoundUpdates, Strategy, Weights
from fedpedbrain.study.strategy_facts import fewest_for_krum


class ElementWise(Strategy):
    """Combines element by element what all sites sent.

    Parameters
    ----------
    combine_rows : one value an element, float64 (...), from rows float64 (N sites, ...)
    """

    def __init__(self, combine_rows: Callable[[Tensor], Tensor]) -> None:
        self._combine_rows = combine_rows

    def combine(self, parent: Weights, updates: RoundUpdates, state: Memory) -> Combined:
        """Combine every floating-point entry; counters take the largest."""

        def combine_rows(name: str, rows: list[Tensor]) -> Tensor:
            # Sorted, a wrong value hides.
            updates.check_rows(name, rows)
            stacked = torch.stack(rows)
            return self._combine_rows(stacked.double()) if stacked.is_floating_point() else stacked.amax(0)

        return Combined(updates.combine(combine_rows), {}, updates.shares_of(range(len(updates))))


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


def _square_distances(updates: RoundUpdates) -> Tensor:
    """Squared Euclidean distances between the parameters of all updates, float64 (N, N)."""
    distances = torch.zeros(len(updates), len(updates), dtype=torch.float64)

    def add(name: str, rows: list[Tensor]) -> Tensor:
        updates.check_rows(name, rows)
        if name in updates.parameter_names:
            values = torch.stack([row.flatten() for row in rows]).double()
            distances.add_(torch.cdist(values, values, compute_mode="donot_use_mm_for_euclid_dist").square())
        return rows[0]

    updates.combine(add)
    return distances


class Krum(Strategy):
    """Blanchard et al., "Machine Learning with Adversaries", NeurIPS 2017; Multi-Krum where more than one is selected.

    An update's score is the sum of its squared distances to its ``sites - num_byzantine - 2`` nearest others; the mean
    of the ``num_selected`` updates of lowest score is taken.
    """

    def __init__(self, num_byzantine: int, num_selected: int) -> None:
        self._num_byzantine, self._num_selected = num_byzantine, num_selected

    def combine(self, parent: Weights, updates: RoundUpdates, state: Memory) -> Combined:
        """Take the mean of the updates nearest to their neighbours; of equal scores the earlier name."""
        needed = fewest_for_krum(self._num_byzantine, self._num_selected)
        if len(updates) < needed:
            raise StudyError(
                f"{updates.where}: krum has {len(updates)} updates, needs at least {needed} with num_byzantine "
                f"{self._num_byzantine} and num_selected {self._num_selected}; lower these"
            )
        num_near = len(updates) - self._num_byzantine - 2
        # The nearest of all is the update itself.
        scores = _square_distances(updates).sort(1).values[:, 1 : num_near + 1].sum(1)
        chosen = torch.argsort(scores, stable=True)[: self._num_selected].sort().values.tolist()
        weights = updates.choose(chosen).combine(lambda name, rows: weighted_mean(rows, [1.0] * len(rows)))
        return Combined(weights, {}, updates.shares_of(chosen))
