"""What preprocessed images look like to a network: quantiles of the foreground's intensities.

Two images are as far apart as their quantiles on average, which is the earth mover's distance of their histograms
(Vallender, "Calculation of the Wasserstein distance between probability distributions on the line", 1974), in grey
levels of 255.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fedpedbrain.base.cases import TRAIN, Shard
from fedpedbrain.base.files import write_json
from fedpedbrain.data.grid.dataset import ShardDataset
from fedpedbrain.data.grid.intensity import FOREGROUND, to_grey_levels

LEVELS = np.linspace(0.025, 0.975, 20)


def _quantiles(counts: np.ndarray, levels: float | np.ndarray) -> np.ndarray:
    """Values of a histogram's bins from which on the parts ``levels`` of its counts are reached."""
    reached = np.cumsum(counts)
    return np.searchsorted(reached, np.asarray(levels) * reached[-1])


def foreground_quantiles(image: np.ndarray, percentile: float, fraction: float) -> np.ndarray:
    """Quantiles ``LEVELS`` of the foreground's intensities in a preprocessed image.

    Parameters
    ----------
    image : in grey levels, uint8 (D, H, W); the foreground is where it exceeds ``fraction`` of its ``percentile``

    Returns
    -------
    float64 (20,), all 0 for a blank image
    """
    counts = np.bincount(image.ravel(), minlength=256)
    counts[: int(fraction * _quantiles(counts, percentile / 100.0)) + 1] = 0
    return _quantiles(counts, LEVELS).astype(np.float64) if counts.any() else np.zeros(len(LEVELS))


def intensity_distance(quantiles: np.ndarray, reference: np.ndarray) -> float:
    """Mean absolute difference of two sets of quantiles, in grey levels."""
    return float(np.abs(quantiles - reference).mean())


def summarize_intensities(
    images: Iterable[np.ndarray], channels: Sequence[str], foreground: Mapping[str, float]
) -> dict[str, Any]:
    """Describe the intensities of cases in plain values.

    Parameters
    ----------
    images : preprocessed, uint8 or float16 (C, D, H, W) each; one or more
    channels : their names
    foreground : ``percentile`` and ``fraction`` of ``foreground_quantiles``

    Returns
    -------
    what is foreground, number of cases and, of each channel, the mean quantiles and how far from them the furthest
    case is
    """
    levels = map(to_grey_levels, images)
    quantiles = np.array([[foreground_quantiles(channel, **foreground) for channel in image] for image in levels])
    means = quantiles.mean(axis=0)
    return {
        "foreground": dict(foreground),
        "num_cases": len(quantiles),
        "channels": {
            name: {
                "quantiles": mean.tolist(),
                "largest_distance": max(intensity_distance(case, mean) for case in cases),
            }
            for name, mean, cases in zip(channels, means, quantiles.swapaxes(0, 1), strict=True)
        },
    }


def summarize_intensities_files(
    shards: Sequence[Shard],
    intensities_path: str | Path,
    channels: Sequence[str],
    foreground: Mapping[str, float],
) -> None:
    """Describe the intensities of the training cases of some shards."""
    dataset = ShardDataset(shards, (TRAIN,))
    images = (dataset.image(row) for row in range(len(dataset)))
    write_json(intensities_path, summarize_intensities(images, channels, foreground))


def read_intensities(path: str | Path) -> Mapping[str, Any]:
    """Read what ``summarize_intensities_files`` wrote; files of before there was a choice of foreground name none."""
    return {"foreground": FOREGROUND} | json.loads(Path(path).read_text(encoding="utf-8"))
