"""Where each case's grid and scan lie, kept beside its shard: what is predicted maps back without the scan at hand."""

from collections.abc import Iterable
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from fedpedbrain.base.files import read_table, write_table
from fedpedbrain.data.grid.geometry import restore_region

_PARTS = ("size", "origin", "spacing", "direction")
FRAME_COLUMNS = ("case", *(f"{owner}_{part}" for owner in ("grid", "scan") for part in _PARTS))


@dataclass(frozen=True)
class Geometry:
    """Where an image's voxels lie, in SimpleITK's order and convention: x, y, z in LPS mm.

    Attributes
    ----------
    size : voxels along each axis
    origin : centre of the first voxel
    spacing : distance between voxel centres
    direction : unit vectors of the axes, the columns of a 3 x 3 matrix written row by row
    """

    size: tuple[int, ...]
    origin: tuple[float, ...]
    spacing: tuple[float, ...]
    direction: tuple[float, ...]

    @classmethod
    def of(cls, image: sitk.Image) -> "Geometry":
        """The geometry of an image."""
        return cls(image.GetSize(), image.GetOrigin(), image.GetSpacing(), image.GetDirection())

    def to_image(self) -> sitk.Image:
        """An empty uint8 image of this geometry."""
        image = sitk.Image(list(self.size), sitk.sitkUInt8)
        image.SetOrigin(self.origin)
        image.SetSpacing(self.spacing)
        image.SetDirection(self.direction)
        return image


@dataclass(frozen=True)
class CaseFrame:
    """The grid of one case and the scan that it was sampled from."""

    case: str
    grid: Geometry
    scan: Geometry

    def restore(self, region: np.ndarray) -> sitk.Image:
        """Bring a region, bool (D, H, W), from the grid to the scan's exact geometry; see ``restore_region``."""
        return restore_region(region, self.grid.to_image(), self.scan.to_image())


def write_frames(path: str | Path, frames: Iterable[CaseFrame]) -> None:
    """Write one row a case; every number keeps all its digits, so that it is read back as it was."""
    rows = ([frame.case, *map(_to_text, astuple(frame.grid) + astuple(frame.scan))] for frame in frames)
    write_table(path, FRAME_COLUMNS, (dict(zip(FRAME_COLUMNS, row, strict=True)) for row in rows))


def read_frames(path: str | Path) -> dict[str, CaseFrame]:
    """Read what ``write_frames`` wrote: case to its frame."""
    return {
        row["case"]: CaseFrame(row["case"], _geometry_from(row, "grid"), _geometry_from(row, "scan"))
        for row in read_table(path)
    }


def _to_text(values: tuple[float, ...]) -> str:
    return " ".join(map(repr, values))


def _geometry_from(row: dict[str, str], owner: str) -> Geometry:
    size, *others = (row[f"{owner}_{part}"].split() for part in _PARTS)
    return Geometry(tuple(map(int, size)), *(tuple(map(float, numbers)) for numbers in others))
