import numpy as np
import pytest
import SimpleITK as sitk
from fedpedbrain.data.grid.frame_table import CaseFrame, Geometry, write_frames
from fedpedbrain.data.grid.geometry import grid_frame
from fedpedbrain.evaluation.grid_geometry import GridGeometry
from fedpedbrain.evaluation.restoration import restore_labels, restore_predictions_files
from predicted_masks import write_masks

GRID = (4, 8, 8)


def make_frame(case: str, spacing=(2.0, 2.0, 5.0)) -> CaseFrame:
    """A grid of a scan's own spacing, whose voxels lie one by one on the scan's."""
    scan = sitk.Image([12, 10, 6], sitk.sitkInt16)
    scan.SetSpacing(spacing)
    scan.SetOrigin((-31.0, 17.5, 3.25))
    return CaseFrame(case, Geometry.of(grid_frame(scan, GRID, "image", spacing[::-1])), Geometry.of(scan))


@pytest.mark.parametrize(("larger", "smaller"), [(0, 1), (1, 0)])
def test_the_smaller_region_lies_on_top_of_the_larger_one(larger, smaller):
    regions = np.zeros((2, *GRID), np.uint8)
    regions[larger, :, 2:6, 2:6] = 1
    regions[smaller, :, 4:6, 4:8] = 1
    labels = sitk.GetArrayFromImage(restore_labels(regions, make_frame("a"), GridGeometry()))
    expected = np.zeros((6, 10, 12), np.uint8)
    # The grid is the middle of the scan.
    expected[1:5, 3:7, 4:8] = larger + 1
    expected[1:5, 5:7, 6:10] = smaller + 1
    np.testing.assert_array_equal(labels, expected)


def test_a_study_without_regions_has_empty_masks():
    image = restore_labels(np.zeros((0, *GRID), np.uint8), make_frame("a"), GridGeometry())
    assert image.GetSize() == (12, 10, 6)
    assert not sitk.GetArrayFromImage(image).any()


def test_each_held_out_case_has_its_own_prediction_in_its_own_geometry(tmp_path, make_case, write_shard):
    cases = {"north": [("a", "train"), ("b", "test")], "west": [("c", "external")]}
    frames = {name: make_frame(name, (1.0 + number, 2.0, 5.0)) for number, name in enumerate("abc")}
    shards = []
    for site, listed in cases.items():
        shard = write_shard(tmp_path / site, [make_case(name, site, split) for name, split in listed])
        write_frames(shard.folder / "frames.tsv", [frames[name] for name, _ in listed])
        shards.insert(0, shard)
    masks = np.zeros((2, 1, *GRID), np.uint8)
    # Row 0 is the one of the first shard, west.
    masks[0, 0, 1, 2, 3] = 1
    write_masks(tmp_path / "masks.npy", masks)
    restore_predictions_files(tmp_path / "masks.npy", shards, tmp_path / "scans", "grid", 1)
    assert sorted(path.name for path in (tmp_path / "scans").iterdir()) == ["b.nii.gz", "c.nii.gz"]
    for name, num_voxels in (("c", 1), ("b", 0)):
        image = sitk.ReadImage(str(tmp_path / "scans" / f"{name}.nii.gz"))
        assert image.GetSize() == frames[name].scan.size
        np.testing.assert_allclose(image.GetSpacing(), frames[name].scan.spacing)
        np.testing.assert_allclose(image.GetOrigin(), frames[name].scan.origin)
        assert sitk.GetArrayFromImage(image).sum() == num_voxels
