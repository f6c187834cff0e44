import numpy as np
import pytest
import SimpleITK as sitk
from fedpedbrain.base.errors import StudyError
from fedpedbrain.data.formats.volumes import check_same_grid, read_volume


def test_a_volume_keeps_values_and_geometry(tmp_path, write_volume):
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    path = write_volume(tmp_path / "a.nii.gz", array, (1.0, 2.0, 5.0), (3.0, 4.0, 5.0))
    volume = read_volume(path).image
    np.testing.assert_array_equal(sitk.GetArrayFromImage(volume), array)
    assert volume.GetSpacing() == pytest.approx((1.0, 2.0, 5.0))
    assert volume.GetOrigin() == pytest.approx((3.0, 4.0, 5.0))


def test_a_missing_file_is_refused_by_name(tmp_path):
    with pytest.raises(StudyError, match=r"a\.nii\.gz: not a readable volume"):
        read_volume(tmp_path / "a.nii.gz")


def test_a_single_slice_is_refused(tmp_path, write_volume):
    sitk.WriteImage(sitk.GetImageFromArray(np.ones((3, 4), np.float32)), str(tmp_path / "a.nii.gz"))
    with pytest.raises(StudyError, match=r"a\.nii\.gz: expected a 3-D volume, found 2 dimensions"):
        read_volume(tmp_path / "a.nii.gz")


def test_a_series_of_volumes_is_refused(tmp_path):
    volume = sitk.GetImageFromArray(np.ones((2, 3, 4), np.float32))
    sitk.WriteImage(sitk.JoinSeries([volume, volume]), str(tmp_path / "a.nii.gz"))
    with pytest.raises(StudyError, match=r"a\.nii\.gz: expected a 3-D volume, found 4 dimensions"):
        read_volume(tmp_path / "a.nii.gz")


def test_a_volume_of_vectors_is_refused(tmp_path):
    vectors = sitk.GetImageFromArray(np.ones((2, 3, 4, 3), np.float32), isVector=True)
    sitk.WriteImage(vectors, str(tmp_path / "a.nii.gz"))
    with pytest.raises(StudyError, match=r"a\.nii\.gz"):
        read_volume(tmp_path / "a.nii.gz")


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii", "a.mha"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_image_with_values_that_are_no_numbers_is_refused(tmp_path, write_volume, name, value):
    array = np.ones((2, 3, 4), np.float32)
    array[1, 2, 3] = value
    path = write_volume(tmp_path / name, array)
    with pytest.raises(StudyError, match=f"{name}: the image holds NaN or infinite values"):
        read_volume(path)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
def test_numbers_of_every_type_are_finite(tmp_path, write_volume, dtype):
    path = write_volume(tmp_path / "a.nii.gz", np.ones((2, 3, 4), dtype))
    assert (sitk.GetArrayFromImage(read_volume(path).image) == 1).all()


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99, 0.9999])
def test_a_truncated_file_is_refused_by_name(tmp_path, write_volume, kept):
    noise = np.random.default_rng(0).integers(0, 999, (16, 32, 32), dtype=np.int16)
    path = write_volume(tmp_path / "a.nii.gz", noise)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(StudyError, match=r"a\.nii\.gz: not a readable volume"):
        read_volume(path)


def grid(size=(4, 3, 2), spacing=(1.0, 1.0, 5.0), origin=(0.0, 0.0, 0.0), degrees=0.0) -> sitk.Image:
    image = sitk.Image(size, sitk.sitkUInt8)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    image.SetDirection([cos, -sin, 0.0, sin, cos, 0.0, 0.0, 0.0, 1.0])
    return image


def test_one_grid_is_one_grid_up_to_rounding_in_the_header(tmp_path):
    for other in (grid(origin=(0.001, 0.0, 0.0)), grid(spacing=(1.0, 1.0, 5.01)), grid(degrees=0.1)):
        check_same_grid(tmp_path / "mask.nii", other, tmp_path / "image.nii", grid())


@pytest.mark.parametrize(
    ("image", "mask", "offset"),
    [
        # 511.5 times 0.009 mm along each of two axes: 6.5 mm, which is 14.5 voxels of 0.45 mm.
        (grid((512, 512, 2), (0.45, 0.45, 5.0)), grid((512, 512, 2), (0.459, 0.459, 5.0)), "14.5"),
        (grid((512, 512, 2)), grid((512, 512, 2), degrees=0.1), "1.3"),
    ],
    ids=["wider voxels", "turned"],
)
def test_what_is_small_in_a_header_is_seen_at_the_far_corner(tmp_path, image, mask, offset):
    with pytest.raises(StudyError, match=f"by {offset} voxels at a corner"):
        check_same_grid(tmp_path / "mask.nii", mask, tmp_path / "image.nii", image)


def test_another_size_is_refused_with_both_sizes(tmp_path):
    with pytest.raises(StudyError, match=r"mask\.nii: shape \(4, 3, 3\) differs from \(4, 3, 2\) of image\.nii"):
        check_same_grid(tmp_path / "mask.nii", grid(size=(4, 3, 3)), tmp_path / "image.nii", grid())


@pytest.mark.parametrize(
    "other",
    [grid(origin=(1.0, 0.0, 0.0)), grid(spacing=(1.0, 1.0, 5.5)), grid(degrees=3.0)],
    ids=["shifted", "stretched", "turned"],
)
def test_another_place_is_refused(tmp_path, other):
    with pytest.raises(StudyError, match=r"mask\.nii: origin, spacing or direction differ from image\.nii"):
        check_same_grid(tmp_path / "mask.nii", other, tmp_path / "image.nii", grid())
