"""A head with T2-like contrast: the MNI ICBM152 2009a template with CSF, skull and scalp drawn around it.

The template (T1, grey-matter and white-matter maps at 1 mm) comes with the nilearn package and is read by path, so
that nilearn itself need not be imported. All coordinates here are template millimetres, RAS+ (x right, y anterior,
z head), the space in which the tumours are described too.
"""

import itertools
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from fedpedbrain.base.errors import StudyError

MAP_SPACING_MM = 2.0
TISSUE_VALUES = {"gm": 0.50, "wm": 0.38, "csf": 1.0}
# Outside the brain, by distance from it: (up to mm, value relative to CSF).
SHELLS = ((2.0, 0.85), (7.0, 0.06), (12.0, 0.55))
_MARGIN_MM = 16.0
_VENTRICLE_CENTRE_MM = np.array([0.0, -15.0, 15.0], dtype=np.float32)
_VENTRICLE_REACH_MM = 32.0


@dataclass(frozen=True)
class Anatomy:
    """Template maps on a 2 mm grid.

    Attributes
    ----------
    tissues : float32 (3, X, Y, Z), fractions of grey matter, white matter and CSF in [0, 1]
    brain_distance_mm : float32 (X, Y, Z), distance from the brain, 0 inside it
    origin_mm : float32 (3,), template coordinates of voxel (0, 0, 0)
    """

    tissues: np.ndarray
    brain_distance_mm: np.ndarray
    origin_mm: np.ndarray


def _template_path(name: str) -> Path:
    spec = find_spec("nilearn")
    if spec is None or spec.origin is None:
        raise StudyError("the phantom source needs the nilearn package for its template: install requirements.lock")
    return Path(spec.origin).parent / "datasets" / "data" / f"mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz"


def _read_template(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Read one template map as float32 (X, Y, Z) in [0, 1] on the 2 mm grid, with the RAS origin in mm."""
    image = sitk.ReadImage(str(_template_path(name)))
    values = sitk.GetArrayFromImage(sitk.DICOMOrient(image, "RAS")).transpose(2, 1, 0).astype(np.float32) / 255.0
    pad_voxels = int(_MARGIN_MM)
    values = np.pad(values, [(pad_voxels, pad_voxels + (size % 2)) for size in values.shape])
    halves = [size // 2 for size in values.shape]
    coarse = values.reshape(halves[0], 2, halves[1], 2, halves[2], 2).mean((1, 3, 5))
    lps_origin = np.array(sitk.DICOMOrient(image, "RAS").GetOrigin())
    ras_origin = lps_origin * [-1.0, -1.0, 1.0]
    return coarse, (ras_origin - pad_voxels + 0.5).astype(np.float32)


@cache
def load_anatomy() -> Anatomy:
    """Read and prepare the template once a process."""
    t1, origin = _read_template("t1")
    gm, _ = _read_template("gm")
    wm, _ = _read_template("wm")
    brain = ndimage.binary_fill_holes(t1 > 0.1)
    csf = np.where(brain, np.clip(1.0 - gm - wm, 0.0, 1.0), 0.0)
    distance = ndimage.distance_transform_edt(~brain, sampling=MAP_SPACING_MM).astype(np.float32)
    return Anatomy(np.stack([gm, wm, csf]).astype(np.float32), distance, origin)


def widen_ventricles(points: np.ndarray, strength: float) -> np.ndarray:
    """Pull sampling points towards the lateral ventricles, which makes them appear larger.

    Parameters
    ----------
    points : float32 (3, ...), template mm
    strength : 0 (unchanged) to about 0.4
    """
    shape = (3,) + (1,) * (points.ndim - 1)
    offset = points - _VENTRICLE_CENTRE_MM.reshape(shape)
    weight = np.exp(-np.sum(offset**2, axis=0) / (2.0 * _VENTRICLE_REACH_MM**2))
    return points - offset * (strength * weight)


def sample_head(points: np.ndarray, tissue_values: dict[str, float]) -> np.ndarray:
    """Return the T2-like value of the healthy head at template points.

    Parameters
    ----------
    points : float32 (3, ...), template mm, RAS+
    tissue_values : value of ``gm``, ``wm`` and ``csf`` relative to CSF = 1

    Returns
    -------
    float32 (...), 0 in air
    """
    anatomy = load_anatomy()
    shape = (3,) + (1,) * (points.ndim - 1)
    voxels = (points - anatomy.origin_mm.reshape(shape)) / MAP_SPACING_MM
    fractions = [ndimage.map_coordinates(tissue, voxels, order=1, output=np.float32) for tissue in anatomy.tissues]
    distance = ndimage.map_coordinates(anatomy.brain_distance_mm, voxels, order=1, mode="nearest", output=np.float32)
    total = sum(fractions)
    values = [tissue_values[name] for name in TISSUE_VALUES]
    brain = sum(fraction * value for fraction, value in zip(fractions, values, strict=True)) / np.maximum(total, 1e-3)
    limits = [0.0] + [limit for limit, _ in SHELLS]
    around = np.select(
        [(distance > low) & (distance <= high) for low, high in itertools.pairwise(limits)],
        [value for _, value in SHELLS],
        default=0.0,
    )
    return np.where(total > 0.5, brain, around).astype(np.float32)
