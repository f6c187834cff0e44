"""Arrays that are read or written row by row through a memory map."""

import mmap
import os
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap


def create_array(path: str | Path, shape: tuple[int, ...]) -> np.memmap:
    """A new ``.npy`` file of uint8 zeros, mapped; its place on the disk is taken at once.

    Raises
    ------
    OSError : the disk has no room for it. Writing through the map there would end the process without a word
    """
    array = open_memmap(path, "w+", np.uint8, shape)
    if hasattr(os, "posix_fallocate"):
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, os.fstat(file.fileno()).st_size))
    return array


def forget_pages(*arrays: np.ndarray) -> None:
    """Give back the memory that the rows of memory maps took; arrays that are none stay as they are.

    Nothing is lost (madvise(2), shared maps): what was written is the kernel's to store, what is wanted again is read
    again.
    """
    for array in arrays:
        if isinstance(array.base, mmap.mmap):
            array.base.madvise(mmap.MADV_DONTNEED)
