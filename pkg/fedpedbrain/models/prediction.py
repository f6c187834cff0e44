"""Running networks on preprocessed images: windows, mirrored copies and several models, averaged."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fedpedbrain.data.grid.dataset import middle_part
from fedpedbrain.models.components import ComponentFilter
from fedpedbrain.models.files import ModelFile
from fedpedbrain.models.outputs import Logits
from fedpedbrain.models.placement import to_device
from fedpedbrain.models.sliding_window import Place, batches_of, cut_window, fill_up, lay_windows

# Of an image (C, D, H, W) and a batch of it.
_AXES = {"D": -3, "H": -2, "W": -1}
# Of windows that go through a network at once: full-size features of 32 channels then take 32 MB.
_VOXELS_AT_ONCE = 1 << 18


@dataclass(frozen=True)
class PredictionPlan:
    """How networks are run on a case.

    Attributes
    ----------
    flips : axes of D, H and W; the mean is taken over the case mirrored along all combinations of them
    overlap : least part of a window, in [0, 1), that it shares with the next
    mean_of : ``probabilities`` or ``logits``, of which the mean over windows, mirrored copies and models is taken
    """

    flips: Sequence[str] = ()
    overlap: float = 0.5
    mean_of: str = "probabilities"

    @property
    def copies(self) -> list[tuple[int, ...]]:
        """The mirrored copies of a case, each by the axes that it is mirrored along; the first is the case itself."""
        axes = [_AXES[name] for name in self.flips]
        return [chosen for number in range(len(axes) + 1) for chosen in combinations(axes, number)]


@dataclass(frozen=True)
class WindowedNetwork:
    """A network, and how much of a case it takes at once.

    Attributes
    ----------
    model : the network
    window : voxels (D, H, W) that it was trained on; None to run it on every image in one piece
    is_of_patches : it was trained on patches from all over the cases, not on whole grids
    """

    model: nn.Module
    window: Sequence[int] | None = None
    is_of_patches: bool = False

    @classmethod
    def of(cls, model_file: ModelFile) -> "WindowedNetwork":
        """The network of a model file, with its patch as window, or its grid."""
        spec = model_file.spec
        return cls(model_file.to_model(), spec.patch or spec.preprocessing["grid"], bool(spec.patch))

    @property
    def context(self) -> int:
        """Slices on either side that the network sees of more than it predicts."""
        return getattr(self.model, "context", 0)

    def lay(self, size: Sequence[int], overlap: float) -> list[Sequence[Place]]:
        """Windows over a case of this size (D, H, W), in the batches in which they go through the network."""
        return list(batches_of(lay_windows(size, self.window or size, overlap), _VOXELS_AT_ONCE))


def to_network_input(images: np.ndarray, device: torch.device) -> Tensor:
    """Copy images (B, C, D, H, W) to a device as float32, channels last in memory; uint8 becomes [0, 1]."""
    batch = torch.from_numpy(images).to(device)
    # Divided, not multiplied as in training: scores of rounds are then those of before to the last digit.
    scaled = batch.to(torch.float32, memory_format=torch.channels_last_3d)
    return scaled.div_(255.0) if batch.dtype == torch.uint8 else scaled


def region_probabilities(model: nn.Module, segmentation: Tensor) -> Tensor:
    """Probabilities of segmentation logits (B, R, D, H, W): as the network says, else each region's own."""
    return getattr(model, "to_probabilities", torch.sigmoid)(segmentation)


def _predict_windows(
    network: WindowedNetwork, image: np.ndarray, places: Sequence[Place], plan: PredictionPlan, device: torch.device
) -> Logits:
    """Predict some windows: the mean over their mirrored copies, of probabilities or logits as planned."""
    cut = np.stack([cut_window(image, place, network.context) for place in places])
    batch = to_network_input(cut, device)
    regions, classes = [], []
    for axes in plan.copies:
        logits = network.model(batch.flip(axes) if axes else batch)
        is_mean_of_logits = plan.mean_of == "logits"
        if logits.segmentation is not None:
            laid_back = logits.segmentation.flip(axes) if axes else logits.segmentation
            regions.append(laid_back if is_mean_of_logits else region_probabilities(network.model, laid_back))
        if logits.classification is not None:
            classes.append(logits.classification if is_mean_of_logits else logits.classification.softmax(1))
    return Logits(*(sum(copies) / len(copies) if copies else None for copies in (regions, classes)))


class CaseMean:
    """The mean over windows and models of one case, float32 on the CPU: the only array of the case's size.

    Parameters
    ----------
    size : voxels of the case (D, H, W)
    """

    def __init__(self, size: Sequence[int], num_networks: int) -> None:
        self._size, self._part = tuple(size), 1.0 / num_networks
        self.regions: Tensor | None = None
        self.classes: Tensor | None = None

    def add_regions(self, found: Tensor, places: Sequence[Place], inside: Sequence[slice]) -> None:
        """Add what was found in windows (B, R, D, H, W) of a case that lies ``inside`` of what they were laid over."""
        if self.regions is None:
            self.regions = torch.zeros((found.shape[1], *self._size))
        for place, of_window in zip(places, found.cpu(), strict=True):
            target, source = zip(*map(_overlap, place.voxels, inside), strict=True)
            weights = place.grid_weights()[*source] * self._part
            self.regions[:, *target].addcmul_(of_window[:, *source], weights)

    def add_classes(self, found: Tensor) -> None:
        """Add what a network says of the case's class (K,)."""
        found = found.cpu() * self._part
        self.classes = found if self.classes is None else self.classes + found


