"""Arrays that are read row by row, each through a memory map of its own."""

import math
from pathlib import Path

import numpy as np


class PartReader:
    """Parts of a ``.npy`` file in C order, each a map of its own: pages once read are given back with it.

    Attributes
    ----------
    shape : of the whole array
    """

    def __init__(self, path: str | Path) -> None:
        array = np.load(path, mmap_mode="r")
        self.shape = array.shape
        self._path, self._dtype, self._offset = path, array.dtype, array.offset

    def read(self, first: int, shape: tuple[int, ...]) -> np.memmap:
        """The numbers from ``first`` on, counted through the whole array, as an array of ``shape``."""
        return np.memmap(self._path, self._dtype, "r", self._offset + first * self._dtype.itemsize, shape)


class ArrayReader:
    """The rows of a ``.npy`` file along its first axis."""

    def __init__(self, path: str | Path) -> None:
        self._file = PartReader(path)

    def row(self, index: int) -> np.memmap:
        """One row as a map of its own; see ``PartReader``."""
        shape = self._file.shape[1:]
        return self._file.read(index * math.prod(shape), shape)
