"""A pull towards the round's start, in a site's training."""

from collections.abc import Mapping

from torch import nn

from fedpedbrain.federated.strategies.strategy import SiteRule, Weights


class ProximalRule(SiteRule):
    """Adds the gradient of ``strength / 2 * ||w - start||^2``."""

    def __init__(self, start: Weights, strength: float) -> None:
        self._start, self._strength = start, strength

    def correct(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Add ``strength * (w - start)`` to every gradient."""
        for name, parameter in parameters.items():
            start = self._start[name].to(parameter.device)
            parameter.grad.add_(parameter.detach() - start, alpha=self._strength)
