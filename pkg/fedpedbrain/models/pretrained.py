"""The start of all arms, drawn or from a file: ours, a checkpoint of FL-PedBrain, a state dict, the I3D encoder.

The reference's checkpoints carry layers behind the bottleneck (Mixed_5b, Mixed_5c, logits) that feed neither head. They
are checked and left out when such a file is read, and added again when one is written.
"""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fedpedbrain.base.errors import StudyError
from fedpedbrain.base.files import check_sha256, sha256_of_file
from fedpedbrain.base.lineage import Lineage, digest_of
from fedpedbrain.models.architectures.i3d_unet import ConvUnit, Inception
from fedpedbrain.models.files import (
    ModelFile,
    ModelSpec,
    load_model_file,
    load_tensors,
    save_model_file,
    save_tensors,
)

logger = logging.getLogger(__name__)

# The published network: its name here, width, and numbers of channels, regions and classes.
REFERENCE_NETWORK = ("i3d_unet", 1.0, 1, 1, 5)
# The known formats, as messages name them.
MODEL_FILE, REFERENCE_CHECKPOINT, I3D_ENCODER = "model file", "reference checkpoint", "I3D encoder"
STATE_DICT = "state dict"
# Names shown of each kind of difference.
_SHOWN = 3
ENCODER_PREFIX = "encoder."
_I3D_PREFIX = f"{ENCODER_PREFIX}layers_dict."
_UNUSED_LOGITS = f"{ENCODER_PREFIX}logits."
# Block names of the published I3D weights, and ours.
_I3D_BRANCHES = {
    "b0": "branch0",
    "b1a": "branch1.0",
    "b1b": "branch1.1",
    "b2a": "branch2.0",
    "b2b": "branch2.1",
    "b3b": "branch3.1",
}


@dataclass(frozen=True)
class Pretrained:
    """What ``load_pretrained`` did.

    Attributes
    ----------
    kind : which of the known formats the file has
    loaded : keys of the network that were set
    unused : keys of the file that the network has no use for
    """

    kind: str
    loaded: list[str]
    unused: list[str]


@cache
def unused_reference_weights() -> dict[str, Tensor]:
    """Reference keys that feed nothing, with the values that a written checkpoint gets: zeros and identity statistics.

    Shapes are those at width 1: two inception blocks behind the bottleneck and the 400 Kinetics classes.
    """
    layers = nn.ModuleDict(
        {
            "Mixed_5b": Inception(832, 256, 160, 320, 32, 128, 128),
            "Mixed_5c": Inception(832, 384, 192, 384, 48, 128, 128),
        }
    )
    logits = nn.Conv3d(1024, 400, 1)
    weights = {f"{_I3D_PREFIX}{key}": value for key, value in layers.state_dict().items()}
    weights |= {f"{_UNUSED_LOGITS}{key}": value for key, value in logits.state_dict().items()}
    for module in layers.modules():
        if isinstance(module, ConvUnit):
            module.conv.weight.data.zero_()
    logits.weight.data.zero_()
    logits.bias.data.zero_()
    return weights


def _own_weights(path: str | Path, content: Mapping) -> dict[str, Tensor]:
    return load_model_file(path).weights


def _state_dict_of(content: Mapping) -> Any:
    return content.get("model_state_dict", content)


def _state_dict_weights(path: str | Path, content: Mapping) -> dict[str, Tensor]:
    return {key.removeprefix("module."): value for key, value in _state_dict_of(content).items()}


def _i3d_weights(path: str | Path, content: Mapping) -> dict[str, Tensor]:
    return {_i3d_key(key): value for key, value in _state_dict_of(content).items()}


def _i3d_key(key: str) -> str:
    """Our name of a tensor of the published I3D weights (``rgb_imagenet.pt`` of the pytorch-i3d project)."""
    if key.startswith("logits."):
        return key.replace("logits.conv3d.", _UNUSED_LOGITS).replace("logits.bn.", f"{_UNUSED_LOGITS}bn.")
    key = re.sub(r"\.(b\d[ab]?)\.", lambda found: f".{_I3D_BRANCHES.get(found[1], found[1])}.", key)
    return f"{_I3D_PREFIX}{key.replace('.conv3d.', '.conv.')}"


def _kind_of(content: object) -> str | None:
    """Which format a file's content has, None if it is none of them."""
    if not isinstance(content, Mapping):
        return None
    if {"format", "model", "lineage", "weights"} <= content.keys():
        return MODEL_FILE
    weights = _state_dict_of(content)
    if not isinstance(weights, Mapping) or not all(isinstance(key, str) for key in weights):
        return None
    if any(f"{_I3D_PREFIX}Conv3d_1a_7x7" in key for key in weights):
        return REFERENCE_CHECKPOINT
    if "Conv3d_1a_7x7.conv3d.weight" in weights:
        return I3D_ENCODER
    return STATE_DICT if weights and all(isinstance(value, Tensor) for value in weights.values()) else None


FORMATS: dict[str, Callable[[str | Path, Mapping], dict[str, Tensor]]] = {
    MODEL_FILE: _own_weights,
    REFERENCE_CHECKPOINT: _state_dict_weights,
    I3D_ENCODER: _i3d_weights,
    STATE_DICT: _state_dict_weights,
}


def _named(keys: Sequence[str]) -> str:
    return ", ".join(keys[:_SHOWN]) + (", ..." if len(keys) > _SHOWN else "")


def _shape_of(value: object) -> tuple[int, ...] | str:
    """Shape of a tensor; of anything else, which a file may hold, its type's name."""
    return tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__


