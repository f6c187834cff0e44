"""Which new scans are to be predicted, and by which models, as the command line names them.

Read while the job graph is built: standard library alone, and of files no more than whether they are DICOM.
"""

import re
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from fedpedbrain.base.errors import StudyError
from fedpedbrain.base.image_files import files_of_image, is_dicom
from fedpedbrain.base.lineage import digest_of

# Beside a model file or in the folder above: what the images that it was trained on look like.
INTENSITIES_FILE = "intensities.json"
# Beside it: the component filters that were chosen for it.
FILTERS_FILE = "filters.json"
# What converters put beside images.
_NO_SCANS = {".json", ".txt", ".md", ".tsv", ".csv", ".bval", ".bvec"}
_NAMED_MODEL = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9_-]*)=(?P<path>.+)")


class ScanRequest:
    """What the keys ``scan``, ``inbox`` and ``model`` of the config ask for.

    Parameters
    ----------
    scan : path of a file or folder, or one a channel joined by commas; None for none
    inbox : folder whose every file and folder is a scan of one channel, DICOM files always in a folder; None for none
    model : path of a model file, or several joined by commas, each perhaps after ``name=``; None for none
    """

    def __init__(self, scan: str | None, inbox: str | None, model: str | None) -> None:
        self._scan_paths = _absolute(_parts(scan))
        self._inbox = None if inbox is None else Path(inbox).absolute()
        self._models = _parts(model)

    @property
    def is_complete(self) -> bool:
        """Whether there is something to predict, and a model for it."""
        return bool((self._scan_paths or self._inbox) and self._models)

    @cached_property
    def scans(self) -> dict[str, list[str]]:
        """Paths of every scan, one a channel, by the name of its results' folder."""
        listed = [self._scan_paths] if self._scan_paths else []
        listed += [[path] for path in self._inbox_paths()]
        return {_name_scan(paths): paths for paths in listed}

    @cached_property
    def models(self) -> dict[str, str]:
        """Absolute path of every model by its name.

        A model is taken as it is, not as something that this study could train anew. Without a name it has that of
        its file or, of several, the parts of the paths in which they differ.
        """
        given = [_NAMED_MODEL.fullmatch(part) for part in self._models]
        paths = _absolute([match["path"] if match else part for match, part in zip(given, self._models, strict=True)])
        fallback = _tell_apart([Path(path) for path in paths])
        names = [match["name"] if match else name for match, name in zip(given, fallback, strict=True)]
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise StudyError(f"model: two models have the name {twice[0]!r}; name them: model=first=PATH,second=PATH")
        return dict(zip(names, paths, strict=True))

    def files_of(self, scan: str, besides: str) -> list[str]:
        """Every file of a scan that its results depend on: those in its folders and beside a DICOM file, too.

        Left out are names with a word in braces, which a rule takes for a wildcard; such a scan is predicted all the
        same, but not again when it changes. Left out, too, is what lies in the folder ``besides``: a scan that lies
        where its results do would change with each of them.
        """
        files = (file for path in self.scans[scan] for file in _files_in(Path(path)))
        apart = Path(besides).absolute()
        return [file for file in files if not (re.search(r"{\w", file) or Path(file).is_relative_to(apart))]

    def intensities_of(self, model: str) -> str | None:
        """The file that says what a model's training images look like, or None."""
        return self._file_beside(model, INTENSITIES_FILE)

    def filters_of(self, model: str) -> str | None:
        """The file of the component filters that were chosen for a model, or None."""
        return self._file_beside(model, FILTERS_FILE)

    def _file_beside(self, model: str, name: str) -> str | None:
        folder = Path(self.models[model]).parent
        beside = (place / name for place in (folder, folder.parent))
        return next((str(path) for path in beside if path.is_file()), None)

    def check_files(self) -> None:
        """Refuse what is not there; a ``StudyError`` names the key and the path."""
        if self._inbox is not None and not self._inbox.is_dir():
            raise StudyError(f"inbox: no folder {self._inbox}; correct the path")
        for path in self._scan_paths:
            if not Path(path).exists():
                raise StudyError(f"scan: no file or folder {path}; correct the path")
        for path in self.models.values():
            if not Path(path).is_file():
                raise StudyError(f"model: no file {path}; correct the path")
        if self._inbox is not None and not self.scans:
            raise StudyError(f"inbox: no scan in {self._inbox}; put files or folders there, one a scan")
        loose = [path for path in self._inbox_paths() if _is_loose_dicom(Path(path))]
        if loose:
            # Each would be a scan of the same slices.
            raise StudyError(
                f"inbox: {loose[0]} is a DICOM file beside the scans ({len(loose)} in all); put the files of each "
                "series into a folder of its own there"
            )

    def _inbox_paths(self) -> list[str]:
        entries = sorted(self._inbox.iterdir()) if self._inbox is not None and self._inbox.is_dir() else []
        return [str(path) for path in entries if not path.name.startswith(".") and path.suffix not in _NO_SCANS]


def _parts(joined: str | None) -> list[str]:
    return [part for part in (joined or "").split(",") if part]


def _absolute(paths: Sequence[str]) -> list[str]:
    return [str(Path(path).absolute()) for path in paths]


def _files_in(path: Path) -> list[str]:
    try:
        files = files_of_image(path)
    except StudyError:
        # The job says what cannot be read: here, it would keep the other scans from being predicted.
        files = [path]
    return [str(file) for file in files if file.exists() and not file.name.startswith(".")]


def _is_loose_dicom(path: Path) -> bool:
    try:
        return path.is_file() and is_dicom(path)
    except StudyError:
        return False


def _plain(name: str) -> str:
    """A name that can stand in a path and in a rule: other letters than these become lines."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name)


def _name_scan(paths: Sequence[str]) -> str:
    """Name of the first path, and six digits that stand for all of them."""
    name = re.sub(r"\.(nii(\.gz)?|npy|npz)$", "", Path(paths[0]).name)
    return f"{_plain(name)}-{digest_of({'scan': paths})[:6]}"


def _tell_apart(paths: Sequence[Path]) -> list[str]:
    """Of every path the parts in which it differs from the others, the file's name where there are none."""
    parts = [path.with_suffix("").parts for path in paths]
    shortest = min(map(len, parts), default=0)
    first = next((n for n in range(shortest) if len({own[n] for own in parts}) > 1), shortest)
    last = next((n for n in range(shortest - first) if len({own[-1 - n] for own in parts}) > 1), shortest - first)
    differing = ["-".join(own[first : len(own) - last]) for own in parts]
    return [re.sub(r"[^A-Za-z0-9_-]+", "_", words or path.stem) for words, path in zip(differing, paths, strict=True)]
