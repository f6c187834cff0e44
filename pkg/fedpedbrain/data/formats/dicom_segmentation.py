"""DICOM Segmentation objects (PS3.3 A.51) as masks."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk
from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from pydicom.uid import SegmentationStorage

from fedpedbrain.base.errors import StudyError


def is_segmentation(path: Path) -> bool:
    """Whether a file is a DICOM Segmentation."""
    try:
        return path.is_file() and dcmread(path, specific_tags=["SOPClassUID"]).SOPClassUID == SegmentationStorage
    except (InvalidDicomError, AttributeError, OSError):
        return False


def read_segmentation(path: Path, scan: sitk.Image) -> sitk.Image:
    """Read the segments of an object as labels, segment number n as label n, on the grid of the scan that it outlines.

    Slices without a frame, of which objects need have none, are background.

    Raises
    ------
    StudyError : overlapping segments, slices that lie on no common grid, an object that outlines something else
    """
    # Its import takes two seconds, which readers of other masks need not wait.
    import highdicom as hd

    try:
        volume = hd.seg.segread(path).get_volume(combine_segments=True)
    except (RuntimeError, ValueError, AttributeError, TypeError, KeyError, OSError) as error:
        reason = "segments overlap" if "overlap" in str(error).lower() else f"unreadable, {type(error).__name__}"
        raise StudyError(
            f"{path}: a DICOM Segmentation that is no volume of labels ({reason}); export it as NIfTI"
        ) from None
    # Its array is indexed (slice, row, column), its affine gives LPS from these.
    labels = sitk.GetImageFromArray(volume.array.astype(np.uint16))
    labels.SetSpacing(volume.spacing[::-1])
    labels.SetOrigin(volume.position)
    labels.SetDirection(np.array(volume.direction)[:, ::-1].ravel().tolist())
    on_scan = sitk.Resample(labels, scan, sitk.Transform(), sitk.sitkNearestNeighbor, 0)
    if np.count_nonzero(volume.array) != np.count_nonzero(sitk.GetArrayViewFromImage(on_scan)):
        raise StudyError(f"{path}: outlines voxels of another grid than its scan's; name this series' own")
    return on_scan
