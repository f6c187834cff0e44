"""One label image of several regions, for viewers that show one: what overlaps cannot all be in it."""

from collections.abc import Iterable, Sequence

import numpy as np


def label_regions(regions: Iterable[np.ndarray], shape: Sequence[int]) -> np.ndarray:
    """Number regions that may overlap; where they do, the smallest one's number stands.

    Parameters
    ----------
    regions : bool (D, H, W) each
    shape : (D, H, W)

    Returns
    -------
    uint8 (D, H, W): 0 is background and region number r is r + 1; of two regions of one size the later lies on top
    """
    regions = list(regions)
    labels = np.zeros(shape, dtype=np.uint8)
    for number in sorted(range(len(regions)), key=lambda number: -int(regions[number].sum())):
        labels[regions[number]] = number + 1
    return labels
