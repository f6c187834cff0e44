"""Running a network on preprocessed images."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from fedpedbrain.data.grid.dataset import middle_part
from fedpedbrain.models.files import ModelFile
from fedpedbrain.models.placement import to_device
from fedpedbrain.models.sliding_window import Window, blend_windows


def to_network_input(images: np.ndarray, device: torch.device) -> torch.Tensor:
    """Copy uint8 images (B, C, D, H, W) to a device as float32 in [0, 1], channels last in memory."""
    batch = torch.from_numpy(images).to(device)
    return batch.to(torch.float32, memory_format=torch.channels_last_3d).div_(255.0)


# Copies of a case whose predictions are averaged, each by the axes that it is mirrored along.
FLIPS: dict[str, tuple[tuple[int, ...], ...]] = {"none": ((),), "left_right": ((), (-1,))}

# Region probabilities float32 (R, D, H, W) and class probabilities float32 (K,); None for a head that the model lacks.
_Probabilities = tuple[torch.Tensor | None, torch.Tensor | None]


def _predict_image(model: nn.Module, image: np.ndarray, device: torch.device, flips: str) -> _Probabilities:
    """Predict one image, uint8 (C, D, H, W): the mean over its mirrored copies."""
    batch, regions, classes = to_network_input(image[None], device), [], []
    for axes in FLIPS[flips]:
        logits = model(batch.flip(axes) if axes else batch)
        if logits.segmentation is not None:
            regions.append(torch.sigmoid(logits.segmentation[0]).flip(axes))
        if logits.classification is not None:
            classes.append(torch.softmax(logits.classification[0], 0))
    means = [torch.stack(copies).mean(0) if copies else None for copies in (regions, classes)]
    return means[0], means[1]


def _predict_in_windows(
    model: nn.Module, image: np.ndarray, device: torch.device, flips: str, window: Window
) -> _Probabilities:
    """Predict an image of the window's size or larger; classes are those of the window in its middle."""
    regions, classes = _predict_image(model, image[:, *middle_part(image.shape[1:], window.grid)], device, flips)
    if regions is not None and image.shape[1:] != tuple(window.grid):
        regions = blend_windows(image, window, lambda part: _predict_image(model, part, device, flips)[0])
    return regions, classes


@torch.inference_mode()
def predict_probabilities(
    model: nn.Module,
    images: Iterable[np.ndarray],
    device: torch.device,
    flips: str = "none",
    window: Window | None = None,
) -> Iterator[tuple[np.ndarray | None, np.ndarray | None]]:
    """Predict case by case.

    Parameters
    ----------
    images : uint8 (C, D, H, W) each
    flips : word of ``FLIPS``: the mean over mirrored copies is taken
    window : what slides over images that are larger than its grid; None to predict every image in one piece. A class is
        said of the window in the middle, where the grid of training lay (``grid_frame`` with ``whole``): windows
        elsewhere show parts of the organ that no class was learnt from

    Yields
    ------
    region probabilities float32 (R, D, H, W) and class probabilities float32 (K,), summing to 1; None for a head
    that the model does not have
    """
    to_device(model, device).eval()
    for image in images:
        if window is None:
            found = _predict_image(model, image, device, flips)
        else:
            found = _predict_in_windows(model, image, device, flips, window)
        regions, classes = (None if part is None else part.cpu().numpy() for part in found)
        yield regions, classes


def most_probable_class(probabilities: np.ndarray | None, classes: Sequence[str]) -> str | None:
    """Name of the most probable class; None for a model without a classification head."""
    return None if probabilities is None else classes[int(probabilities.argmax())]


def decide_regions(
    probabilities: np.ndarray,
    voxel_ml: float,
    threshold: float,
    smallest_region_ml: float,
    predicted_class: str | None = None,
    empty_class: str | None = None,
) -> np.ndarray:
    """Turn probabilities into regions: voxels from the threshold on, and nothing where they add up to too little.

    Parameters
    ----------
    probabilities : float (R, D, H, W)
    voxel_ml : volume of one voxel
    predicted_class, empty_class : a case whose most probable class is the one without a region gets no region; None
        where nothing is classified or the two heads decide apart

    Returns
    -------
    bool (R, D, H, W)
    """
    regions = probabilities >= threshold
    too_small = regions.sum((1, 2, 3)) * voxel_ml < smallest_region_ml
    regions[too_small] = False
    if predicted_class is not None and predicted_class == empty_class:
        regions[:] = False
    return regions


@dataclass(frozen=True)
class Prediction:
    """What a model says of one case.

    Attributes
    ----------
    regions : bool (R, D, H, W), or None for a model without a segmentation head
    probabilities : of every class by its name, empty for a model without a classification head
    predicted_class : the most probable class, or None
    """

    regions: np.ndarray | None
    probabilities: dict[str, float]
    predicted_class: str | None


def predict_cases(
    model_file: ModelFile,
    images: Iterable[np.ndarray],
    voxels_ml: Iterable[float],
    decision: Mapping[str, Any],
    device: torch.device,
    flips: str = "none",
    overlap: float | None = None,
) -> Iterator[Prediction]:
    """Predict case by case, and decide what belongs to a region.

    Parameters
    ----------
    images : uint8 (C, D, H, W) each
    voxels_ml : volume of one voxel of each
    decision : ``threshold``, ``smallest_region_ml`` and ``empty_class`` of ``decide_regions``
    flips : see ``predict_probabilities``
    overlap : of the windows that slide over images larger than the model's grid, as ``preprocess_images`` makes them
        with ``whole``; None to predict every image in one piece
    """
    classes = model_file.spec.classes
    window = None if overlap is None else Window(tuple(model_file.spec.preprocessing["grid"]), overlap)
    predictions = predict_probabilities(model_file.to_model(), images, device, flips, window)
    for (regions, probabilities), voxel_ml in zip(predictions, voxels_ml, strict=True):
        predicted = most_probable_class(probabilities, classes)
        yield Prediction(
            None if regions is None else decide_regions(regions, voxel_ml, predicted_class=predicted, **decision),
            {} if probabilities is None else dict(zip(classes, map(float, probabilities), strict=True)),
            predicted,
        )
