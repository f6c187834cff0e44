"""Lesions of a mask, one by one: which true ones were found, and which predicted ones are true."""

import numpy as np
from scipy.ndimage import label

# Voxels that share a face, an edge or a corner are one lesion.
_NEIGHBOURS = np.ones((3, 3, 3), dtype=bool)


def count_lesions(mask: np.ndarray) -> int:
    """Number of connected components of a bool mask (D, H, W); neighbours share a face, an edge or a corner."""
    return int(label(mask, _NEIGHBOURS)[1])


def count_covered_lesions(mask: np.ndarray, other: np.ndarray, least_overlap: float) -> int:
    """Number of a mask's lesions of which another mask fills enough.

    Counted so, two lesions that a prediction joins are both found, and a lesion that it takes apart is found if the
    parts together fill enough of it: no matching of one to one is needed.

    Parameters
    ----------
    mask, other : bool (D, H, W)
    least_overlap : part of a lesion's voxels, above 0
    """
    labels, number = label(mask, _NEIGHBOURS)
    sizes = np.bincount(labels.ravel(), minlength=number + 1)[1:]
    filled = np.bincount(labels[other], minlength=number + 1)[1:]
    return int(np.sum(filled >= least_overlap * sizes))
