"""A site's cases in memory: what a round asks of a data set, and nothing more."""

from collections.abc import Sequence

import numpy as np
from fedpedbrain.base.cases import Case
from fedpedbrain.data.grid.dataset import ShardDataset


class MemoryDataset:
    """Cases with images uint8 (N, C, D, H, W) and masks uint8 (N, R, D, H, W), row by row."""

    def __init__(self, cases: Sequence[Case], images: np.ndarray, masks: np.ndarray) -> None:
        self.cases, self._images, self._masks = list(cases), images, masks

    def __len__(self) -> int:
        return len(self.cases)

    def image(self, row: int) -> np.ndarray:
        return self._images[row]

    def mask(self, row: int) -> np.ndarray:
        return self._masks[row]

    image_map, mask_map = image, mask

    def grid_shape(self, row: int) -> tuple[int, ...]:
        return self._images[row].shape[1:]

    def select(self, rows: Sequence[int]) -> "MemoryDataset":
        return MemoryDataset([self.cases[row] for row in rows], self._images[list(rows)], self._masks[list(rows)])

    class_indices = ShardDataset.class_indices