def _differences(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[str]:
    """What keeps ``found`` from being loaded as ``expected``: one phrase a kind of difference."""
    # Weights saved before PyTorch 0.4.1 have no counters.
    missing = [key for key in expected if key not in found and not key.endswith("num_batches_tracked")]
    unknown = [key for key in found if key not in expected]
    reshaped = [
        f"{key} (expected {_shape_of(value)}, found {_shape_of(found[key])})"
        for key, value in expected.items()
        if key in found and _shape_of(value) != _shape_of(found[key])
    ]
    kinds = {"missing": missing, "unknown": unknown, "of another shape": reshaped}
    return [f"{len(keys)} of {len(expected)} keys {kind}: {_named(keys)}" for kind, keys in kinds.items() if keys]


def read_weights(path: str | Path) -> tuple[str, dict[str, Tensor]]:
    """Which of the known formats a file has, and its tensors under the names that our networks give them.

    Raises
    ------
    StudyError
        If the file is of none of these formats.
    """
    content = load_tensors(path)
    kind = _kind_of(content)
    if kind is None:
        raise StudyError(f"{path}: expected one of {', '.join(FORMATS)}; found the keys of none")
    return kind, FORMATS[kind](path, content)


def load_pretrained(model: nn.Module, path: str | Path, part: str = "all") -> Pretrained:
    """Set a network's weights from a file; the one way to start from weights made elsewhere.

    Parameters
    ----------
    model : changed in place
    path : one of our ``.pth`` files, a reference checkpoint (``{"model_state_dict": ...}`` or the bare state dict of
        374 keys), a state dict of any of our networks, or the Kinetics I3D weights (which always set the encoder alone)
    part : ``all``, or ``encoder`` to leave every other layer as it is

    Raises
    ------
    StudyError
        If the file is of none of these kinds, or a key is missing, unknown or of another shape; the network is then as
        it was.
    """
    return set_weights(model, path, *read_weights(path), part)


def set_weights(
    model: nn.Module, path: str | Path, kind: str, found: Mapping[str, Tensor], part: str = "all"
) -> Pretrained:
    """As ``load_pretrained``, from what ``read_weights`` gave for ``path``."""
    expected = model.state_dict()
    is_encoder = part == "encoder" or kind == I3D_ENCODER
    if is_encoder:
        expected = {key: value for key, value in expected.items() if key.startswith(ENCODER_PREFIX)}
        unused = [key for key in found if not key.startswith(ENCODER_PREFIX)]
    else:
        unused = []
    if kind != MODEL_FILE:
        dead = unused_reference_weights()
        unused += [key for key in found if key in dead and _shape_of(found[key]) == _shape_of(dead[key])]
        if kind == I3D_ENCODER:
            unused += [key for key in found if key.startswith(_UNUSED_LOGITS) and key not in unused]
    kept = {key: value for key, value in found.items() if key not in set(unused)}
    differences = _differences(expected, kept)
    if differences:
        raise StudyError(
            f"{path}: this {kind} does not fit the network ({'; '.join(differences)}); change the network's settings"
            + (", or load the encoder alone" if not is_encoder else "")
        )
    model.load_state_dict(kept, strict=False)
    return Pretrained(kind, sorted(kept), sorted(unused))


def save_reference_checkpoint(
    model_path: str | Path, reference_path: str | Path, unused_from: str | Path | None = None
) -> None:
    """Write one of our model files as a checkpoint that the reference reads.

    Parameters
    ----------
    model_path : a model file of ``i3d_unet`` at width 1
    unused_from : reference checkpoint whose layers that feed nothing are taken over; zeros without one
    """
    unused = unused_reference_weights()
    if unused_from is not None:
        reference = _state_dict_weights(unused_from, load_tensors(unused_from))
        differences = _differences(unused, {key: value for key, value in reference.items() if key in unused})
        if differences:
            raise StudyError(f"{unused_from}: not a reference checkpoint ({'; '.join(differences)})")
        unused = unused | {key: reference[key] for key in unused if key in reference}
    model_file = load_model_file(model_path)
    spec = model_file.spec
    found = (spec.name, spec.options.get("width"), len(spec.channels), len(spec.regions), len(spec.classes))
    if found != REFERENCE_NETWORK:
        raise StudyError(
            f"{model_path}: expected network, width and numbers of channels, regions and classes {REFERENCE_NETWORK}, "
            f"found {found}; the reference reads no other"
        )
    save_tensors(reference_path, {"model_state_dict": {**model_file.weights, **unused}})


def initialize_model_files(
    path: str | Path,
    spec: Mapping[str, Any],
    seed: int,
    model_seed: int,
    pretrained_path: str | Path | None,
    pretrained: Mapping[str, Any],
) -> None:
    """Write the one start of all arms of a seed.

    Parameters
    ----------
    spec : arguments of ``ModelSpec``: the network, whose weights are drawn from ``model_seed``
    pretrained_path : weights to start from; None to leave all of them as drawn
    pretrained : the ``network.pretrained`` block: ``sha256`` of that file, and ``part``
    """
    torch.manual_seed(model_seed)
    model_spec = ModelSpec(**spec)
    model = model_spec.build()
    parent = ""
    if pretrained_path is not None:
        check_sha256(pretrained_path, pretrained["sha256"], name=str(pretrained_path))
        done = load_pretrained(model, pretrained_path, pretrained["part"])
        logger.info("%s: %s, %d keys loaded, %d unused", pretrained_path, done.kind, len(done.loaded), len(done.unused))
        parent = sha256_of_file(pretrained_path)
    lineage = Lineage("initial", "", seed, 0, "", 0, 0, digest_of(spec), parent)
    save_model_file(path, ModelFile(model_spec, lineage, model.state_dict()))
