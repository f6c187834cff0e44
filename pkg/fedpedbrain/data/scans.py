"""Laying held-out cases out in their scans' own voxels: what scores are computed on and pictures show."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from fedpedbrain.base.cases import HELD_OUT, read_cases
from fedpedbrain.base.files import replacing, write_table
from fedpedbrain.data.formats.volumes import Volume
from fedpedbrain.data.grid.dataset import digest_on_grid
from fedpedbrain.data.grid.geometry import to_lps
from fedpedbrain.data.grid.intensity import scale_intensity
from fedpedbrain.data.grid.packed_masks import pack_masks
from fedpedbrain.data.grid.ragged import RaggedWriter
from fedpedbrain.data.grid.scan_dataset import SCAN_COLUMNS
from fedpedbrain.data.shards import preprocess_mask
from fedpedbrain.data.sources.source import open_source

# Percentiles of the foreground that are black and white where a scan is looked at.
_GREY_LEVELS = {"name": "percentile", "percentile": {"lower_percentile": 1.0, "upper_percentile": 99.5}}


def to_picture(image: sitk.Image, foreground: Mapping[str, float]) -> np.ndarray:
    """A scan's values in grey levels, uint8 (D, H, W), D from feet to head, H from front to back, W from right to left.

    Parameters
    ----------
    foreground : ``percentile`` and ``fraction`` of ``find_foreground``
    """
    values = sitk.GetArrayViewFromImage(image).astype(np.float32)
    return scale_intensity(values, _GREY_LEVELS, foreground=foreground)


def outline_on_scan(volume: Volume) -> sitk.Image | None:
    """A case's mask voxel by voxel on its scan: what their headers differ by in rounding moves no outline."""
    if volume.mask is None:
        return None
    mask = sitk.Image(volume.mask)
    mask.CopyInformation(volume.images[0])
    return mask


def lay_out_scans_files(
    cases_path: str | Path,
    images_path: str | Path,
    masks_path: str | Path,
    table_path: str | Path,
    source_settings: Mapping,
    foreground: Mapping[str, float],
) -> None:
    """Lay a site's held-out cases out in their scans' voxels, axes turned to (D, H, W) and nothing resampled.

    ``images`` holds the first channel of each case, uint8 (D, H, W), case behind case (``RaggedWriter``); ``masks`` the
    regions as the site outlined them (``PackedMasks``). Cases are read and written one at a time.

    Parameters
    ----------
    cases_path : the site's cases with their splits
    source_settings : as of the site's shard
    foreground : see ``to_picture``
    """
    source = open_source(source_settings)
    rows = []
    with (
        replacing(images_path) as images_file,
        replacing(masks_path) as masks_file,
        RaggedWriter(images_file, np.uint8) as images,
        RaggedWriter(masks_file, np.uint8) as masks,
    ):
        for case in read_cases(cases_path):
            if case.split not in HELD_OUT:
                continue
            volume = source.read_case(case)
            scan = to_lps(volume.images[0])
            regions = preprocess_mask(outline_on_scan(volume), scan, source_settings["cohort"]["regions"])
            picture, packed = to_picture(scan, foreground), pack_masks(regions)
            images.append(picture)
            masks.append(packed)
            facts = (
                case.case,
                "x".join(map(str, picture.shape)),
                "x".join(map(repr, scan.GetSpacing()[::-1])),
                len(regions),
                digest_on_grid(picture),
                digest_on_grid(packed),
            )
            rows.append(dict(zip(SCAN_COLUMNS, facts, strict=True)))
    write_table(table_path, SCAN_COLUMNS, rows)
