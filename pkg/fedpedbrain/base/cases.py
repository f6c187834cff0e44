"""The words of a cohort: what a case is, and the tables that carry cases from one job to the next."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import NamedTuple

from fedpedbrain.base.errors import CohortError
from fedpedbrain.base.files import read_table, write_table

TRAIN, VALIDATION, TEST, EXTERNAL = "train", "validation", "test", "external"
SPLITS = (TRAIN, VALIDATION, TEST, EXTERNAL)
# Patients that no model has learnt from or was chosen by.
HELD_OUT = (TEST, EXTERNAL)
UNKNOWN_CLASS = ""
# Target of such a case where its classes are numbers.
UNKNOWN_CLASS_INDEX = -1
# Stands for all classes together where a table of scores names a region or a class.
DIAGNOSIS = "diagnosis"
# Columns that hold several texts, and what parts them.
_LISTS = ("images", "grid_sha256", "voxel_sha256")
_LIST_SEPARATOR = ";"


@dataclass(frozen=True)
class Case:
    """One imaging study.

    Attributes
    ----------
    case, patient, site : identifiers; splits are made by patient
    class_name : diagnosis, or ``UNKNOWN_CLASS`` (the case then counts for segmentation alone)
    images : one path a channel (empty for a simulated case)
    mask : path of the mask, or "" where nothing is outlined
    shape : voxels (D, H, W) as stored
    spacing_mm : distance between voxel centres (D, H, W)
    sha256 : of everything that the case's shard row is made from
    split : one of ``SPLITS``, or "" before splitting
    grid_spacing_mm : distance between voxel centres of the network's grid (D, H, W), or () before preprocessing
    grid_sha256 : of its images and of its regions on that grid, or () before preprocessing
    orientation : how the slices lie in the patient, as ``data.orientation`` words it, or "" where nobody knows
    voxel_sha256 : of the voxels of each image that is not blank, whatever file holds them
    grid_shape : voxels of the network's grid (D, H, W), or () before preprocessing
    """

    case: str
    patient: str
    site: str
    class_name: str
    images: tuple[str, ...]
    mask: str
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    sha256: str
    split: str = ""
    grid_spacing_mm: tuple[float, ...] = ()
    grid_sha256: tuple[str, ...] = ()
    orientation: str = ""
    voxel_sha256: tuple[str, ...] = ()
    grid_shape: tuple[int, ...] = ()

    @property
    def grid_voxel_ml(self) -> float:
        """Volume of one voxel of the network's grid."""
        return math.prod(self.grid_spacing_mm) / 1000.0

    def to_row(self) -> dict[str, str]:
        """The case as a table row."""
        row = {field.name: getattr(self, field.name) for field in fields(self)}
        for name in _LISTS:
            row[name] = _LIST_SEPARATOR.join(row[name])
        for name in ("shape", "grid_shape"):
            row[name] = "x".join(map(str, row[name]))
        for name in ("spacing_mm", "grid_spacing_mm"):
            row[name] = "x".join(f"{value:.6g}" for value in row[name])
        return row

    @classmethod
    def from_row(cls, row: dict[str, str]) -> "Case":
        """The case of a table row."""
        values = dict(row)
        lists = {name: tuple(filter(None, values.pop(name).split(_LIST_SEPARATOR))) for name in _LISTS}
        # Tables of before cases had sizes of their own say nothing of the grid's.
        shapes = {
            name: tuple(int(size) for size in values.pop(name, "").split("x") if size)
            for name in ("shape", "grid_shape")
        }
        spacings = {
            name: tuple(float(size) for size in values.pop(name).split("x") if size)
            for name in ("spacing_mm", "grid_spacing_mm")
        }
        return cls(**values, **spacings, **lists, **shapes)


class Shard(NamedTuple):
    """Where one site's preprocessed cases lie.

    Attributes
    ----------
    folder : holds ``images.npy`` and ``masks.npy``, which know no splits
    cases : table of the cases with their splits, row n of which is row n of both arrays
    """

    folder: str | Path
    cases: str | Path


CASE_COLUMNS = tuple(field.name for field in fields(Case))


def write_cases(path: str | Path, cases: Iterable[Case]) -> None:
    """Write cases as a table."""
    write_table(path, CASE_COLUMNS, (case.to_row() for case in cases))


def read_cases(path: str | Path) -> list[Case]:
    """Read a table of cases."""
    return [Case.from_row(row) for row in read_table(path)]


def read_split_cases(cases_path: str | Path, splits_path: str | Path) -> list[Case]:
    """Read a table of cases with every case's split filled in.

    Raises
    ------
    CohortError : names every patient that the table of splits gives two splits or another word than ``SPLITS``, and
        every patient of a case that it does not know
    """
    cases = read_cases(cases_path)
    split_of: dict[str, str] = {}
    problems = []
    for row in read_table(splits_path):
        patient, split = row["patient"], row["split"]
        if split not in SPLITS:
            problems.append(f"{splits_path}: patient {patient} is {split!r}, expected one of {', '.join(SPLITS)}")
        elif split_of.setdefault(patient, split) != split:
            problems.append(
                f"{splits_path}: patient {patient} is {split_of[patient]} and {split}; a patient has one split: keep "
                "one of the rows, or delete the file and run again"
            )
    unknown = dict.fromkeys(case.patient for case in cases if case.patient not in split_of)
    if not problems:
        problems = [
            f"{splits_path}: patient {patient} has no split; delete the file and run again" for patient in unknown
        ]
    if problems:
        raise CohortError(problems)
    return [replace(case, split=split_of[case.patient]) for case in cases]
