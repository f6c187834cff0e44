"""Rows that were read or written through a memory map do not stay in memory, and are not lost."""

import re
from pathlib import Path

import numpy as np
from fedpedbrain.data.grid.memory_maps import forget_pages
from numpy.lib.format import open_memmap

SIZE_KB = 4096


def resident_kb(path: Path) -> int:
    """Memory that a file's maps take of this process (proc(5), smaps)."""
    maps = re.split(r"\n(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text())
    return sum(int(re.search(r"^Rss: +(\d+)", block, re.MULTILINE)[1]) for block in maps if str(path) in block)


def test_rows_that_were_read_give_their_memory_back(tmp_path):
    path = tmp_path / "rows.npy"
    rows = np.arange(SIZE_KB * 1024, dtype=np.uint32).astype(np.uint8).reshape(4, -1)
    np.save(path, rows)
    mapped = np.load(path, mmap_mode="r")
    assert np.array_equal(mapped, rows)
    # Where memory is short, the kernel may have taken some pages back by itself.
    assert resident_kb(path) > SIZE_KB // 2
    forget_pages(mapped)
    assert resident_kb(path) < SIZE_KB // 8
    assert np.array_equal(mapped, rows)


def test_rows_that_were_written_are_kept_without_their_memory(tmp_path):
    path = tmp_path / "rows.npy"
    mapped = open_memmap(path, "w+", np.uint8, (4, SIZE_KB * 256))
    mapped[:] = 7
    assert resident_kb(path) > SIZE_KB // 2
    forget_pages(mapped)
    assert resident_kb(path) < SIZE_KB // 8
    mapped.flush()
    assert (np.load(path) == 7).all()


def test_arrays_that_are_no_memory_maps_stay_as_they_are():
    array = np.arange(5)
    forget_pages(array, array[1:])
    assert array.tolist() == [0, 1, 2, 3, 4]
