"""From the scanner's geometry to the network's grid and back.

One convention everywhere: arrays are (D, H, W) with D from feet to head, H from front to back and W from the
patient's right to left, which is what SimpleITK's array view of an image in LPS orientation gives.
"""

from collections.abc import Callable

import numpy as np
import SimpleITK as sitk

# The head is where an image exceeds this part of its 99th percentile.
HEAD_LEVEL = 0.2
# An outer plane belongs to the head if at least this part of its voxels does: noise and wrapped noses do not count.
_LEAST_HEAD_FRACTION = 0.02


def above_air(values: np.ndarray) -> np.ndarray:
    """Shift intensities so that none is negative: some exports centre them about zero, air is the lowest value then."""
    return values - min(float(values.min()), 0.0)


def _whole_image(values: np.ndarray) -> list[tuple[int, int]]:
    return [(0, size) for size in values.shape]


def _head_box(values: np.ndarray) -> list[tuple[int, int]]:
    values = above_air(values)
    head = values > HEAD_LEVEL * np.percentile(values, 99)
    box = []
    for axis, size in enumerate(values.shape):
        planes = head.mean(tuple(other for other in range(values.ndim) if other != axis)) >= _LEAST_HEAD_FRACTION
        inside = np.flatnonzero(planes)
        box.append((int(inside[0]), int(inside[-1]) + 1) if inside.size else (0, size))
    return box


# Each takes an array (D, H, W) and gives the first and one past the last index of every axis.
FIELDS_OF_VIEW: dict[str, Callable[[np.ndarray], list[tuple[int, int]]]] = {
    "image": _whole_image,
    "head": _head_box,
}


def grid_frame(image: sitk.Image, grid: tuple[int, int, int], field_of_view: str) -> sitk.Image:
    """An empty image whose ``grid`` (D, H, W) voxels divide a field of view of ``image``, in LPS orientation.

    The frame keeps origin, spacing and direction, so that whatever is predicted on it maps back by resampling.

    Parameters
    ----------
    field_of_view : ``image`` for all of it, ``head`` for the smallest box that holds the head
    """
    oriented = sitk.DICOMOrient(image, "LPS")
    box = np.array(FIELDS_OF_VIEW[field_of_view](sitk.GetArrayViewFromImage(oriented)))[::-1]
    old_spacing, size = np.array(oriented.GetSpacing()), np.array(grid[::-1])
    spacing = (box[:, 1] - box[:, 0]) * old_spacing / size
    direction = np.array(oriented.GetDirection()).reshape(3, 3)
    # The box and the grid share their outer faces, not their first voxel centres.
    corner = np.array(oriented.TransformContinuousIndexToPhysicalPoint((box[:, 0] - 0.5).tolist()))
    frame = sitk.Image(size.tolist(), sitk.sitkUInt8)
    frame.SetSpacing(spacing.tolist())
    frame.SetOrigin((corner + direction @ (spacing / 2.0)).tolist())
    frame.SetDirection(oriented.GetDirection())
    return frame


def _smooth_for(image: sitk.Image, frame: sitk.Image) -> sitk.Image:
    """Blur along each axis that the frame samples more coarsely, so that thin detail does not alias."""
    oriented = sitk.Cast(sitk.DICOMOrient(image, "LPS"), sitk.sitkFloat32)
    old, new = np.array(oriented.GetSpacing()), np.array(frame.GetSpacing())
    variance = np.maximum((0.5 * new) ** 2 - (0.5 * old) ** 2, 0.0)
    if not variance.any():
        return oriented
    # A variance of zero leaves an axis as it is.
    return sitk.DiscreteGaussian(oriented, variance=variance.tolist(), maximumKernelWidth=64, maximumError=0.01)


def resample_image(image: sitk.Image, frame: sitk.Image) -> np.ndarray:
    """Sample an image on a frame: float32 (D, H, W) in the image's own units, 0 outside its field of view."""
    resampled = sitk.Resample(_smooth_for(image, frame), frame, sitk.Transform(), sitk.sitkLinear, 0.0)
    return sitk.GetArrayFromImage(resampled)


def resample_region(region: sitk.Image, frame: sitk.Image) -> np.ndarray:
    """Sample a binary region on a frame: bool (D, H, W), true where it covers at least half of the voxel."""
    return resample_image(sitk.Cast(region, sitk.sitkFloat32), frame) >= 0.5


def inside_frame(frame: sitk.Image, scan: sitk.Image) -> sitk.Image:
    """Which voxels of a scan lie inside a frame: uint8 (0 or 1) in the scan's own geometry."""
    return sitk.Resample(frame + 1, scan, sitk.Transform(), sitk.sitkNearestNeighbor, 0.0)


def restore_region(region: np.ndarray, frame: sitk.Image, scan: sitk.Image) -> sitk.Image:
    """Bring a region from the grid back to a scan's exact geometry.

    Parameters
    ----------
    region : bool (D, H, W) on ``frame``
    frame : the frame made by ``grid_frame(scan, ...)``

    Returns
    -------
    uint8 image (0 or 1) with the size, spacing, origin and direction of ``scan``
    """
    on_grid = sitk.GetImageFromArray(region.astype(np.float32))
    on_grid.CopyInformation(frame)
    resampler = sitk.ResampleImageFilter()
    resampler.SetReferenceImage(scan)
    resampler.SetInterpolator(sitk.sitkLinear)
    # Linear interpolation has no value in the outer half voxel of the frame; beyond the frame is background.
    resampler.UseNearestNeighborExtrapolatorOn()
    return sitk.Cast(resampler.Execute(on_grid) >= 0.5, sitk.sitkUInt8) * inside_frame(frame, scan)


def scale_intensity(image: np.ndarray, lower_percentile: float, upper_percentile: float) -> np.ndarray:
    """Map percentiles of the head's intensities to 0 and 255.

    Parameters
    ----------
    image : float32 (D, H, W), any unit; the head is where it exceeds ``HEAD_LEVEL``

    Returns
    -------
    uint8 (D, H, W); all 0 for a blank image
    """
    image = above_air(image)
    head = image[image > HEAD_LEVEL * np.percentile(image, 99)]
    if head.size == 0:
        return np.zeros(image.shape, dtype=np.uint8)
    low, high = np.percentile(head, [lower_percentile, upper_percentile])
    # Air stays near 0 whatever the head's darkest tissue is.
    low = min(low, high / 10.0)
    scaled = (image - low) / max(high - low, 1e-6)
    return np.round(np.clip(scaled, 0.0, 1.0) * 255.0).astype(np.uint8)
