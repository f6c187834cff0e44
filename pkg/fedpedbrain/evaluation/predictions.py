"""Predictions of an arm's best model on the held-out patients."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fedpedbrain.base.cases import HELD_OUT, Shard
from fedpedbrain.base.errors import StudyError
from fedpedbrain.base.files import replacing, write_table
from fedpedbrain.data.grid.dataset import ShardDataset
from fedpedbrain.data.grid.frame_table import CaseFrame
from fedpedbrain.data.grid.packed_masks import pack_masks
from fedpedbrain.data.grid.ragged import RaggedWriter
from fedpedbrain.evaluation.case_geometry import CaseGeometry, read_frames_of
from fedpedbrain.models.components import ComponentFilter, read_filters
from fedpedbrain.models.files import ModelFile, ModelSpec, load_model_file
from fedpedbrain.models.prediction import (
    PredictionPlan,
    WindowedNetwork,
    decide_regions,
    most_probable_class,
    predict_probabilities,
)
from fedpedbrain.study.geometry_facts import GEOMETRIES

PROBABILITY_COLUMNS = ("case", "class", "probability")


def predict_dataset(
    model_files: Sequence[ModelFile],
    personal: Mapping[str, ModelFile],
    dataset: ShardDataset,
    device: torch.device,
    plan: PredictionPlan,
) -> Iterator[tuple[np.ndarray | None, np.ndarray | None]]:
    """Predict every case of a data set, a site's with its personal model where it has one, in the order of the rows.

    Yields
    ------
    probabilities of regions and classes, see ``predict_probabilities``
    """
    for site, rows in groupby(range(len(dataset)), lambda row: dataset.cases[row].site):
        part = dataset.select(list(rows))
        files = [personal[site]] if site in personal else model_files
        networks = [WindowedNetwork.of(model_file) for model_file in files]
        yield from predict_probabilities(networks, map(part.image, range(len(part))), device, plan)


def decide_in(
    geometry: CaseGeometry,
    frame: CaseFrame,
    probabilities: Sequence[np.ndarray],
    filters: Sequence[ComponentFilter],
    decision: Mapping[str, Any],
) -> np.ndarray:
    """Lay probabilities out in a geometry and decide there, region by region: one map of a scan is in memory at a time.

    Parameters
    ----------
    probabilities : float32 (R, D, H, W) on the case's grid
    filters : of each region's components
    decision : all other arguments of ``decide_regions``, without the volume of a voxel

    Returns
    -------
    bool (R, D, H, W) in the geometry
    """
    regions = np.zeros((len(probabilities), *geometry.shape(frame)), dtype=bool)
    voxel_ml = geometry.voxel_ml(frame)
    for region, laid, component_filter in zip(regions, geometry.lay(frame, probabilities), filters, strict=True):
        region[:] = decide_regions(laid[None], voxel_ml, filters=[component_filter], **decision)[0]
    return regions


def check_agreement(path: str | Path, spec: ModelSpec, expected: Mapping[str, Any]) -> None:
    """Refuse a model whose inputs or outputs are not those that the study scores."""
    for name, wanted in expected.items():
        found = getattr(spec, name)
        if found != wanted:
            raise StudyError(
                f"{path}: cannot be scored beside the arms: expected {name} {wanted}, found {found}; set the config to "
                "those of the model, or take it out of candidates"
            )


def load_candidate(paths: Sequence[str | Path], expected: Mapping[str, Any]) -> list[ModelFile]:
    """Read the models of a candidate.

    Parameters
    ----------
    expected : what each must have, see ``check_agreement``

    Raises
    ------
    StudyError : a model of another study, or models whose regions exclude each other beside some whose do not
    """
    model_files = [load_model_file(path) for path in paths]
    for path, model_file in zip(paths, model_files, strict=True):
        check_agreement(path, model_file.spec, expected)
        if exclusive_regions(model_file.spec) != exclusive_regions(model_files[0].spec):
            raise StudyError(
                f"{path}: its regions exclude each other and those of {paths[0]} do not, or the other way round; score "
                "them as two candidates"
            )
    return model_files


def exclusive_regions(spec: ModelSpec) -> bool:
    """Whether at most one region is said of a voxel."""
    return bool(spec.options.get("exclusive_regions"))


def predict_cases_files(
    model_paths: Sequence[str | Path],
    personal_paths: Mapping[str, str | Path],
    shards: Sequence[Shard],
    masks_paths: Mapping[str, str | Path],
    probabilities_path: str | Path,
    decision: Mapping[str, Any],
    expected: Mapping[str, Any],
    device: torch.device,
    plan: PredictionPlan,
    filters_path: str | Path | None,
    component_filter: Mapping[str, Any],
) -> None:
    """Predict the held-out cases of the given shards.

    Writes masks (``PackedMasks``), rows in the order of the shards' held-out cases, and one row a case and class of
    probabilities.

    Parameters
    ----------
    model_paths : for all sites that are not in ``personal_paths``; of several models the mean is taken
    personal_paths : site to the model that predicts its cases
    shards : each folder has ``frames.tsv``
    masks_paths : word of ``GEOMETRIES`` to where the masks in that geometry are written
    decision : arguments of ``decide_regions`` from the config
    expected : ``channels``, ``regions``, ``classes`` and ``preprocessing`` of the study
    plan : how windows, mirrored copies and models are averaged
    filters_path, component_filter : see ``read_filters``
    """
    model_files = load_candidate(model_paths, expected)
    personal = {site: load_model_file(path) for site, path in personal_paths.items()}
    classes, region_names = model_files[0].spec.classes, model_files[0].spec.regions
    filters = read_filters(filters_path, region_names, component_filter)
    dataset, frames = ShardDataset(shards, HELD_OUT), read_frames_of(shards)
    rows = []
    with ExitStack() as stack:
        writers = [
            (GEOMETRIES.load(word)(), stack.enter_context(RaggedWriter(stack.enter_context(replacing(path)), np.uint8)))
            for word, path in masks_paths.items()
        ]
        predictions = predict_dataset(model_files, personal, dataset, device, plan)
        for case, (regions, of_classes) in zip(dataset.cases, predictions, strict=True):
            decided = {**decision, "predicted_class": most_probable_class(of_classes, classes)}
            for geometry, writer in writers:
                maps = [] if regions is None else regions
                writer.append(pack_masks(decide_in(geometry, frames[case.case], maps, filters, decided)))
            if of_classes is not None:
                rows += [
                    {"case": case.case, "class": name, "probability": float(probability)}
                    for name, probability in zip(classes, of_classes, strict=True)
                ]
    write_table(probabilities_path, PROBABILITY_COLUMNS, rows)
