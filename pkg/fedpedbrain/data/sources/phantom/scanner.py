"""Scanners that differ: geometry, field inhomogeneity, noise and contrast, drawn once a site plus a little a case."""

from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk
from scipy import ndimage
from scipy.spatial.transform import Rotation

from fedpedbrain.data.sources.phantom.anatomy import TISSUE_VALUES

# Half the field of view in mm around the head's centre: right-left, anterior-posterior, feet-head.
_HALF_VIEW_MM = np.array([95.0, 112.0, 90.0])
_VIEW_CENTRE_LPS_MM = np.array([0.0, 17.0, 4.0])
_MAX_TILT_DEGREES = 12.0


@dataclass(frozen=True)
class Scanner:
    """One site's acquisition.

    Attributes
    ----------
    spacing_mm : in-plane voxel size, and distance between slices (gap included)
    tilt_degrees : rotation of the slices about the right-left, anterior-posterior and feet-head axes
    bias : amplitude of the smooth intensity inhomogeneity, as a fraction
    noise : standard deviation of the Rician noise, as a fraction of CSF
    gamma : exponent of the intensity curve
    tissue_values : grey matter, white matter and CSF relative to CSF = 1
    gain : stored value of CSF
    """

    spacing_mm: tuple[float, float]
    tilt_degrees: tuple[float, float, float]
    bias: float
    noise: float
    gamma: float
    tissue_values: dict[str, float]
    gain: float


def draw_scanner(rng: np.random.Generator, coarsening: float) -> Scanner:
    """Draw a site's scanner; ``coarsening`` multiplies the in-plane voxel size so that small machines keep up."""
    return Scanner(
        spacing_mm=(rng.uniform(0.43, 0.94) * coarsening, rng.uniform(3.0, 6.0)),
        tilt_degrees=(rng.uniform(-_MAX_TILT_DEGREES, _MAX_TILT_DEGREES), 0.0, 0.0),
        bias=rng.uniform(0.05, 0.35),
        noise=rng.uniform(0.01, 0.06),
        gamma=rng.uniform(0.8, 1.3),
        tissue_values={name: value * rng.uniform(0.92, 1.08) for name, value in TISSUE_VALUES.items()},
        gain=rng.uniform(300.0, 1500.0),
    )


def vary_scanner(scanner: Scanner, rng: np.random.Generator) -> Scanner:
    """The same scanner on another day: head position, field and noise vary a little."""
    pitch, roll, yaw = (angle + rng.normal(0.0, 2.0) for angle in scanner.tilt_degrees)
    return replace(
        scanner,
        tilt_degrees=(float(np.clip(pitch, -_MAX_TILT_DEGREES, _MAX_TILT_DEGREES)), roll, yaw),
        bias=scanner.bias * rng.uniform(0.8, 1.2),
        noise=scanner.noise * rng.uniform(0.8, 1.2),
        gain=scanner.gain * rng.uniform(0.8, 1.2),
    )


def acquisition_shape(scanner: Scanner) -> tuple[int, int, int]:
    """Slices, rows and columns (D, H, W) that cover the field of view."""
    in_plane, between = scanner.spacing_mm
    width, height, depth = np.round(2.0 * _HALF_VIEW_MM / [in_plane, in_plane, between]).astype(int)
    return int(depth), int(height), int(width)


def scanner_frame(scanner: Scanner) -> sitk.Image:
    """An empty uint16 image with the acquisition's size, spacing, oblique direction and origin (LPS, mm)."""
    depth, height, width = acquisition_shape(scanner)
    in_plane, between = scanner.spacing_mm
    frame = sitk.Image([width, height, depth], sitk.sitkUInt16)
    frame.SetSpacing([in_plane, in_plane, between])
    direction = Rotation.from_euler("xyz", scanner.tilt_degrees, degrees=True).as_matrix()
    frame.SetDirection(direction.ravel().tolist())
    extent = (np.array(frame.GetSize()) - 1) * frame.GetSpacing() / 2.0
    frame.SetOrigin((_VIEW_CENTRE_LPS_MM - direction @ extent).tolist())
    return frame


def frame_points_ras(frame: sitk.Image) -> np.ndarray:
    """Coordinates of every voxel, float32 (3, D, H, W), RAS+ mm."""
    width, height, depth = frame.GetSize()
    direction = np.array(frame.GetDirection()).reshape(3, 3) * np.array(frame.GetSpacing())
    k, j, i = np.meshgrid(np.arange(depth), np.arange(height), np.arange(width), indexing="ij")
    lps = np.tensordot(direction, np.stack([i, j, k]).astype(np.float32), axes=1)
    lps += np.array(frame.GetOrigin()).reshape(3, 1, 1, 1)
    return (lps * np.array([-1.0, -1.0, 1.0]).reshape(3, 1, 1, 1)).astype(np.float32)


def expose(head: np.ndarray, scanner: Scanner, rng: np.random.Generator) -> np.ndarray:
    """Turn ideal values into stored ones: contrast curve, bias field, Rician noise, gain.

    Parameters
    ----------
    head : float32 (D, H, W), value relative to CSF = 1

    Returns
    -------
    uint16 (D, H, W)
    """
    lattice = rng.standard_normal((3, 4, 4)).astype(np.float32)
    lattice -= lattice.mean()
    lattice /= np.abs(lattice).max()
    factors = [size / length for size, length in zip(head.shape, lattice.shape, strict=True)]
    bias = 1.0 + scanner.bias * ndimage.zoom(lattice, factors, order=1)
    signal = np.clip(head, 0.0, None) ** scanner.gamma * bias
    real = signal + scanner.noise * rng.standard_normal(head.shape, dtype=np.float32)
    imaginary = scanner.noise * rng.standard_normal(head.shape, dtype=np.float32)
    return np.clip(np.hypot(real, imaginary) * scanner.gain, 0, 65535).astype(np.uint16)
