"""Personal models: the global model with the weights that a site has for itself."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from fedpedbrain.errors import StudyError
from fedpedbrain.federated.state import SiteState, load_state
from fedpedbrain.files import sha256_of_file
from fedpedbrain.models.files import ModelFile, load_model_file, save_model_file


def _owner(model: ModelFile, site: str) -> dict:
    lineage = model.lineage
    return {"arm": lineage.arm, "seed": lineage.seed, "site": site, "settings_digest": lineage.settings_digest}


def _personal(model: ModelFile, state: SiteState, parent_sha256: str) -> ModelFile:
    lineage = replace(model.lineage, kind="personal", site=state.site, parent_sha256=parent_sha256, updates=())
    return replace(model, lineage=lineage, weights={**model.weights, **state.personal})


def load_personal_models(model_path: str | Path, state_paths: Mapping[str, str | Path]) -> dict[str, ModelFile]:
    """Each site's personal model of a round, from the global one and the site's state."""
    if not state_paths:
        return {}
    model, sha256 = load_model_file(model_path), sha256_of_file(model_path)
    return {
        site: _personal(model, load_state(SiteState, path, _owner(model, site)), sha256)
        for site, path in state_paths.items()
    }


def personalize_model_files(
    model_path: str | Path, state_paths: Sequence[str | Path], site: str, personal_path: str | Path
) -> None:
    """Write a site's personal model: the global one with the site's weights of its round, or the last before it.

    Parameters
    ----------
    state_paths : the site's states in the order of the rounds
    """
    model = load_model_file(model_path)
    for path in reversed(state_paths):
        state = load_state(SiteState, path, _owner(model, site))
        if state.round <= model.lineage.round:
            save_model_file(personal_path, _personal(model, state, sha256_of_file(model_path)))
            return
    raise StudyError(f"{model_path}: site {site} has no state of round {model.lineage.round} or before")
