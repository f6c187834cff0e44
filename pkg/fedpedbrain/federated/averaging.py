"""Weighted averages of model weights."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

# Elements added at once: the float64 copy of a block stays in the processor's cache.
_BLOCK = 1 << 18


def add_scaled(total: Tensor, tensor: Tensor, scale: float, wide: Tensor) -> None:
    """Add ``scale`` times a floating-point tensor to a contiguous float64 one of its shape, in place.

    ``wide`` is float64 (_BLOCK,) to work in.
    """
    sums, values = total.view(-1), tensor.reshape(-1)
    for start in range(0, len(values), _BLOCK):
        part = values[start : start + _BLOCK]
        sums[start : start + _BLOCK].add_(wide[: len(part)].copy_(part), alpha=scale)


class WeightedSum:
    """A sum of state dicts, each times a factor, that gives their weighted mean.

    Floating-point tensors are summed in float64 in the order in which they come (McMahan et al.,
    "Communication-efficient learning of deep networks from decentralized data", AISTATS 2017). Integer buffers (a
    BatchNorm step counter) have no mean: the largest is taken.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._factors: dict[str, float] = {}
        self._dtypes: dict[str, torch.dtype] = {}
        self._wide = torch.empty(_BLOCK, dtype=torch.float64)

    def add(self, weights: Mapping[str, Tensor], factors: Mapping[str, float]) -> None:
        """Add one update; ``factors`` holds how much each of its tensors counts."""
        for name, tensor in weights.items():
            self._dtypes.setdefault(name, tensor.dtype)
            if not tensor.is_floating_point():
                self._sums[name] = torch.maximum(self._sums[name], tensor) if name in self._sums else tensor.clone()
                continue
            if name in self._sums:
                add_scaled(self._sums[name], tensor, factors[name], self._wide)
            else:
                self._sums[name] = tensor.to(torch.float64, memory_format=torch.contiguous_format, copy=True)
                self._sums[name].mul_(factors[name])
            self._factors[name] = self._factors.get(name, 0.0) + factors[name]

    def mean(self) -> dict[str, Tensor]:
        """The weighted mean, in the keys, shapes and dtypes of the first update; empties the sum."""
        return {
            name: self._sums.pop(name).div_(self._factors[name]).to(dtype)
            if dtype.is_floating_point
            else self._sums.pop(name)
            for name, dtype in self._dtypes.items()
        }


def average_weights(updates: Iterable[tuple[Mapping[str, Tensor], float]]) -> dict[str, Tensor]:
    """Average state dicts, each by its factor; taken one at a time, so that one update and one sum are in memory."""
    total = WeightedSum()
    for weights, factor in updates:
        total.add(weights, dict.fromkeys(weights, factor))
    return total.mean()
