"""Predictions of an arm's best model on the held-out patients."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from fedpedbrain.base.cases import HELD_OUT, Shard
from fedpedbrain.base.errors import StudyError
from fedpedbrain.base.files import replacing, write_table
from fedpedbrain.data.grid.dataset import ShardDataset
from fedpedbrain.data.grid.memory_maps import create_array
from fedpedbrain.models.components import ComponentFilter, read_filters
from fedpedbrain.models.files import ModelFile, ModelSpec, load_model_file
from fedpedbrain.models.prediction import Prediction, PredictionPlan, predict_cases

PROBABILITY_COLUMNS = ("case", "class", "probability")


def predict_dataset(
    model_files: Sequence[ModelFile],
    personal: Mapping[str, ModelFile],
    dataset: ShardDataset,
    decision: Mapping[str, Any],
    device: torch.device,
    plan: PredictionPlan,
    filters: Sequence[ComponentFilter] = (),
) -> Iterator[Prediction]:
    """Predict every case of a data set, a site's with its personal model where it has one, in the order of the rows."""
    for site, rows in groupby(range(len(dataset)), lambda row: dataset.cases[row].site):
        part = dataset.select(list(rows))
        images = map(part.image, range(len(part)))
        voxels_ml = [case.grid_voxel_ml for case in part.cases]
        files = [personal[site]] if site in personal else model_files
        yield from predict_cases(files, images, voxels_ml, decision, device, plan, filters)


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
    masks_path: str | Path,
    probabilities_path: str | Path,
    decision: Mapping[str, Any],
    expected: Mapping[str, Any],
    device: torch.device,
    plan: PredictionPlan,
    filters_path: str | Path | None,
    component_filter: Mapping[str, Any],
) -> None:
    """Predict the held-out cases of the given shards.

    Writes ``masks`` uint8 (N, R, D, H, W), 0 or 1, rows in the order of the shards' held-out cases, and one row a case
    and class of probabilities.

    Parameters
    ----------
    model_paths : for all sites that are not in ``personal_paths``; of several models the mean is taken
    personal_paths : site to the model that predicts its cases
    decision : arguments of ``decide_regions`` from the config
    expected : ``channels``, ``regions``, ``classes`` and ``preprocessing`` of the study
    plan : how windows, mirrored copies and models are averaged
    filters_path, component_filter : see ``read_filters``
    """
    model_files = load_candidate(model_paths, expected)
    dataset, spec = ShardDataset(shards, HELD_OUT), model_files[0].spec
    grid = tuple(spec.preprocessing["grid"])
    personal = {site: load_model_file(path) for site, path in personal_paths.items()}
    filters = read_filters(filters_path, spec.regions, component_filter)
    predictions = predict_dataset(model_files, personal, dataset, decision, device, plan, filters)
    rows = []
    with replacing(masks_path) as temporary:
        masks = create_array(temporary, (len(dataset), len(spec.regions), *grid))
        for row, prediction in enumerate(predictions):
            if prediction.regions is not None:
                masks[row] = prediction.regions
            rows += [
                {"case": dataset.cases[row].case, "class": name, "probability": probability}
                for name, probability in prediction.probabilities.items()
            ]
        masks.flush()
    write_table(probabilities_path, PROBABILITY_COLUMNS, rows)
