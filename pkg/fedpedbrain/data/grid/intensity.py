"""Intensities: from whatever unit a scanner writes to the numbers of a shard."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

# What is foreground where nobody says: models trained before there was a choice do not.
FOREGROUND = {"percentile": 99.0, "fraction": 0.2}

# Of a channel's values: where a picture of it is white.
_WHITE_PERCENTILE = 99.5
_LARGEST_FLOAT16 = float(np.finfo(np.float16).max)


def above_air(values: np.ndarray) -> np.ndarray:
    """Shift intensities so that none is negative: some exports centre them about zero, air is the lowest value then."""
    return values - min(float(values.min()), 0.0)


def find_foreground(values: np.ndarray, percentile: float, fraction: float) -> np.ndarray:
    """Which voxels exceed a fraction of a percentile: bool of the same shape; ``values`` as of ``above_air``."""
    return values > fraction * np.percentile(values, percentile)


def scale_by_percentiles(
    image: np.ndarray, foreground: np.ndarray, air: float, lower_percentile: float, upper_percentile: float
) -> np.ndarray:
    """Map percentiles of the foreground's intensities to 0 and 1; float (D, H, W), all 0 where there is none."""
    if foreground.size == 0:
        return np.zeros_like(image)
    low, high = np.percentile(foreground, [lower_percentile, upper_percentile])
    # Air stays near 0 whatever the darkest tissue is.
    low = min(low, high / 10.0)
    return (image - air - low) / max(high - low, 1e-6)


def scale_by_deviations(image: np.ndarray, foreground: np.ndarray, air: float, largest_deviation: float) -> np.ndarray:
    """Map N standard deviations below and above the foreground's mean to 0 and 1, the mean itself to 0.5.

    float (D, H, W), all 0 where there is no foreground.
    """
    if foreground.size == 0:
        return np.zeros_like(image)
    deviations = (image - air - foreground.mean()) / max(float(foreground.std()), 1e-6)
    return 0.5 + 0.5 * deviations / largest_deviation


def keep_as_stored(image: np.ndarray, foreground: np.ndarray, air: float) -> np.ndarray:
    """Take intensities from 0 to 255 as they are, as Lee et al. (2024) do: float (D, H, W), divided by 255."""
    return image / 255.0


def standardize(image: np.ndarray, foreground: np.ndarray, air: float) -> np.ndarray:
    """Standard deviations from the foreground's mean: float (D, H, W), all 0 where there is no foreground."""
    if foreground.size == 0:
        return np.zeros_like(image)
    return (image - air - foreground.mean()) / max(float(foreground.std()), 1e-6)


# Each takes an image, its foreground's intensities above air, float (N,), the intensity of air, 0 or below, and its
# options; what it gives is cut off at 0 and 1.
INTENSITIES: dict[str, Callable[..., np.ndarray]] = {
    "percentile": scale_by_percentiles,
    "z_score": scale_by_deviations,
    "reference": keep_as_stored,
}
# What these give is not cut off, but kept as numbers of half precision.
FLOAT16_INTENSITIES: dict[str, Callable[..., np.ndarray]] = {"z_score_float16": standardize}


def _named(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """An ``intensity`` block with its ``name``: models of before there was a choice carry the percentiles alone."""
    return settings if "name" in settings else {"name": "percentile", "percentile": settings}


def dtype_of_intensity(settings: Mapping[str, Any]) -> np.dtype:
    """In which numbers a shard holds images that ``scale_intensity`` scales with these settings: uint8 or float16."""
    return np.dtype(np.float16 if _named(settings)["name"] in FLOAT16_INTENSITIES else np.uint8)


def to_grey_levels(image: np.ndarray) -> np.ndarray:
    """What a shard holds of a case, to look at and to compare.

    Parameters
    ----------
    image : uint8 or float16 (C, D, H, W)

    Returns
    -------
    uint8 of the same shape: uint8 as it is; of float16 the lowest value of each channel, which is air's, becomes 0, and
    ``_WHITE_PERCENTILE`` becomes 255
    """
    if image.dtype == np.uint8:
        return image
    levels = np.zeros(image.shape, dtype=np.uint8)
    for channel, level in zip(image.astype(np.float32), levels, strict=True):
        above = channel - channel.min()
        white = max(float(np.percentile(above, _WHITE_PERCENTILE)), 1e-6)
        level[:] = np.round(np.minimum(above / white, 1.0) * 255.0)
    return levels


def scale_intensity(
    image: np.ndarray,
    settings: Mapping[str, Any],
    measured: np.ndarray | None = None,
    foreground: Mapping[str, float] = FOREGROUND,
) -> np.ndarray:
    """Bring one channel to the numbers of a shard.

    Parameters
    ----------
    image : float32 (D, H, W), any unit
    settings : the ``preprocessing.intensity`` block: a word of ``INTENSITIES`` or ``FLOAT16_INTENSITIES`` as ``name``,
        options under that word
    measured : the part of the image whose foreground is measured, all of it where nothing is given
    foreground : ``percentile`` and ``fraction`` of ``find_foreground``

    Returns
    -------
    uint8 or float16 (D, H, W), see ``dtype_of_intensity``
    """
    settings = _named(settings)
    name = settings["name"]
    measured = image if measured is None else measured
    air = min(float(measured.min()), 0.0)
    values = measured - air
    scale = (INTENSITIES | FLOAT16_INTENSITIES)[name]
    scaled = scale(image, values[find_foreground(values, **foreground)], air, **settings.get(name, {}))
    if name in FLOAT16_INTENSITIES:
        return np.clip(scaled, -_LARGEST_FLOAT16, _LARGEST_FLOAT16).astype(np.float16)
    return np.round(np.clip(scaled, 0.0, 1.0) * 255.0).astype(np.uint8)
