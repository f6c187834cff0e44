"""What preprocessed images look like to a network: quantiles of the head's intensities.

Two images are as far apart as their quantiles on average, which is the earth mover's distance of their histograms
(Vallender, "Calculation of the Wasserstein distance between probability distributions on the line", 1974), in grey
levels of 255.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fedpedbrain.base.cases import TRAIN
from fedpedbrain.base.files import write_json
from fedpedbrain.data.grid.dataset import ShardDataset
from fedpedbrain.data.grid.intensity import HEAD_LEVEL

LEVELS = np.linspace(0.025, 0.975, 20)


def _quantiles(counts: np.ndarray, levels: float | np.ndarray) -> np.ndarray:
    """Values of a histogram's bins from which on the parts ``levels`` of its counts are reached."""
    reached = np.cumsum(counts)
    return np.searchsorted(reached, np.asarray(levels) * reached[-1])


def head_quantiles(image: np.ndarray) -> np.ndarray:
    """Quantiles ``LEVELS`` of the head's intensities in a preprocessed image.

    Parameters
    ----------
    image : uint8 (D, H, W); the head is where it exceeds ``HEAD_LEVEL`` of its 99th percentile

    Returns
    -------
    float64 (20,), all 0 for a blank image
    """
    counts = np.bincount(image.ravel(), minlength=256)
    counts[: int(HEAD_LEVEL * _quantiles(counts, 0.99)) + 1] = 0
    return _quantiles(counts, LEVELS).astype(np.float64) if counts.any() else np.zeros(len(LEVELS))


def intensity_distance(quantiles: np.ndarray, reference: np.ndarray) -> float:
    """Mean absolute difference of two sets of quantiles, in grey levels."""
    return float(np.abs(quantiles - reference).mean())


def summarize_intensities(images: Iterable[np.ndarray], channels: Sequence[str]) -> dict[str, Any]:
    """Describe the intensities of cases in plain values.

    Parameters
    ----------
    images : preprocessed, uint8 (C, D, H, W) each; one or more
    channels : their names

    Returns
    -------
    number of cases and, of each channel, the mean quantiles and how far from them the furthest case is
    """
    quantiles = np.array([[head_quantiles(channel) for channel in image] for image in images])
    means = quantiles.mean(axis=0)
    return {
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
    shard_folders: Sequence[str | Path], intensities_path: str | Path, channels: Sequence[str]
) -> None:
    """Describe the intensities of the training cases of some shards."""
    dataset = ShardDataset(shard_folders, (TRAIN,))
    images = (dataset.image(row) for row in range(len(dataset)))
    write_json(intensities_path, summarize_intensities(images, channels))


def read_intensities(path: str | Path) -> Mapping[str, Any]:
    """Read what ``summarize_intensities_files`` wrote."""
    return json.loads(Path(path).read_text(encoding="utf-8"))