def _overlap(window: slice, inside: slice) -> tuple[slice, slice]:
    """Where a window and a case overlap along one axis: in voxels of the case, and of the window."""
    first, end = max(window.start, inside.start), min(window.stop, inside.stop)
    return slice(first - inside.start, end - inside.start), slice(first - window.start, end - window.start)


def _predict_network(
    network: WindowedNetwork, image: np.ndarray, plan: PredictionPlan, device: torch.device, mean: CaseMean
) -> None:
    """Add what one network says of a case."""
    filled, inside = fill_up(image, network.window or image.shape[1:])
    batches = network.lay(filled.shape[1:], plan.overlap)
    num_windows = sum(map(len, batches))
    is_of_middle = num_windows > 1 and not network.is_of_patches
    if is_of_middle:
        middle = middle_part(filled.shape[1:], network.window)
        (places,) = network.lay(network.window, plan.overlap)
        found = _predict_windows(network, filled[:, *middle], places, plan, device)
        if found.classification is not None:
            mean.add_classes(found.classification[0])
        if found.segmentation is None:
            return
    for places in batches:
        found = _predict_windows(network, filled, places, plan, device)
        if found.segmentation is not None:
            mean.add_regions(found.segmentation, places, inside)
        if found.classification is not None and not is_of_middle:
            mean.add_classes(found.classification.sum(0) / num_windows)


def _to_probabilities(mean: CaseMean, model: nn.Module) -> None:
    """Turn means of logits into probabilities, slice by slice and in place."""
    if mean.regions is not None:
        for part in mean.regions.split(1, dim=1):
            part.copy_(region_probabilities(model, part[None])[0])
    if mean.classes is not None:
        mean.classes = mean.classes.softmax(0)


@torch.inference_mode()
def predict_probabilities(
    networks: Sequence[WindowedNetwork], images: Iterable[np.ndarray], device: torch.device, plan: PredictionPlan
) -> Iterator[tuple[np.ndarray | None, np.ndarray | None]]:
    """Predict case by case: the mean over windows, mirrored copies and networks.

    Where windows overlap they count by a Gaussian. A class is said of the window in the middle, where the grid of
    training lay (``grid_frame`` with ``whole``): windows elsewhere show parts of the organ that no class was learnt
    from. Of a network that was trained on patches from all over the cases, it is the mean over all windows.

    Parameters
    ----------
    networks : of the same outputs
    images : uint8, or float16 as it is, (C, D, H, W) each; a case may be smaller than the window

    Yields
    ------
    region probabilities float32 (R, D, H, W) and class probabilities float32 (K,), summing to 1; None for a head
    that the networks do not have
    """
    for network in networks:
        to_device(network.model, device).eval()
    for image in images:
        mean = CaseMean(image.shape[1:], len(networks))
        for network in networks:
            _predict_network(network, image, plan, device, mean)
        if plan.mean_of == "logits":
            _to_probabilities(mean, networks[0].model)
        yield tuple(None if part is None else part.numpy() for part in (mean.regions, mean.classes))


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
    filters: Sequence[ComponentFilter] = (),
) -> np.ndarray:
    """Turn probabilities into regions: voxels from the threshold on, and nothing where they add up to too little.

    Parameters
    ----------
    probabilities : float (R, D, H, W), on the network's grid or in the scan's own voxels
    voxel_ml : volume of one voxel
    predicted_class, empty_class : a case whose most probable class is the one without a region gets no region; None
        where nothing is classified or the two heads decide apart
    filters : of the components of each region, before its volume is looked at; none to keep all

    Returns
    -------
    bool (R, D, H, W)
    """
    if predicted_class is not None and predicted_class == empty_class:
        return np.zeros(probabilities.shape, dtype=bool)
    regions = probabilities >= threshold
    for region, component_filter in zip(regions, filters or [ComponentFilter()] * len(regions), strict=True):
        region[:] = component_filter.keep(region, voxel_ml)
    too_small = regions.sum((1, 2, 3)) * voxel_ml < smallest_region_ml
    regions[too_small] = False
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
    model_files: Sequence[ModelFile],
    images: Iterable[np.ndarray],
    voxels_ml: Iterable[float],
    decision: Mapping[str, Any],
    device: torch.device,
    plan: PredictionPlan,
    filters: Sequence[ComponentFilter] = (),
) -> Iterator[Prediction]:
    """Predict case by case, and decide what belongs to a region.

    Parameters
    ----------
    model_files : one, or several of the same regions and classes whose mean is taken
    images : (C, D, H, W) each, see ``predict_probabilities``
    voxels_ml : volume of one voxel of each
    decision : ``threshold``, ``smallest_region_ml`` and ``empty_class`` of ``decide_regions``
    filters : of each region's components, see ``decide_regions``
    """
    classes = model_files[0].spec.classes
    networks = [WindowedNetwork.of(model_file) for model_file in model_files]
    predictions = predict_probabilities(networks, images, device, plan)
    for (regions, probabilities), voxel_ml in zip(predictions, voxels_ml, strict=True):
        predicted = most_probable_class(probabilities, classes)
        options = {**decision, "predicted_class": predicted, "filters": filters}
        yield Prediction(
            None if regions is None else decide_regions(regions, voxel_ml, **options),
            {} if probabilities is None else dict(zip(classes, map(float, probabilities), strict=True)),
            predicted,
        )
