"""What the audit knows of one case: what its images and outlines measure, and what looks wrong with them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fedpedbrain.base.cases import UNKNOWN_CLASS, Case

UNKNOWN_LABEL = "unknown"
NUM_BINS = 32
_CASE_COLUMNS = ("case", "patient", "class", "split", "shape", "spacing_mm", "orientation", "num_blank_slices")


def label_of(class_name: str) -> str:
    """A class as the audit names it."""
    return UNKNOWN_LABEL if class_name == UNKNOWN_CLASS else class_name


@dataclass(frozen=True)
class CaseMeasures:
    """One case of the preprocessed cohort.

    Attributes
    ----------
    case : the case
    num_blank_slices : slices of the grid that are 0 in every channel
    intensities : number of voxels above 0 in each of ``NUM_BINS`` equal bins of the intensities 1 to 255, all channels
    grid_ml : region to its volume on the grid
    cut_ml : region to the volume of its outline in the scan that lies outside the grid
    problems : what looks wrong, one line each
    """

    case: Case
    num_blank_slices: int
    intensities: np.ndarray
    grid_ml: dict[str, float]
    cut_ml: dict[str, float]
    problems: list[str] = field(default_factory=list)

    def to_row(self) -> dict[str, Any]:
        """The case as a table row, with two columns for every region."""
        values = self.case.to_row()
        row = {name: values[name] for name in _CASE_COLUMNS if name in values}
        row |= {"class": label_of(self.case.class_name), "num_blank_slices": self.num_blank_slices}
        for region, volume_ml in self.grid_ml.items():
            row |= {f"{region}_ml": f"{volume_ml:.4g}", f"{region}_cut_ml": f"{self.cut_ml[region]:.4g}"}
        return row | {"problems": "; ".join(self.problems)}


def measure_columns(regions: list[str]) -> list[str]:
    """Columns of the rows that ``CaseMeasures.to_row`` makes."""
    of_regions = [f"{region}_{quantity}" for region in regions for quantity in ("ml", "cut_ml")]
    return [*_CASE_COLUMNS, *of_regions, "problems"]


def measure_case(
    case: Case,
    images: np.ndarray,
    masks: np.ndarray,
    outlines: Mapping[str, tuple[float, float]],
    cohort: Mapping[str, Any],
) -> CaseMeasures:
    """Measure one case.

    Parameters
    ----------
    images : preprocessed, in grey levels, uint8 (C, D, H, W)
    masks : preprocessed, uint8 (R, D, H, W), 0 or 1
    outlines : region to its volume (ml) in the scan and to what of it lies outside the grid
    cohort : the ``cohort`` block of the config
    """
    regions = [region["name"] for region in cohort["regions"]]
    counts = np.bincount(images.ravel(), minlength=256)[1:]
    return CaseMeasures(
        case,
        int((~images.any(axis=(0, 2, 3))).sum()),
        np.add.reduceat(counts, np.linspace(0, 255, NUM_BINS, endpoint=False).astype(int)),
        {name: float(plane.sum()) * case.grid_voxel_ml for name, plane in zip(regions, masks, strict=True)},
        {name: outlines.get(name, (0.0, 0.0))[1] for name in regions},
        list(_problems(case, images, masks, outlines, cohort)),
    )


def _problems(
    case: Case,
    images: np.ndarray,
    masks: np.ndarray,
    outlines: Mapping[str, tuple[float, float]],
    cohort: Mapping[str, Any],
) -> Iterator[str]:
    """What looks wrong; arguments as of ``measure_case``."""
    regions = [region["name"] for region in cohort["regions"]]
    if any(not channel.any() for channel in images):
        yield "a channel of the image is blank"
    if outlines and case.class_name == cohort["normal_class"] and cohort["normal_class"]:
        yield f"is {case.class_name!r} but a region is outlined"
    if regions and not outlines and case.class_name != cohort["normal_class"]:
        yield f"{label_of(case.class_name)!r} without any outlined region"
    for region, plane in zip(regions, masks, strict=True):
        scan_ml, cut_ml = outlines.get(region, (0.0, 0.0))
        if cut_ml:
            yield f"{cut_ml:.3g} of {scan_ml:.3g} ml of {region} lie outside the grid and are cut away"
        if scan_ml and not plane.any():
            yield f"{region} of {scan_ml:.3g} ml vanishes on the grid: its Dice leaves this case out"
    if cohort["classes"] and case.class_name == UNKNOWN_CLASS:
        yield "class unknown, counts for segmentation alone"
