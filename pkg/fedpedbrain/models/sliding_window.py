"""Windows that slide over a case, and how much each counts where they overlap."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch import Tensor

# Of the window's length, as in nnU-Net (Isensee et al. 2021): what a window's rim says counts little.
_SIGMA = 0.125


@dataclass(frozen=True)
class Place:
    """Where a window lies in a case, and how much it counts there.

    Attributes
    ----------
    voxels : the window along (D, H, W)
    weights : float32 along each axis; the weight of a voxel is the product of its three. Over all windows that hold a
        voxel the weights add up to 1
    """

    voxels: tuple[slice, slice, slice]
    weights: tuple[Tensor, Tensor, Tensor]

    def grid_weights(self) -> Tensor:
        """Weight of every voxel of the window, float32 (D, H, W)."""
        depth, height, width = self.weights
        return depth[:, None, None] * height[:, None] * width


def window_starts(size: int, window: int, overlap: float) -> list[int]:
    """Where windows begin along one axis: evenly spread, the first and last flush with the ends.

    Parameters
    ----------
    overlap : least part of a window, in [0, 1), that it shares with the next
    """
    step = max(1, math.floor(window * (1.0 - overlap)))
    num_steps = math.ceil((size - window) / step)
    return [round(number * (size - window) / max(num_steps, 1)) for number in range(num_steps + 1)]


def gaussian_weights(window: int) -> Tensor:
    """How much each voxel of a window counts along one axis: float32, falling from the middle to the rim, never 0."""
    distance = torch.arange(window) - (window - 1) / 2
    return torch.exp(-0.5 * (distance / (_SIGMA * window)) ** 2)


def _windows_of_axis(size: int, window: int, overlap: float) -> list[tuple[slice, Tensor]]:
    """Windows along one axis with their weights, which add up to 1 at every voxel."""
    weights, total = gaussian_weights(window), torch.zeros(size)
    slices = [slice(start, start + window) for start in window_starts(size, window, overlap)]
    for voxels in slices:
        total[voxels] += weights
    return [(voxels, weights / total[voxels]) for voxels in slices]


def lay_windows(size: Sequence[int], window: Sequence[int], overlap: float) -> list[Place]:
    """Lay windows over a case.

    Windows stand on a grid and their weights are products, so the sums of weights are products, too: nothing as large
    as the case has to be kept for them.

    Parameters
    ----------
    size : voxels of the case (D, H, W), at least those of the window
    overlap : as of ``window_starts``
    """
    axes = [_windows_of_axis(outer, inner, overlap) for outer, inner in zip(size, window, strict=True)]
    return [Place(*zip(*parts, strict=True)) for parts in product(*axes)]


def fill_up(image: np.ndarray, window: Sequence[int]) -> tuple[np.ndarray, tuple[slice, slice, slice]]:
    """Lay air around a case that is smaller than the window, as around a patch in training.

    Parameters
    ----------
    image : (C, D, H, W)

    Returns
    -------
    the image with air, the least intensity of each channel, up to the window; and where the case lies in it
    """
    size = image.shape[1:]
    before = [max(inner - outer, 0) // 2 for outer, inner in zip(size, window, strict=True)]
    inside = tuple(slice(start, start + outer) for start, outer in zip(before, size, strict=True))
    if all(outer >= inner for outer, inner in zip(size, window, strict=True)):
        return image, inside
    filled = np.empty((len(image), *map(max, size, window)), image.dtype)
    filled[:] = image.min((1, 2, 3), keepdims=True)
    filled[:, *inside] = image
    return filled, inside


def cut_window(image: np.ndarray, place: Place, context: int) -> np.ndarray:
    """Copy what a network sees of a window.

    Parameters
    ----------
    image : (C, D, H, W)
    context : slices on either side that the network sees of more than it predicts; beyond the case the last slice again

    Returns
    -------
    (C, D' + 2 context, H', W')
    """
    depth, *plane = place.voxels
    slices = np.arange(depth.start - context, depth.stop + context).clip(0, image.shape[1] - 1)
    return image[:, :, *plane][:, slices]


def batches_of(places: Sequence[Place], num_voxels: int) -> Iterator[Sequence[Place]]:
    """Windows that go through the network together, of about this number of voxels; at least one."""
    of_one = math.prod(voxels.stop - voxels.start for voxels in places[0].voxels)
    count = max(1, num_voxels // of_one)
    yield from (places[first : first + count] for first in range(0, len(places), count))
