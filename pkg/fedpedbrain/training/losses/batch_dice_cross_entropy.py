"""Dice of all samples of a batch together, and cross-entropy of regions."""

import torch
from torch import Tensor

from fedpedbrain.training.losses.voxel_terms import BATCH_AXES, VOXEL_AXES, dice_of, voxel_cross_entropy


def batch_dice_cross_entropy(logits: Tensor, masks: Tensor) -> Tensor:
    """1 - Dice of the batch plus voxel-wise binary cross-entropy, float32 (B,); shapes as in ``soft_dice``.

    Where patches are small many hold nothing of a region, and the Dice of one alone says little: the sums of nnU-Net's
    ``batch_dice`` are over the batch (Isensee et al., Nature Methods 2021). Every sample has the same first term.
    """
    dice = dice_of(torch.sigmoid(logits.float()), masks, BATCH_AXES).mean()
    return 1.0 - dice + voxel_cross_entropy(logits, masks).mean((1, *VOXEL_AXES))
