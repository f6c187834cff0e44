"""Models made elsewhere: a checkpoint becomes a model file whose lineage says no more than is known."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from fedpedbrain.base.errors import StudyError
from fedpedbrain.base.files import check_sha256, sha256_of_file
from fedpedbrain.base.lineage import IMPORTED, Lineage, digest_of
from fedpedbrain.models.files import ModelFile, ModelSpec, first_not_finite, save_model_file
from fedpedbrain.models.pretrained import (
    I3D_ENCODER,
    MODEL_FILE,
    REFERENCE_CHECKPOINT,
    REFERENCE_NETWORK,
    read_weights,
    set_weights,
)
from fedpedbrain.study.network_facts import NETWORKS

logger = logging.getLogger(__name__)

# The first convolution of the published network has 64 features.
_STEM, _STEM_FEATURES = "encoder.layers_dict.Conv3d_1a_7x7.conv.weight", 64
# Known formats that are no checkpoint of a whole network, and what to do with them instead.
_NO_CHECKPOINTS = {
    MODEL_FILE: "a model file already; use it as it is",
    I3D_ENCODER: "an encoder alone, no whole network; train from it (network.pretrained.source)",
}


def describe_network(spec: ModelSpec, kind: str, weights: Mapping[str, Tensor]) -> ModelSpec:
    """The specification of a checkpoint's network: the published one where its keys say so, else as the config has it.

    Parameters
    ----------
    spec : as the config has it; channels, regions, classes and preprocessing are always its own
    kind, weights : see ``read_weights``
    """
    stem = weights.get(_STEM)
    if kind != REFERENCE_CHECKPOINT or not isinstance(stem, Tensor) or stem.shape[:1] != (_STEM_FEATURES,):
        return spec
    name, width = REFERENCE_NETWORK[:2]
    options = spec.options if spec.name == name else NETWORKS[name].settings({})
    return replace(spec, name=name, options={**options, "width": width})


def _check_grid(path: str | Path, spec: ModelSpec) -> None:
    """Refuse a grid or patch too small for a network that the config does not name, and could not be checked with."""
    key = "training.patch.size" if spec.patch else "preprocessing.grid"
    found, least = spec.patch or spec.preprocessing["grid"], NETWORKS[spec.name].smallest_grid
    if any(size < smallest for size, smallest in zip(found, least, strict=True)):
        raise StudyError(
            f"{path}: its network {spec.name} needs a {key} of at least {list(least)}, found {found}; give "
            "the config that describes the checkpoint"
        )


def import_model_files(
    checkpoint_path: str | Path,
    model_path: str | Path,
    spec: Mapping[str, Any],
    source: str,
    sha256: str | None = None,
) -> None:
    """Write a checkpoint as a model file.

    Parameters
    ----------
    checkpoint_path : a checkpoint of FL-PedBrain, or a state dict of any of our networks
    spec : arguments of ``ModelSpec``; what the checkpoint itself cannot tell is believed
    source : name or address of the checkpoint, as the lineage keeps it
    sha256 : digest that the checkpoint must have; None for any

    Raises
    ------
    StudyError
        If the file is no such checkpoint, has another digest, does not fit the network or holds NaN; ``model_path`` is
        then as it was.
    """
    check_sha256(checkpoint_path, sha256, name=str(checkpoint_path))
    kind, weights = read_weights(checkpoint_path)
    if kind in _NO_CHECKPOINTS:
        raise StudyError(f"{checkpoint_path}: {_NO_CHECKPOINTS[kind]}")
    described = describe_network(ModelSpec(**spec), kind, weights)
    _check_grid(checkpoint_path, described)
    model = described.build()
    done = set_weights(model, checkpoint_path, kind, weights)
    name = first_not_finite(model.state_dict())
    if name is not None:
        raise StudyError(f"{checkpoint_path}: {name} holds NaN or infinite values; give another checkpoint")
    logger.info(
        "%s: %s of %s %s, %d keys loaded, %d unused; channels, regions, classes and preprocessing as the config says",
        checkpoint_path,
        kind,
        described.name,
        described.options,
        len(done.loaded),
        len(done.unused),
    )
    parent = sha256_of_file(checkpoint_path)
    lineage = Lineage(IMPORTED, "", 0, 0, "", 0, 0, digest_of(described.to_dict()), parent, source=source)
    save_model_file(model_path, ModelFile(described, lineage, model.state_dict()))
