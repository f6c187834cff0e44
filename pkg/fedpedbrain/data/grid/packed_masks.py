"""Masks of cases of any size, eight voxels per byte, case behind case in one ``.npy`` file of one axis."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fedpedbrain.data.grid.ragged import RaggedReader


def pack_masks(masks: np.ndarray) -> np.ndarray:
    """Regions (R, D, H, W), bool or 0 and 1, as bits: uint8 (B,), a row for ``RaggedWriter``."""
    return np.packbits(masks)


class PackedMasks:
    """The masks that were packed into a file.

    Parameters
    ----------
    path : of the file
    shapes : (R, D, H, W) of each case, in the order in which they were written

    Raises
    ------
    StudyError : the file holds masks of more or fewer voxels than these
    """

    def __init__(self, path: str | Path, shapes: Sequence[tuple[int, ...]]) -> None:
        self._shapes = shapes
        self._rows = RaggedReader(path, [(-(-math.prod(shape) // 8),) for shape in shapes])

    def __len__(self) -> int:
        return len(self._shapes)

    def packed(self, row: int) -> np.ndarray:
        """The bits of one case as they lie in the file, uint8 (B,)."""
        return self._rows.row(row)

    def row(self, row: int) -> np.ndarray:
        """Regions of one case, uint8 (R, D, H, W), 0 or 1."""
        shape = self._shapes[row]
        return np.unpackbits(self.packed(row), count=math.prod(shape)).reshape(shape)
