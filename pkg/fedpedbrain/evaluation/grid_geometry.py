"""Held-out cases on the network's grid, where they were predicted."""

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import SimpleITK as sitk

from fedpedbrain.base.cases import HELD_OUT, Shard
from fedpedbrain.data.grid.dataset import ShardDataset
from fedpedbrain.data.grid.frame_table import CaseFrame


class GridGeometry:
    """The voxels of each case's grid; see ``CaseGeometry``."""

    def open(self, shards: Sequence[Shard]) -> ShardDataset:
        """The held-out cases."""
        return ShardDataset(shards, HELD_OUT)

    def shape(self, frame: CaseFrame) -> tuple[int, ...]:
        """Voxels (D, H, W) of a case."""
        return frame.grid.size[::-1]

    def voxel_ml(self, frame: CaseFrame) -> float:
        """Volume of a voxel of a case."""
        return math.prod(frame.grid.spacing) / 1000.0

    def lay(self, frame: CaseFrame, maps: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Leave maps as they are."""
        yield from maps

    def to_stored(self, frame: CaseFrame, regions: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Resample regions; see ``restore_region``."""
        for region in regions:
            yield sitk.GetArrayFromImage(frame.restore(region)).astype(bool)
