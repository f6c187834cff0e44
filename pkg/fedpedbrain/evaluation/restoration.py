"""Predictions of held-out cases back in their scans' own geometry, for viewers and for comparisons elsewhere."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from fedpedbrain.base.cases import HELD_OUT, Shard
from fedpedbrain.base.files import replacing
from fedpedbrain.data.grid.dataset import ShardDataset
from fedpedbrain.data.grid.frame_table import CaseFrame, read_frames
from fedpedbrain.data.grid.geometry import label_regions


def restore_labels(regions: np.ndarray, frame: CaseFrame) -> sitk.Image:
    """One label image of all regions in the scan's geometry.

    Parameters
    ----------
    regions : uint8 (R, D, H, W) on the grid, 0 or 1

    Returns
    -------
    uint8 image; region number r is r + 1, and of regions that overlap the smallest lies on top
    """
    restored = (sitk.GetArrayFromImage(frame.restore(region)).astype(bool) for region in regions.astype(bool))
    labels = sitk.GetImageFromArray(label_regions(restored, frame.scan.size[::-1]))
    labels.CopyInformation(frame.scan.to_image())
    return labels


def restore_predictions_files(masks_path: str | Path, shards: Sequence[Shard], masks_folder: str | Path) -> None:
    """Write every held-out case's predicted regions as ``<case>.nii.gz``; no scan is read.

    Parameters
    ----------
    masks_path : predicted masks uint8 (N, R, D, H, W), rows in the order of the shards' held-out cases
    shards : in the order in which the predictions were made; each folder has ``frames.tsv``
    """
    masks = np.load(masks_path, mmap_mode="r")
    frames: dict[str, CaseFrame] = {}
    for shard in shards:
        frames |= read_frames(Path(shard.folder) / "frames.tsv")
    for row, case in enumerate(ShardDataset(shards, HELD_OUT).cases):
        with replacing(Path(masks_folder) / f"{case.case}.nii.gz") as temporary:
            sitk.WriteImage(restore_labels(masks[row], frames[case.case]), str(temporary), useCompression=True)
