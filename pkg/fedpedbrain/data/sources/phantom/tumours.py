"""Painted tumours of the posterior fossa: one recipe a diagnosis, in template millimetres (RAS+).

Shapes are unions of ellipsoids with a rough surface; values are relative to CSF = 1 (cerebellum is about 0.40).
"""

from dataclasses import dataclass, field, replace

import numpy as np
from scipy import ndimage

_JITTER_MM = 3.0
_RADIUS_SPREAD = 0.20
_SURFACE_ROUGHNESS = 0.10
_PUSH = 0.30


@dataclass(frozen=True)
class Lobe:
    """One ellipsoid: centre and radii in template mm, value range relative to CSF, texture as a fraction of it."""

    centre_mm: tuple[float, float, float]
    radii_mm: tuple[float, float, float]
    value: tuple[float, float]
    texture: float = 0.05


@dataclass(frozen=True)
class Recipe:
    """How one diagnosis looks.

    Attributes
    ----------
    lobes : ellipsoids whose union is the tumour
    edge : width of the blurred border as a fraction of the radius
    num_cysts, num_flecks : ranges (low, high) of small bright and dark inclusions
    one_sided : mirror the tumour to a random side
    ventricles : strength of widened lateral ventricles
    """

    lobes: tuple[Lobe, ...]
    edge: float = 0.10
    num_cysts: tuple[int, int] = (0, 0)
    num_flecks: tuple[int, int] = (0, 0)
    one_sided: bool = False
    ventricles: float = 0.0


_EPENDYMOMA = (0.55, 0.75)
RECIPES: dict[str, Recipe] = {
    "ependymoma": Recipe(
        lobes=(
            Lobe((0, -46, -35), (11, 10, 17), _EPENDYMOMA, 0.16),
            Lobe((13, -40, -45), (10, 7, 7), _EPENDYMOMA, 0.16),
            Lobe((-13, -40, -45), (10, 7, 7), _EPENDYMOMA, 0.16),
            Lobe((0, -46, -58), (7, 6, 10), _EPENDYMOMA, 0.16),
        ),
        num_cysts=(1, 3),
        num_flecks=(2, 5),
        ventricles=0.30,
    ),
    "DIPG": Recipe(lobes=(Lobe((0, -25, -31), (17, 13, 17), (0.65, 0.85)),), edge=0.35),
    "medulloblastoma": Recipe(
        lobes=(Lobe((0, -58, -34), (17, 17, 16), (0.55, 0.68), 0.09),), num_cysts=(0, 4), ventricles=0.30
    ),
    "pilocytic_astrocytoma": Recipe(
        lobes=(
            Lobe((25, -62, -36), (18, 17, 15), (1.0, 1.1), 0.02),
            Lobe((38, -60, -36), (7, 8, 8), (0.60, 0.75)),
        ),
        edge=0.04,
        one_sided=True,
        ventricles=0.25,
    ),
}


@dataclass(frozen=True)
class Tumour:
    """One patient's tumour: the recipe's lobes after jitter, and where its inclusions sit."""

    lobes: tuple[Lobe, ...]
    recipe: Recipe
    oedema_mm: float
    texture_seed: int
    cysts: tuple[Lobe, ...] = field(default=())
    flecks: tuple[Lobe, ...] = field(default=())


