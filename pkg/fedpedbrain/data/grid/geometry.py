"""From the scanner's geometry to the network's grid and back.

One convention everywhere: arrays are (D, H, W) with D from feet to head, H from front to back and W from the
patient's right to left, which is what SimpleITK's array view of an image in LPS orientation gives.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product

import numpy as np
import SimpleITK as sitk

from fedpedbrain.data.grid.intensity import FOREGROUND, above_air, find_foreground

# In place of a spacing: that of each scan.
NATIVE = "native"
# An outer plane belongs to the organ if at least this part of its voxels is foreground: noise and what wraps around do
# not count.
_LEAST_FOREGROUND_FRACTION = 0.02


def _whole_image(values: np.ndarray, settings: Mapping[str, float]) -> list[tuple[int, int]]:
    return [(0, size) for size in values.shape]


def _foreground_box(values: np.ndarray, settings: Mapping[str, float]) -> list[tuple[int, int]]:
    foreground = find_foreground(above_air(values), **settings)
    box = []
    for axis, size in enumerate(values.shape):
        parts = foreground.mean(tuple(other for other in range(values.ndim) if other != axis))
        inside = np.flatnonzero(parts >= _LEAST_FOREGROUND_FRACTION)
        box.append((int(inside[0]), int(inside[-1]) + 1) if inside.size else (0, size))
    return box


# Each takes an array (D, H, W) and what is foreground, and gives the first and one past the last index of every axis.
FIELDS_OF_VIEW: dict[str, Callable[[np.ndarray, Mapping[str, float]], list[tuple[int, int]]]] = {
    "image": _whole_image,
    "foreground": _foreground_box,
}


def grid_frame(
    image: sitk.Image,
    grid: Sequence[int] | None,
    field_of_view: str,
    voxel_spacing_mm: Sequence[float] | str | None = None,
    whole: bool = False,
    foreground: Mapping[str, float] = FOREGROUND,
) -> sitk.Image:
    """An empty image of ``grid`` (D, H, W) voxels that lies over a field of view of ``image``, in LPS orientation.

    The frame keeps origin, spacing and direction, so that whatever is predicted on it maps back by resampling.

    Parameters
    ----------
    grid : None for as many voxels of a given spacing as hold all of the field of view
    field_of_view : ``image`` for all of it, ``foreground`` for the smallest box that holds the organ
    voxel_spacing_mm : distance between voxel centres (D, H, W), or ``NATIVE`` for that of the image; the frame then
        lies over the middle of the field of view, and one may exceed the other. None for voxels that divide the field
        of view
    whole : let a frame of a given spacing grow beyond ``grid``, by an even number of voxels along each axis, until it
        holds all of the field of view; the grid is then the middle of it, voxel by voxel
    foreground : ``percentile`` and ``fraction`` of ``find_foreground``
    """
    oriented = to_lps(image)
    box = np.array(FIELDS_OF_VIEW[field_of_view](sitk.GetArrayViewFromImage(oriented), foreground))[::-1]
    old_spacing, direction = np.array(oriented.GetSpacing()), np.array(oriented.GetDirection()).reshape(3, 3)
    # The box and the grid share their outer faces, not their first voxel centres. All in voxels of the image.
    first_face, end_face = box[:, 0] - 0.5, box[:, 1] - 0.5
    if voxel_spacing_mm is None:
        size = np.array(grid[::-1])
        spacing = (end_face - first_face) * old_spacing / size
    else:
        is_native = voxel_spacing_mm == NATIVE
        spacing = old_spacing if is_native else np.array(voxel_spacing_mm[::-1], dtype=float)
        voxel = spacing / old_spacing
        if grid is None:
            first_face, size = _cover(first_face, end_face, voxel)
        else:
            first_face, size = _place_grid(first_face, end_face, np.array(grid[::-1]), voxel, whole)
    corner = np.array(oriented.TransformContinuousIndexToPhysicalPoint(first_face.tolist()))
    frame = sitk.Image(size.tolist(), sitk.sitkUInt8)
    frame.SetSpacing(spacing.tolist())
    frame.SetOrigin((corner + direction @ (spacing / 2.0)).tolist())
    frame.SetDirection(oriented.GetDirection())
    return frame


def _cover(first_face: np.ndarray, end_face: np.ndarray, voxel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lay the fewest voxels over the middle of a box that hold all of it, to a hundredth of a voxel.

    Arguments and what is returned as of ``_place_grid``. Voxels as long as the image's are the image's own.
    """
    size = np.maximum(np.ceil((end_face - first_face) / voxel - 0.01), 1.0).astype(int)
    return (first_face + end_face - size * voxel) / 2.0, size


