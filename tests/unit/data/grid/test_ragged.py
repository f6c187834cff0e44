"""Arrays of different shapes in one file."""

from pathlib import Path

import numpy as np
import pytest
from fedpedbrain.base.errors import StudyError
from fedpedbrain.data.grid.ragged import RaggedReader, RaggedWriter

SHAPES = [(1, 2, 3), (4,), (2, 0), (3, 1)]


@pytest.fixture
def rows() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(size=shape).astype(np.float16) for shape in SHAPES]


@pytest.fixture
def path(tmp_path: Path, rows: list[np.ndarray]) -> Path:
    with RaggedWriter(tmp_path / "rows.npy", np.float16) as writer:
        for row in rows:
            writer.append(row)
    return tmp_path / "rows.npy"


def test_rows_come_back_in_their_shapes(path: Path, rows: list[np.ndarray]) -> None:
    reader = RaggedReader(path, SHAPES)
    assert len(reader) == len(rows)
    for index, row in enumerate(rows):
        np.testing.assert_array_equal(reader.row(index), row)
        assert reader.row(index).dtype == np.float16


def test_numpy_reads_the_file_as_one_axis(path: Path, rows: list[np.ndarray]) -> None:
    np.testing.assert_array_equal(np.load(path), np.concatenate([row.ravel() for row in rows]))


def test_shapes_that_do_not_fit_the_file_are_refused(path: Path) -> None:
    with pytest.raises(StudyError, match="expected 10 numbers of 2 arrays, found 13"):
        RaggedReader(path, SHAPES[:2])


def test_a_row_of_another_dtype_is_refused(tmp_path: Path) -> None:
    with (
        RaggedWriter(tmp_path / "rows.npy", np.uint8) as writer,
        pytest.raises(ValueError, match="expected a row of uint8, found float32"),
    ):
        writer.append(np.zeros(3, np.float32))


def test_a_row_in_another_order_in_memory_is_written_in_c_order(tmp_path: Path) -> None:
    row = np.arange(6, dtype=np.uint8).reshape(2, 3).T
    with RaggedWriter(tmp_path / "rows.npy", np.uint8) as writer:
        writer.append(row)
    np.testing.assert_array_equal(RaggedReader(tmp_path / "rows.npy", [(3, 2)]).row(0), row)
