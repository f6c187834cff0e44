"""One case in memory, in its own geometry, before any preprocessing."""

import zlib
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK as sitk

from fedpedbrain.base.errors import StudyError
from fedpedbrain.base.files import sha256_of_file
from fedpedbrain.data.formats.nifti_headers import geometry_notes, is_nifti, unpacked
from fedpedbrain.data.grid.geometry import largest_offset

# Voxels; headers round, and the distance of DICOM slices is an average.
_LARGEST_OFFSET = 0.1


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


@dataclass(frozen=True)
class VolumeFile:
    """A 3-D volume, and what was seen while its file was read.

    Attributes
    ----------
    sha256 : of the file
    notes : as of a ``Scan``
    """

    image: sitk.Image
    sha256: str
    notes: tuple[str, ...] = ()


def read_volume(path: str | Path) -> VolumeFile:
    """Read a 3-D volume of finite numbers, of a compressed NIfTI file with a single decompression.

    Raises
    ------
    StudyError : names the file and what is wrong with it
    """
    path = Path(path)
    try:
        if not is_nifti(path):
            image = _as_volume(path, sitk.ReadImage(str(path)))
            _check_finite(path, sitk.GetArrayViewFromImage(image))
            return VolumeFile(image, sha256_of_file(path))
        with unpacked(path) as file:
            image = _as_volume(path, sitk.ReadImage(str(file.plain)))
            # SimpleITK's NIfTI reader turns NaN into 0.
            _check_finite(path, np.asanyarray(nibabel.load(file.plain).dataobj))
            return VolumeFile(image, file.sha256, geometry_notes(file.header))
    except IsADirectoryError:
        raise StudyError(f"{path}: not a readable volume: a folder; give the file itself") from None
    except PermissionError:
        raise StudyError(f"{path}: may not be read; give this user the right to read it") from None
    except (RuntimeError, OSError, EOFError, zlib.error):
        raise StudyError(f"{path}: not a readable volume; it may be missing or truncated, copy it again") from None


def _as_volume(path: Path, image: sitk.Image) -> sitk.Image:
    """The image as one of three axes, one value per voxel; others are refused."""
    if image.GetDimension() == 4 and image.GetSize()[3] == 1:
        image = image[:, :, :, 0]
    if image.GetDimension() != 3:
        raise StudyError(f"{path}: expected a 3-D volume, found {image.GetDimension()} dimensions")
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise StudyError(f"{path}: expected one value a voxel, found {image.GetNumberOfComponentsPerPixel()}")
    return image


def _check_finite(path: Path, values: np.ndarray) -> None:
    """Refuse an image that holds NaN or infinite values."""
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
