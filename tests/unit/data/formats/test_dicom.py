from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_files import IDENTIFYING, sample_image, write_enhanced, write_series
from fedpedbrain.data.formats.dicom_headers import find_series
from fedpedbrain.data.formats.dicom_pixels import read_stored_values
from fedpedbrain.data.formats.reading import read_scan
from PIL import Image
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import (
    BasicTextSRStorage,
    DeflatedExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    MediaStorageDirectoryStorage,
    RLELossless,
)

REAL = Path(__file__).resolve().parents[5] / "shared" / "data" / "ge_pd_dicom"


@pytest.fixture
def read(config):
    """``read(path)`` with the default config's assumptions."""
    return lambda path: read_scan(path, config["formats"])


def assert_same_image(found: sitk.Image, expected: sitk.Image) -> None:
    assert found.GetSize() == expected.GetSize()
    for name in ("GetOrigin", "GetSpacing", "GetDirection"):
        np.testing.assert_allclose(getattr(found, name)(), getattr(expected, name)(), atol=1e-6)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(found), sitk.GetArrayFromImage(expected))


def test_slices_are_ordered_by_place_whatever_their_names_and_numbers(tmp_path, read):
    image = sample_image(degrees=20)
    paths = write_series(tmp_path, image, order=[3, 0, 4, 1, 2])
    scan = read(tmp_path)
    assert_same_image(scan.image, image)
    assert scan.files == tuple(paths[number] for number in (1, 3, 4, 0, 2))
    assert scan.notes == ()


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.uint8])
def test_stored_types_keep_their_values(tmp_path, read, dtype):
    image = sample_image((4, 5, 3), dtype=dtype)
    write_series(tmp_path, image)
    scan = read(tmp_path)
    assert_same_image(scan.image, image)
    assert scan.image.GetPixelID() == image.GetPixelID()


@pytest.mark.parametrize("transfer_syntax", [RLELossless, JPEGLSLossless, DeflatedExplicitVRLittleEndian])
def test_compressed_pixels_come_back_as_they_were(tmp_path, read, transfer_syntax):
    image = sample_image()
    if transfer_syntax.is_encapsulated:
        write_series(tmp_path, image, transfer_syntax=transfer_syntax)
    else:
        for path in write_series(tmp_path, image):
            dataset = dcmread(path)
            dataset.file_meta.TransferSyntaxUID = transfer_syntax
            dataset.save_as(path, enforce_file_format=True)
    assert_same_image(read(tmp_path).image, image)


@pytest.mark.parametrize("compressor", ["JPEG", "JPEG2000"])
def test_pixels_that_gdcm_compressed_come_back_as_they_were(tmp_path, read, compressor):
    image = sample_image(dtype=np.uint16)
    writer = sitk.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.UseCompressionOn()
    writer.SetCompressor(compressor)
    writer.SetFileName(str(tmp_path / "frames.dcm"))
    writer.Execute(image)
    scan = read(tmp_path / "frames.dcm")
    assert_same_image(scan.image, image)
    assert scan.frame_numbers == (0, 1, 2, 3, 4)


def test_a_jpeg_with_loss_is_read_and_noted(tmp_path, read):
    image = sample_image((16, 16, 3), dtype=np.uint8) * 0 + 90
    for path in write_series(tmp_path, image, LossyImageCompression="01"):
        dataset = dcmread(path)
        Image.fromarray(dataset.pixel_array).save(tmp_path / "slice.jpeg")
        dataset.PixelData = encapsulate([(tmp_path / "slice.jpeg").read_bytes()])
        dataset["PixelData"].is_undefined_length = True
        dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
        dataset.save_as(path, enforce_file_format=True)
    scan = read(tmp_path)
    assert abs(sitk.GetArrayFromImage(scan.image).astype(int) - 90).max() <= 2
    assert scan.notes == ("the images were compressed with loss",)


def test_values_are_rescaled(tmp_path, read):
    image = sample_image()
    write_series(tmp_path, image, slope=2.5, intercept=-7.0)
    expected = sitk.GetArrayFromImage(image) * np.float32(2.5) - np.float32(7.0)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read(tmp_path).image), expected)


