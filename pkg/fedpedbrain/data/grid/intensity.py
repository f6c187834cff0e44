"""Intensities: from whatever unit a scanner writes to the 256 steps of a shard."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

# The head is where an image exceeds this part of its 99th percentile.
HEAD_LEVEL = 0.2


def above_air(values: np.ndarray) -> np.ndarray:
    """Shift intensities so that none is negative: some exports centre them about zero, air is the lowest value then."""
    return values - min(float(values.min()), 0.0)


def find_head(values: np.ndarray) -> np.ndarray:
    """Which voxels belong to the head: bool of the same shape; ``values`` as ``above_air`` gives them."""
    return values > HEAD_LEVEL * np.percentile(values, 99)


def scale_by_percentiles(
    image: np.ndarray, measured: np.ndarray, lower_percentile: float, upper_percentile: float
) -> np.ndarray:
    """Map percentiles of the head's intensities to 0 and 1; float (D, H, W), all 0 where no head is measured."""
    head, air = _measure_head(measured)
    if head.size == 0:
        return np.zeros_like(image)
    low, high = np.percentile(head, [lower_percentile, upper_percentile])
    # Air stays near 0 whatever the head's darkest tissue is.
    low = min(low, high / 10.0)
    return (image - air - low) / max(high - low, 1e-6)


def scale_by_deviations(image: np.ndarray, measured: np.ndarray, largest_deviation: float) -> np.ndarray:
    """Map so many standard deviations below and above the head's mean to 0 and 1, the mean itself to 0.5.

    float (D, H, W), all 0 where no head is measured.
    """
    head, air = _measure_head(measured)
    if head.size == 0:
        return np.zeros_like(image)
    deviations = (image - air - head.mean()) / max(float(head.std()), 1e-6)
    return 0.5 + 0.5 * deviations / largest_deviation


def keep_as_stored(image: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """Take intensities from 0 to 255 as they are, as Lee et al. (2024) do: float (D, H, W), divided by 255."""
    return image / 255.0


def _measure_head(measured: np.ndarray) -> tuple[np.ndarray, float]:
    """The head's intensities above air, float (N,), and the intensity of air, 0 or below."""
    air = min(float(measured.min()), 0.0)
    values = measured - air
    return values[find_head(values)], air


# Each takes an image, the part of it that is measured, and its options; what it gives is cut off at 0 and 1.
INTENSITIES: dict[str, Callable[..., np.ndarray]] = {
    "percentile": scale_by_percentiles,
    "z_score": scale_by_deviations,
    "reference": keep_as_stored,
}


def scale_intensity(image: np.ndarray, settings: Mapping[str, Any], measured: np.ndarray | None = None) -> np.ndarray:
    """Bring one channel to the 256 steps of a shard.

    Parameters
    ----------
    image : float32 (D, H, W), any unit
    settings : the ``preprocessing.intensity`` block: a word of ``INTENSITIES`` as ``name``, options under that word
    measured : the part of the image whose head is measured, all of it where nothing is given

    Returns
    -------
    uint8 (D, H, W)
    """
    # Models trained before there was a choice carry the percentiles alone.
    settings = settings if "name" in settings else {"name": "percentile", "percentile": settings}
    name = settings["name"]
    scaled = INTENSITIES[name](image, image if measured is None else measured, **settings.get(name, {}))
    return np.round(np.clip(scaled, 0.0, 1.0) * 255.0).astype(np.uint8)
