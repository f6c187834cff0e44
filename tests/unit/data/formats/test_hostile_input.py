"""Files that are damaged, not what they say, or meant to do harm: each is refused in one line that says what to do."""

import gzip
import os
import pickle
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from dicom_files import IDENTIFYING, sample_image, write_enhanced, write_series
from fedpedbrain.base.errors import StudyError
from fedpedbrain.base.files import check_inside, replacing
from fedpedbrain.data.formats.reading import read_scan
from fedpedbrain.data.grid.memory_maps import create_array
from PIL import Image
from pydicom.dataset import Dataset

ARRAY = np.arange(60, dtype=np.int16).reshape(3, 4, 5)


# NIfTI.


def nifti(folder: Path, array: np.ndarray = ARRAY, name: str = "a.nii.gz", **header) -> Path:
    image = nibabel.Nifti1Image(array, np.eye(4))
    path = folder / name
    nibabel.save(image, path)
    if header:
        content = bytearray(gzip.decompress(path.read_bytes()))
        raw = nibabel.Nifti1Header(bytes(content[:348]), check=False)
        for key, value in header.items():
            raw[key] = value
        content[:348] = raw.binaryblock
        path.write_bytes(gzip.compress(bytes(content)))
    return path


def truncated_gzip(folder):
    path = nifti(folder, np.random.default_rng(0).integers(0, 999, (16, 16, 16), dtype=np.int16))
    path.write_bytes(path.read_bytes()[:-500])
    return path


def swollen_stream(folder):
    path = nifti(folder)
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()) + bytes(64 << 20)))
    return path


def folder_called_nifti(folder):
    (folder / "a.nii.gz").mkdir()
    return folder / "a.nii.gz"


