"""Combining the weights of several models piece by piece, so that never more than one piece of each is in memory."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import EllipsisType
from typing import Protocol

import torch
from torch import Tensor

# Elements combined at once: the float64 copy of a piece stays in the processor's cache.
_PIECE = 1 << 18
# Of several tensors of one name the same piece each, by the name: the combined piece.
CombineRows = Callable[[str, list[Tensor]], Tensor]


class Sliceable(Protocol):
    """A tensor, or what gives parts of one on demand."""

    shape: torch.Size
    dtype: torch.dtype

    def __getitem__(self, part: slice | EllipsisType) -> Tensor:
        """Some rows, or all of it."""
        ...


def _pieces(shape: torch.Size) -> Iterator[slice | EllipsisType]:
    """Ranges of the first axis that together are a tensor; all of it where it has no axis."""
    if not shape:
        yield ...
        return
    step = max(1, _PIECE // max(1, shape[1:].numel()))
    for start in range(0, shape[0], step):
        yield slice(start, start + step)


def combine_pieces(
    updates: Sequence[Mapping[str, Sliceable]], combine_rows: CombineRows, dtypes: Mapping[str, torch.dtype]
) -> dict[str, Tensor]:
    """Combine state dicts of the same names and shapes.

    Parameters
    ----------
    combine_rows : makes one piece from the same piece of every update, in their order
    dtypes : of the result's tensors
    """
    combined = {}
    for name, first in updates[0].items():
        combined[name] = torch.empty(first.shape, dtype=dtypes[name])
        for piece in _pieces(first.shape):
            combined[name][piece] = combine_rows(name, [update[name][piece] for update in updates])
    return combined


def weighted_mean(rows: Sequence[Tensor], factors: Sequence[float]) -> Tensor:
    """Mean of tensors, each by its factor, float64 of their shape; of integers, which have no mean, the largest.

    Summed in float64 in the order in which they come (McMahan et al., "Communication-efficient learning of deep
    networks from decentralized data", AISTATS 2017). Integer buffers are counters, as of BatchNorm's steps.
    """
    if not rows[0].is_floating_point():
        return torch.stack(list(rows)).amax(0)
    total = rows[0].to(torch.float64, copy=True).mul_(factors[0])
    wide = torch.empty_like(total)
    for row, factor in zip(rows[1:], factors[1:], strict=True):
        total.add_(wide.copy_(row), alpha=factor)
    return total.div_(sum(factors))


def average_weights(updates: Sequence[tuple[Mapping[str, Tensor], float]]) -> dict[str, Tensor]:
    """Average state dicts, each by its factor, in the dtypes of the first."""
    factors = [factor for _, factor in updates]
    dtypes = {name: tensor.dtype for name, tensor in updates[0][0].items()}
    all_weights = [weights for weights, _ in updates]
    return combine_pieces(all_weights, lambda name, rows: weighted_mean(rows, factors), dtypes)
