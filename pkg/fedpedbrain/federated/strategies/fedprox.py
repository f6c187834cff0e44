"""FedProx: a pull towards the round's start."""

from fedpedbrain.federated.strategies.proximal_rule import ProximalRule
from fedpedbrain.federated.strategies.strategy import Memory, SiteRule, Strategy, Weights


class FedProx(Strategy):
    """Li et al., "Federated Optimization in Heterogeneous Networks", MLSys 2020; ``mu`` is its proximal weight."""

    def __init__(self, mu: float) -> None:
        self._mu = mu

    def site_rule(self, start: Weights, kept: Memory, broadcast: Memory) -> SiteRule:
        """Pull towards the round's start."""
        return ProximalRule(start, self._mu)
