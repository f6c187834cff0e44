"""Metrics of two masks with SimpleITK's filters: what the project's own are held against."""

import math
from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk


def _image(mask: np.ndarray, spacing_mm: Sequence[float], rim: int = 0) -> sitk.Image:
    """A mask as an image of as many axes as have more than one voxel, with an empty rim."""
    kept = [axis for axis, size in enumerate(mask.shape) if size > 1]
    if len(kept) < 2:
        kept = list(range(mask.ndim))
    plane = mask.reshape([mask.shape[axis] for axis in kept])
    image = sitk.GetImageFromArray(np.pad(plane, rim).astype(np.uint8))
    image.SetSpacing([spacing_mm[axis] for axis in reversed(kept)])
    return image


def measure_surfaces(
    predicted: np.ndarray, truth: np.ndarray, spacing_mm: Sequence[float], tolerance_mm: float
) -> tuple[float, float]:
    """HD95 in mm and surface Dice of masks that are not empty, with contours and distance maps."""
    contours = [sitk.LabelContour(_image(mask, spacing_mm, 1), fullyConnected=False) for mask in (predicted, truth)]
    arrays = [sitk.GetArrayFromImage(image).astype(bool) for image in contours]
    maps = [
        np.abs(sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(image, squaredDistance=False, useImageSpacing=True)))
        for image in contours
    ]
    there, back = maps[1][arrays[0]], maps[0][arrays[1]]
    hd95 = max(np.percentile(there, 95), np.percentile(back, 95))
    return hd95, np.mean(np.concatenate([there, back]) <= tolerance_mm + 1e-4)


def measure_dice(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Dice of masks of which one at least is not empty."""
    overlap = sitk.LabelOverlapMeasuresImageFilter()
    ones = (1.0,) * predicted.ndim
    overlap.Execute(_image(predicted, ones), _image(truth, ones))
    return overlap.GetDiceCoefficient()


def measure_volume_ml(mask: np.ndarray, spacing_mm: Sequence[float]) -> float:
    """Volume of a mask in ml; an axis of one voxel counts with its spacing."""
    shape = sitk.LabelShapeStatisticsImageFilter()
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    image.SetSpacing(tuple(reversed(spacing_mm)))
    shape.Execute(image)
    return shape.GetPhysicalSize(1) / 1000.0 if shape.HasLabel(1) else 0.0


def count_lesions(mask: np.ndarray, other: np.ndarray, least_overlap: float) -> tuple[int, int]:
    """Number of a mask's lesions, and of those of which the other mask fills enough."""
    components = sitk.ConnectedComponent(sitk.GetImageFromArray(mask.astype(np.uint8)), True)
    overlaps = sitk.LabelIntensityStatisticsImageFilter()
    overlaps.Execute(components, sitk.GetImageFromArray(other.astype(np.float32)))
    labels = overlaps.GetLabels()
    return len(labels), sum(overlaps.GetMean(label) >= least_overlap for label in labels)


def measure_region(
    predicted: np.ndarray,
    truth: np.ndarray,
    spacing_mm: Sequence[float],
    surface_tolerance_mm: float,
    lesion_overlap: float,
) -> dict[str, float]:
    """Every metric of a region; what an empty mask makes of it is the declared rule, written out once more."""
    volumes = [measure_volume_ml(mask, spacing_mm) for mask in (predicted, truth)]
    has_prediction, has_truth = bool(predicted.any()), bool(truth.any())
    extent = [(size - 1) * mm for size, mm in zip(truth.shape, spacing_mm, strict=True)]
    hd95, surface_dice = math.nan, 1.0
    if has_prediction and has_truth:
        hd95, surface_dice = measure_surfaces(predicted, truth, spacing_mm, surface_tolerance_mm)
    elif has_prediction or has_truth:
        hd95, surface_dice = float(np.linalg.norm(extent)), 0.0
    num_true, num_found = count_lesions(truth, predicted, lesion_overlap)
    num_predicted, num_right = count_lesions(predicted, truth, lesion_overlap)
    return {
        "dice": measure_dice(predicted, truth) if has_prediction or has_truth else 1.0,
        "surface_dice": surface_dice,
        "hd95_mm": hd95,
        "volume_error_ml": abs(volumes[0] - volumes[1]),
        "relative_volume_error": abs(volumes[0] / volumes[1] - 1.0) if has_truth else math.nan,
        "volume_bias_ml": volumes[0] - volumes[1],
        "lesion_sensitivity": num_found / num_true if has_truth else math.nan,
        "lesion_precision": num_right / num_predicted if has_prediction else math.nan,
        "true_volume_ml": volumes[1],
        "predicted_volume_ml": volumes[0],
    }
