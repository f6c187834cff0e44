"""Weighted averages of model weights."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor


def average_weights(updates: Iterable[tuple[Mapping[str, Tensor], float]]) -> dict[str, Tensor]:
    """Average state dicts (McMahan et al., "Communication-efficient learning", AISTATS 2017).

    Floating-point tensors are summed in float64 in the given order and returned in their own dtype. Integer
    buffers (a BatchNorm step counter) have no mean: the largest is taken.

    Parameters
    ----------
    updates : weights and factor of each update; factors sum to 1. Taken one at a time, so that one update and one
        sum are in memory

    Returns
    -------
    weights with the keys, shapes and dtypes of the first update
    """
    sums: dict[str, Tensor] = {}
    dtypes: dict[str, torch.dtype] = {}
    for weights, factor in updates:
        for name, tensor in weights.items():
            dtypes.setdefault(name, tensor.dtype)
            if not tensor.is_floating_point():
                sums[name] = torch.maximum(sums[name], tensor) if name in sums else tensor.clone()
            elif name in sums:
                sums[name].add_(tensor.double(), alpha=factor)
            else:
                sums[name] = tensor.double() * factor
    return {name: total.to(dtypes[name]) for name, total in sums.items()}
