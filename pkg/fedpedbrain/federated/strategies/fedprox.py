"""FedProx: a pull towards the round's start."""

from collections.abc import Mapping

from torch import nn

from fedpedbrain.federated.strategies.strategy import Memory, SiteRule, Strategy, Weights


class ProximalRule(SiteRule):
    """Adds the gradient of ``strength / 2 * ||w - start||^2``."""

    def __init__(self, start: Weights, strength: float) -> None:
        self._start, self._strength = start, strength

    def correct(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Add ``strength * (w - start)`` to every gradient."""
        for name, parameter in parameters.items():
            start = self._start[name].to(parameter.device)
            parameter.grad.add_(parameter.detach() - start, alpha=self._strength)


class FedProx(Strategy):
    """Li et al., "Federated Optimization in Heterogeneous Networks", MLSys 2020; ``mu`` is its proximal weight."""

    def __init__(self, mu: float) -> None:
        self._mu = mu

    def site_rule(self, start: Weights, kept: Memory, broadcast: Memory) -> SiteRule:
        """Pull towards the round's start."""
        return ProximalRule(start, self._mu)
