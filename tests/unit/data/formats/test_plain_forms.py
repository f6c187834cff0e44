"""Forms that carry no geometry, and NIfTI's two geometries."""

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from fedpedbrain.data.formats.reading import read_scan
from PIL import Image

# Upright: the first row is the nose, the first column the patient's right.
UPRIGHT = np.array([[1, 2, 3], [4, 5, 6]], np.uint8)
NOSE_LEFT = np.array([[3, 6], [2, 5], [1, 4]], np.uint8)


@pytest.fixture
def formats(config) -> dict:
    """The block ``formats`` of the default config."""
    return config["formats"]


def values(scan) -> np.ndarray:
    return sitk.GetArrayFromImage(scan.image)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_slices_are_turned_upright_and_stacked_from_the_feet(tmp_path, formats, mode):
    for number in (9, 10, 11):
        Image.fromarray(NOSE_LEFT * number).convert(mode).save(tmp_path / f"slice_{number}.png")
    scan = read_scan(tmp_path, formats)
    np.testing.assert_array_equal(values(scan), [UPRIGHT * 9, UPRIGHT * 10, UPRIGHT * 11])
    assert scan.image.GetSpacing() == (1.0, 1.0, 3.0)
    assert not scan.is_orientation_known
    assert [path.name for path in scan.files] == ["slice_9.png", "slice_10.png", "slice_11.png"]
    assert scan.notes == (
        "the pictures state no spacing: that of formats.png.spacing_mm was taken",
        "the first picture is slice_9.png: none of an earlier slice is there",
    )


@pytest.mark.parametrize("first", [0, 1])
def test_metadata_may_state_the_spacing(tmp_path, formats, first):
    for number in (first, first + 1):
        Image.fromarray(UPRIGHT).save(tmp_path / f"slice_0{number}.png")
    (tmp_path / "metadata.txt").write_text("class_name: DIPG\nspacing_mm: 4.5 0.5 0.6\n")
    scan = read_scan(tmp_path, formats)
    assert scan.image.GetSpacing() == (0.6, 0.5, 4.5)
    assert scan.notes == ()


def test_a_picture_of_16_bits_keeps_them(tmp_path, formats):
    Image.fromarray(UPRIGHT.astype(np.uint16) * 1000).save(tmp_path / "a.png")
    np.testing.assert_array_equal(values(read_scan(tmp_path / "a.png", formats)), UPRIGHT[None] * np.uint16(1000))


def test_a_single_picture_is_a_volume_of_one_slice(tmp_path, formats):
    Image.fromarray(np.full((8, 9), 77, np.uint8)).save(tmp_path / "a.JPG")
    scan = read_scan(tmp_path / "a.JPG", formats)
    np.testing.assert_array_equal(values(scan), np.full((1, 8, 9), 77))
    assert scan.form == "picture"


ARRAY = np.arange(24).reshape(2, 3, 4)


@pytest.mark.parametrize(
    ("axes", "expected"),
    [
        ("DHW", ARRAY),
        ("HWD", ARRAY.transpose(2, 0, 1)),
        ("WHD", ARRAY.transpose(2, 1, 0)),
        ("dHW", ARRAY[::-1]),
        ("wHD", ARRAY[::-1].transpose(2, 1, 0)),
    ],
)
@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
def test_an_array_is_brought_into_the_patients_axes(tmp_path, formats, axes, expected, name):
    formats["npy"] |= {"axes": axes, "spacing_mm": [4.0, 0.5, 0.6]}
    (np.save if name.endswith("npy") else np.savez)(tmp_path / name, ARRAY)
    scan = read_scan(tmp_path / name, formats)
    np.testing.assert_array_equal(values(scan), expected)
    assert scan.image.GetSpacing() == (0.6, 0.5, 4.0)


@pytest.mark.parametrize("dtype", ["bool", "float16", ">i2", ">f8", "uint64"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_every_type_and_order_keep_their_values(tmp_path, formats, dtype, order):
    formats["npy"]["axes"] = "DHW"
    array = np.asarray(ARRAY, dtype=dtype, order=order)
    np.save(tmp_path / "a.npy", array)
    np.testing.assert_array_equal(values(read_scan(tmp_path / "a.npy", formats)), array.astype(float))


def test_one_volume_in_four_dimensions_is_read(tmp_path, formats):
    nibabel.save(nibabel.Nifti1Image(np.ones((2, 3, 4, 1), np.int16), np.eye(4)), tmp_path / "a.nii.gz")
    assert read_scan(tmp_path / "a.nii.gz", formats).image.GetSize() == (2, 3, 4)


@pytest.mark.parametrize(("shift_mm", "num_notes"), [(0.0, 0), (5.0, 1)])
def test_two_geometries_that_disagree_are_noted(tmp_path, formats, shift_mm, num_notes):
    image = nibabel.Nifti1Image(np.ones((2, 3, 4), np.int16), np.eye(4))
    moved = np.eye(4)
    moved[2, 3] = shift_mm
    image.set_qform(np.eye(4), 1)
    image.set_sform(moved, 1)
    nibabel.save(image, tmp_path / "a.nii")
    notes = read_scan(tmp_path / "a.nii", formats).notes
    assert len(notes) == num_notes
    assert all("sform and qform disagree by up to 5.0 mm" in note for note in notes)
