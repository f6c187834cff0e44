"""Masks as ``predict_cases`` writes them, and as arrays again."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from fedpedbrain.data.grid.packed_masks import PackedMasks, pack_masks
from fedpedbrain.data.grid.ragged import RaggedWriter


def write_masks(path: Path, masks: Sequence[np.ndarray]) -> Path:
    """Write the masks of cases, (R, D, H, W) each."""
    with RaggedWriter(path, np.uint8) as writer:
        for regions in masks:
            writer.append(pack_masks(regions))
    return path


def read_masks(path: Path, shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
    """The masks of cases of these shapes (R, D, H, W)."""
    masks = PackedMasks(path, shapes)
    return [masks.row(row) for row in range(len(masks))]
