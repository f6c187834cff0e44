"""Filters of a region's connected components: small ones are taken for noise."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.ndimage import find_objects, label

# Voxels that share a face, an edge or a corner belong together, as lesions are counted.
_NEIGHBOURS = np.ones((3, 3, 3), dtype=bool)


@dataclass(frozen=True)
class ComponentFilter:
    """Which components of a region stay.

    Attributes
    ----------
    smallest_component_ml : smaller ones go
    largest_only : all go except the largest; of two of one size the first stays
    """

    smallest_component_ml: float = 0.0
    largest_only: bool = False

    def keep(self, region: np.ndarray, voxel_ml: float) -> np.ndarray:
        """The region, bool (D, H, W), without the components that go; the region itself where all may stay."""
        if not self.largest_only and self.smallest_component_ml <= voxel_ml:
            return region
        (box,) = find_objects(region.astype(np.uint8), max_label=1)
        if box is None:
            return region
        labels, number = label(region[box], _NEIGHBOURS)
        sizes = np.bincount(labels.ravel(), minlength=number + 1)
        sizes[0] = 0
        # Sums of volumes in ml are rounded; a component of exactly the smallest volume stays.
        stays = sizes * voxel_ml >= self.smallest_component_ml * (1.0 - 1e-9)
        stays[0] = False
        if self.largest_only:
            stays &= np.arange(number + 1) == sizes.argmax()
        kept = np.zeros_like(region)
        kept[box] = stays[labels]
        return kept


def filters_of_regions(regions: list[str], settings: Mapping[str, Mapping[str, Any]]) -> list[ComponentFilter]:
    """The filter of each region in order; one that keeps all where the settings name none.

    Parameters
    ----------
    settings : region to ``smallest_component_ml`` and ``largest_only``
    """
    return [ComponentFilter(**settings.get(name, {})) for name in regions]
