"""FedDyn: dynamic regularisation that makes the sites' optima agree with the common one."""

from collections.abc import Mapping

import torch
from torch import nn

from fedpedbrain.federated.strategies.strategy import (
    Combined,
    Memory,
    RoundUpdates,
    SiteRule,
    Strategy,
    Weights,
    moved,
)

_GRADIENT = "gradient"
_DRIFT = "drift"


class DynamicRule(SiteRule):
    """Adds the gradient of ``-<g, w> + alpha / 2 * ||w - start||^2``, with g the site's last loss gradient."""

    def __init__(self, start: Weights, gradient: Weights, alpha: float) -> None:
        self._start, self._gradient, self._alpha = start, gradient, alpha
        self._names: list[str] = []

    def correct(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Add ``alpha * (w - start) - g`` to every gradient."""
        self._names = list(parameters)
        for name, parameter in parameters.items():
            device = parameter.device
            parameter.grad.add_(parameter.detach() - self._start[name].to(device), alpha=self._alpha)
            if self._gradient:
                parameter.grad.sub_(self._gradient[name].to(device))

    def finish(self, weights: Weights) -> tuple[Memory, Memory]:
        """The site's gradient becomes ``g - alpha * (w - start)``."""
        gradient = {}
        for name in self._names:
            before = self._gradient.get(name, torch.zeros_like(self._start[name]))
            gradient[name] = before - self._alpha * (weights[name].cpu() - self._start[name])
        return {_GRADIENT: gradient}, {}


class FedDyn(Strategy):
    """Acar et al., "Federated Learning Based on Dynamic Regularization", ICLR 2021.

    Its server step counts sites by the arm's weighting; the paper's is ``weighting: uniform``.
    """

    def __init__(self, alpha: float) -> None:
        self._alpha = alpha

    def site_rule(self, start: Weights, kept: Memory, broadcast: Memory) -> SiteRule:
        """Regularise towards the round's start, less what the site's gradient says."""
        return DynamicRule(start, kept.get(_GRADIENT, {}), self._alpha)

    def combine(self, parent: Weights, updates: RoundUpdates, state: Memory) -> Combined:
        """Weights are ``mean - h / alpha``, where h changes by ``-alpha * part * (mean - parent)``."""
        mean = updates.mean()
        part = len(updates) / updates.num_sites
        drift = {}
        for name in updates.parameter_names:
            before = state.get(_DRIFT, {}).get(name, torch.zeros_like(parent[name]))
            step = mean[name].double() - parent[name].double()
            drift[name] = moved(before, step, -self._alpha * part)
            mean[name] = moved(mean[name], drift[name], -1.0 / self._alpha)
        return Combined(mean, {_DRIFT: drift})
