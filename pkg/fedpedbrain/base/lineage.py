"""Where a model file comes from."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

# Kind of the file that a site leaves in place of an update which it could not make.
MISSING = "missing"
# Kind of a model that is made from a checkpoint of other people's.
IMPORTED = "imported"


def digest_of(values: Mapping[str, Any]) -> str:
    """SHA-256 of plain values in canonical JSON: equal values give equal digests, whatever their order."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@dataclass(frozen=True)
class AveragedUpdate:
    """One update that a global model was made from.

    Its weight is how much of the whole it counted, 0 where the strategy left it out; all weights of a model sum to 1.
    """

    site: str
    sha256: str
    weight: float


@dataclass(frozen=True)
class Lineage:
    """The history that a model file carries.

    Attributes
    ----------
    kind : ``initial``, ``update`` (what a site sends), ``missing`` (that it sends none), ``global``, ``personal``
        (the global model with a site's own weights) or ``imported`` (made elsewhere, nobody here knows how)
    arm, seed, round, site : which job wrote it; ``arm`` and ``site`` are "" where they do not apply, the start is
        round 0
    num_cases, num_steps : training cases and optimizer steps behind it in this round
    settings_digest : of everything in the config that decides the result
    parent_sha256 : of the file it was made from, the model file where there is one, "" for a drawn initial model
    cases_sha256 : of the training cases behind an update, "" for other kinds
    updates : what a global model was averaged from
    source : name or address of the checkpoint that was imported, "" for other kinds
    """

    kind: str
    arm: str
    seed: int
    round: int
    site: str
    num_cases: int
    num_steps: int
    settings_digest: str
    parent_sha256: str
    cases_sha256: str = ""
    updates: tuple[AveragedUpdate, ...] = ()
    source: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The lineage as plain values; without ``source`` where there is none, as files of before are."""
        values = asdict(self) | {"updates": [asdict(update) for update in self.updates]}
        return values if self.source else {key: value for key, value in values.items() if key != "source"}

    @property
    def origin(self) -> str:
        """Where an imported model comes from, in words; "" for other kinds, of which the rest of the lineage tells."""
        if self.kind != IMPORTED:
            return ""
        return f"imported from {self.source}, SHA-256 {self.parent_sha256}; how it was trained is not known"

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Lineage":
        """The lineage of plain values."""
        updates = tuple(AveragedUpdate(**update) for update in values["updates"])
        return cls(**{**values, "updates": updates})
