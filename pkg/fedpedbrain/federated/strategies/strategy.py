"""What strategies have in common: what a site does in its training, and how the server combines updates.

Each strategy is FedAvg but for the methods that it overrides. All of them work on state dicts; parameters are what the
optimizer trains, the other entries are buffers (batch normalisation's statistics), which are averaged and nothing else.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fedpedbrain.base.errors import StudyError
from fedpedbrain.federated.exchange.averaging import CombineRows, Sliceable, combine_pieces, weighted_mean
from fedpedbrain.federated.exchange.updates import is_finite
from fedpedbrain.study.strategy_facts import STRATEGIES

Weights = Mapping[str, Tensor]
# What a strategy keeps or sends beside the weights: dicts of tensors by name.
Memory = Mapping[str, Weights]


@dataclass(frozen=True)
class SiteUpdate:
    """One site's update as the server works with it.

    Attributes
    ----------
    count : how much the update counts by the arm's weighting
    num_steps : optimizer steps behind it
    weights : the site's weights after its training, tensors or what gives parts of one
    sent : what its strategy sends beside them
    """

    site: str
    count: float
    num_steps: int
    weights: Mapping[str, Sliceable]
    sent: Memory = field(default_factory=dict)


class RoundUpdates:
    """The updates of a round, in the order of the sites' names.

    Parameters
    ----------
    updates : of the sites that sent one
    parameter_names : which entries are parameters; gone through when they are asked for
    num_sites : sites of the round's phase, whether they take part or not
    where : arm and round, for messages
    momentum : of the sites' SGD where it begins anew in every round, else 0
    """

    def __init__(
        self,
        updates: Sequence[SiteUpdate],
        parameter_names: Iterable[str],
        num_sites: int,
        where: str = "round",
        momentum: float = 0.0,
    ) -> None:
        self.where = where
        self._updates = list(updates)
        self._parameter_names = parameter_names
        self.num_sites = num_sites
        self.momentum = momentum

    def __iter__(self) -> Iterator[SiteUpdate]:
        return iter(self._updates)

    def __len__(self) -> int:
        return len(self._updates)

    @cached_property
    def parameter_names(self) -> dict[str, None]:
        """Which entries are parameters, in an order that no hash decides: what strategies keep is written in it."""
        return dict.fromkeys(self._parameter_names)

    def choose(self, places: Iterable[int]) -> "RoundUpdates":
        """Some of the updates alone."""
        chosen = [self._updates[place] for place in places]
        return RoundUpdates(chosen, self.parameter_names, self.num_sites, self.where, self.momentum)

    def shares_of(self, places: Collection[int]) -> dict[str, float]:
        """What each site's update counts where these count alike and the others not at all."""
        return {
            update.site: 1.0 / len(places) if place in places else 0.0 for place, update in enumerate(self._updates)
        }

    def check_rows(self, name: str, rows: Iterable[Tensor]) -> None:
        """Refuse updates of which a piece holds NaN or infinite values; names the site and the tensor."""
        for update, row in zip(self._updates, rows, strict=True):
            if not is_finite(row):
                raise StudyError(
                    f"{self.where}, update of site {update.site}: {name} of the weights holds NaN or infinite values; "
                    "lower the learning rate"
                )

    def combine(self, combine_rows: CombineRows) -> dict[str, Tensor]:
        """Combine all updates' weights piece by piece, see ``combine_pieces``.

        Raises
        ------
        StudyError : the result is not finite, because an update is not
        """

        def combine_finite(name: str, rows: list[Tensor]) -> Tensor:
            combined = combine_rows(name, rows)
            if not is_finite(combined):
                self.check_rows(name, rows)
            return combined

        dtypes = {name: tensor.dtype for name, tensor in self._updates[0].weights.items()} if self._updates else {}
        return combine_pieces([update.weights for update in self._updates], combine_finite, dtypes)

    def mean(self, factor: Callable[[SiteUpdate], float] = lambda update: update.count) -> dict[str, Tensor]:
        """Weighted mean of the updates' weights.

        Parameters
        ----------
        factor : how much an update's parameters count; buffers always count by ``count``

        Raises
        ------
        StudyError : the updates count nothing together, or one is refused by ``combine``
        """
        counts = [update.count for update in self._updates]
        if sum(counts) <= 0:
            raise StudyError(f"{self.where}: all updates weigh nothing; give the sites cases or set weighting: uniform")
        factors = [factor(update) for update in self._updates]
        if factors == counts:
            return self.combine(lambda name, rows: weighted_mean(rows, counts))
        return self.combine(lambda name, rows: weighted_mean(rows, factors if name in self.parameter_names else counts))


class Combined(NamedTuple):
    """What comes of a round's updates.

    Attributes
    ----------
    weights : of the keys, shapes and dtypes of the updates
    kept : the server's new state
    shares : how much of the whole each site's update counted, summing to 1; None where that is the arm's weighting
    """

    weights: dict[str, Tensor]
    kept: Memory
    shares: dict[str, float] | None = None


class SiteRule:
    """What a strategy changes in one site's training; this one changes nothing."""

    def correct(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Change the parameters' gradients, those of the loss, before a step."""

    def finish(self, weights: Weights) -> tuple[Memory, Memory]:
        """After the last step, from the weights it led to: what the site keeps, and what it sends beside weights."""
        return {}, {}


class Strategy:
    """FedAvg: sites train as they are, the server takes the weighted mean.

    McMahan et al., "Communication-efficient learning of deep networks from decentralized data", AISTATS 2017.

    Attributes
    ----------
    sends : what sites send beside weights, groups of a tensor for each parameter, of its shape and dtype
    personal_pull : each site trains a model of its own beside the common one, pulled to the round's start by this
        strength; None for no such model
    """

    sends: tuple[str, ...] = ()
    personal_pull: float | None = None

    def personal_names(self, model: nn.Module) -> set[str]:
        """State dict entries of which every site goes on from its own."""
        return set()

    def site_rule(self, start: Weights, kept: Memory, broadcast: Memory) -> SiteRule:
        """Make the rule of one site's round.

        Parameters
        ----------
        start : weights that the round starts from
        kept : what ``SiteRule.finish`` kept in the site's round before, empty in its first
        broadcast : the server's state after the round before, empty in the first
        """
        return SiteRule()

    def combine(self, parent: Weights, updates: RoundUpdates, state: Memory) -> Combined:
        """Make the next global weights.

        Parameters
        ----------
        parent : weights that the round started from
        state : the server's state after the round before, empty in the first
        """
        return Combined(updates.mean(), {})


def moved(parent: Tensor, direction: Tensor, rate: float = 1.0) -> Tensor:
    """``parent`` plus ``rate`` times ``direction``, computed in float64, in the parent's dtype."""
    return torch.add(parent.double(), direction.double(), alpha=rate).to(parent.dtype)


def build_strategy(settings: Mapping[str, Any]) -> Strategy:
    """Make the strategy that an arm's ``strategy`` block names, with its options."""
    return STRATEGIES.load(settings["name"])(**{key: value for key, value in settings.items() if key != "name"})
