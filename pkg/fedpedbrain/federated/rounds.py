"""One exchange: check every site's update, weigh it, average, and record where the result comes from."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from fedpedbrain.errors import StudyError
from fedpedbrain.federated.averaging import average_weights
from fedpedbrain.files import sha256_of_file
from fedpedbrain.lineage import AveragedUpdate, Lineage
from fedpedbrain.models.files import ModelFile, load_model_file, save_model_file

logger = logging.getLogger(__name__)

# How much an update counts before weights are normalised to sum to 1.
WEIGHTINGS: dict[str, Callable[[Lineage], float]] = {
    "cases": lambda lineage: float(lineage.num_cases),
    "steps": lambda lineage: float(lineage.num_steps),
    "uniform": lambda lineage: 1.0,
}


def check_update(update: ModelFile, parent: ModelFile, expected: Lineage) -> None:
    """Refuse an update that does not belong to this round or cannot be averaged.

    Parameters
    ----------
    parent : the model that the round started from
    expected : arm, seed, round, site, settings digest and parent's SHA-256 that the update must carry

    Raises
    ------
    StudyError : names the site and the round, what was expected and what was found
    """
    where = f"arm {expected.arm}, round {expected.round}, update of site {expected.site}"
    for field in ("kind", "arm", "seed", "round", "site", "settings_digest", "parent_sha256"):
        wanted, found = getattr(expected, field), getattr(update.lineage, field)
        if wanted != found:
            raise StudyError(f"{where}: expected {field} {wanted!r}, found {found!r}; delete the update and run again")
    for field in ("num_cases", "num_steps"):
        if getattr(update.lineage, field) < 0:
            raise StudyError(f"{where}: {field} is {getattr(update.lineage, field)}, expected 0 or more")
    missing = sorted(set(parent.weights) - set(update.weights))
    extra = sorted(set(update.weights) - set(parent.weights))
    if missing or extra:
        raise StudyError(
            f"{where}: {len(missing)} keys missing ({', '.join(missing[:3]) or 'none'}), "
            f"{len(extra)} keys unexpected ({', '.join(extra[:3]) or 'none'})"
        )
    for name, tensor in update.weights.items():
        _check_tensor(where, name, tensor, parent.weights[name])


def _check_tensor(where: str, name: str, tensor: Tensor, reference: Tensor) -> None:
    if (tensor.shape, tensor.dtype) != (reference.shape, reference.dtype):
        raise StudyError(
            f"{where}: {name} expected {tuple(reference.shape)} {reference.dtype}, "
            f"found {tuple(tensor.shape)} {tensor.dtype}"
        )
    if tensor.is_floating_point() and not torch.isfinite(tensor).all():
        raise StudyError(f"{where}: {name} holds NaN or infinite values; lower the learning rate")


def aggregate_round_files(
    parent_path: str | Path,
    update_paths: Mapping[str, str | Path],
    global_path: str | Path,
    arm: str,
    seed: int,
    round_number: int,
    weighting: str,
    digest: str,
) -> None:
    """Average one round's updates into the next global model.

    Parameters
    ----------
    parent_path : the model that the round started from
    update_paths : site to update; averaged in the order of the sites' names
    weighting : a key of ``WEIGHTINGS``
    digest : settings digest that every update must carry
    """
    parent = load_model_file(parent_path)
    expected = Lineage("update", arm, seed, round_number, "", 0, 0, digest, sha256_of_file(parent_path))
    sites = sorted(update_paths)
    lineages = [_checked_lineage(update_paths[site], parent, replace(expected, site=site)) for site in sites]
    counts = [WEIGHTINGS[weighting](lineage) for lineage in lineages]
    if sum(counts) <= 0:
        raise StudyError(f"arm {arm}, round {round_number}: all updates weigh nothing (weights: {weighting})")
    factors = [count / sum(counts) for count in counts]
    averaged = average_weights(_weights_and_factors([update_paths[site] for site in sites], factors))
    lineage = replace(
        expected,
        kind="global",
        num_cases=sum(lineage.num_cases for lineage in lineages),
        num_steps=sum(lineage.num_steps for lineage in lineages),
        updates=tuple(
            AveragedUpdate(site, sha256_of_file(update_paths[site]), factor)
            for site, factor in zip(sites, factors, strict=True)
        ),
    )
    save_model_file(global_path, ModelFile(parent.spec, lineage, averaged))
    for update in lineage.updates:
        logger.info("site %s weighs %.4f", update.site, update.weight)


def _checked_lineage(path: str | Path, parent: ModelFile, expected: Lineage) -> Lineage:
    update = load_model_file(path)
    check_update(update, parent, expected)
    return update.lineage


def _weights_and_factors(
    paths: Sequence[str | Path], factors: Sequence[float]
) -> Iterator[tuple[Mapping[str, Tensor], float]]:
    for path, factor in zip(paths, factors, strict=True):
        yield load_model_file(path).weights, factor
