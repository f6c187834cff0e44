"""Names for patients, examinations and images that say nothing about them, and the key that keeps them."""

import csv
import re
import secrets
from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from fedpedbrain.base.errors import StudyError
from fedpedbrain.base.files import read_table, write_table

_NAME = re.compile(r"sub-(\d{3,})/ses-(\d{2,})/anat/sub-\1_ses-\2_run-(\d{2,})_([A-Za-z0-9]+)\.nii\.gz")


class ImageOrigin(NamedTuple):
    """What an image was made of, and what no other file may say.

    Attributes
    ----------
    study, series : StudyInstanceUID, of a study without one its date and time, and SeriesInstanceUID
    """

    site: str
    patient: str
    study: str
    series: str


_COLUMNS = ("data_set", "file", *ImageOrigin._fields)


@dataclass(frozen=True)
class Key:
    """Who and what stands behind the names of images.

    Attributes
    ----------
    data_set : a random word that its data set repeats, so that no other key is taken for it
    files : image in the data set by its origin
    """

    data_set: str = field(default_factory=lambda: secrets.token_hex(8))
    files: Mapping[ImageOrigin, str] = field(default_factory=dict)


def subject_of(file: str) -> str:
    """The participant whom an image is named for."""
    return file.split("/", 1)[0]


def _places(origin: ImageOrigin, suffix: str) -> Iterator[tuple[tuple[str, ...], Hashable]]:
    """Who or what is numbered, after what it is numbered within: patients, their studies, their series of one kind."""
    yield (), origin.patient
    yield (origin.patient,), origin.study
    yield (origin.patient, origin.study, suffix), origin.series


def name_files(known: Mapping[ImageOrigin, str], images: Mapping[ImageOrigin, str]) -> dict[ImageOrigin, str]:
    """Name images ``sub-001/ses-01/anat/sub-001_ses-01_run-01_T2w.nii.gz``; known ones keep their names.

    Parameters
    ----------
    known : name by origin
    images : suffix by origin, in the order in which new patients, studies and series are to be numbered

    Raises
    ------
    StudyError : an image has another suffix than in its name, or known names contradict each other
    """
    numbers: dict[tuple[str, ...], dict[Hashable, int]] = defaultdict(dict)
    for origin, file in known.items():
        *found, suffix = _NAME.fullmatch(file).groups()
        if images.get(origin, suffix) != suffix:
            raise StudyError(
                f"conversion.suffixes: now make {images[origin]} of {file}; put the words back, or convert with a new "
                "key into an empty folder"
            )
        for (parent, child), number in zip(_places(origin, suffix), map(int, found), strict=True):
            taken = number in numbers[parent].values() and child not in numbers[parent]
            if taken or numbers[parent].setdefault(child, number) != number:
                raise StudyError(f"conversion.key_file: contradicts itself at {file}; take the key as it was written")
    files = dict(known)
    for origin, suffix in images.items():
        subject, session, run = (
            numbers[parent].setdefault(child, 1 + max(numbers[parent].values(), default=0))
            for parent, child in _places(origin, suffix)
        )
        start = f"sub-{subject:03d}", f"ses-{session:02d}"
        files[origin] = "/".join([*start, "anat", f"{'_'.join(start)}_run-{run:02d}_{suffix}.nii.gz"])
    return files


def read_key_table(path: Path | None) -> Key:
    """Read a key; a new one where there is none yet."""
    if path is None or not path.exists():
        return Key()
    try:
        rows = read_table(path)
        files = {ImageOrigin(*(row[column] for column in ImageOrigin._fields)): row["file"] for row in rows}
        (data_set,) = {row["data_set"] for row in rows}
        if all(map(_NAME.fullmatch, files.values())):
            return Key(data_set, files)
    except (KeyError, TypeError, ValueError, OSError, csv.Error):
        pass
    raise StudyError(f"{path}: not a key that an earlier conversion wrote; correct conversion.key_file")


def write_key(path: Path, key: Key) -> None:
    """Write a key, for its owner's eyes alone."""
    rows = ({"data_set": key.data_set, "file": file} | origin._asdict() for origin, file in key.files.items())
    write_table(path, _COLUMNS, rows)
    path.chmod(0o600)
