"""The history of an arm's models in one file, written once and checked against the disk at any time."""

import json
import logging
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from fedpedbrain.errors import StudyError
from fedpedbrain.federated.history import Entry, Problem, first_problem
from fedpedbrain.files import sha256_of_file, write_json
from fedpedbrain.lineage import Lineage
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
