"""The history of an arm's models: which file follows from which, and what is wrong with it.

A history lists every file that an arm left, in the order of the chain: the common start, then round by round the global
model and what server and sites keep after it, then the best model and what sites made of it for themselves.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import zip_longest
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from fedpedbrain.base.lineage import Lineage

# Of a model's weights of its updates; they are written with every digit.
TOLERANCE_OF_WEIGHTS = 1e-9


@dataclass(frozen=True)
class Entry:
    """One file of a history.

    Attributes
    ----------
    name : relative to the folder of the history
    kind : ``initial``, ``global``, ``server`` or ``state`` (what the server or a site keeps), ``best`` (a copy of a
        global model) or ``personal`` (the best model with a site's own weights)
    sha256 : of the file's bytes, "" where there is no file
    lineage : that the file carries, None where it cannot be read; what is kept carries no more than whose it is, of
        which round and settings
    damage : why the file cannot be read, "" if it can
    """

    name: str
    kind: str
    sha256: str
    lineage: Lineage | None
    damage: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The entry as plain values."""
        return {"name": self.name, "sha256": self.sha256, **self.lineage.to_dict(), "kind": self.kind}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Entry":
        """The entry of plain values."""
        carried = {key: value for key, value in values.items() if key not in ("name", "sha256")}
        carried["kind"] = "global" if values["kind"] == "best" else values["kind"]
        return cls(values["name"], values["kind"], values["sha256"], Lineage.from_dict(carried))


class Problem(NamedTuple):
    """What is wrong with a history, and with which of its files."""

    name: str
    text: str


def first_problem(recorded: Sequence[Entry], found: Iterable[Entry], arm: str, seed: int) -> Problem | None:
    """The first file, in the order of the chain, that is not as recorded or does not follow from those before it.

    Parameters
    ----------
    recorded : entries of the history
    found : entries of the files as they are, in the order that a complete history has; taken one by one
    arm, seed : whose history it is
    """
    earlier: list[Entry] = []
    for entry, file in zip_longest(recorded, found):
        text = _difference(entry, file) or _BREAKS[entry.kind](entry, earlier, arm, seed)
        if text:
            return Problem((file or entry).name, text)
        earlier.append(entry)
    return None


def _difference(entry: Entry | None, file: Entry | None) -> str | None:
    """In what a file differs from its entry, whichever of the two was changed."""
    if file is None:
        return "recorded, but no file that the study would have at this place"
    if not file.sha256:
        return file.damage
    if entry is None or (entry.name, entry.kind) != (file.name, file.kind):
        return f"expected its record here, found {'the end' if entry is None else f'{entry.kind} {entry.name}'}"
    if entry.sha256 != file.sha256:
        damage = f" ({file.damage})" if file.damage else ""
        return f"expected SHA-256 {entry.sha256}, found {file.sha256}{damage}"
    if file.damage:
        return file.damage
    for field in fields(Lineage):
        wanted, carried = getattr(entry.lineage, field.name), getattr(file.lineage, field.name)
        if wanted != carried:
            if field.name == "updates":
                wanted, carried = _first_difference(wanted, carried)
            return f"recorded with {field.name} {wanted!r}, carries {carried!r}"
    return None


def _first_difference(wanted: Sequence, carried: Sequence) -> tuple[Any, Any]:
    pairs = zip_longest(wanted, carried)
    return next((one and asdict(one), other and asdict(other)) for one, other in pairs if one != other)


def _unlike(entry: Entry, **expected: str | int) -> str | None:
    """In what an entry's lineage is not what its place in the chain asks for."""
    for field, wanted in expected.items():
        found = getattr(entry.lineage, field)
        if found != wanted:
            return f"expected {field} {wanted!r}, found {found!r}"
    return None


def _models(entries: Iterable[Entry], *kinds: str) -> list[Entry]:
    return [entry for entry in entries if entry.kind in kinds]


def _break_at_initial(entry: Entry, earlier: Sequence[Entry], arm: str, seed: int) -> str | None:
    if earlier:
        return "expected one initial model and that first"
    return _unlike(entry, kind="initial", arm="", seed=seed, round=0, site="", updates=())


def _break_at_global(entry: Entry, earlier: Sequence[Entry], arm: str, seed: int) -> str | None:
    before = _models(earlier, "global")
    digest = before[0].lineage.settings_digest if before else entry.lineage.settings_digest
    number = len(before) + 1
    unlike = _unlike(entry, kind="global", arm=arm, seed=seed, round=number, site="", settings_digest=digest)
    if unlike:
        return unlike
    # The chain is in the order of the rounds, so what comes earlier is of a round below.
    if entry.lineage.parent_sha256 not in {model.sha256 for model in _models(earlier, "initial", "global")}:
        return f"expected an earlier model as parent, found parent_sha256 {entry.lineage.parent_sha256!r}"
    sites = [update.site for update in entry.lineage.updates]
    if len(set(sites)) < len(sites):
        return f"expected one update a site, found {', '.join(sites)}"
    total = sum(update.weight for update in entry.lineage.updates)
    if not abs(total - 1.0) <= TOLERANCE_OF_WEIGHTS:
        return f"expected weights that sum to 1, found a sum of {total!r}"
    return None


def _break_at_kept(entry: Entry, earlier: Sequence[Entry], arm: str, seed: int) -> str | None:
    before = _models(earlier, "global")
    if not before:
        return "expected a global model before it in the chain, found none"
    site = PurePosixPath(entry.name).stem if entry.kind == "state" else ""
    digest = before[-1].lineage.settings_digest
    return _unlike(entry, arm=arm, seed=seed, round=len(before), site=site, settings_digest=digest)


def _break_at_best(entry: Entry, earlier: Sequence[Entry], arm: str, seed: int) -> str | None:
    if entry.sha256 not in {model.sha256 for model in _models(earlier, "global")}:
        return f"expected the bytes of one of the arm's global models, found others (SHA-256 {entry.sha256})"
    return None


def _break_at_personal(entry: Entry, earlier: Sequence[Entry], arm: str, seed: int) -> str | None:
    parent = _models(earlier, "best")[-1].sha256
    site = PurePosixPath(entry.name).stem
    return _unlike(entry, kind="personal", arm=arm, seed=seed, site=site, parent_sha256=parent)


# What a kind of file must have before it in the chain.
_BREAKS: dict[str, Callable[[Entry, Sequence[Entry], str, int], str | None]] = {
    "initial": _break_at_initial,
    "global": _break_at_global,
    "server": _break_at_kept,
    "state": _break_at_kept,
    "best": _break_at_best,
    "personal": _break_at_personal,
}
