"""What a site notes of its round: a few numbers, and what its files are."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from fedpedbrain.base.errors import StudyError
from fedpedbrain.base.files import write_json

# What a site notes that trained, and what one that took no part notes in its place.
_OF_TRAINING = ("learning_rate", "epoch_losses", "update_norm")
_MISSING = "missing"


def _not_found(name: str | Path, found: str) -> StudyError:
    return StudyError(
        f"{name}: expected the metrics of a round's sites, found none ({found}); bring it back as it was, or delete it "
        "and run the study again"
    )


@dataclass(frozen=True)
class SiteMetrics:
    """One site's numbers of one round.

    Attributes
    ----------
    arm, seed, round, site : whose numbers these are
    num_cases, num_steps : training cases and optimizer steps; 0 of a missing site
    missing : the site took no part, because its training failed
    learning_rate : of the round
    epoch_losses : mean loss of each epoch; empty of a missing site
    update_norm : length of the difference to the round's start, before it was shortened
    update_bytes : size of the update as it travels; 0 of a missing site
    update_sha256, state_sha256 : of the files of update and state; "" where there are no files
    """

    arm: str
    seed: int
    round: int
    site: str
    num_cases: int
    num_steps: int
    missing: bool = False
    learning_rate: float | None = None
    epoch_losses: tuple[float, ...] = ()
    update_norm: float | None = None
    update_bytes: int = 0
    update_sha256: str = ""
    state_sha256: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The numbers as plain values, in the order of the file."""
        left_out = _OF_TRAINING if self.missing else (_MISSING,)
        values = {item.name: getattr(self, item.name) for item in fields(self) if item.name not in left_out}
        return values if self.missing else values | {"epoch_losses": list(self.epoch_losses)}

    @classmethod
    def from_dict(cls, values: Any, name: str) -> "SiteMetrics":
        """The numbers of plain values; a ``StudyError`` says what ``name``, their file, holds in their place."""
        is_missing = isinstance(values, Mapping) and values.get(_MISSING) is True
        left_out = _OF_TRAINING if is_missing else (_MISSING,)
        expected = [item.name for item in fields(cls) if item.name not in left_out]
        if not isinstance(values, Mapping):
            raise _not_found(name, f"a {type(values).__name__}")
        if values.keys() != set(expected):
            raise _not_found(name, f"other keys than {', '.join(expected)}")
        return cls(**{**values, "epoch_losses": tuple(values.get("epoch_losses", ()))})


def _read(path: str | Path) -> Any:
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _not_found(path, type(error).__name__) from None


def write_site_metrics(path: str | Path, metrics: SiteMetrics) -> None:
    """Write one site's metrics of a round."""
    write_json(path, metrics.to_dict())


def read_site_metrics(path: str | Path) -> SiteMetrics:
    """Read one site's metrics of a round; a ``StudyError`` names a file that does not hold them."""
    return SiteMetrics.from_dict(_read(path), str(path))


def write_round_metrics(path: str | Path, metrics: Iterable[SiteMetrics]) -> None:
    """Write the metrics of all sites of a round."""
    write_json(path, [item.to_dict() for item in metrics])


def read_round_metrics(paths: Iterable[str | Path]) -> list[SiteMetrics]:
    """Read the metrics of all sites of some rounds, file by file; a ``StudyError`` names a file without them."""
    found = []
    for path in paths:
        rows = _read(path)
        if not isinstance(rows, list):
            raise _not_found(path, f"a {type(rows).__name__}")
        found += [SiteMetrics.from_dict(row, str(path)) for row in rows]
    return found