def named(name: str, content: bytes = b"") -> Callable[[Path], Path]:
    def _write(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return _write


NIFTI = {
    "truncated gzip": (truncated_gzip, "may be missing or truncated, copy it again"),
    "header of absurd size": (
        lambda folder: nifti(folder, dim=[3, 32767, 32767, 32767, 1, 1, 1, 1]),
        "the header promises 32767 x 32767 x 32767 voxels, more than any scan",
    ),
    "header that promises more than is there": (
        lambda folder: nifti(folder, dim=[3, 300, 300, 300, 1, 1, 1, 1]),
        "the header promises 54000352 bytes, 472 are there",
    ),
    "stream that unpacks to far more": (swollen_stream, "holds far more than the 472 bytes that its header needs"),
    "negative spacing": (
        lambda folder: nifti(folder, pixdim=[1, -1, 1, 2, 1, 1, 1, 1]),
        "the header states a spacing of -1 x 1 x 2 mm; expected numbers above 0",
    ),
    "spacing of zero": (lambda folder: nifti(folder, pixdim=[1, 1, 1, 0, 1, 1, 1, 1]), "spacing of 1 x 1 x 0 mm"),
    "NaN": (lambda folder: nifti(folder, np.full((3, 4, 5), np.nan, np.float32)), "holds NaN or infinite values"),
    "several volumes": (lambda folder: nifti(folder, np.ones((3, 4, 5, 2), np.int16)), "found 4 dimensions"),
    "two dimensions": (lambda folder: nifti(folder, np.ones((3, 4), np.int16)), "expected a 3-D volume, found 2"),
    "complex numbers": (lambda folder: nifti(folder, np.ones((3, 4, 5), np.complex64)), "holds complex numbers"),
    "colour": (
        lambda folder: nifti(folder, np.zeros((3, 4, 5), [("R", "u1"), ("G", "u1"), ("B", "u1")])),
        "holds colour (several values a voxel)",
    ),
    "unknown data type": (lambda folder: nifti(folder, datatype=77), "a data type that NIfTI does not know"),
    "empty file": (named("a.nii.gz"), "no NIfTI header; it may be empty or damaged"),
    "text": (named("a.nii", b"no image" * 99), "no NIfTI header"),
    "folder": (folder_called_nifti, "a folder; give the file itself"),
}


# NumPy.


class _Attack:
    def __reduce__(self):
        return os.mkdir, ("attacked",)


def npy(folder: Path, array: np.ndarray, name: str = "a.npy") -> Path:
    np.save(folder / name, array, allow_pickle=True)
    return folder / name


def npy_header(folder, shape, size):
    path = folder / "a.npy"
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<i2", "fortran_order": False, "shape": shape})
        file.write(bytes(size))
    return path


def npz(folder, **arrays):
    np.savez(folder / "a.npz", **arrays)
    return folder / "a.npz"


def npz_with_pickle(folder):
    with zipfile.ZipFile(folder / "a.npz", "w") as archive:
        archive.writestr("a.npy", pickle.dumps(_Attack()))
    return folder / "a.npz"


NPY = {
    "pickle with code": (named("a.npy", pickle.dumps(_Attack())), "not an array that numpy.save wrote"),
    "array of objects with code": (lambda folder: npy(folder, np.array([_Attack()])), "holds Python objects"),
    "array of strings as objects": (lambda folder: npy(folder, np.array(["a"], object)), "holds Python objects"),
    "pickle in an archive": (npz_with_pickle, "not an array that numpy.save wrote"),
    "text": (lambda folder: npy(folder, np.array([[["a"]]])), "holds text; expected a 3-D array of real numbers"),
    "complex numbers": (lambda folder: npy(folder, ARRAY * 1j), "holds complex numbers"),
    "NaN": (lambda folder: npy(folder, np.full((2, 2, 2), np.nan)), "holds NaN or infinite values"),
    "two axes": (lambda folder: npy(folder, ARRAY[0]), "an array of 2 axes (4 x 5); expected a 3-D array"),
    "four axes": (lambda folder: npy(folder, ARRAY[None]), "an array of 4 axes (1 x 3 x 4 x 5)"),
    "header of absurd size": (lambda folder: npy_header(folder, (9**9, 9**9, 2), 9), "more than any scan"),
    "header that promises more than is there": (
        lambda folder: npy_header(folder, (10, 10, 10), 999),
        "the header promises 2000 bytes, 999 are there; it is truncated",
    ),
    "several arrays": (lambda folder: npz(folder, a=ARRAY, b=ARRAY), "2 arrays (a.npy, b.npy); expected one"),
    "archive that is none": (named("a.npz", b"PK"), "not a readable array"),
    "empty file": (named("a.npy"), "not an array that numpy.save wrote"),
}


# Pictures.


def slices(folder: Path, numbers=(0, 1, 2), **others) -> Path:
    for number in numbers:
        Image.fromarray(np.full((4, 5), 9 * number, np.uint8)).save(folder / f"slice_{number:02d}.png")
    for name, array in others.items():
        Image.fromarray(array).save(folder / f"{name}.png")
    return folder


def damaged_picture(folder):
    slices(folder)
    path = folder / "slice_01.png"
    path.write_bytes(path.read_bytes()[:-30])
    return folder


def wrong_metadata(folder):
    (folder / "metadata.txt").write_text("spacing_mm: 3 0.5\n")
    return slices(folder)


def pictures_beside_dicom(folder):
    return slices(series(folder))


PICTURES = {
    "missing slice": (lambda folder: slices(folder, (0, 1, 3)), "slice 2 is missing after slice_01.png"),
    "one number twice": (lambda folder: slices(folder, slice_1=np.zeros((4, 5), np.uint8)), "have one number"),
    "two sizes": (
        lambda folder: slices(folder, slice_03=np.zeros((6, 5), np.uint8)),
        "slice_03.png: 6 x 5 pixels, but slice_00.png has 4 x 5",
    ),
    "colour": (
        lambda folder: slices(folder, slice_03=np.tile(np.uint8([250, 10, 10]), (4, 5, 1))),
        "slice_03.png: a picture in colour; expected grey values",
    ),
    "transparency": (
        lambda folder: slices(folder, slice_03=np.full((4, 5, 4), 99, np.uint8)),
        "slice_03.png: a picture with transparent parts",
    ),
    "truncated picture": (damaged_picture, "slice_01.png: not a readable picture"),
    "one slice": (lambda folder: slices(folder, (0,)), "one slice; expected slice_NN.png of a volume of two"),
    "spacing of two numbers": (wrong_metadata, "spacing_mm is '3 0.5'; expected three numbers above 0"),
    "DICOM files beside": (pictures_beside_dicom, "holds several images (series-0001, slice_00.png); name one"),
    "text called picture": (named("a.jpg", b"no picture"), "not a readable picture"),
}


# DICOM.


def series(folder: Path, **changes) -> Path:
    write_series(folder / "dicom", sample_image(degrees=10), **changes)
    return folder / "dicom"


def two_series(folder):
    series(folder, series="first")
    return series(folder, series="second")


def edited(change: Callable[[bytes], bytes], number: int = 2, **tags: str) -> Callable[[Path], Path]:
    def _write(folder: Path) -> Path:
        path = sorted(series(folder, **tags).iterdir())[number]
        path.write_bytes(change(path.read_bytes()))
        return path.parent

    return _write


def inverting_table() -> Dataset:
    table = Dataset()
    table.LUTDescriptor, table.LUTData, table.ModalityLUTType = [3, 0, 16], [2, 1, 0], "US"
    table["LUTDescriptor"].VR = table["LUTData"].VR = "US"
    return table


def last_slice_behind_a_broken_link(folder):
    path = sorted(series(folder).iterdir())[-1]
    path.unlink()
    path.symlink_to("nowhere")
    return path.parent


def relabelled(transfer_syntax: str) -> Callable[[Path], Path]:
    # JPEG-LS, said to be what nothing here decodes.
    def _write(folder: Path) -> Path:
        found = series(folder, transfer_syntax="1.2.840.10008.1.2.4.80")
        for path in found.iterdir():
            old = b"1.2.840.10008.1.2.4.80\0"[:22]
            path.write_bytes(path.read_bytes().replace(old, transfer_syntax.encode()[:22].ljust(22, b"\0")))
        return found

    return _write


def with_a_slice_of_another(folder, **changes):
    image = sample_image(degrees=10)
    write_series(folder / "dicom", image, series="s", keep=[0, 1, 2])
    (path,) = write_series(folder / "other", image, series="s", keep=[3], **changes)
    shutil.copy(path, folder / "dicom" / "other")
    return folder / "dicom"


def enhanced_without_a_frame(folder):
    import pydicom

    path = write_enhanced(folder / "enhanced", sample_image())
    dataset = pydicom.dcmread(path)
    dataset.PerFrameFunctionalGroupsSequence = dataset.PerFrameFunctionalGroupsSequence[:3]
    dataset.save_as(path)
    return path


DICOM = {
    "two series": (two_series, "2 series where one is needed"),
    "missing middle slice": (
        lambda folder: series(folder, keep=[0, 1, 3, 4]),
        "1 slice(s) missing: after slice 2 of 4",
    ),
    "gap among three slices": (lambda folder: series(folder, keep=[0, 1, 3]), "1 slice(s) missing: after slice 2 of 3"),
    "duplicate position": (
        lambda folder: series(folder, keep=[0, 1, 2, 2, 3, 4]),
        "6 slices at 5 positions: 1 position(s) are taken twice",
    ),
    "one slice": (lambda folder: series(folder, keep=[2]), "one slice; expected a volume of two slices or more"),
    "tilted gantry": (
        lambda folder: series(folder, shift_mm=(0.0, 1.0, 0.0)),
        "(a tilted gantry); resample the series",
    ),
    "uneven spacing": (
        lambda folder: with_a_slice_of_another(folder, ImagePositionPatient=["-30", "18.2", "-1.0"]),
        "mm apart, expected one distance",
    ),
    "two orientations": (
        lambda folder: with_a_slice_of_another(folder, ImageOrientationPatient=["0", "1", "0", "0", "0", "-1"]),
        "slices are oriented otherwise than the first, as in a localizer",
    ),
    "two pixel spacings": (
        lambda folder: with_a_slice_of_another(folder, PixelSpacing=["1", "1"]),
        "slices of several pixel spacings",
    ),
    "localizer": (
        lambda folder: series(folder, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
        "a localizer, taken to",
    ),
    "no position": (lambda folder: series(folder, ImagePositionPatient=None), "ImagePositionPatient is missing"),
    "no pixel spacing": (
        lambda folder: series(folder, PixelSpacing=None),
        "PixelSpacing is missing or not 2 number(s)",
    ),
    "spacing of zero": (lambda folder: series(folder, PixelSpacing=["0", "1"]), "PixelSpacing is 0 x 1 mm"),
    "directions that are none": (
        lambda folder: series(folder, ImageOrientationPatient=["1", "0", "0", "1", "0", "0"]),
        "no pair of perpendicular unit vectors",
    ),
    "values that go through a table": (
        lambda folder: series(folder, ModalityLUTSequence=[inverting_table()]),
        "its values are to go through a table (DICOM ModalityLUTSequence)",
    ),
    "no pixel data": (lambda folder: series(folder, PixelData=None), "no pixel data; give the images themselves"),
    "colour": (lambda folder: series(folder, PhotometricInterpretation="RGB"), "colour image (RGB); expected grey"),
    "truncated pixels": (
        edited(lambda content: content[:-20]),
        "-0003: 84 bytes of pixels are needed, 64 are there; it is truncated",
    ),
    "last slice behind a broken link": (
        last_slice_behind_a_broken_link,
        "-0005: not readable (No such file or directory); mend the link",
    ),
    "last slice empty": (edited(lambda content: b"", -1), "-0005: empty, or ends before it says what it is; copy it"),
    "last slice that ends in its preamble": (edited(lambda content: content[:130], -1), "-0005: empty, or ends before"),
    "last slice that ends before its class": (
        edited(lambda content: content[:132], -1),
        "-0005: a DICOM file without rows and columns of an image, and not said to be anything else; it is truncated",
    ),
    "last slice that ends before its rows": (
        edited(lambda content: content[: content.index(b"\x28\x00\x10\x00US")], -1),
        "-0005: a DICOM file without rows and columns of an image",
    ),
    "last slice that ends within its rows": (
        edited(lambda content: content[: content.index(b"\x28\x00\x10\x00US") + 9], -1),
        "-0005: not a readable DICOM file; it may be truncated, copy it again",
    ),
    "number of frames that is none": (
        edited(lambda content: content.replace(b"IS\2\x001 ", b"IS\2\x00xx"), NumberOfFrames="1"),
        "-0003: DICOM NumberOfFrames is no whole number; export the series again",
    ),
    "several numbers of rows": (
        edited(lambda content: content.replace(b"\x28\0\x10\0US\2\0\6\0", b"\x28\0\x10\0US\4\0\6\0\6\0")),
        "-0003: DICOM Rows is no whole number",
    ),
    "sizes beyond the data": (
        lambda folder: series(folder, NumberOfFrames="99999999"),
        "the header promises 6 x 7 x 99999999 voxels",
    ),
    "transfer syntax without a decoder": (relabelled("1.2.840.10008.1.2.4.94"), "cannot be decoded; the file may be"),
    "transfer syntax that is none": (relabelled("1.2.840.10008.1.2.4.99"), "names no transfer syntax that is known"),
    "frames without a description": (enhanced_without_a_frame, "5 frames, but 3 descriptions of frames"),
    "folder without images": (
        lambda folder: named("notes.txt", b"none")(folder).parent,
        "holds no DICOM series and no",
    ),
    "NIfTI beside": (lambda folder: nifti(series(folder).parent).parent, "holds several images ("),
    "nothing there": (lambda folder: folder / "nowhere", "no such file or folder; correct the path"),
}

CASES = {
    f"{form}: {name}": case
    for form, cases in {"nifti": NIFTI, "npy": NPY, "picture": PICTURES, "dicom": DICOM}.items()
    for name, case in cases.items()
}


@pytest.fixture
def formats(config) -> dict:
    """The block ``formats`` of the default config."""
    return config["formats"]


@pytest.mark.parametrize("name", CASES)
def test_hostile_input_is_refused_in_one_line_and_nothing_else_changes(tmp_path, formats, monkeypatch, name):
    make, message = CASES[name]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "earlier.txt").write_text("earlier")
    (tmp_path / "input").mkdir()
    path = make(tmp_path / "input")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(StudyError) as caught:
        read_scan(path, formats)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "input"))
    assert "\n" not in str(caught.value)
    assert not [value for value in IDENTIFYING.values() if value in str(caught.value)]
    # No code of a pickle ran, and no temporary file is left.
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "earlier.txt").read_text() == "earlier"


