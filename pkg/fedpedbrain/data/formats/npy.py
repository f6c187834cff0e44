"""NumPy arrays: .npy, and .npz of one array. What is pickled in them is never run."""

import math
import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from fedpedbrain.base.errors import StudyError
from fedpedbrain.data.formats.scan import Scan, check_num_voxels, image_of_array

_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_NUMBERS = "biuf"
_KINDS = {"O": "Python objects", "U": "text", "S": "text", "c": "complex numbers", "V": "records"}


@contextmanager
def _opened(path: Path) -> Iterator[tuple[IO[bytes], int]]:
    """The file of one array and the number of bytes in it."""
    if path.suffix != ".npz":
        with open(path, "rb") as file:
            yield file, os.fstat(file.fileno()).st_size
        return
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if len(members) != 1:
            raise StudyError(f"{path}: {len(members)} arrays ({', '.join(archive.namelist()[:4])}); expected one")
        with archive.open(members[0]) as file:
            yield file, members[0].file_size


def _read_header(path: Path, file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether the first axis runs fastest, and type of an array; refuses what is no 3-D array of numbers."""
    try:
        shape, is_fortran, dtype = _HEADERS[np.lib.format.read_magic(file)](file)
    except (ValueError, KeyError):
        raise StudyError(
            f"{path}: not an array that numpy.save wrote (a pickle or damaged); save it again with numpy.save"
        ) from None
    if dtype.kind not in _NUMBERS or dtype.itemsize > 8:
        raise StudyError(f"{path}: holds {_KINDS.get(dtype.kind, dtype.name)}; expected a 3-D array of real numbers")
    if len(shape) != 3 or 0 in shape:
        found = " x ".join(map(str, shape)) or "one number"
        raise StudyError(f"{path}: an array of {len(shape)} axes ({found}); expected a 3-D array, one volume a file")
    check_num_voxels(path, shape)
    return shape, is_fortran, dtype


def read_array(path: Path) -> np.ndarray:
    """Read a 3-D array of real, finite numbers as it is stored.

    Raises
    ------
    StudyError : anything else, by name; nothing is unpickled
    """
    try:
        with _opened(path) as (file, num_bytes):
            shape, is_fortran, dtype = _read_header(path, file)
            needed = math.prod(shape) * dtype.itemsize
            if needed > num_bytes - file.tell():
                raise StudyError(
                    f"{path}: the header promises {needed} bytes, {num_bytes - file.tell()} are there; it is "
                    "truncated, copy it again"
                )
            array = np.frombuffer(file.read(needed), dtype).reshape(shape, order="F" if is_fortran else "C")
    except PermissionError:
        raise StudyError(f"{path}: may not be read; give this user the right to read it") from None
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error, NotImplementedError):
        raise StudyError(f"{path}: not a readable array; it may be empty or truncated, copy it again") from None
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise StudyError(f"{path}: the array holds NaN or infinite values; save it again without")
    return array


def in_patient_axes(array: np.ndarray, axes: str) -> np.ndarray:
    """Bring an array into the order (D, H, W).

    Parameters
    ----------
    axes : the patient's axis behind each axis of ``array``, such as ``HWD``; a small letter runs the other way
    """
    array = np.flip(array, [number for number, axis in enumerate(axes) if axis.islower()])
    return array.transpose([axes.upper().index(axis) for axis in "DHW"])


def read_npy(path: Path, settings: Mapping[str, Any]) -> Scan:
    """Read one array; ``settings`` is the block ``formats.npy`` of the config: its axes and spacing."""
    array = in_patient_axes(read_array(path), settings["axes"])
    return Scan(image_of_array(array, settings["spacing_mm"]), "npy", (path,), is_orientation_known=False)
