"""What losses of regions are made of, one number per case and region or per voxel."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

SMOOTH = 1.0
VOXEL_AXES = (2, 3, 4)
# Of all samples of a batch together.
BATCH_AXES = (0, *VOXEL_AXES)


def soft_dice(logits: Tensor, masks: Tensor) -> Tensor:
    """Dice coefficient of sigmoid probabilities, smoothed by 1 voxel (Milletari et al., V-Net, 2016).

    Parameters
    ----------
    logits : float (B, R, D, H, W)
    masks : float32, the same shape, 0 or 1

    Returns
    -------
    float32 (B, R), in (0, 1]; 1 for an empty prediction of an empty mask
    """
    return dice_of(torch.sigmoid(logits.float()), masks)


def dice_of(probabilities: Tensor, masks: Tensor, axes: Sequence[int] = VOXEL_AXES) -> Tensor:
    """Dice coefficient of probabilities, float32 (B, R, D, H, W), smoothed by 1 voxel; sums are over ``axes``."""
    overlap = (probabilities * masks).sum(axes)
    return (2.0 * overlap + SMOOTH) / (probabilities.sum(axes) + masks.sum(axes) + SMOOTH)


def voxel_cross_entropy(logits: Tensor, masks: Tensor) -> Tensor:
    """Binary cross-entropy of every voxel, float32 of the shape of ``logits``; shapes as in ``soft_dice``."""
    return functional.binary_cross_entropy_with_logits(logits.float(), masks, reduction="none")
