"""The history of an arm's models in one file, written once and checked against the disk at any time."""

import json
import logging
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from fedpedbrain.base.errors import StudyError
from fedpedbrain.base.files import sha256_of_file, write_json
from fedpedbrain.base.lineage import Lineage
from fedpedbrain.federated.chain.chain import Entry, Problem, first_problem
from fedpedbrain.federated.site_metrics import SiteMetrics, read_round_metrics
from fedpedbrain.models.files import load_model_file, load_tensors

logger = logging.getLogger(__name__)

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
    round_paths : what the averaging of every round noted, in order; beside it lie the round's ``global.pth`` and what
        the server keeps after it, ``server.pth``
    metrics_paths : of every round, which note the SHA-256 of what each of its sites keeps after it; that lies in the
        folder ``states`` beside them
    best_path : the best model
    lineage_path : the history
    beside_paths : what else belongs to it, in any order: in ``best_before.pth`` the model of an earlier round that a
        round started from, in the folder ``personal`` beside the best model those that sites have for themselves.
        Whatever else lies there is left over from another study
    kept_rounds : rounds whose models, and what the server keeps, have to be there; those of others may be gone, and
        then what was noted of them counts
    rounds_of_kept_states : the same of what sites keep
    """

    arm: str
    seed: int
    initial_path: str | Path
    round_paths: Sequence[str | Path]
    metrics_paths: Sequence[str | Path]
    best_path: str | Path
    lineage_path: str | Path
    beside_paths: Sequence[str | Path]
    kept_rounds: Collection[int]
    rounds_of_kept_states: Collection[int]

    def name_of(self, path: str | Path) -> str:
        """A file's name in the history."""
        return Path(os.path.relpath(path, Path(self.lineage_path).parent)).as_posix()

    def path_of(self, name: str) -> Path:
        """The file of a name in the history."""
        return Path(os.path.normpath(Path(self.lineage_path).parent / name))

    def read_entries(self, recorded_names: Collection[str] = ()) -> Iterator[Entry]:
        """The entries of all files as they are, one by one; of recorded names also where the study has no such file."""
        paths = [*self.beside_paths, *(Path(path).with_name("server.pth") for path in self.round_paths)]
        for path in self.metrics_paths:
            paths += [Path(path).with_name("states") / f"{site}.pth" for site in _read_metrics(path)]
        names = {self.name_of(path) for path in paths} | set(filter(_kind_beside, recorded_names))
        yield self._read_model(self.initial_path, "initial")
        for number, round_path in enumerate(self.round_paths, start=1):
            path = Path(round_path).with_name("global.pth")
            note = _note(_read_notes(path), "model_sha256", lambda content: Lineage.from_dict(content["lineage"]))
            model = self._read(path, "global", _lineage_of_model, note, number not in self.kept_rounds)
            yield model
            yield from self._read_beside(path, model, names)
        best = self._read_model(self.best_path, "best")
        yield best
        yield from self._read_beside(self.best_path, best, names)

    def _read_model(self, path: str | Path, kind: str) -> Entry:
        return self._read(path, kind, _lineage_of_model)

    def _read_beside(self, model_path: str | Path, model: Entry, names: Iterable[str]) -> Iterator[Entry]:
        """Entries of those of the named files that lie beside a model."""
        folder = PurePosixPath(self.name_of(Path(model_path).parent))
        if model.lineage is None:
            return
        for name in sorted(name for name in names if _folder_of_model(name) == folder):
            kind = _kind_beside(name)
            if kind in ("server", "state"):
                yield self._read_kept(self.path_of(name), kind, model.lineage)
            else:
                yield self._read_model(self.path_of(name), kind)

    def _read_kept(self, path: Path, kind: str, model: Lineage) -> Entry:
        """The entry of what a site or the server keeps after the round of a model."""
        site = path.stem if kind == "state" else ""
        staying = self.rounds_of_kept_states if site else self.kept_rounds
        lineage = Lineage(kind, model.arm, model.seed, model.round, site, 0, 0, model.settings_digest, "")
        if site:
            metrics = _read_metrics(path.parents[1] / "metrics.json").get(site)
            note = _Note(metrics.state_sha256, lineage) if metrics and metrics.state_sha256 else None
        else:
            note = _note(_read_notes(path), "state_sha256", lambda content: lineage)
        return self._read(path, kind, partial(_lineage_of_kept, lineage), note, model.round not in staying)

    def _read(
        self,
        path: str | Path,
        kind: str,
        read: Callable[[str | Path], Lineage],
        note: "_Note | None" = None,
        may_be_gone: bool = False,
    ) -> Entry:
        """The entry of a file, or what its job noted of one that may be gone and is."""
        name, sha256 = self.name_of(path), ""
        try:
            sha256 = sha256_of_file(path)
            lineage = read(path)
        except FileNotFoundError:
            if may_be_gone and note is not None:
                return Entry(name, kind, *note)
            return Entry(name, kind, "", None, "missing, and so is its job's note of it" if may_be_gone else "missing")
        except OSError as error:
            return Entry(name, kind, sha256, None, f"cannot be read, {error.strerror}")
        except StudyError as error:
            return Entry(name, kind, sha256, None, str(error).removeprefix(f"{path}: ").partition(";")[0])
        is_as_noted = note is None or note.sha256 == sha256
        return Entry(name, kind, sha256, lineage, "" if is_as_noted else f"its job noted SHA-256 {note.sha256}")

    def refuse(self, problem: Problem | None) -> None:
        """Raise a ``StudyError`` that names the file of a problem and what to do."""
        if problem is not None:
            # Only a missing history makes the study look for files in the middle of the chain.
            raise StudyError(
                f"{self.path_of(problem.name)}: {problem.text}; bring it and {self.lineage_path} back as they were, "
                "or delete both and run the study again"
            )


class _Note(NamedTuple):
    """What the job that wrote a file noted of it."""

    sha256: str
    lineage: Lineage


def _note(content: Any, key: str, lineage_of: Callable[[Mapping[str, Any]], Lineage]) -> _Note | None:
    """A job's note of a file, its SHA-256 under a key; None where it is none."""
    try:
        return _Note(content[key], lineage_of(content))
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def _read_notes(path: Path) -> Any:
    """What the job noted that wrote a file of the server's; None where that cannot be read."""
    try:
        return json.loads(path.with_name("lineage.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _read_metrics(path: str | Path) -> dict[str, SiteMetrics]:
    """Site to its metrics of one round."""
    return {item.site: item for item in read_round_metrics([path])}


def _lineage_of_model(path: str | Path) -> Lineage:
    return load_model_file(path).lineage


def _lineage_of_kept(expected: Lineage, path: str | Path) -> Lineage:
    """Whose a kept file is: what it says of that itself, and for the rest what its place says."""
    content = load_tensors(path)
    own = ("arm", "seed", "round", "site", "settings_digest")
    return replace(expected, **{key: content[key] for key in own if key in content})


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
    logger.info("recorded %d files of %d rounds", len(entries), len(files.round_paths))


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
            f"{path}: expected a history, found something else ({type(error).__name__}: {error}); bring it back "
            "as it was, or delete it and run the study again"
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
        gone = sum(not files.path_of(entry.name).exists() for entry in recorded)
        rest = f", {gone} that may be gone and are as noted" if gone else ""
        rounds, there = len(files.round_paths), len(recorded) - gone
        tallies.append(f"{files.arm}, seed {files.seed}: {there} files of {rounds} rounds are as recorded{rest}\n")
        logger.info("%s", tallies[-1].rstrip())
    return "".join(tallies)
