"""One image as its files lay it out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from fedpedbrain.base.errors import StudyError
from fedpedbrain.base.files import sha256_of_file

# More than any scan; a header that promises more is damaged or means harm.
MOST_VOXELS = 2**30


@dataclass(frozen=True)
class Scan:
    """One image in its own geometry.

    Attributes
    ----------
    image : three axes, one value a voxel, in the file's own units; LPS, mm
    form : a word of ``reading.READERS``
    files : what it was read from, slices in the order of the image's third axis
    is_orientation_known : False where the form carries no geometry and the config's word was taken for it
    notes : what was found and worked around, one line each, without anything that identifies a patient
    frame_numbers : of a multi-frame file, the number (from 0) of the frame behind each slice; otherwise ()
    sha256 : of each file where its reader made them in passing, otherwise ()
    """

    image: sitk.Image
    form: str
    files: tuple[Path, ...]
    is_orientation_known: bool = True
    notes: tuple[str, ...] = ()
    frame_numbers: tuple[int, ...] = ()
    sha256: tuple[str, ...] = ()

    def file_digests(self) -> tuple[str, ...]:
        """SHA-256 of each file."""
        return self.sha256 or tuple(map(sha256_of_file, self.files))


def check_num_voxels(path: str | Path, shape: Sequence[int]) -> None:
    """Refuse a size that no scan has, before anything of that size is asked of the memory."""
    if math.prod(int(size) for size in shape) > MOST_VOXELS:
        found = " x ".join(str(size) for size in shape)
        raise StudyError(
            f"{path}: the header promises {found} voxels, more than any scan; it is damaged, export it again"
        )


def image_of_array(array: np.ndarray, spacing_mm: Sequence[float]) -> sitk.Image:
    """An image whose axes are the patient's.

    Parameters
    ----------
    array : (D, H, W): feet to head, front to back, the patient's right to left
    spacing_mm : distance between voxel centres (D, H, W)

    Returns
    -------
    LPS, the first voxel at 0
    """
    # SimpleITK has no half precision and no truth values, and wants the machine's own byte order.
    dtype = {"e": np.dtype(np.float32), "?": np.dtype(np.uint8)}.get(array.dtype.char, array.dtype.newbyteorder("="))
    image = sitk.GetImageFromArray(np.ascontiguousarray(array, dtype=dtype))
    image.SetSpacing([float(size) for size in spacing_mm[::-1]])
    return image
