"""Arrays of different shapes one behind the other in one ``.npy`` file of one axis, read row by row through a map."""

import math
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.lib.format import write_array_header_1_0

from fedpedbrain.base.errors import StudyError
from fedpedbrain.data.grid.mapped_rows import PartReader

# Of a header of version 1.0 with one axis of any length: NumPy fills it up to a multiple of 64 bytes.
_HEADER_BYTES = 128


class RaggedWriter:
    """Appends rows to a new ``.npy`` file; how long it is stands in its header once it is closed.

    Parameters
    ----------
    path : of the file
    dtype : of every row
    """

    def __init__(self, path: str | Path, dtype: np.dtype | type) -> None:
        self._dtype = np.dtype(dtype)
        self._count = 0
        self._file = open(path, "wb")  # noqa: SIM115
        self._write_header()

    def __enter__(self) -> "RaggedWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._file.seek(0)
            self._write_header()
        self._file.close()

    def append(self, row: np.ndarray) -> None:
        """Add a row of any shape, in C order.

        Raises
        ------
        ValueError : the row is of another dtype than the file
        """
        if row.dtype != self._dtype:
            raise ValueError(f"expected a row of {self._dtype}, found {row.dtype}")
        self._file.write(np.ascontiguousarray(row).data)
        self._count += row.size

    def _write_header(self) -> None:
        described = np.lib.format.dtype_to_descr(self._dtype)
        write_array_header_1_0(self._file, {"descr": described, "fortran_order": False, "shape": (self._count,)})
        if self._file.tell() != _HEADER_BYTES:
            raise ValueError(f"expected a header of {_HEADER_BYTES} bytes, found {self._file.tell()}")


class RaggedReader:
    """The rows of a file that ``RaggedWriter`` wrote.

    Parameters
    ----------
    path : of the file
    shapes : of each row, in the order in which they were written

    Raises
    ------
    StudyError : the file holds more or fewer numbers than these shapes
    """

    def __init__(self, path: str | Path, shapes: Sequence[Sequence[int]]) -> None:
        self._file = PartReader(path)
        self._shapes = [tuple(shape) for shape in shapes]
        self._ends = list(accumulate(map(math.prod, self._shapes), initial=0))
        found = math.prod(self._file.shape)
        if found != self._ends[-1]:
            raise StudyError(
                f"{path}: expected {self._ends[-1]} numbers of {len(self._shapes)} arrays, found {found}; delete it "
                "and run again"
            )

    def __len__(self) -> int:
        return len(self._shapes)

    def row(self, index: int) -> np.memmap:
        """One row as a map of its own; see ``PartReader``."""
        return self._file.read(self._ends[index], self._shapes[index])