def test_a_volume_never_loses_its_last_slice_to_a_truncated_file(tmp_path, formats):
    path = sorted(series(tmp_path).iterdir())[-1]
    content = path.read_bytes()
    for size in range(0, len(content), 7):
        path.write_bytes(content[:size])
        with pytest.raises(StudyError, match=path.name):
            read_scan(path.parent, formats)


@pytest.mark.parametrize("name", ["a.nii.gz", "a.npy", "a.png", "dicom"])
def test_a_file_that_may_not_be_read_is_refused(tmp_path, formats, name, monkeypatch):
    """A stand-in for the kernel's refusal, which an administrator never meets."""
    path = tmp_path / name
    path.write_bytes(bytes(128) + b"DICM")

    def _refuse(*arguments, **named_arguments):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pydicom.dcmread", _refuse)
    for target in ("gzip.GzipFile", "PIL.Image.open", "fedpedbrain.data.formats.npy._opened"):
        monkeypatch.setattr(target, _refuse)
    with pytest.raises(StudyError, match="may not be read; give this user the right to read it"):
        read_scan(path, formats)


def test_a_link_out_of_the_cohort_is_refused_and_one_within_is_not(tmp_path):
    (tmp_path / "cohort").mkdir()
    (tmp_path / "cohort" / "inside").touch()
    (tmp_path / "outside").touch()
    (tmp_path / "cohort" / "good").symlink_to("inside")
    (tmp_path / "cohort" / "bad").symlink_to(tmp_path / "outside")
    check_inside(tmp_path / "cohort" / "good", tmp_path / "cohort")
    with pytest.raises(StudyError, match=r"bad: a link that leads out of .*cohort; copy the file there"):
        check_inside(tmp_path / "cohort" / "bad", tmp_path / "cohort")


def _write_bytes(path):
    path.write_bytes(np.random.default_rng(0).bytes(1 << 20))


def _write_volume(path):
    sitk.WriteImage(sitk.GetImageFromArray(np.ones((64, 64, 64), np.int16)), str(path))


def _write_weights(path):
    torch.save({"weight": torch.ones(1 << 18)}, path)


def _write_mapped_array(path):
    create_array(path, (1 << 20,))[:] = 1


@pytest.mark.parametrize("write", [_write_bytes, _write_volume, _write_weights, _write_mapped_array])
def test_a_full_disk_is_said_in_one_line_and_leaves_what_was_written_earlier(write, make_disk):
    path = make_disk("64k") / "image.nii"
    path.write_text("earlier")
    message = r"image\.nii: no space left on the disk \((\d[\d,]*) kB or more needed, (\d+) kB free\); make room"
    with pytest.raises(StudyError, match=message) as caught, replacing(path) as temporary:
        write(temporary)
    needed, free = re.search(message, str(caught.value)).groups()
    assert int(needed.replace(",", "")) > int(free)
    assert path.read_text() == "earlier"
    assert [item.name for item in path.parent.iterdir()] == ["image.nii"]
