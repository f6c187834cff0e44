"""Updates as the server meets them: what they count, and what is refused."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from fedpedbrain.base.errors import StudyError
from fedpedbrain.base.lineage import Lineage
from fedpedbrain.federated.exchange.encoding import Form, expected_dtype
from fedpedbrain.models.files import ModelFile
from fedpedbrain.models.networks import freeze_encoder

# How much an update counts before weights are normalised to sum to 1.
WEIGHTINGS: dict[str, Callable[[Lineage], float]] = {
    "cases": lambda lineage: float(lineage.num_cases),
    "steps": lambda lineage: float(lineage.num_steps),
    "uniform": lambda lineage: 1.0,
}


def count_of(lineage: Lineage, weighting: str) -> float:
    """How much an update counts."""
    return WEIGHTINGS[weighting](lineage)


def parameter_names(model_file: ModelFile, freezes_encoder: bool = False) -> list[str]:
    """Entries that optimizers train: no buffers, and nothing of an encoder that stays as it is."""
    with torch.device("meta"):
        model = model_file.spec.build()
    if freezes_encoder:
        freeze_encoder(model)
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    return [name for name in trained if name in model_file.weights]


def masking_context(lineage: Lineage, public_keys: Mapping[str, bytes]) -> bytes:
    """Names one secure sum: the same for all sites of a round, another for every other sum.

    Of another round, arm, seed or start; of other sites, whose masks would else come off by the difference of two sums;
    and of the same round run again, for which every site makes other keys.

    Parameters
    ----------
    public_keys : of every site of the sum
    """
    parts = (lineage.arm, lineage.seed, lineage.round, lineage.parent_sha256, lineage.settings_digest)
    keys = (part for site in sorted(public_keys) for part in (site, public_keys[site].hex()))
    return "\x1f".join(map(str, (*parts, *keys))).encode()


def check_history(found: Lineage, expected: Lineage) -> None:
    """Refuse what a site left for another round, arm, seed or setting, or went on from another model with.

    Parameters
    ----------
    expected : kind, arm, seed, round, site, settings digest and parent's SHA-256 that it must carry

    Raises
    ------
    StudyError : names the site and the round, what was expected and what was found
    """
    for field in ("kind", "arm", "seed", "round", "site", "settings_digest", "parent_sha256"):
        wanted, carried = getattr(expected, field), getattr(found, field)
        if wanted != carried:
            raise StudyError(
                f"{_where(expected)}: expected {field} {wanted!r}, found {carried!r}; delete the update and run again"
            )


def _where(expected: Lineage) -> str:
    return f"arm {expected.arm}, round {expected.round}, update of site {expected.site}"


def check_update(
    update: ModelFile,
    parent: ModelFile,
    expected: Lineage,
    exchange: Mapping[str, Any],
    is_masked: bool = False,
    beside: Mapping[str, Mapping[str, Form]] = MappingProxyType({}),
) -> None:
    """Refuse an update that does not belong to this round or cannot be averaged.

    Whether its weights are finite numbers is seen where they are combined.

    Parameters
    ----------
    parent : the model that the round started from
    expected : as of ``check_history``
    exchange : the arm's ``exchange`` block
    is_masked : the update is part of a secure sum
    beside : shape and dtype of every tensor in each group that must travel beside the weights

    Raises
    ------
    StudyError : names the site and the round, what was expected and what was found
    """
    where = _where(expected)
    check_history(update.lineage, expected)
    for field in ("num_cases", "num_steps"):
        if getattr(update.lineage, field) < 0:
            raise StudyError(f"{where}: {field} is {getattr(update.lineage, field)}, expected 0 or more")
    weights = {
        name: (tensor.shape, torch.int64 if is_masked else expected_dtype(tensor, exchange))
        for name, tensor in parent.weights.items()
    }
    _check_tensors(where, update.weights, weights)
    _check_keys(f"{where}, beside the weights", update.sent, beside)
    for group, forms in beside.items():
        _check_tensors(f"{where}, {group}", update.sent[group], forms)
        for name, tensor in update.sent[group].items():
            if not is_finite(tensor):
                raise StudyError(
                    f"{where}: {name} of the {group} holds NaN or infinite values; lower the learning rate"
                )


def _check_keys(where: str, found: Any, expected: Mapping[str, Any]) -> None:
    if not isinstance(found, Mapping):
        raise StudyError(f"{where}: expected {len(expected)} keys, found a {type(found).__name__}; run the site again")
    missing, extra = sorted(expected.keys() - found.keys()), sorted(map(str, found.keys() - expected.keys()))
    if missing or extra:
        raise StudyError(
            f"{where}: {len(missing)} keys missing ({', '.join(missing[:3]) or 'none'}), "
            f"{len(extra)} keys unexpected ({', '.join(extra[:3]) or 'none'}); delete the update and run again"
        )


def _check_tensors(where: str, found: Any, expected: Mapping[str, Form]) -> None:
    """Refuse tensors of other names, shapes or dtypes."""
    _check_keys(where, found, expected)
    for name, (shape, dtype) in expected.items():
        tensor = found[name]
        form = f"{tuple(tensor.shape)} {tensor.dtype}" if isinstance(tensor, Tensor) else type(tensor).__name__
        if form != f"{tuple(shape)} {dtype}":
            raise StudyError(
                f"{where}: {name} expected {tuple(shape)} {dtype}, found {form}; delete the update and run again"
            )


def is_finite(tensor: Tensor) -> bool:
    """Whether all values are finite numbers. Their sum says so at once, unless it overflows."""
    return not tensor.is_floating_point() or bool(tensor.sum().isfinite() or torch.isfinite(tensor).all())
