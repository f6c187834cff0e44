"""Arrays that are written row by row through a memory map, and the memory that maps take."""

import mmap
import os
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap


def create_array(path: str | Path, shape: tuple[int, ...], dtype: np.dtype | type = np.uint8) -> np.memmap:
    """A new ``.npy`` file of zeros, mapped; its place on the disk is taken at once.

    Raises
    ------
    OSError : the disk has no room for it. Writing through the map there would end the process without a word
    """
    array = open_memmap(path, "w+", dtype, shape)
    if hasattr(os, "posix_fallocate"):
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, os.fstat(file.fileno()).st_size))
    return array


class ArrayWriter:
    """Fills a new ``.npy`` file row by row, one row in memory at a time.

    Parameters
    ----------
    path : of the file
    shape : of the whole array; its first axis is the rows
    dtype : of every row
    """

    def __init__(self, path: str | Path, shape: tuple[int, ...], dtype: np.dtype | type) -> None:
        self._array = create_array(path, shape, dtype)
        self._count = 0

    def __enter__(self) -> "ArrayWriter":
        return self

    def __exit__(self, *error: object) -> None:
        self._array.flush()

    def append(self, row: np.ndarray) -> None:
        """Write the next row."""
        self._array[self._count] = row
        self._count += 1
        forget_pages(self._array)


def forget_pages(*arrays: np.ndarray) -> None:
    """Give back the memory that the rows of memory maps took; arrays that are none stay as they are.

    Nothing is lost (madvise(2), shared maps): what was written is the kernel's to store, what is wanted again is read
    again.
    """
    for array in arrays:
        if isinstance(array.base, mmap.mmap):
            array.base.madvise(mmap.MADV_DONTNEED)
