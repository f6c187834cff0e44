"""What the geometries of ``study.geometry_facts`` have in common: where predictions are decided, scored and shown."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from fedpedbrain.base.cases import Case, Shard
from fedpedbrain.data.grid.frame_table import CaseFrame, read_frames
from fedpedbrain.data.grid.packed_masks import PackedMasks


class HeldOutCases(Protocol):
    """The held-out cases in one geometry, addressed by one running row."""

    cases: Sequence[Case]

    def __len__(self) -> int: ...

    def image(self, row: int) -> np.ndarray:
        """Images (C, D, H, W); the first channel is shown."""

    def mask(self, row: int) -> np.ndarray:
        """True regions, uint8 (R, D, H, W), 0 or 1."""

    def grid_shape(self, row: int) -> tuple[int, ...]:
        """Voxels (D, H, W)."""

    def spacing_mm(self, row: int) -> tuple[float, ...]:
        """Distance between voxel centres (D, H, W)."""


class CaseGeometry(Protocol):
    """Where held-out cases are compared with what is predicted of them."""

    def open(self, shards: Sequence[Shard]) -> HeldOutCases:
        """The held-out cases."""

    def shape(self, frame: CaseFrame) -> tuple[int, ...]:
        """Voxels (D, H, W) of a case."""

    def voxel_ml(self, frame: CaseFrame) -> float:
        """Volume of a voxel of a case."""

    def lay(self, frame: CaseFrame, maps: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Bring maps, float32 (D, H, W), one at a time from a case's grid here; they are 0 beyond the grid."""

    def to_stored(self, frame: CaseFrame, regions: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Bring regions, bool (D, H, W), one at a time from here to the scan, its axes as they are stored."""


def open_predictions(masks_path: str | Path, dataset: HeldOutCases, num_regions: int) -> PackedMasks:
    """The masks that were predicted of the held-out cases in their geometry, rows in their order."""
    return PackedMasks(masks_path, [(num_regions, *dataset.grid_shape(row)) for row in range(len(dataset))])


def read_frames_of(shards: Sequence[Shard]) -> dict[str, CaseFrame]:
    """Case to its frame, of all sites; each shard's folder has ``frames.tsv``."""
    frames: dict[str, CaseFrame] = {}
    for shard in shards:
        frames |= read_frames(Path(shard.folder) / "frames.tsv")
    return frames
