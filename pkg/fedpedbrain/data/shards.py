"""Shards: one site's preprocessed cases as memory-mapped arrays, written by one job and read by many."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from fedpedbrain.base.cases import read_cases, read_split_cases, write_cases
from fedpedbrain.base.files import replacing, write_table
from fedpedbrain.data.formats.volumes import Volume
from fedpedbrain.data.grid.dataset import digest_on_grid, middle_part
from fedpedbrain.data.grid.frame_table import CaseFrame, Geometry, write_frames
from fedpedbrain.data.grid.geometry import (
    cut_to_outline,
    grid_frame,
    inside_frame,
    resample_image,
    resample_region,
)
from fedpedbrain.data.grid.intensity import FOREGROUND, dtype_of_intensity, scale_intensity
from fedpedbrain.data.grid.memory_maps import ArrayWriter
from fedpedbrain.data.grid.ragged import RaggedWriter
from fedpedbrain.data.sources.source import open_source

OUTLINE_COLUMNS = ("case", "region", "scan_ml", "cut_ml")


def preprocess_images(volume: Volume, settings: Mapping, whole: bool = False) -> tuple[np.ndarray, sitk.Image]:
    """Bring a case's images to the network's grid.

    Parameters
    ----------
    settings : the ``preprocessing`` block: ``grid`` (D, H, W), None for one that holds all of the field of view,
        ``field_of_view``, ``voxel_spacing_mm``, ``intensity`` and ``foreground``
    whole : let a grid of a given spacing grow until it holds all of the field of view, for a sliding window;
        intensities are scaled by what the grid itself, in the middle, holds

    Returns
    -------
    uint8 or float16 (C, D, H, W), and the frame that maps the grid back to the scan
    """
    grid = settings["grid"]
    # Models trained before there was a choice of spacing or foreground carry none.
    spacing, foreground = settings.get("voxel_spacing_mm"), settings.get("foreground", FOREGROUND)
    frame = grid_frame(volume.images[0], grid, settings["field_of_view"], spacing, whole, foreground)
    middle = middle_part(frame.GetSize()[::-1], grid or frame.GetSize()[::-1])
    sampled = [resample_image(image, frame) for image in volume.images]
    scaled = [scale_intensity(image, settings["intensity"], image[middle], foreground) for image in sampled]
    return np.stack(scaled), frame


def preprocess_mask(mask: sitk.Image | None, frame: sitk.Image, regions: Sequence[Mapping]) -> np.ndarray:
    """Bring a case's mask to the network's grid: uint8 (R, D, H, W), 0 or 1, one plane a region."""
    depth_last = frame.GetSize()
    masks = np.zeros((len(regions), *depth_last[::-1]), dtype=np.uint8)
    if mask is None:
        return masks
    labels = sitk.GetArrayViewFromImage(mask)
    for plane, region in zip(masks, regions, strict=True):
        binary = sitk.GetImageFromArray(np.isin(labels, region["labels"]).astype(np.uint8))
        binary.CopyInformation(mask)
        plane[:] = resample_region(binary, frame)
    return masks


def measure_outlines(
    mask: sitk.Image | None, frame: sitk.Image, regions: Sequence[Mapping]
) -> dict[str, tuple[float, float]]:
    """Each region that a case's mask outlines: its volume (ml) in the scan, and what of it lies outside the grid."""
    outlined = None if mask is None else cut_to_outline(mask)
    if outlined is None:
        return {}
    labels = sitk.GetArrayViewFromImage(outlined)
    inside = sitk.GetArrayFromImage(inside_frame(frame, outlined)).astype(bool)
    voxel_ml = float(np.prod(outlined.GetSpacing())) / 1000.0
    outlines = {region["name"]: np.isin(labels, region["labels"]) for region in regions}
    return {
        name: (float(outline.sum() * voxel_ml), float((outline & ~inside).sum() * voxel_ml))
        for name, outline in outlines.items()
        if outline.any()
    }


def _writer(
    path: Path, num_cases: int, num_planes: int, grid: Sequence[int] | None, dtype: np.dtype | type
) -> ArrayWriter | RaggedWriter:
    """What writes (N, P, D, H, W), or, of cases that have a grid of their own each, one axis."""
    return RaggedWriter(path, dtype) if grid is None else ArrayWriter(path, (num_cases, num_planes, *grid), dtype)


def build_shard_files(
    index_path: str | Path,
    images_path: str | Path,
    masks_path: str | Path,
    table_path: str | Path,
    outlines_path: str | Path,
    frames_path: str | Path,
    source_settings: Mapping,
    preprocessing: Mapping,
) -> None:
    """Preprocess the cases of a site's index.

    ``images`` is uint8 or float16 (N, C, D, H, W), ``masks`` uint8 (N, R, D, H, W). Where every case has a grid of its
    own, both have one axis (``RaggedWriter``). Row n of both is row n of ``table``: the cases with the sizes of their
    grids and their digests, and without splits. Cases are read and written one at a time. ``outlines`` is a table of
    what each mask outlines in the scan, with which the audit compares what is left of it on the grid; ``frames`` says
    where each case's grid lies, and its scan.
    """
    source = open_source(source_settings)
    regions = source_settings["cohort"]["regions"]
    num_channels = len(source_settings["cohort"]["channels"])
    cases = read_cases(index_path)
    grid, dtype = preprocessing["grid"], dtype_of_intensity(preprocessing["intensity"])
    outlines, frames = [], []
    with (
        replacing(images_path) as images_file,
        replacing(masks_path) as masks_file,
        _writer(images_file, len(cases), num_channels, grid, dtype) as images,
        _writer(masks_file, len(cases), len(regions), grid, np.uint8) as masks,
    ):
        for row, case in enumerate(cases):
            volume = source.read_case(case)
            image, frame = preprocess_images(volume, preprocessing)
            mask = preprocess_mask(volume.mask, frame, regions)
            images.append(image)
            masks.append(mask)
            measured = measure_outlines(volume.mask, frame, regions)
            outlines += [(case.case, region, *volumes_ml) for region, volumes_ml in measured.items()]
            frames.append(CaseFrame(case.case, Geometry.of(frame), Geometry.of(volume.images[0])))
            cases[row] = replace(
                case,
                grid_spacing_mm=frame.GetSpacing()[::-1],
                grid_shape=frame.GetSize()[::-1],
                grid_sha256=(digest_on_grid(image), digest_on_grid(mask)),
            )
    write_cases(table_path, cases)
    write_table(outlines_path, OUTLINE_COLUMNS, (dict(zip(OUTLINE_COLUMNS, row, strict=True)) for row in outlines))
    write_frames(frames_path, frames)


def split_shard_files(table_path: str | Path, splits_path: str | Path, cases_path: str | Path) -> None:
    """Write the cases of a shard with the split that each one's patient has; the shard stays as it is."""
    write_cases(cases_path, read_split_cases(table_path, splits_path))
