"""What lies behind a model's decisions on single cases: probabilities of regions, and evidence for a class.

Evidence for a class follows HiResCAM (Draelos and Carin, 2020, arXiv:2011.08891): the classifier's input times the
gradient of a class's logit, summed over features, negative sums set to zero. Where the classifier takes the mean over
all places, as that of ``i3d_unet``, the gradient is the same everywhere and this is Grad-CAM (Selvaraju et al., ICCV
2017) up to a factor. ``unet`` weighs places apart: Grad-CAM takes the mean of that over places, and most of it cancels.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from fedpedbrain.base.cases import HELD_OUT, Shard
from fedpedbrain.base.files import replacing
from fedpedbrain.data.grid.dataset import ShardDataset
from fedpedbrain.evaluation.case_choice import read_choice
from fedpedbrain.evaluation.case_geometry import read_frames_of
from fedpedbrain.models.files import load_model_file
from fedpedbrain.models.prediction import (
    CaseMean,
    PredictionPlan,
    WindowedNetwork,
    most_probable_class,
    predict_probabilities,
)
from fedpedbrain.models.sliding_window import fill_up
from fedpedbrain.study.geometry_facts import GEOMETRIES


@dataclass(frozen=True)
class Explanation:
    """What lies behind a model's decisions on one case.

    Attributes
    ----------
    regions : probabilities float32 (R, D, H, W) before any threshold, R = 0 for a model without a segmentation head
    saliency : float32 (S, D, H, W) in [0, 1], 1 in the place that spoke most for the most probable class; S = 1, or 0
        for a model without a classification head
    predicted_class : the most probable class, or None
    saliency_cells : cells (D', H', W') that the saliency really has, those of the deepest features; () without one
    """

    regions: np.ndarray
    saliency: np.ndarray
    predicted_class: str | None
    saliency_cells: tuple[int, ...]


def saliency_of(classifier: nn.Module, features: Tensor, class_index: int) -> Tensor:
    """How much each place of the deepest features spoke for a class, zero where it spoke against it.

    Parameters
    ----------
    classifier : from features to one logit a class
    features : float (B, C, D', H', W')

    Returns
    -------
    float (B, D', H', W'), in units of the logit
    """
    features = features.detach().clone().requires_grad_()
    logits = classifier(features)[:, class_index]
    (gradient,) = torch.autograd.grad(logits.sum(), features)
    return torch.relu((features * gradient).sum(1)).detach()


@contextmanager
def _inputs_of(modules: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """A list that takes what goes into some modules while the block runs, one entry per forward pass."""
    seen: list[Tensor] = []
    hooks = [module.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0])) for module in modules]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _saliency_of_case(
    networks: Sequence[WindowedNetwork],
    features: Sequence[Tensor],
    class_index: int,
    image: np.ndarray,
    plan: PredictionPlan,
) -> tuple[np.ndarray, tuple[int, ...]]:
    """Put the saliency of a case together from what the classifiers saw: window by window, and copy by copy of these.

    Returns
    -------
    float32 (1, D, H, W) in [0, 1], and the cells of the deepest features of one window
    """
    mean, of_pass = CaseMean(image.shape[1:], len(networks)), iter(features)
    for network in networks:
        filled, inside = fill_up(image, network.window or image.shape[1:])
        for places in network.lay(filled.shape[1:], plan.overlap):
            coarse = [
                saliency_of(network.model.classifier, next(of_pass), class_index).flip(axes) for axes in plan.copies
            ]
            size = [voxels.stop - voxels.start for voxels in places[0].voxels]
            averaged = torch.stack(coarse).mean(0)[:, None]
            mean.add_regions(interpolate(averaged, size, mode="trilinear", align_corners=False), places, inside)
    greatest = mean.regions.max().clamp(min=torch.finfo(mean.regions.dtype).tiny)
    return (mean.regions / greatest).numpy(), tuple(coarse[0].shape[1:])


def explain_case(
    networks: Sequence[WindowedNetwork],
    classes: Sequence[str],
    image: np.ndarray,
    device: torch.device,
    plan: PredictionPlan,
) -> Explanation:
    """Explain one case; of windows, mirrored copies and networks, the mean is taken as the prediction takes it.

    Parameters
    ----------
    classes : names, in the order of the networks' outputs
    image : (C, D, H, W)
    """
    size = image.shape[1:]
    with _inputs_of([network.model.classifier for network in networks] if classes else []) as features:
        regions, probabilities = next(predict_probabilities(networks, [image], device, plan))
    saliency, cells = np.zeros((0, *size), np.float32), ()
    if classes:
        saliency, cells = _saliency_of_case(networks, features, int(probabilities.argmax()), image, plan)
    return Explanation(
        np.zeros((0, *size), np.float32) if regions is None else regions,
        saliency,
        most_probable_class(probabilities, classes),
        cells,
    )


def explain_cases_files(
    model_paths: Sequence[str | Path],
    personal_paths: Mapping[str, str | Path],
    shards: Sequence[Shard],
    choice_path: str | Path,
    explanations_path: str | Path,
    device: torch.device,
    plan: PredictionPlan,
    geometry: str,
) -> None:
    """Explain the chosen cases, each on the slice that stands for it.

    Writes ``cases`` and ``predicted_classes`` as text (N,), "" for none, as integers ``saliency_cells`` (3,), or (0,)
    where S = 0, and of case n as float16 ``regions_n`` (R, H, W) and ``saliency_n`` (S, H, W); see ``Explanation``.

    Parameters
    ----------
    model_paths : for all sites that are not in ``personal_paths``; of several models the mean is explained
    personal_paths : site to the model that predicts its cases
    shards : each folder has ``frames.tsv``
    choice_path : the chosen cases, with slices of ``geometry``
    plan : as in the predictions
    geometry : in which the cases are shown, a word of ``GEOMETRIES``
    """
    dataset = ShardDataset(shards, HELD_OUT)
    row_of = {case.case: row for row, case in enumerate(dataset.cases)}
    common, networks = [load_model_file(path) for path in model_paths], {}
    personal = {site: [load_model_file(path)] for site, path in personal_paths.items()}
    choice, spec = read_choice(choice_path), common[0].spec
    frames, shown = read_frames_of(shards), GEOMETRIES.load(geometry)()
    arrays: dict[str, np.ndarray] = {}
    predicted, cells = [], ()
    for number, chosen in enumerate(choice):
        row = row_of[chosen.case]
        site = dataset.cases[row].site
        owner = site if site in personal else ""
        if owner not in networks:
            networks[owner] = [WindowedNetwork.of(model_file) for model_file in personal.get(site, common)]
        found = explain_case(networks[owner], spec.classes, dataset.image(row), device, plan)
        frame = frames[chosen.case]
        _, height, width = shown.shape(frame)
        for name, maps in (("regions", found.regions), ("saliency", found.saliency)):
            slices = arrays[f"{name}_{number}"] = np.zeros((len(maps), height, width), np.float16)
            for plane, laid in zip(slices, shown.lay(frame, maps), strict=True):
                plane[:] = laid[chosen.slice_index]
        predicted.append(found.predicted_class or "")
        # Of one network the same for every case.
        cells = found.saliency_cells
    with replacing(explanations_path) as temporary, open(temporary, "wb") as file:
        names = np.array([chosen.case for chosen in choice], dtype=np.str_)
        classes = np.array(predicted, dtype=np.str_)
        np.savez(file, cases=names, predicted_classes=classes, saliency_cells=np.array(cells, dtype=np.int64), **arrays)
