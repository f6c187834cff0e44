"""Server optimizers: the mean difference to the round's start is a gradient that the server steps along."""

from collections.abc import Callable

import torch
from torch import Tensor

from fedpedbrain.federated.strategies.strategy import Combined, Memory, RoundUpdates, Strategy, Weights, moved

_FIRST, _SECOND = "first_moment", "second_moment"


class FedAvgM(Strategy):
    """Hsu et al., "Measuring the Effects of Non-Identical Data Distribution", 2019: momentum at the server."""

    def __init__(self, server_learning_rate: float, momentum: float) -> None:
        self._rate, self._momentum = server_learning_rate, momentum

    def combine(self, parent: Weights, updates: RoundUpdates, state: Memory) -> Combined:
        """Step along the running sum of mean differences."""
        weights, velocities = updates.mean(), {}
        for name in updates.parameter_names:
            step = weights[name].double() - parent[name].double()
            if state:
                step.add_(state[_FIRST][name].double(), alpha=self._momentum)
            velocities[name] = step.float()
            weights[name] = moved(parent[name], step, self._rate)
        return Combined(weights, {_FIRST: velocities})


def _adagrad(second: Tensor, square: Tensor, beta2: float) -> Tensor:
    return second + square


def _adam(second: Tensor, square: Tensor, beta2: float) -> Tensor:
    return beta2 * second + (1.0 - beta2) * square


def _yogi(second: Tensor, square: Tensor, beta2: float) -> Tensor:
    return second - (1.0 - beta2) * square * torch.sign(second - square)


class AdaptiveServer(Strategy):
    """Reddi et al., "Adaptive Federated Optimization", ICLR 2021, algorithm 2; no bias correction, as there.

    Parameters
    ----------
    second_moment : the new second moment from the old one, the squared mean difference and ``beta2``
    tau : degree of adaptivity; the second moment starts at its square
    """

    def __init__(
        self,
        second_moment: Callable[[Tensor, Tensor, float], Tensor],
        server_learning_rate: float,
        tau: float,
        beta1: float = 0.0,
        beta2: float = 0.0,
    ) -> None:
        self._second_moment, self._rate, self._tau = second_moment, server_learning_rate, tau
        self._beta1, self._beta2 = beta1, beta2

    def combine(self, parent: Weights, updates: RoundUpdates, state: Memory) -> Combined:
        """Step along the first moment, each element by its own rate; buffers are averaged."""
        weights = updates.mean()
        firsts, seconds = {}, {}
        for name in updates.parameter_names:
            step = weights[name].double() - parent[name].double()
            first = state[_FIRST][name].double() if state else torch.zeros_like(step)
            second = state[_SECOND][name].double() if state else torch.full_like(step, self._tau**2)
            first = self._beta1 * first + (1.0 - self._beta1) * step
            second = self._second_moment(second, step.square(), self._beta2)
            weights[name] = moved(parent[name], first / (second.sqrt() + self._tau), self._rate)
            firsts[name], seconds[name] = first.float(), second.float()
        return Combined(weights, {_FIRST: firsts, _SECOND: seconds})


def fed_adagrad(server_learning_rate: float, tau: float) -> AdaptiveServer:
    """Sum of squares as second moment."""
    return AdaptiveServer(_adagrad, server_learning_rate, tau)


def fed_adam(server_learning_rate: float, beta1: float, beta2: float, tau: float) -> AdaptiveServer:
    """Running mean of squares as second moment."""
    return AdaptiveServer(_adam, server_learning_rate, tau, beta1, beta2)


def fed_yogi(server_learning_rate: float, beta1: float, beta2: float, tau: float) -> AdaptiveServer:
    """Second moment that moves by at most the square, so that it forgets slowly."""
    return AdaptiveServer(_yogi, server_learning_rate, tau, beta1, beta2)
