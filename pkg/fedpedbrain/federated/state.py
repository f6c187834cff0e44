"""What sites and server keep from round to round and never send as an update."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from torch import Tensor

from fedpedbrain.base.errors import StudyError
from fedpedbrain.models.files import load_tensors, save_tensors


@dataclass(frozen=True)
class SiteState:
    """A site's state after a round.

    Attributes
    ----------
    arm, seed, round, site, settings_digest : whose it is and after which round
    optimizer : state of the optimizer, None where it is not kept
    personal : weights of which the site has its own; over the global ones they make its personal model
    personal_optimizer : state of the optimizer of a personal model that is trained beside the common one
    kept : what the strategy keeps
    residual : what rounding took from the last update
    """

    arm: str
    seed: int
    round: int
    site: str
    settings_digest: str
    optimizer: dict[str, Any] | None = None
    personal: dict[str, Tensor] = field(default_factory=dict)
    personal_optimizer: dict[str, Any] | None = None
    kept: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    residual: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class ServerState:
    """The server's state after a round: what the strategy keeps, empty for most."""

    arm: str
    seed: int
    round: int
    settings_digest: str
    kept: dict[str, dict[str, Tensor]] = field(default_factory=dict)


State = TypeVar("State", SiteState, ServerState)


def save_state(path: str | Path, state: SiteState | ServerState) -> None:
    """Write a state."""
    save_tensors(path, {item.name: getattr(state, item.name) for item in fields(state)})


def check_owner(state: SiteState | ServerState, owner: Mapping[str, Any], name: str) -> None:
    """Refuse a state, spoken of as ``name``, that is not that of ``owner`` (key to wanted value)."""
    for key, wanted in owner.items():
        found = getattr(state, key)
        if found != wanted:
            raise StudyError(
                f"{name}: expected the state of {key} {wanted!r}, found {found!r}; delete it and run again"
            )


def load_state(kind: type[State], path: str | Path, owner: Mapping[str, Any] = MappingProxyType({})) -> State:
    """Read a state; refused by its file where it is another kind, or by ``check_owner``."""
    content = load_tensors(path)
    if not isinstance(content, dict) or set(content) != {item.name for item in fields(kind)}:
        raise StudyError(f"{path}: expected a {kind.__name__}, found other entries; delete it and run again")
    state = kind(**content)
    check_owner(state, owner, str(path))
    return state
