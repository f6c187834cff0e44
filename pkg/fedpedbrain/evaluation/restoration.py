"""Predictions of held-out cases back in their scans' own geometry, for viewers and for comparisons elsewhere."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from fedpedbrain.base.cases import HELD_OUT, Shard
from fedpedbrain.base.files import replacing
from fedpedbrain.data.grid.dataset import ShardDataset
from fedpedbrain.data.grid.frame_table import CaseFrame
from fedpedbrain.data.grid.geometry import label_regions
from fedpedbrain.data.grid.packed_masks import PackedMasks
from fedpedbrain.evaluation.case_geometry import CaseGeometry, read_frames_of
from fedpedbrain.study.geometry_facts import GEOMETRIES


def restore_labels(regions: np.ndarray, frame: CaseFrame, geometry: CaseGeometry) -> sitk.Image:
    """One label image of all regions in the scan's geometry.

    Parameters
    ----------
    regions : uint8 (R, D, H, W) in ``geometry``, 0 or 1

    Returns
    -------
    uint8 image; region number r is r + 1, and of regions that overlap the smallest lies on top
    """
    stored = geometry.to_stored(frame, regions.astype(bool))
    labels = sitk.GetImageFromArray(label_regions(stored, frame.scan.size[::-1]))
    labels.CopyInformation(frame.scan.to_image())
    return labels


def restore_predictions_files(
    masks_path: str | Path, shards: Sequence[Shard], masks_folder: str | Path, geometry: str, num_regions: int
) -> None:
    """Write every held-out case's predicted regions as ``<case>.nii.gz``; no scan is read.

    Parameters
    ----------
    masks_path : predicted masks (``PackedMasks``), rows in the order of the shards' held-out cases
    shards : in the order in which the predictions were made; each folder has ``frames.tsv``
    geometry : of the masks, a word of ``GEOMETRIES``
    num_regions : of each case
    """
    frames, chosen = read_frames_of(shards), GEOMETRIES.load(geometry)()
    names = [case.case for case in ShardDataset(shards, HELD_OUT).cases]
    masks = PackedMasks(masks_path, [(num_regions, *chosen.shape(frames[name])) for name in names])
    for row, name in enumerate(names):
        with replacing(Path(masks_folder) / f"{name}.nii.gz") as temporary:
            sitk.WriteImage(restore_labels(masks.row(row), frames[name], chosen), str(temporary), useCompression=True)