def test_where_small_values_are_bright_they_are_turned(tmp_path):
    image = sitk.GetImageFromArray(np.array([[[0, 5], [4095, 10]]] * 2, np.uint16))
    path, _ = write_series(tmp_path, image, PhotometricInterpretation="MONOCHROME1", BitsStored=12, HighBit=11)
    np.testing.assert_array_equal(read_stored_values(path), [[[4095, 4090], [0, 4085]]])


def test_an_enhanced_file_gives_the_geometry_of_its_slices(tmp_path, read):
    image = sample_image(degrees=20)
    scan = read(write_enhanced(tmp_path / "enhanced", image, order=[3, 0, 4, 1, 2]))
    assert_same_image(scan.image, image)
    assert scan.frame_numbers == (1, 3, 4, 0, 2)


def test_frames_are_rescaled_one_by_one(tmp_path, read):
    image = sample_image((3, 3, 3))
    scan = read(write_enhanced(tmp_path / "enhanced", image, order=[2, 0, 1], slopes=[1, 2, 4]))
    expected = sitk.GetArrayFromImage(image) * np.array([1, 2, 4])[:, None, None]
    np.testing.assert_array_equal(sitk.GetArrayFromImage(scan.image), expected)


def test_one_file_of_a_series_stands_for_its_series(tmp_path, read):
    first, second = sample_image(), sample_image((3, 4, 5))
    paths = write_series(tmp_path, first, series="first")
    write_series(tmp_path, second, series="second")
    assert_same_image(read(paths[2]).image, first)


def test_localizers_single_slices_copies_and_other_files_are_passed_over(tmp_path, read):
    image = sample_image()
    paths = write_series(tmp_path / "deep" / "down", image)
    (tmp_path / "copy").write_bytes(paths[0].read_bytes())
    (tmp_path / "notes.txt").write_text("no image")
    write_series(tmp_path / "plan", image, series="plan", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    write_series(tmp_path / "shot", image, series="shot", keep=[0])
    scan = read(tmp_path)
    assert_same_image(scan.image, image)
    assert scan.notes == (
        "1 localizer(s) passed over",
        "1 series of one slice passed over",
        "1 file(s) are copies of others and were left out",
    )


def test_objects_that_are_no_images_are_passed_over(tmp_path, read):
    image = sample_image()
    paths = write_series(tmp_path, image)
    report, directory = dcmread(paths[0]), dcmread(paths[0])
    for dataset in (report, directory):
        del dataset.Rows, dataset.Columns, dataset.PixelData
    report.SOPClassUID = BasicTextSRStorage
    report.save_as(tmp_path / "report")
    del directory.SOPClassUID, directory.SeriesInstanceUID
    directory.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    directory.save_as(tmp_path / "DICOMDIR")
    assert_same_image(read(tmp_path).image, image)


def test_small_unevenness_is_noted(tmp_path, read):
    image = sample_image()
    write_series(tmp_path, image, keep=[0, 1, 2, 3])
    (path,) = write_series(
        tmp_path / "last", image, series="series", keep=[4], ImagePositionPatient=["-30", "20", "6.2"]
    )
    assert path.exists()
    (note,) = read(tmp_path).notes
    assert note == "slices lie 4.05 mm apart on average, single ones up to 0.15 mm more or less"


def test_no_identifying_tag_is_read_or_shown(tmp_path, read):
    write_series(tmp_path, sample_image())
    (series,) = find_series(tmp_path)
    scan = read(tmp_path)
    shown = f"{series.name} {series.facts} {scan.notes}" + "".join(str(item.header) for item in series.instances)
    assert not [value for value in IDENTIFYING.values() if value in shown]
    assert series.uid not in f"{series.name} {series.facts}"


def test_a_real_series_is_read_as_simpleitk_reads_it(tmp_path, read):
    if not REAL.is_dir():
        pytest.skip("the real series ../shared/data/ge_pd_dicom is not here")
    # SimpleITK takes half a second a file; the names are in the order of the places.
    files = sorted(REAL.iterdir())[:5]
    for path in files:
        (tmp_path / path.name).symlink_to(path)
    expected = sitk.ReadImage([str(path) for path in files], imageIO="GDCMImageIO")
    found = read(tmp_path).image
    for name in ("GetSize", "GetOrigin", "GetSpacing", "GetDirection", "GetPixelID"):
        assert getattr(found, name)() == getattr(expected, name)()
    np.testing.assert_array_equal(sitk.GetArrayFromImage(found), sitk.GetArrayFromImage(expected))
