"""Memory of arrays that are read or written row by row through a memory map."""

import mmap

import numpy as np


def forget_pages(*arrays: np.ndarray) -> None:
    """Give back the memory that the rows of memory maps took; arrays that are none stay as they are.

    Nothing is lost (madvise(2), shared maps): what was written is the kernel's to store, what is wanted again is read
    again.
    """
    for array in arrays:
        if isinstance(array.base, mmap.mmap):
            array.base.madvise(mmap.MADV_DONTNEED)
