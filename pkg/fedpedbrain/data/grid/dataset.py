"""Reading shards: cases of one or several sites, memory-mapped, one case in memory at a time."""

import hashlib
from collections.abc import Collection, Sequence
from copy import copy
from pathlib import Path

import numpy as np

from fedpedbrain.base.cases import Case, Shard, read_cases
from fedpedbrain.base.errors import StudyError

# Arrays of a shard, in the order in which a case states their digests.
_PARTS = ("images", "masks")


def middle_part(size: Sequence[int], part: Sequence[int]) -> tuple[slice, ...]:
    """Where the middle ``part`` voxels of ``size`` lie along each axis."""
    starts = ((outer - inner) // 2 for outer, inner in zip(size, part, strict=True))
    return tuple(slice(start, start + inner) for start, inner in zip(starts, part, strict=True))


def digest_on_grid(array: np.ndarray) -> str:
    """SHA-256 of a case's images uint8 (C, D, H, W) or regions uint8 (R, D, H, W), as its shard holds them."""
    return hashlib.sha256(array.tobytes()).hexdigest()


class ShardDataset:
    """The cases of some splits of some shards, addressed by one running row.

    Parameters
    ----------
    shards : arrays of each site, and the table that says in which split each case is
    splits : which splits to keep

    Raises
    ------
    StudyError : a case that is read is not the one that the shard's table was written with; it is named
    """

    def __init__(self, shards: Sequence[Shard], splits: Collection[str]) -> None:
        self.cases: list[Case] = []
        self._places: list[tuple[int, int]] = []
        # Arrays that were read before, and are what the table says.
        self._checked: set[tuple[int, int, str]] = set()
        self._folders = [Path(shard.folder) for shard in shards]
        for number, shard in enumerate(shards):
            for row, case in enumerate(read_cases(shard.cases)):
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
        return self._read(row, "images")

    def mask(self, row: int) -> np.ndarray:
        """One case's regions, uint8 (R, D, H, W), 0 or 1."""
        return self._read(row, "masks")

    def grid_shape(self, row: int) -> tuple[int, int, int]:
        """Voxels (D, H, W) of one case's grid."""
        return tuple(self._map(row, "images").shape[1:])

    def image_map(self, row: int) -> np.ndarray:
        """As ``image``, a memory map whose voxels are read once they are used."""
        return self._checked_map(row, "images")

    def mask_map(self, row: int) -> np.ndarray:
        """As ``mask``, a memory map whose voxels are read once they are used."""
        return self._checked_map(row, "masks")

    def _path(self, row: int, part: str) -> Path:
        return self._folders[self._places[row][0]] / f"{part}.npy"

    def _map(self, row: int, part: str) -> np.ndarray:
        return np.load(self._path(row, part), mmap_mode="r")[self._places[row][1]]

    def _checked_map(self, row: int, part: str) -> np.ndarray:
        """Map one case of a shard, which is read whole the first time."""
        if (*self._places[row], part) not in self._checked:
            self._read(row, part)
        return self._map(row, part)

    def _read(self, row: int, part: str) -> np.ndarray:
        """Copy one case out of a shard, mapped for that long only: pages once read would count as memory in use."""
        array = np.array(self._map(row, part))
        if (*self._places[row], part) not in self._checked:
            self._check(self.cases[row], part, array, self._path(row, part))
            self._checked.add((*self._places[row], part))
        return array

    @staticmethod
    def _check(case: Case, part: str, array: np.ndarray, path: Path) -> None:
        """Refuse what the job that preprocessed the case did not write: nothing else tells that it was changed."""
        stated = dict(zip(_PARTS, case.grid_sha256, strict=False)).get(part, "no digest")
        found = digest_on_grid(array)
        if stated != found:
            raise StudyError(
                f"{path}: case {case.case}: expected SHA-256 {stated[:12]}, found {found[:12]}; "
                f"delete {path.parent} and run again"
            )

    def class_indices(self, classes: Sequence[str], unknown_index: int) -> np.ndarray:
        """Class index of every case, int64 (N,); ``unknown_index`` where the diagnosis is not among ``classes``."""
        index_of = {name: index for index, name in enumerate(classes)}
        return np.array([index_of.get(case.class_name, unknown_index) for case in self.cases], dtype=np.int64)
