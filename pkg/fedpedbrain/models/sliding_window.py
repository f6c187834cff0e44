"""A window of the network's grid that slides over a larger image, its predictions blended where windows overlap."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch import Tensor

# Of the window's length, as in nnU-Net (Isensee et al. 2021): what a window's rim says counts little.
_SIGMA = 0.125


@dataclass(frozen=True)
class Window:
    """What slides over an image.

    Attributes
    ----------
    grid : its voxels (D, H, W)
    overlap : least part of it along each axis, in [0, 1), that it shares with its neighbour
    """

    grid: tuple[int, int, int]
    overlap: float


def window_starts(size: int, window: int, overlap: float) -> list[int]:
    """Where windows begin along one axis: evenly spread, the first and last flush with the ends; see ``Window``."""
    step = max(1, math.floor(window * (1.0 - overlap)))
    num_steps = math.ceil((size - window) / step)
    return [round(number * (size - window) / max(num_steps, 1)) for number in range(num_steps + 1)]


def gaussian_weights(grid: Sequence[int]) -> Tensor:
    """How much each voxel of a window counts: float32 (D, H, W), falling from the middle to the rim, never 0."""
    weights = torch.ones(())
    for size in grid:
        distance = torch.arange(size) - (size - 1) / 2
        weights = weights[..., None] * torch.exp(-0.5 * (distance / (_SIGMA * size)) ** 2)
    return weights


def _places(size: Sequence[int], window: Window) -> Iterator[tuple[slice, ...]]:
    axes = [window_starts(outer, inner, window.overlap) for outer, inner in zip(size, window.grid, strict=True)]
    for starts in product(*axes):
        yield tuple(slice(start, start + inner) for start, inner in zip(starts, window.grid, strict=True))


def blend_windows(image: np.ndarray, window: Window, predict: Callable[[np.ndarray], Tensor]) -> Tensor:
    """Predict an image window by window; where windows overlap, the mean weighted by ``gaussian_weights``.

    Parameters
    ----------
    image : uint8 (C, D, H, W), at least as large as the window
    predict : uint8 (C, d, h, w) of the window's size to probabilities, float32 (R, d, h, w)

    Returns
    -------
    float32 (R, D, H, W), on the device that ``predict`` answers on
    """
    total = weight_sum = None
    for place in _places(image.shape[1:], window):
        found = predict(image[:, *place])
        if total is None:
            weights = gaussian_weights(window.grid).to(found.device)
            total, weight_sum = (found.new_zeros((count, *image.shape[1:])) for count in (len(found), 1))
        total[:, *place] += weights * found
        weight_sum[:, *place] += weights
    return total / weight_sum
