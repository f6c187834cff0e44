"""Reading shards: cases of one or several sites, memory-mapped, one case in memory at a time."""

import hashlib
import math
from collections.abc import Collection, Sequence
from copy import copy
from pathlib import Path

import numpy as np

from fedpedbrain.base.cases import Case, Shard, read_cases
from fedpedbrain.base.errors import StudyError
from fedpedbrain.data.grid.mapped_rows import ArrayReader
from fedpedbrain.data.grid.ragged import RaggedReader

# Arrays of a shard, in the order in which a case states their digests.
_PARTS = ("images", "masks")


def middle_part(size: Sequence[int], part: Sequence[int]) -> tuple[slice, ...]:
    """Where the middle ``part`` voxels of ``size`` lie along each axis."""
    starts = ((outer - inner) // 2 for outer, inner in zip(size, part, strict=True))
    return tuple(slice(start, start + inner) for start, inner in zip(starts, part, strict=True))


def digest_on_grid(array: np.ndarray) -> str:
    """SHA-256 of a case's images (C, D, H, W) or regions uint8 (R, D, H, W), as its shard holds them."""
    return hashlib.sha256(np.ascontiguousarray(array).reshape(-1).view(np.uint8)).hexdigest()


def check_digest(path: Path, case: str, stated: str, array: np.ndarray, made_again: Path) -> None:
    """Refuse what the job that laid a case out did not write: nothing else tells that it was changed.

    Parameters
    ----------
    path : that the array was read from
    stated : its digest, as of ``digest_on_grid``, where its case is described
    made_again : what has to be deleted for it to be made again
    """
    found = digest_on_grid(array)
    if stated != found:
        raise StudyError(
            f"{path}: case {case}: expected SHA-256 {stated[:12]}, found {found[:12]}; "
            f"delete {made_again} and run again"
        )


def open_rows(path: str | Path, grid_shapes: Sequence[tuple[int, ...]]) -> ArrayReader | RaggedReader:
    """The cases of one array of a shard.

    Parameters
    ----------
    path : of an array (N, P, D, H, W), or of one axis that ``RaggedWriter`` wrote, P planes of each case's grid
    grid_shapes : of each case, (D, H, W)
    """
    array = np.load(path, mmap_mode="r")
    if array.ndim > 1:
        return ArrayReader(path)
    num_planes = array.size // max(sum(map(math.prod, grid_shapes)), 1)
    return RaggedReader(path, [(num_planes, *shape) for shape in grid_shapes])


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
        self._grid_shapes: list[list[tuple[int, ...]]] = []
        self._rows: dict[tuple[int, str], ArrayReader | RaggedReader] = {}
        for number, shard in enumerate(shards):
            in_shard = read_cases(shard.cases)
            self._grid_shapes.append([case.grid_shape for case in in_shard])
            for row, case in enumerate(in_shard):
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
        """One case's images, uint8 or float16 (C, D, H, W)."""
        return np.array(self._map(row, "images"))

    def mask(self, row: int) -> np.ndarray:
        """One case's regions, uint8 (R, D, H, W), 0 or 1."""
        return np.array(self._map(row, "masks"))

    def image_map(self, row: int) -> np.ndarray:
        """As ``image``, but a memory map, of which only what is used is read."""
        return self._map(row, "images")

    def mask_map(self, row: int) -> np.ndarray:
        """As ``mask``, but a memory map, of which only what is used is read."""
        return self._map(row, "masks")

    def grid_shape(self, row: int) -> tuple[int, ...]:
        """Voxels (D, H, W) of one case."""
        return self.cases[row].grid_shape or self._open(row, "images").shape[1:]

    def spacing_mm(self, row: int) -> tuple[float, ...]:
        """Distance between voxel centres (D, H, W) of one case's grid."""
        return self.cases[row].grid_spacing_mm

    def _map(self, row: int, part: str) -> np.ndarray:
        """Map one case of a shard, for as long as the map is used: pages once read would count as memory in use.

        The first time all of it is read and checked.
        """
        key = (*self._places[row], part)
        if key not in self._checked:
            self._check(self.cases[row], part, self._open(row, part), self._path(row, part))
            self._checked.add(key)
        return self._open(row, part)

    def _path(self, row: int, part: str) -> Path:
        return self._folders[self._places[row][0]] / f"{part}.npy"

    def _open(self, row: int, part: str) -> np.ndarray:
        shard, place = self._places[row]
        if (shard, part) not in self._rows:
            self._rows[shard, part] = open_rows(self._path(row, part), self._grid_shapes[shard])
        return self._rows[shard, part].row(place)

    @staticmethod
    def _check(case: Case, part: str, array: np.ndarray, path: Path) -> None:
        stated = dict(zip(_PARTS, case.grid_sha256, strict=False)).get(part, "no digest")
        check_digest(path, case.case, stated, array, path.parent)

    def class_indices(self, classes: Sequence[str], unknown_index: int) -> np.ndarray:
        """Class index of every case, int64 (N,); ``unknown_index`` where the diagnosis is not among ``classes``."""
        index_of = {name: index for index, name in enumerate(classes)}
        return np.array([index_of.get(case.class_name, unknown_index) for case in self.cases], dtype=np.int64)
