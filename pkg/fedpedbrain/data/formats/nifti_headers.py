"""NIfTI files (https://nifti.nimh.nih.gov): read once, checked before any reader allocates what a header promises."""

import gzip
import hashlib
import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import nibabel
import numpy as np
from nibabel.spatialimages import HeaderDataError

from fedpedbrain.base.errors import StudyError
from fedpedbrain.base.files import explained_disk
from fedpedbrain.data.formats.scan import check_num_voxels

# A header, its extensions and padding, and whatever an exporter leaves behind the voxels.
_SLACK_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 20
# Of the longer of the two kinds of header.
_HEADER_BYTES = 540
_MAGIC = {b"n+1\0": nibabel.Nifti1Header, b"n+2\0": nibabel.Nifti2Header}
# Voxel corners that two descriptions of one geometry place this far apart, mm, disagree.
_SAME_PLACE_MM = 0.1


def is_nifti(path: Path) -> bool:
    """Whether a file is called as NIfTI files are."""
    return path.name.endswith((".nii", ".nii.gz"))


@dataclass(frozen=True)
class UnpackedFile:
    """A NIfTI file that holds what its header promises.

    Attributes
    ----------
    header : as it stands, unmended
    plain : the same file uncompressed, for every reader that needs it
    sha256 : of the file itself, as hexadecimal
    """

    header: nibabel.Nifti1Header
    plain: Path
    sha256: str


class _HashedFile:
    """A file whose bytes are hashed as they are read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """As of a file."""
        part = self._file.read(size)
        self._digest.update(part)
        return part

    def sha256(self) -> str:
        """Of what was read."""
        return self._digest.hexdigest()


@contextmanager
def unpacked(path: Path) -> Iterator[UnpackedFile]:
    """Read a file to its end, and its checksum, once: header and length are checked, and its bytes hashed, in passing.

    A compressed file lies uncompressed in a temporary folder meanwhile. Readers open that one: each of them would
    decompress the file again, and SimpleITK fills a truncated one up with zeros and says nothing.

    Raises
    ------
    StudyError : no NIfTI header, one that describes no volume of real numbers, or another length than it promises
    OSError, EOFError, zlib.error : the file cannot be read
    """
    is_packed = path.suffix == ".gz"
    with open(path, "rb") as file, tempfile.TemporaryDirectory() as folder:
        plain = Path(folder, "volume.nii") if is_packed else path
        hashed = _HashedFile(file)
        stream = gzip.GzipFile(fileobj=hashed, mode="rb") if is_packed else hashed
        start = stream.read(_HEADER_BYTES)
        header = _parse_header(path, start)
        num_bytes = check_header(path, header)
        check_num_voxels(path, header.get_data_shape())
        with explained_disk(folder), open(plain if is_packed else os.devnull, "wb") as kept:
            _copy(path, start, stream, kept, num_bytes)
        yield UnpackedFile(header, plain, hashed.sha256())


def _parse_header(path: Path, start: bytes) -> nibabel.Nifti1Header:
    """The header that a file starts with."""
    known = _MAGIC.get(start[344:348]) or _MAGIC.get(start[4:8])
    if known is None:
        raise StudyError(f"{path}: not a readable volume: no NIfTI header; it may be empty or damaged")
    return known(start[: known.template_dtype.itemsize], check=False)


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


def _copy(path: Path, start: bytes, stream: BinaryIO, kept: BinaryIO, num_bytes: int) -> None:
    """Copy a file that starts with ``start``; it must hold the ``num_bytes`` that its header promises, and no more."""
    chunk, found = start, 0
    while chunk:
        found += len(chunk)
        if found > num_bytes + _SLACK_BYTES:
            raise StudyError(
                f"{path}: holds far more than the {num_bytes} bytes that its header needs; it is damaged, export it "
                "again"
            )
        kept.write(chunk)
        chunk = stream.read(_CHUNK_BYTES)
    if found < num_bytes:
        raise StudyError(
            f"{path}: not a readable volume: the header promises {num_bytes} bytes, {found} are there; it may be "
            "truncated, copy it again"
        )


def geometry_notes(header: nibabel.Nifti1Header) -> tuple[str, ...]:
    """A note where the two descriptions of the geometry that a header may hold, sform and qform, disagree."""
    if not (header["sform_code"] > 0 and header["qform_code"] > 0):
        return ()
    corners = np.array(np.meshgrid(*[(0, size - 1) for size in header["dim"][1:4]])).reshape(3, -1)
    corners = np.vstack([corners, np.ones(corners.shape[1])])
    away = float(abs((header.get_sform() - header.get_qform()) @ corners).max())
    if away <= _SAME_PLACE_MM:
        return ()
    return (f"sform and qform disagree by up to {away:.1f} mm; the scan lies where SimpleITK puts it",)
