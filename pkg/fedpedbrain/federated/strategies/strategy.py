"""What strategies have in common: what a site does in its training, and how the server combines updates.

Each strategy is FedAvg but for the methods that it overrides. All of them work on state dicts; parameters are what the
optimizer trains, the other entries are buffers (batch normalisation's statistics), which are averaged and nothing else.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from fedpedbrain.errors import StudyError
from fedpedbrain.federated.averaging import WeightedSum

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
    weights : the site's weights after its training
    sent : what its strategy sends beside them
    """

    site: str
    count: float
    num_steps: int
    weights: Weights
    sent: Memory = field(default_factory=dict)


class RoundUpdates:
    """The updates of a round, read one at a time, in the order of the sites' names, as often as they are needed.

    Parameters
    ----------
    reads : for each site what reads its update, None for one that sent none
    parameter_names : which entries are parameters
    num_sites : sites of the arm, whether they take part or not
    where : arm and round, for messages
    """

    def __init__(
        self,
        reads: Iterable[Callable[[], SiteUpdate | None]],
        parameter_names: Iterable[str],
        num_sites: int,
        where: str = "round",
    ) -> None:
        self.where = where
        self._reads = list(reads)
        # In an order that no hash decides: what strategies keep is written in it.
        self.parameter_names = dict.fromkeys(parameter_names)
        self.num_sites = num_sites

    def __iter__(self) -> Iterator[SiteUpdate]:
        for read in self._reads:
            update = read()
            if update is not None:
                yield update
            # Else two updates would be in memory while the next one is read.
            del update

    def mean(
        self,
        factor: Callable[[SiteUpdate], float] = lambda update: update.count,
        also: Callable[[SiteUpdate], None] = lambda update: None,
    ) -> dict[str, Tensor]:
        """Weighted mean of the updates' weights, in one pass that keeps one update in memory.

        Parameters
        ----------
        factor : how much an update's parameters count; buffers always count by ``count``
        also : called with every update that is read

        Raises
        ------
        StudyError : the updates count nothing together
        """
        total, counts = WeightedSum(), 0.0
        for update in self:
            counts += update.count
            factors = {
                name: factor(update) if name in self.parameter_names else update.count for name in update.weights
            }
            total.add(update.weights, factors)
            also(update)
            del update
        if counts <= 0:
            raise StudyError(f"{self.where}: all updates weigh nothing; give the sites cases or set weighting: uniform")
        return total.mean()


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
    personal_pull : each site trains a model of its own beside the common one, pulled to the round's start by this
        strength; None for no such model
    """

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

    def combine(self, parent: Weights, updates: RoundUpdates, state: Memory) -> tuple[dict[str, Tensor], Memory]:
        """Make the next global weights.

        Parameters
        ----------
        parent : weights that the round started from
        state : the server's state after the round before, empty in the first

        Returns
        -------
        weights with the keys, shapes and dtypes of the updates, and the server's new state
        """
        return updates.mean(), {}


def moved(parent: Tensor, direction: Tensor, rate: float = 1.0) -> Tensor:
    """``parent`` plus ``rate`` times ``direction``, computed in float64, in the parent's dtype."""
    return torch.add(parent.double(), direction.double(), alpha=rate).to(parent.dtype)
