import numpy as np
import pytest
from fedpedbrain.base.errors import StudyError
from fedpedbrain.data.grid.packed_masks import PackedMasks
from predicted_masks import write_masks

# Numbers of voxels that fill their last byte and that do not, and a case without a region.
SHAPES = [(2, 1, 2, 4), (1, 3, 1, 5), (0, 2, 2, 2), (3, 2, 3, 1)]


def test_masks_of_any_size_are_read_as_they_were_written(tmp_path):
    rng = np.random.default_rng(0)
    masks = [rng.integers(0, 2, shape, dtype=np.uint8) for shape in SHAPES]
    found = PackedMasks(write_masks(tmp_path / "masks.npy", masks), SHAPES)
    assert len(found) == len(SHAPES)
    for row, expected in enumerate(masks):
        assert found.row(row).dtype == np.uint8
        np.testing.assert_array_equal(found.row(row), expected)


def test_a_voxel_takes_a_bit(tmp_path):
    path = write_masks(tmp_path / "masks.npy", [np.ones((1, 8, 10, 10), bool)])
    assert np.load(path).tolist() == [255] * 100


def test_masks_of_other_cases_are_refused(tmp_path):
    path = write_masks(tmp_path / "masks.npy", [np.ones(SHAPES[0], bool)])
    with pytest.raises(StudyError, match=r"masks\.npy: expected 4 numbers of 2 arrays, found 2; delete it"):
        PackedMasks(path, [SHAPES[0], SHAPES[0]])