def _place_grid(
    first_face: np.ndarray, end_face: np.ndarray, size: np.ndarray, voxel: np.ndarray, whole: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Lay ``size`` voxels, each ``voxel`` voxels of the image long, over the middle of a box; see ``grid_frame``.

    Returns where the first of them begins, on a face between two voxels of the image, so that a grid of the image's
    own spacing holds its voxels as they are; and how many there are.
    """
    start = np.round((first_face + end_face - size * voxel) / 2.0 + 0.5) - 0.5
    if not whole:
        return start, size
    missing = np.maximum(start - first_face, end_face - (start + size * voxel))
    # What rounding errors leave over needs no voxel.
    grown = np.maximum(np.ceil(missing / voxel - 1e-6), 0.0).astype(int)
    return start - grown * voxel, size + 2 * grown


def to_lps(image: sitk.Image) -> sitk.Image:
    """The image with its axes in LPS order; the image itself where they are already."""
    if sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(image.GetDirection()) == "LPS":
        return image
    return sitk.DICOMOrient(image, "LPS")


def _blur_variance(oriented: sitk.Image, frame: sitk.Image) -> np.ndarray:
    """Variance in mm² (x, y, z) of the blur along each axis that the frame samples more coarsely, 0 elsewhere."""
    old, new = np.array(oriented.GetSpacing()), np.array(frame.GetSpacing())
    return np.maximum((0.5 * new) ** 2 - (0.5 * old) ** 2, 0.0)


def _smooth_for(oriented: sitk.Image, frame: sitk.Image) -> sitk.Image:
    """Blur along each axis that the frame samples more coarsely, so that thin detail does not alias."""
    image, variance = sitk.Cast(oriented, sitk.sitkFloat32), _blur_variance(oriented, frame)
    if not variance.any():
        return image
    # A variance of zero leaves an axis as it is.
    return sitk.DiscreteGaussian(image, variance=variance.tolist(), maximumKernelWidth=64, maximumError=0.01)


def resample_image(image: sitk.Image, frame: sitk.Image) -> np.ndarray:
    """Sample an image on a frame: float32 (D, H, W) in the image's own units, air outside its field of view."""
    oriented = to_lps(image)
    air = min(float(sitk.GetArrayViewFromImage(oriented).min()), 0.0)
    return _sample(oriented, frame, air)


def largest_offset(image: sitk.Image, other: sitk.Image, first: Sequence[int] = (0, 0, 0)) -> float:
    """How far from an image a part of another, as large as the image, lies at its furthest corner, in voxels of it.

    Parameters
    ----------
    first : index (x, y, z) in the other at which the part begins
    """
    corners = np.array(list(product(*((-0.5, size - 0.5) for size in image.GetSize()))))
    places, others = (
        np.array([item.TransformContinuousIndexToPhysicalPoint(corner) for corner in indices.tolist()])
        for item, indices in ((image, corners), (other, corners + first))
    )
    return float(np.linalg.norm(places - others, axis=1).max()) / min(image.GetSpacing())


def _own_voxels(frame: sitk.Image, image: sitk.Image) -> tuple[int, int, int] | None:
    """Index (x, y, z) in an image at which a frame begins whose voxels are the image's; None where they are not.

    They are to a thousandth of a voxel. The frame may reach beyond the image.
    """
    first = np.round(image.TransformPhysicalPointToContinuousIndex(frame.GetOrigin())).astype(int).tolist()
    return tuple(first) if largest_offset(frame, image, first) <= 1e-3 else None


def _cut(values: np.ndarray, frame: sitk.Image, first: Sequence[int], outside: float) -> np.ndarray:
    """The part of an array (D, H, W) that a frame's own voxels are, as float32; ``first`` as of ``_own_voxels``."""
    part = np.full(frame.GetSize()[::-1], outside, dtype=np.float32)
    here, there = [], []
    for start, size, extent in zip(first[::-1], part.shape, values.shape, strict=True):
        low, high = max(start, 0), min(start + size, extent)
        there.append(slice(low, max(high, low)))
        here.append(slice(low - start, max(high, low) - start))
    part[*here] = values[*there]
    return part


def _sample(oriented: sitk.Image, frame: sitk.Image, outside: float) -> np.ndarray:
    first = _own_voxels(frame, oriented)
    if first is not None:
        return _cut(sitk.GetArrayViewFromImage(oriented), frame, first, outside)
    smooth = _smooth_for(oriented, frame)
    return sitk.GetArrayFromImage(sitk.Resample(smooth, frame, sitk.Transform(), sitk.sitkLinear, outside))


def resample_region(region: sitk.Image, frame: sitk.Image) -> np.ndarray:
    """Sample a binary region on a frame: bool (D, H, W), true where it covers at least half of the voxel."""
    oriented = to_lps(region)
    first = _own_voxels(frame, oriented)
    if first is not None:
        return _cut(sitk.GetArrayViewFromImage(oriented), frame, first, 0.0) >= 0.5
    # Four standard deviations are more than the blur reaches, and two voxels more than interpolation does.
    reach = 4.0 * np.sqrt(_blur_variance(oriented, frame)) / np.array(oriented.GetSpacing())
    outlined = cut_to_outline(oriented, np.ceil(reach).astype(int) + 2)
    if outlined is None:
        return np.zeros(frame.GetSize()[::-1], dtype=bool)
    return _sample(outlined, frame, 0.0) >= 0.5


def cut_to_outline(mask: sitk.Image, margin: Sequence[int] = (0, 0, 0)) -> sitk.Image | None:
    """The part of a mask that holds all its labels and a margin (x, y, z) of voxels; None where there is no label."""
    values = sitk.GetArrayViewFromImage(mask)
    outlined = [np.flatnonzero(values.any(axes)) for axes in ((0, 1), (0, 2), (1, 2))]
    if not outlined[0].size:
        return None
    first = [max(int(axis.min()) - voxels, 0) for axis, voxels in zip(outlined, margin, strict=True)]
    end = [int(axis.max()) + 1 + voxels for axis, voxels in zip(outlined, margin, strict=True)]
    return mask[tuple(slice(*ends) for ends in zip(first, map(min, end, mask.GetSize()), strict=True))]


def inside_frame(frame: sitk.Image, scan: sitk.Image) -> sitk.Image:
    """Which voxels of a scan lie inside a frame: uint8 (0 or 1) in the scan's own geometry."""
    return sitk.Resample(frame + 1, scan, sitk.Transform(), sitk.sitkNearestNeighbor, 0.0)


def restore_probabilities(probabilities: np.ndarray, frame: sitk.Image, scan: sitk.Image) -> sitk.Image:
    """Bring probabilities of a region from the grid back to a scan's exact geometry, interpolated linearly.

    Parameters
    ----------
    probabilities : float32 (D, H, W) on ``frame``
    frame : the frame made by ``grid_frame(scan, ...)``

    Returns
    -------
    float32 image with the size, spacing, origin and direction of ``scan``, 0 outside the frame
    """
    on_grid = sitk.GetImageFromArray(probabilities)
    on_grid.CopyInformation(frame)
    resampler = sitk.ResampleImageFilter()
    resampler.SetReferenceImage(scan)
    resampler.SetInterpolator(sitk.sitkLinear)
    # Linear interpolation has no value in the outer half voxel of the frame; beyond the frame is background.
    resampler.UseNearestNeighborExtrapolatorOn()
    return resampler.Execute(on_grid) * sitk.Cast(inside_frame(frame, scan), sitk.sitkFloat32)


def restore_region(region: np.ndarray, frame: sitk.Image, scan: sitk.Image) -> sitk.Image:
    """Bring a region, bool (D, H, W), back as ``restore_probabilities``: a uint8 image, 1 where it covers a half."""
    return sitk.Cast(restore_probabilities(region.astype(np.float32), frame, scan) >= 0.5, sitk.sitkUInt8)


def label_regions(regions: Iterable[np.ndarray], shape: Sequence[int]) -> np.ndarray:
    """Number regions that may overlap; where they do, the smallest one's number stands.

    Parameters
    ----------
    regions : bool (D, H, W) each
    shape : (D, H, W)

    Returns
    -------
    uint8 (D, H, W): 0 is background and region number r is r + 1; of two regions of one size the later lies on top
    """
    regions = list(regions)
    labels = np.zeros(shape, dtype=np.uint8)
    for number in sorted(range(len(regions)), key=lambda number: -int(regions[number].sum())):
        labels[regions[number]] = number + 1
    return labels
