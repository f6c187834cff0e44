"""Reading shards: cases of one or several sites, memory-mapped, never copied whole."""

from collections.abc import Collection, Sequence
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
        self._images: list[np.ndarray] = []
        self._masks: list[np.ndarray] = []
        for number, folder in enumerate(map(Path, folders)):
            self._images.append(np.load(folder / "images.npy", mmap_mode="r"))
            self._masks.append(np.load(folder / "masks.npy", mmap_mode="r"))
            for row, case in enumerate(read_cases(folder / "cases.tsv")):
                if case.split in splits:
                    self.cases.append(case)
                    self._places.append((number, row))

    def __len__(self) -> int:
        return len(self.cases)

    def image(self, row: int) -> np.ndarray:
        """One case's images, uint8 (C, D, H, W), a view into the file."""
        shard, place = self._places[row]
        return self._images[shard][place]

    def mask(self, row: int) -> np.ndarray:
        """One case's regions, uint8 (R, D, H, W), 0 or 1, a view into the file."""
        shard, place = self._places[row]
        return self._masks[shard][place]

    def plane_aspect(self, row: int) -> float:
        """Height (front to back) over width of one case's plane, both in mm."""
        _, height, width = self.image(row).shape[-3:]
        _, height_mm, width_mm = self.cases[row].grid_spacing_mm
        return height * height_mm / (width * width_mm)

    def class_indices(self, classes: Sequence[str], unknown_index: int) -> np.ndarray:
        """Class index of every case, int64 (N,); ``unknown_index`` where the diagnosis is not among ``classes``."""
        index_of = {name: index for index, name in enumerate(classes)}
        return np.array([index_of.get(case.class_name, unknown_index) for case in self.cases], dtype=np.int64)
