"""The history of an arm's models in one file, and checking the files on disk against it.

A history lists every file that an arm left, in the order of the chain: the common start, then round by round the global
model and what server and sites keep after it, then the best model and what sites made of it for themselves. It is
written once and can be checked at any time.
"""

import json
import logging
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from itertools import zip_longest
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from fedpedbrain.errors import StudyError
from fedpedbrain.files import sha256_of_file, write_json
from fedpedbrain.lineage import Lineage
from fedpedbrain.models.files import load_model_file, load_tensors

logger = logging.getLogger(__name__)

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


# Kind of a file beside a model, by its name or by its folder's, which then lies beside the model.
_KIND_OF = {"best_before.pth": "best", "server.pth": "server", "states": "state", "personal": "personal"}


def _kind_beside(name: str) -> str | None:
    path = PurePosixPath(name)
    return _KIND_OF.get(path.name) or _KIND_OF.get(path.parent.name)


def _folder_of_model(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    return path.parent if path.name in _KIND_OF else path.parent.parent


@dataclass(frozen=True)
class ArmFiles:
    """Where the files of one arm and seed are.

    Attributes
    ----------
    arm, seed : whose files
    initial_path : the common start
    model_paths : the global model of every round, in order
    best_path : the best of them
    lineage_path : the history
    beside_paths : what belongs to it beside the models, in any order: what is kept after a round, by the server in
        ``server.pth`` and by sites in the folder ``states``; in ``best_before.pth`` the model of an earlier round that
        a round started from; in the folder ``personal`` beside the best model those that sites have for themselves.
        Whatever else lies there is left over from another study
    """

    arm: str
    seed: int
    initial_path: str | Path
    model_paths: Sequence[str | Path]
    best_path: str | Path
    lineage_path: str | Path
    beside_paths: Sequence[str | Path] = ()

    def name_of(self, path: str | Path) -> str:
        """A file's name in the history."""
        return Path(os.path.relpath(path, Path(self.lineage_path).parent)).as_posix()

    def path_of(self, name: str) -> Path:
        """The file of a name in the history."""
        return Path(os.path.normpath(Path(self.lineage_path).parent / name))

    def read_entries(self, recorded_names: Collection[str] = ()) -> Iterator[Entry]:
        """The entries of all files as they are, one by one; of recorded names also where the study has no such file."""
        names = {self.name_of(path) for path in self.beside_paths} | set(filter(_kind_beside, recorded_names))
        yield self._read_model(self.initial_path, "initial")
        for path in self.model_paths:
            model = self._read_model(path, "global")
            yield model
            yield from self._read_beside(path, model, names)
        best = self._read_model(self.best_path, "best")
        yield best
        yield from self._read_beside(self.best_path, best, names)

    def _read_model(self, path: str | Path, kind: str) -> Entry:
        return self._read(path, kind, lambda: load_model_file(path).lineage)

    def _read_beside(self, model_path: str | Path, model: Entry, names: Iterable[str]) -> Iterator[Entry]:
        """Entries of those of the named files that lie beside a model."""
        folder = PurePosixPath(self.name_of(Path(model_path).parent))
        if model.lineage is None:
            return
        for name in sorted(name for name in names if _folder_of_model(name) == folder):
            path, kind = self.path_of(name), _kind_beside(name)
            if kind in ("server", "state"):
                yield self._read(path, kind, partial(_lineage_of_kept, path, kind, model.lineage))
            else:
                yield self._read_model(path, kind)

    def _read(self, path: str | Path, kind: str, read: Callable[[], Lineage]) -> Entry:
        name = self.name_of(path)
        sha256 = ""
        try:
            sha256 = sha256_of_file(path)
            return Entry(name, kind, sha256, read())
        except FileNotFoundError:
            return Entry(name, kind, sha256, None, "missing")
        except OSError as error:
            return Entry(name, kind, sha256, None, f"cannot be read, {error.strerror}")
        except StudyError as error:
            return Entry(name, kind, sha256, None, str(error).removeprefix(f"{path}: ").partition(";")[0])

    def refuse(self, problem: Problem | None) -> None:
        """Raise a ``StudyError`` that names the file of a problem and what to do."""
        if problem is not None:
            # Only a missing history makes the study look for files in the middle of the chain.
            raise StudyError(
                f"{self.path_of(problem.name)}: {problem.text}; bring it and {self.lineage_path} back as they were, "
                "or delete both and run the study again"
            )


def _lineage_of_kept(path: Path, kind: str, model: Lineage) -> Lineage:
    """Whose a kept file is: what it says of that itself, and for the rest what its place says."""
    content = load_tensors(path)
    site = path.stem if kind == "state" else ""
    lineage = Lineage(kind, model.arm, model.seed, model.round, site, 0, 0, model.settings_digest, "")
    own = ("arm", "seed", "round", "site", "settings_digest")
    return replace(lineage, **{key: content[key] for key in own if key in content})


def record_lineage_files(files: ArmFiles) -> None:
    """Write the history of an arm from its files.

    Raises
    ------
    StudyError : names the first file that cannot be read or does not follow from those before it
    """
    entries = list(files.read_entries())
    files.refuse(first_problem(entries, entries, files.arm, files.seed))
    content = {"arm": files.arm, "seed": files.seed, "files": [entry.to_dict() for entry in entries]}
    write_json(files.lineage_path, content)
    logger.info("recorded %d files of %d rounds", len(entries), len(files.model_paths))


def read_lineage_file(files: ArmFiles) -> list[Entry]:
    """Read the history of an arm; a ``StudyError`` names the file and what is wrong with it."""
    path = files.lineage_path
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        whose = (content["arm"], content["seed"])
        entries = [Entry.from_dict(values) for values in content["files"]]
    except FileNotFoundError:
        raise StudyError(f"{path}: missing; bring it back as it was, or run the study, which records it") from None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise StudyError(
            f"{path}: expected a history, found something else ({type(error).__name__}: {error}); bring it back as it "
            "was, or delete it and run the study again"
        ) from None
    if whose != (files.arm, files.seed):
        raise StudyError(
            f"{path}: expected the history of arm and seed {(files.arm, files.seed)}, found {whose}; bring it back as "
            "it was, or delete it and run the study again"
        )
    return entries


def verify_lineage_files(arms: Iterable[Mapping[str, Any]]) -> str:
    """Check every file of every arm against the arm's history, and the history in itself.

    Parameters
    ----------
    arms : arguments of ``ArmFiles``, one set an arm and seed

    Returns
    -------
    One line an arm and seed that says how much was checked.

    Raises
    ------
    StudyError : names the first file that is not as recorded, what was expected, and what was found
    """
    tallies = []
    for arguments in arms:
        files = ArmFiles(**arguments)
        recorded = read_lineage_file(files)
        found = files.read_entries({entry.name for entry in recorded})
        files.refuse(first_problem(recorded, found, files.arm, files.seed))
        rounds = len(files.model_paths)
        tallies.append(f"{files.arm}, seed {files.seed}: {len(recorded)} files of {rounds} rounds are as recorded\n")
        logger.info("%s", tallies[-1].rstrip())
    return "".join(tallies)
