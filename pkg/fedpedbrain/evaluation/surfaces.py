"""Distances between the surfaces of two masks, in mm: the 95th-percentile Hausdorff distance and surface Dice.

Erosion and the distance transform are SciPy's. A surface is made of voxels, as MONAI's is: those of the mask that miss
a neighbour across a face; beyond the grid nothing is filled.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_erosion, distance_transform_edt


@dataclass(frozen=True)
class SurfaceDistances:
    """Distances of two masks that are not empty.

    Attributes
    ----------
    to_truth : float (P,) mm, from each surface voxel of the prediction to the nearest one of the truth
    to_prediction : float (T,) mm, the other way
    """

    to_truth: np.ndarray
    to_prediction: np.ndarray

    @property
    def hd95_mm(self) -> float:
        """The larger of the two directed 95th percentiles (Huttenlocher et al., 1993), as MONAI and BraTS take it."""
        return float(max(np.percentile(self.to_truth, 95), np.percentile(self.to_prediction, 95)))

    def surface_dice(self, tolerance_mm: float) -> float:
        """Part of both surfaces within the tolerance of the other (Nikolov et al., 2018), every surface voxel alike."""
        distances = np.concatenate([self.to_truth, self.to_prediction])
        # A tolerance of whole voxels must not fail by a rounding error.
        return float(np.mean(distances <= tolerance_mm * (1.0 + 1e-9)))


def surface_distances(predicted: np.ndarray, truth: np.ndarray, spacing_mm: Sequence[float]) -> SurfaceDistances:
    """Measure from each surface to the other.

    Parameters
    ----------
    predicted, truth : bool (D, H, W), neither of them empty
    spacing_mm : distance between voxel centres (D, H, W)
    """
    box = _bounding_box(predicted | truth)
    # Along an axis of one voxel a mask has no inside: a single slice is a plane with an outline.
    plane = tuple(0 if size == 1 else slice(None) for size in predicted.shape)
    spacing = [mm for mm, size in zip(spacing_mm, predicted.shape, strict=True) if size > 1]
    surfaces = [_surface(mask[box][plane]) for mask in (predicted, truth)]
    to_prediction, to_truth = (distance_transform_edt(~surface, sampling=spacing) for surface in surfaces)
    return SurfaceDistances(to_truth[surfaces[0]], to_prediction[surfaces[1]])


def grid_diagonal_mm(shape: Sequence[int], spacing_mm: Sequence[float]) -> float:
    """The largest distance that a grid has, between the centres of voxels in opposite corners."""
    return math.hypot(*((size - 1) * mm for size, mm in zip(shape, spacing_mm, strict=True)))


def _bounding_box(mask: np.ndarray) -> tuple[slice, ...]:
    ranges = []
    for axis in range(mask.ndim):
        filled = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        ranges.append(slice(int(filled[0]), int(filled[-1]) + 1))
    return tuple(ranges)


def _surface(mask: np.ndarray) -> np.ndarray:
    return mask & ~binary_erosion(mask)
