"""Personal models: the global model with the weights that a site has for itself."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from fedpedbrain.base.files import sha256_of_file
from fedpedbrain.federated.state import SiteState, load_state
from fedpedbrain.models.files import ModelFile, load_model_file, save_model_file


def _owner(model: ModelFile, site: str) -> dict:
    lineage = model.lineage
    return {"arm": lineage.arm, "seed": lineage.seed, "site": site, "settings_digest": lineage.settings_digest}


def personal_model(model: ModelFile, state: SiteState, parent_sha256: str) -> ModelFile:
    """The global model with the weights that a site's state holds for itself."""
    lineage = replace(model.lineage, kind="personal", site=state.site, parent_sha256=parent_sha256, updates=())
    return replace(model, lineage=lineage, weights={**model.weights, **state.personal})


def load_model_of_site(model_path: str | Path, state_path: str | Path | None, site: str) -> ModelFile:
    """A site's model of a round: the global one, personal where the site has a state with weights of its own."""
    model = load_model_file(model_path)
    if state_path is None:
        return model
    return personal_model(model, load_state(SiteState, state_path, _owner(model, site)), sha256_of_file(model_path))


def personalize_model_files(
    model_path: str | Path,
    state_paths: Mapping[int, str | Path],
    phase_starts: Sequence[int],
    site: str,
    personal_path: str | Path,
) -> None:
    """Write a site's personal model: the global one with the site's weights of its round, or the last before it.

    Where the site took no part in the phase until then, it has no weights of its own: its model is the global one.

    Parameters
    ----------
    state_paths : round to the site's state after it
    phase_starts : first round of every phase
    """
    model = load_model_file(model_path)
    best = model.lineage.round
    phase_start = max(number for number in phase_starts if number <= best)
    rounds = [number for number in state_paths if phase_start <= number <= best]
    state = SiteState(**_owner(model, site), round=best)
    if rounds:
        state = load_state(SiteState, state_paths[max(rounds)], _owner(model, site) | {"round": max(rounds)})
    save_model_file(personal_path, personal_model(model, state, sha256_of_file(model_path)))
