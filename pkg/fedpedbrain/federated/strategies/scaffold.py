"""SCAFFOLD: control variates against the drift of sites that see other cases."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fedpedbrain.federated.exchange.averaging import average_weights
from fedpedbrain.federated.strategies.strategy import (
    Combined,
    Memory,
    RoundUpdates,
    SiteRule,
    Strategy,
    Weights,
    moved,
)

_CONTROL = "control"
_CHANGE = "control_change"


class ControlledRule(SiteRule):
    """Adds server's minus own control variate to every gradient and takes the mean gradient as the next own one.

    For plain SGD that mean is the paper's option II, ``c_i - c + (start - w) / (steps * rate)``; it is as well defined
    for optimizers whose steps are no multiples of gradients.
    """

    def __init__(self, own: Weights, server: Weights) -> None:
        self._own, self._server = own, server
        self._sums: dict[str, Tensor] = {}
        self._num_steps = 0

    def correct(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Count the loss's gradient, then add server's minus own control variate."""
        self._num_steps += 1
        for name, parameter in parameters.items():
            gradient = parameter.grad
            if name not in self._sums:
                self._sums[name] = torch.zeros_like(gradient)
            self._sums[name].add_(gradient)
            if self._server:
                gradient.add_(self._server[name].to(gradient.device))
            if self._own:
                gradient.sub_(self._own[name].to(gradient.device))

    def finish(self, weights: Weights) -> tuple[Memory, Memory]:
        """The new control variate stays, its change is sent."""
        control = {name: (total / self._num_steps).cpu() for name, total in self._sums.items()}
        change = {name: value - self._own[name] if self._own else value for name, value in control.items()}
        return {_CONTROL: control}, {_CHANGE: change}


class Scaffold(Strategy):
    """Karimireddy et al., "SCAFFOLD: Stochastic Controlled Averaging for Federated Learning", ICML 2020.

    Changes of the control variates count by the arm's weighting, as the weights do.
    """

    sends = (_CHANGE,)

    def __init__(self, server_learning_rate: float) -> None:
        self._rate = server_learning_rate

    def site_rule(self, start: Weights, kept: Memory, broadcast: Memory) -> SiteRule:
        """Correct by the control variates; without any, in the first round, not at all."""
        return ControlledRule(kept.get(_CONTROL, {}), broadcast.get(_CONTROL, {}))

    def combine(self, parent: Weights, updates: RoundUpdates, state: Memory) -> Combined:
        """Move by the server's rate towards the mean; the server's variate changes by the part of sites there."""
        mean = updates.mean()
        part = len(updates) / updates.num_sites
        change = average_weights([(update.sent[_CHANGE], update.count) for update in updates])
        control = state.get(_CONTROL) or {name: torch.zeros_like(value) for name, value in change.items()}
        new_control = {name: moved(control[name], value, part) for name, value in change.items()}
        if self._rate != 1.0:
            for name in updates.parameter_names:
                mean[name] = moved(parent[name], mean[name].double() - parent[name].double(), self._rate)
        return Combined(mean, {_CONTROL: new_control})
