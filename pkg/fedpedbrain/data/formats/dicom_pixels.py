"""The values of DICOM images: decompression, MONOCHROME1 and the rescale of PS3.3 C.7.6.3 and C.11.1."""

import math
import struct
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from pydicom.dataset import FileDataset
from pydicom.pixels import get_decoder, pixel_array
from pydicom.uid import UID, generate_uid

from fedpedbrain.base.errors import StudyError
from fedpedbrain.data.formats.dicom_geometry import Frame
from fedpedbrain.data.formats.dicom_headers import PIXEL_TAGS, read_tags
from fedpedbrain.data.formats.scan import check_num_voxels

# Multi-frame Grayscale Word Secondary Capture: pixels of any kind that nothing else belongs to.
_PLAIN_FRAMES = "1.2.840.10008.5.1.4.1.1.7.3"
_DECODER_ERRORS = (RuntimeError, ValueError, TypeError, AttributeError, IndexError, OSError, struct.error)
_GREY = ("MONOCHROME1", "MONOCHROME2")


def _has_decoder(transfer_syntax: UID) -> bool:
    try:
        return get_decoder(transfer_syntax).is_available
    except NotImplementedError:
        return False


def _decode_by_gdcm(dataset: FileDataset) -> np.ndarray:
    """Decode what pydicom has no decoder for, from a copy that holds the pixels alone: no rescale, no patient."""
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = _PLAIN_FRAMES
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "pixels.dcm")
        dataset.save_as(path, enforce_file_format=True)
        return sitk.GetArrayFromImage(sitk.ReadImage(str(path), imageIO="GDCMImageIO"))


def _check_pixels(path: Path, dataset: FileDataset) -> None:
    """Refuse colour, and files without pixels or with a header that cannot be meant."""
    photometric = dataset.get("PhotometricInterpretation")
    if dataset.get("SamplesPerPixel", 1) != 1 or photometric not in _GREY:
        raise StudyError(f"{path}: colour image ({photometric}); expected grey values, give the original series")
    if not dataset.get("PixelData"):
        raise StudyError(f"{path}: no pixel data; give the images themselves")
    check_num_voxels(path, (dataset.Rows, dataset.Columns, dataset.get("NumberOfFrames") or 1))


def read_stored_values(path: Path) -> np.ndarray:
    """Stored values of a file (frames, rows, columns), MONOCHROME1 turned so that larger is brighter.

    Raises
    ------
    StudyError : colour, no pixel data, a truncated file, a transfer syntax that nothing here decodes
    """
    dataset = read_tags(path, (*PIXEL_TAGS, "PixelData"))
    _check_pixels(path, dataset)
    transfer_syntax = dataset.file_meta.get("TransferSyntaxUID")
    if transfer_syntax is None or not transfer_syntax.is_transfer_syntax:
        raise StudyError(f"{path}: the header names no transfer syntax that is known; export the series uncompressed")
    shape = (int(dataset.get("NumberOfFrames") or 1), dataset.Rows, dataset.Columns)
    needed = math.prod(shape) * dataset.get("BitsAllocated", 8) // 8
    if not transfer_syntax.is_compressed and len(dataset.PixelData) < needed:
        raise StudyError(
            f"{path}: {needed} bytes of pixels are needed, {len(dataset.PixelData)} are there; it is truncated, copy "
            "it again"
        )
    decode = pixel_array if _has_decoder(transfer_syntax) else _decode_by_gdcm
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            values = decode(dataset).reshape(shape)
    except _DECODER_ERRORS:
        raise StudyError(
            f"{path}: pixel data of transfer syntax {transfer_syntax.name!r} cannot be decoded; the file may be "
            "truncated, or compressed in a way that is not supported: export it uncompressed"
        ) from None
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        # The bounds of the stored type swap places.
        values = (-1 if dataset.get("PixelRepresentation") else 2**dataset.BitsStored - 1) - values.astype(np.int32)
    return values


def read_values(frames: Sequence[Frame]) -> np.ndarray:
    """Rescaled values of frames, in their order: (D, H, W), int16, uint16, int32 or float32."""
    stored: dict[Path, np.ndarray] = {}
    planes = []
    for frame in frames:
        if frame.path not in stored:
            stored[frame.path] = read_stored_values(frame.path)
        planes.append(stored[frame.path][frame.number])
    values = np.stack(planes)
    slopes, intercepts = (np.array([getattr(frame, name) for frame in frames]) for name in ("slope", "intercept"))
    if (slopes == 1.0).all() and (intercepts == 0.0).all():
        return values
    rescaled = values * slopes[:, None, None] + intercepts[:, None, None]
    is_whole = (slopes % 1.0 == 0.0).all() and (intercepts % 1.0 == 0.0).all()
    return rescaled.astype(np.int32 if is_whole and abs(rescaled).max() < 2**31 else np.float32)
