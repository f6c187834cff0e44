"""One case in memory, in its own geometry, before any preprocessing."""

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK as sitk

from fedpedbrain.base.errors import StudyError
from fedpedbrain.data.formats.nifti_headers import check_header, check_stream, is_nifti, read_header
from fedpedbrain.data.grid.geometry import largest_offset

# Voxels; headers round, and the distance of DICOM slices is an average.
_LARGEST_OFFSET = 0.1
# More than any scan; a header that promises more is damaged or means harm.
MOST_VOXELS = 2**30


@dataclass(frozen=True)
class Volume:
    """The images of one case and its mask, as the scanner laid them out.

    Attributes
    ----------
    images : one SimpleITK image a channel, all on one voxel grid (LPS, mm)
    mask : integer labels on the same grid, or None where the case has no mask file (nothing outlined)
    """

    images: tuple[sitk.Image, ...]
    mask: sitk.Image | None


def read_volume(path: str | Path) -> sitk.Image:
    """Read a 3-D volume; a ``StudyError`` names the file and what is wrong with it."""
    path = Path(path)
    try:
        if is_nifti(path):
            _check_nifti(path)
        volume = sitk.ReadImage(str(path))
    except IsADirectoryError:
        raise StudyError(f"{path}: not a readable volume: a folder; give the file itself") from None
    except PermissionError:
        raise StudyError(f"{path}: may not be read; give this user the right to read it") from None
    except (RuntimeError, OSError, EOFError, zlib.error):
        raise StudyError(f"{path}: not a readable volume; it may be missing or truncated, copy it again") from None
    if volume.GetDimension() == 4 and volume.GetSize()[3] == 1:
        volume = volume[:, :, :, 0]
    if volume.GetDimension() != 3:
        raise StudyError(f"{path}: expected a 3-D volume, found {volume.GetDimension()} dimensions")
    if volume.GetNumberOfComponentsPerPixel() != 1:
        raise StudyError(f"{path}: expected one value a voxel, found {volume.GetNumberOfComponentsPerPixel()}")
    return volume


def _check_nifti(path: Path) -> None:
    """Refuse a NIfTI file whose header is wrong or promises other than the file holds, before it is read."""
    header = read_header(path)
    num_bytes = check_header(path, header)
    check_num_voxels(path, header.get_data_shape())
    check_stream(path, num_bytes)


def check_num_voxels(path: str | Path, shape: Sequence[int]) -> None:
    """Refuse a size that no scan has, before anything of that size is asked of the memory."""
    if math.prod(int(size) for size in shape) > MOST_VOXELS:
        found = " x ".join(str(size) for size in shape)
        raise StudyError(
            f"{path}: the header promises {found} voxels, more than any scan; it is damaged, export it again"
        )


def check_finite(path: str | Path, image: sitk.Image) -> None:
    """Refuse an image that holds NaN or infinite values."""
    # SimpleITK's NIfTI reader turns NaN into 0.
    values = np.asanyarray(nibabel.load(path).dataobj) if is_nifti(Path(path)) else sitk.GetArrayViewFromImage(image)
    if not np.isfinite(values).all():
        raise StudyError(f"{path}: the image holds NaN or infinite values; export it again")


def check_same_grid(path: Path, volume: sitk.Image, other_path: Path, other: sitk.Image) -> None:
    """Refuse a volume whose voxels are not those of another of its case, from corner to corner."""
    if volume.GetSize() != other.GetSize():
        raise StudyError(
            f"{path}: shape {volume.GetSize()} differs from {other.GetSize()} of {other_path.name}; "
            "all images and the mask of a case must share one voxel grid"
        )
    offset = largest_offset(other, volume)
    if offset > _LARGEST_OFFSET:
        raise StudyError(
            f"{path}: origin, spacing or direction differ from {other_path.name}, by {offset:.1f} voxels at a corner; "
            "all images and the mask of a case must share one voxel grid"
        )
