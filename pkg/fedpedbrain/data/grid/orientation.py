"""How an image lies in the patient, in words: the plane of its slices and the three letters of its axes."""

import numpy as np
import SimpleITK as sitk

# Of the body's axes in LPS order: the plane that slices stacked along it show.
_PLANES = ("sagittal", "coronal", "axial")
# Axes further than this from those of the body are called oblique.
OBLIQUE_FROM_DEGREES = 5.0
# Voxels this much longer along one axis are taken for slices stacked along it.
_THICKER_THAN_PLANE = 1.05


def tilt_degrees(image: sitk.Image) -> float:
    """Largest angle between an axis of an image and the patient's axis nearest to it, in degrees."""
    cosines = np.abs(np.array(image.GetDirection()).reshape(3, 3)).max(axis=0)
    return float(np.degrees(np.arccos(np.clip(cosines, 0.0, 1.0))).max())


def describe_orientation(image: sitk.Image) -> str:
    """Say how an image's slices lie: ``axial LPS``, ``oblique coronal LSA``.

    Slices are stacked along the axis of the largest distance between voxels, along the third one where all are alike.
    The three letters say where the file's axes point to (as SimpleITK names them): L left, P back, S head.

    Parameters
    ----------
    image : three axes, LPS
    """
    directions = np.array(image.GetDirection()).reshape(3, 3)
    spacing = np.array(image.GetSpacing())
    axis = int(spacing.argmax()) if spacing.max() > _THICKER_THAN_PLANE * np.median(spacing) else 2
    plane = _PLANES[int(np.abs(directions[:, axis]).argmax())]
    code = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(image.GetDirection())
    return f"{'oblique ' if tilt_degrees(image) > OBLIQUE_FROM_DEGREES else ''}{plane} {code}"
