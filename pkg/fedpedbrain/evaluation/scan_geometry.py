"""Held-out cases in their scans' own geometry: what was predicted is laid back there before anything is decided."""

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import SimpleITK as sitk

from fedpedbrain.base.cases import HELD_OUT, Shard
from fedpedbrain.data.grid.frame_table import CaseFrame
from fedpedbrain.data.grid.geometry import restore_probabilities, to_lps
from fedpedbrain.data.grid.scan_dataset import ScanDataset


class ScanGeometry:
    """The voxels of each case's scan, their axes turned to (D, H, W); see ``CaseGeometry``."""

    def open(self, shards: Sequence[Shard]) -> ScanDataset:
        """The held-out cases."""
        return ScanDataset(shards, HELD_OUT)

    def shape(self, frame: CaseFrame) -> tuple[int, ...]:
        """Voxels (D, H, W) of a case."""
        return to_lps(frame.scan.to_image()).GetSize()[::-1]

    def voxel_ml(self, frame: CaseFrame) -> float:
        """Volume of a voxel of a case."""
        return math.prod(frame.scan.spacing) / 1000.0

    def lay(self, frame: CaseFrame, maps: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Interpolate maps linearly."""
        scan, grid = to_lps(frame.scan.to_image()), frame.grid.to_image()
        for values in maps:
            yield sitk.GetArrayFromImage(restore_probabilities(values, grid, scan))

    def to_stored(self, frame: CaseFrame, regions: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Turn regions to the axes of the stored scan."""
        scan = frame.scan.to_image()
        oriented = to_lps(scan)
        stored = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(scan.GetDirection())
        for region in regions:
            image = sitk.GetImageFromArray(region.astype(np.uint8))
            image.CopyInformation(oriented)
            yield sitk.GetArrayFromImage(sitk.DICOMOrient(image, stored)).astype(bool)
