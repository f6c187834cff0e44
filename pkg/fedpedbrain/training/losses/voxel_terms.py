"""What losses of regions are made of, one number per case and region or per voxel."""

import torch
from torch import Tensor
from torch.nn import functional

SMOOTH = 1.0
VOXEL_AXES = (2, 3, 4)


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
    probabilities = torch.sigmoid(logits.float())
    overlap = (probabilities * masks).sum(VOXEL_AXES)
    return (2.0 * overlap + SMOOTH) / (probabilities.sum(VOXEL_AXES) + masks.sum(VOXEL_AXES) + SMOOTH)


def voxel_cross_entropy(logits: Tensor, masks: Tensor) -> Tensor:
    """Binary cross-entropy of every voxel, float32 of the shape of ``logits``; shapes as in ``soft_dice``."""
    return functional.binary_cross_entropy_with_logits(logits.float(), masks, reduction="none")