def draw_tumour(recipe: Recipe, rng: np.random.Generator) -> Tumour:
    """Draw one patient's tumour of a diagnosis."""
    scale = rng.uniform(1.0, 1.5)
    side = rng.choice([-1.0, 1.0]) if recipe.one_sided else 1.0
    shift = rng.uniform(-_JITTER_MM, _JITTER_MM, 3)
    mirror = np.array([side, 1.0, 1.0])
    values = {lobe.value: rng.uniform(*lobe.value) for lobe in recipe.lobes}
    lobes = tuple(
        replace(
            lobe,
            centre_mm=tuple(np.array(lobe.centre_mm) * mirror + shift),
            radii_mm=tuple(np.array(lobe.radii_mm) * scale * rng.uniform(1 - _RADIUS_SPREAD, 1 + _RADIUS_SPREAD, 3)),
            value=(values[lobe.value], values[lobe.value]),
        )
        for lobe in recipe.lobes
    )

    def inclusions(count: tuple[int, int], radius_mm: tuple[float, float], value: float) -> tuple[Lobe, ...]:
        home = lobes[0]
        return tuple(
            Lobe(
                tuple(np.array(home.centre_mm) + rng.uniform(-0.6, 0.6, 3) * home.radii_mm),
                (float(rng.uniform(*radius_mm)),) * 3,
                (value, value),
            )
            for _ in range(rng.integers(count[0], count[1] + 1))
        )

    cysts = inclusions(recipe.num_cysts, (3.0, 5.0), 1.0)
    flecks = inclusions(recipe.num_flecks, (1.5, 3.0), 0.2)
    return Tumour(lobes, recipe, rng.uniform(2.0, 5.0), int(rng.integers(2**31)), cysts, flecks)


def _relative_radius(points: np.ndarray, lobe: Lobe) -> np.ndarray:
    """Distance from the lobe's centre in units of its radius: below 1 inside."""
    squared = sum(((points[axis] - lobe.centre_mm[axis]) / lobe.radii_mm[axis]) ** 2 for axis in range(3))
    return np.sqrt(squared, dtype=np.float32)


def smooth_field(points: np.ndarray, wavelength_mm: float, rng: np.random.Generator) -> np.ndarray:
    """A smooth random field of about unit standard deviation at template points, float32 of their shape."""
    lattice = rng.standard_normal([int(280 / wavelength_mm) + 3] * 3).astype(np.float32)
    return 1.6 * ndimage.map_coordinates(lattice, (points + 140.0) / wavelength_mm + 1, order=1, mode="wrap")


def displace_anatomy(points: np.ndarray, tumour: Tumour) -> np.ndarray:
    """Mass effect: where to sample the healthy head so that tissue is pushed radially away from the tumour."""
    main = max(tumour.lobes, key=lambda lobe: np.prod(lobe.radii_mm))
    centre = np.array(main.centre_mm, dtype=np.float32).reshape((3,) + (1,) * (points.ndim - 1))
    radius = _relative_radius(points, main)
    pull = _PUSH * np.exp(-np.maximum(radius - 1.0, 0.0) / 0.5)
    return points - (points - centre) * pull


def paint_tumour(head: np.ndarray, points: np.ndarray, tumour: Tumour) -> tuple[np.ndarray, np.ndarray]:
    """Paint a tumour with its oedema rim into a healthy head.

    Parameters
    ----------
    head : float32 (D, H, W), value relative to CSF = 1
    points : float32 (3, D, H, W), template mm of every voxel

    Returns
    -------
    painted head, float32 (D, H, W), and the whole-tumour mask, bool (D, H, W), oedema not included
    """
    rng = np.random.default_rng(tumour.texture_seed)
    rough = 1.0 + _SURFACE_ROUGHNESS * smooth_field(points, 9.0, rng)
    texture = smooth_field(points, 6.0, rng)
    radii = [_relative_radius(points, lobe) * rough for lobe in tumour.lobes]
    nearest = np.min(radii, axis=0)
    mean_radius = float(np.mean([np.mean(lobe.radii_mm) for lobe in tumour.lobes]))

    tissue = (head > 0.2) & (nearest < 1.0 + tumour.oedema_mm / mean_radius)
    painted = np.where(tissue, np.maximum(head, 0.6), head)
    for lobe, radius in zip(tumour.lobes, radii, strict=True):
        weight = np.clip((1.0 - radius) / tumour.recipe.edge + 0.5, 0.0, 1.0)
        painted += weight * (lobe.value[0] * (1.0 + lobe.texture * texture) - painted)
    for inclusion in (*tumour.cysts, *tumour.flecks):
        inside = (_relative_radius(points, inclusion) < 1.0) & (nearest < 1.0)
        painted = np.where(inside, inclusion.value[0], painted)
    return painted.astype(np.float32), nearest < 1.0
