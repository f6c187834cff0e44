"""Filters of a region's connected components: small ones are taken for noise."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
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

    @property
    def settings(self) -> dict[str, float | bool]:
        """Plain values: the arguments of this class."""
        return asdict(self)

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


def read_filters(
    path: str | Path | None, regions: Sequence[str], otherwise: Mapping[str, Any]
) -> list[ComponentFilter]:
    """The filter of each region.

    Parameters
    ----------
    path : a table of what was chosen for each region, see ``evaluation.filters``; None where nothing was
    otherwise : the settings of a region of which it says nothing
    """
    chosen = {} if path is None else json.loads(Path(path).read_text(encoding="utf-8"))
    return [ComponentFilter(**(chosen[name]["chosen"] if name in chosen else otherwise)) for name in regions]
