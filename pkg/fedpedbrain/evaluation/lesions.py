"""Lesions of a mask, one by one: which true ones were found, and which predicted ones are true."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import find_objects, label

# Voxels that share a face, an edge or a corner are one lesion.
_NEIGHBOURS = np.ones((3, 3, 3), dtype=bool)


@dataclass(frozen=True)
class LesionCounts:
    """Lesions of a mask.

    Attributes
    ----------
    number : all of them
    num_covered : those of which the other mask fills enough
    """

    number: int
    num_covered: int

    @property
    def part_covered(self) -> float:
        """Part that the other mask covers, nan where there is no lesion."""
        return self.num_covered / self.number if self.number else math.nan


def count_lesions(mask: np.ndarray, other: np.ndarray, least_overlap: float) -> LesionCounts:
    """Count a mask's lesions, and those of which another mask fills enough.

    Counted so, two lesions that a prediction joins are both found, and a lesion that it takes apart is found if the
    parts together fill enough of it: no matching of one to one is needed.

    Parameters
    ----------
    mask, other : bool (D, H, W)
    least_overlap : part of a lesion's voxels, above 0
    """
    (box,) = find_objects(mask.astype(np.uint8), max_label=1)
    if box is None:
        return LesionCounts(0, 0)
    labels, number = label(mask[box], _NEIGHBOURS)
    sizes = np.bincount(labels.ravel(), minlength=number + 1)[1:]
    filled = np.bincount(labels[other[box]], minlength=number + 1)[1:]
    return LesionCounts(int(number), int(np.sum(filled >= least_overlap * sizes)))
