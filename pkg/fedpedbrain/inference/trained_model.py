"""The model that predicts: a model file that something trained, with weights that fit its own network."""

import re
from collections.abc import Sequence
from pathlib import Path

import torch

from fedpedbrain.base.errors import StudyError
from fedpedbrain.base.lineage import IMPORTED
from fedpedbrain.models.files import ModelFile, first_not_finite, load_model_file

# What no kind of model file but these can be asked to do, and what to give instead.
_PREDICTING = ("global", "personal", IMPORTED)
_OTHER_KINDS = {
    "initial": "the common start, which nothing trained",
    "update": "what one site sent in a round, no model yet",
    "missing": "the word that a site sent nothing",
}
# Regions name files; the config's schema knows no other names.
_REGION = re.compile("[A-Za-z0-9][A-Za-z0-9_-]*")


def load_trained_model(path: str | Path) -> ModelFile:
    """Read a model file that can predict.

    Raises
    ------
    StudyError : no such file, none of our model files, one that is untrained or no whole model, names of regions that
        can name no files, or weights that do not fit the network that the file names
    """
    model_file = load_model_file(path)
    kind = model_file.lineage.kind
    if kind not in _PREDICTING:
        raise StudyError(
            f"{path}: {_OTHER_KINDS.get(kind, f'of unknown kind {kind!r}')}; give a best.pth or global.pth of a "
            "study, or an imported model"
        )
    for name in model_file.spec.regions:
        if not isinstance(name, str) or not _REGION.fullmatch(name):
            raise StudyError(
                f"{path}: has a region {name!r}, expected letters, digits, _ and -; give the file as the study wrote it"
            )
    _check_weights(path, model_file)
    return model_file


def _check_weights(path: str | Path, model_file: ModelFile) -> None:
    """Refuse weights that a network of this specification has no place for, lacks, or cannot compute with."""
    try:
        # Shapes alone: no weights are drawn.
        with torch.device("meta"):
            expected = {name: tensor.shape for name, tensor in model_file.spec.build().state_dict().items()}
    except (StudyError, TypeError, ValueError, KeyError, RuntimeError) as error:
        raise StudyError(f"{path}: no network can be built as the file says ({error}); give another file") from None
    found = {name: tensor.shape for name, tensor in model_file.weights.items()}
    wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if wrong:
        shapes = [_in_words(shapes.get(wrong[0])) for shapes in (expected, found)]
        raise StudyError(
            f"{path}: the weights do not fit {model_file.spec.name}: {wrong[0]} expected {shapes[0]}, found {shapes[1]}"
            f"{f' (and {len(wrong) - 1} more)' if len(wrong) > 1 else ''}; give the file as the study wrote it"
        )
    name = first_not_finite(model_file.weights)
    if name is not None:
        raise StudyError(f"{path}: {name} holds NaN or infinite values; give a model of another round")


def _in_words(shape: torch.Size | None) -> str:
    return "nothing" if shape is None else f"shape {tuple(shape)}"


def check_channels(path: str | Path, model_file: ModelFile, scan_paths: Sequence[str | Path]) -> None:
    """Refuse a scan of another number of channels than the model takes."""
    channels = model_file.spec.channels
    if len(scan_paths) != len(channels):
        raise StudyError(
            f"{', '.join(map(str, scan_paths))}: the model {path} needs {len(channels)} channel(s) "
            f"({', '.join(channels)}), found {len(scan_paths)}; give one file or folder a channel, joined by commas"
        )
