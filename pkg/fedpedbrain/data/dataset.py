"""Reading shards: cases of one or several sites, memory-mapped, one case in memory at a time."""

from collections.abc import Collection, Sequence
from copy import copy
from pathlib import Path

import numpy as np

from fedpedbrain.cohort import Case, read_cases


class ShardDataset:
    """The cases of some splits of some shards, addressed by one running row.

    Parameters
    ----------
    folders : shard folders, each with ``images.npy``, ``masks.npy`` and ``cases.tsv``
    splits : which splits to keep
    """

    def __init__(self, folders: Sequence[str | Path], splits: Collection[str]) -> None:
        self.cases: list[Case] = []
        self._places: list[tuple[int, int]] = []
        self._folders = [Path(folder) for folder in folders]
        for number, folder in enumerate(self._folders):
            for row, case in enumerate(read_cases(folder / "cases.tsv")):
                if case.split in splits:
                    self.cases.append(case)
                    self._places.append((number, row))

    def select(self, rows: Sequence[int]) -> "ShardDataset":
        """The data set of some rows alone."""
        selected = copy(self)
        selected.cases = [self.cases[row] for row in rows]
        selected._places = [self._places[row] for row in rows]
        return selected

    def __len__(self) -> int:
        return len(self.cases)

    def image(self, row: int) -> np.ndarray:
        """One case's images, uint8 (C, D, H, W)."""
        return self._read(row, "images.npy")

    def mask(self, row: int) -> np.ndarray:
        """One case's regions, uint8 (R, D, H, W), 0 or 1."""
        return self._read(row, "masks.npy")

    def _read(self, row: int, file_name: str) -> np.ndarray:
        """Copy one case out of a shard, mapped for that long only: pages once read would count as memory in use."""
        shard, place = self._places[row]
        return np.array(np.load(self._folders[shard] / file_name, mmap_mode="r")[place])

    def class_indices(self, classes: Sequence[str], unknown_index: int) -> np.ndarray:
        """Class index of every case, int64 (N,); ``unknown_index`` where the diagnosis is not among ``classes``."""
        index_of = {name: index for index, name in enumerate(classes)}
        return np.array([index_of.get(case.class_name, unknown_index) for case in self.cases], dtype=np.int64)
