"""NIfTI headers (https://nifti.nimh.nih.gov), checked before any reader allocates what they promise."""

import gzip
import math
from pathlib import Path
from typing import BinaryIO

import nibabel
import numpy as np
from nibabel.spatialimages import HeaderDataError

from fedpedbrain.base.errors import StudyError

# A header, its extensions and padding, and whatever an exporter leaves behind the voxels.
_SLACK_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 20
_MAGIC = {b"n+1\0": nibabel.Nifti1Header, b"n+2\0": nibabel.Nifti2Header}
# Voxel corners that two descriptions of one geometry place this far apart, mm, disagree.
_SAME_PLACE_MM = 0.1


def is_nifti(path: Path) -> bool:
    """Whether a file is called as NIfTI files are."""
    return path.name.endswith((".nii", ".nii.gz"))


def _open(path: Path) -> BinaryIO:
    return gzip.open(path) if path.suffix == ".gz" else open(path, "rb")


def read_header(path: Path) -> nibabel.Nifti1Header:
    """Read the header as it stands, unmended.

    Raises
    ------
    StudyError : no NIfTI header
    OSError, EOFError, zlib.error : the file cannot be read
    """
    with _open(path) as file:
        start = file.read(540)
        known = _MAGIC.get(start[344:348]) or _MAGIC.get(start[4:8])
        if known is None:
            raise StudyError(f"{path}: not a readable volume: no NIfTI header; it may be empty or damaged")
        file.seek(0)
        return known.from_fileobj(file, check=False)


def check_header(path: Path, header: nibabel.Nifti1Header) -> int:
    """Refuse a header that describes no volume of real numbers; returns the number of bytes that the file must have."""
    num_axes = int(header["dim"][0])
    sizes = header["dim"][1 : 1 + num_axes].tolist() if 1 <= num_axes <= 7 else []
    if not sizes or min(sizes) < 1:
        raise StudyError(f"{path}: the header states sizes {sizes}; expected three sizes above 0, export it again")
    spacing = header["pixdim"][1 : 1 + min(num_axes, 3)].tolist()
    if not all(0.0 < size < math.inf for size in spacing):
        found = " x ".join(f"{size:g}" for size in spacing)
        raise StudyError(
            f"{path}: the header states a spacing of {found} mm; expected numbers above 0, export it again"
        )
    try:
        dtype = header.get_data_dtype()
    except (HeaderDataError, KeyError):
        raise StudyError(f"{path}: the header states a data type that NIfTI does not know; export it again") from None
    if dtype.kind not in "iuf":
        what = {"c": "complex numbers", "V": "colour (several values a voxel)"}.get(dtype.kind, dtype.name)
        raise StudyError(f"{path}: holds {what}; expected one real number a voxel")
    offset = float(header["vox_offset"])
    return math.prod(sizes) * dtype.itemsize + (int(offset) if 0 <= offset < _SLACK_BYTES else 0)


def check_stream(path: Path, num_bytes: int) -> None:
    """Read a file to its end, and its checksum, without keeping it: it must hold what its header promises, no more.

    SimpleITK fills a truncated file up with zeros and says nothing.
    """
    found = 0
    with _open(path) as file:
        while chunk := file.read(_CHUNK_BYTES):
            found += len(chunk)
            if found > num_bytes + _SLACK_BYTES:
                raise StudyError(
                    f"{path}: holds far more than the {num_bytes} bytes that its header needs; it is damaged, export "
                    "it again"
                )
    if found < num_bytes:
        raise StudyError(
            f"{path}: not a readable volume: the header promises {num_bytes} bytes, {found} are there; it may be "
            "truncated, copy it again"
        )


def geometry_notes(path: Path) -> tuple[str, ...]:
    """A note where the two descriptions of the geometry that a header may hold, sform and qform, disagree."""
    header = read_header(path)
    if not (header["sform_code"] > 0 and header["qform_code"] > 0):
        return ()
    corners = np.array(np.meshgrid(*[(0, size - 1) for size in header["dim"][1:4]])).reshape(3, -1)
    corners = np.vstack([corners, np.ones(corners.shape[1])])
    away = float(abs((header.get_sform() - header.get_qform()) @ corners).max())
    if away <= _SAME_PLACE_MM:
        return ()
    return (f"sform and qform disagree by up to {away:.1f} mm; the scan lies where SimpleITK puts it",)
