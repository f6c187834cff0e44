"""What every source of files checks of one case, and the case that comes of it."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from fedpedbrain.base.cases import Case
from fedpedbrain.base.errors import StudyError
from fedpedbrain.data.formats.volumes import check_same_grid
from fedpedbrain.data.grid.orientation import describe_orientation
from fedpedbrain.data.sources.copies import voxel_digests


def check_labels(place: str | Path, mask: np.ndarray, labels: Collection[int]) -> None:
    """Refuse a mask with a label (0 is background) that no region of the study is made of."""
    strange = [value for value in np.unique(mask).tolist() if value != 0 and value not in labels]
    if strange:
        raise StudyError(
            f"{place}: mask label {strange[0]:g} belongs to no region of cohort.regions "
            f"(labels {sorted(labels)}); correct the mask or add the label to a region"
        )


def outlined_case(
    names: Mapping[str, str],
    images: Sequence[tuple[Path, sitk.Image]],
    mask: tuple[Path, sitk.Image] | None,
    labels: Collection[int],
    sha256: str,
    is_orientation_known: bool = True,
) -> Case:
    """Check that images and mask of a case belong together, and describe it.

    Parameters
    ----------
    names : ``case``, ``patient``, ``site`` and ``class_name``
    images : path and image of each channel
    labels : mask labels that the study's regions are made of
    sha256 : of everything that the case is made from
    """
    (first_path, first), *_ = images
    for path, image in [*images, *([mask] if mask else [])]:
        check_same_grid(path, image, first_path, first)
    if mask:
        check_labels(mask[0], sitk.GetArrayViewFromImage(mask[1]), labels)
    described: dict[str, Any] = {
        "shape": first.GetSize()[::-1],
        "spacing_mm": first.GetSpacing()[::-1],
        "orientation": describe_orientation(first) if is_orientation_known else "",
        "voxel_sha256": voxel_digests([image for _, image in images]),
    }
    paths = tuple(str(path) for path, _ in images)
    return Case(**names, images=paths, mask=str(mask[0]) if mask else "", sha256=sha256, **described)
