"""The words of a cohort: what a case is, and the tables that carry cases from one job to the next."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path

from fedpedbrain.files import read_table, write_table

TRAIN, VALIDATION, TEST, EXTERNAL = "train", "validation", "test", "external"
SPLITS = (TRAIN, VALIDATION, TEST, EXTERNAL)
# Patients that no model has learnt from or was chosen by.
HELD_OUT = (TEST, EXTERNAL)
UNKNOWN_CLASS = ""
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

    @property
    def grid_voxel_ml(self) -> float:
        """Volume of one voxel of the network's grid."""
        return math.prod(self.grid_spacing_mm) / 1000.0

    def plane_aspect(self, height: int, width: int) -> float:
        """Height (front to back) over width, both in mm, of a grid's plane of so many voxels."""
        _, height_mm, width_mm = self.grid_spacing_mm
        return height * height_mm / (width * width_mm)

    def to_row(self) -> dict[str, str]:
        """The case as a table row."""
        row = {field.name: getattr(self, field.name) for field in fields(self)}
        row["images"] = _LIST_SEPARATOR.join(self.images)
        row["shape"] = "x".join(map(str, self.shape))
        for name in ("spacing_mm", "grid_spacing_mm"):
            row[name] = "x".join(f"{value:.6g}" for value in row[name])
        return row

    @classmethod
    def from_row(cls, row: dict[str, str]) -> "Case":
        """The case of a table row."""
        values = dict(row)
        images = tuple(filter(None, values.pop("images").split(_LIST_SEPARATOR)))
        shape = tuple(int(size) for size in values.pop("shape").split("x"))
        spacings = {
            name: tuple(float(size) for size in values.pop(name).split("x") if size)
            for name in ("spacing_mm", "grid_spacing_mm")
        }
        return cls(**values, **spacings, images=images, shape=shape)


CASE_COLUMNS = tuple(field.name for field in fields(Case))


def write_cases(path: str | Path, cases: Iterable[Case]) -> None:
    """Write cases as a table."""
    write_table(path, CASE_COLUMNS, (case.to_row() for case in cases))


def read_cases(path: str | Path) -> list[Case]:
    """Read a table of cases."""
    return [Case.from_row(row) for row in read_table(path)]


def read_split_cases(index_path: str | Path, splits_path: str | Path) -> list[Case]:
    """Read the index with every case's split filled in."""
    split_of = {row["patient"]: row["split"] for row in read_table(splits_path)}
    return [replace(case, split=split_of[case.patient]) for case in read_cases(index_path)]
