"""Dice and cross-entropy of labels, of which every voxel has one."""

import torch
from torch import Tensor
from torch.nn import functional

from fedpedbrain.training.losses.voxel_terms import BATCH_AXES, VOXEL_AXES, dice_of


def dice_label_cross_entropy(logits: Tensor, masks: Tensor) -> Tensor:
    """1 - Dice of the batch plus cross-entropy of a softmax over background and regions, float32 (B,).

    Parameters
    ----------
    logits : float (B, R, D, H, W); the background's logit is 0
    masks : float32, the same shape, 0 or 1; regions that exclude each other
    """
    with_background = torch.cat([torch.zeros_like(logits[:, :1]), logits], dim=1).float()
    labels = (masks * torch.arange(1, masks.shape[1] + 1, device=masks.device).view(1, -1, 1, 1, 1)).sum(1).long()
    dice = dice_of(torch.softmax(with_background, dim=1)[:, 1:], masks, BATCH_AXES).mean()
    # One axis fewer than those of regions: a voxel has one label.
    voxel_axes = tuple(axis - 1 for axis in VOXEL_AXES)
    return 1.0 - dice + functional.cross_entropy(with_background, labels, reduction="none").mean(voxel_axes)
