"""Dice and cross-entropy of regions."""

from torch import Tensor

from fedpedbrain.training.losses.voxel_terms import VOXEL_AXES, soft_dice, voxel_cross_entropy


def dice_cross_entropy(logits: Tensor, masks: Tensor) -> Tensor:
    """1 - Dice plus voxel-wise binary cross-entropy, float32 (B,); shapes as in ``soft_dice``."""
    return 1.0 - soft_dice(logits, masks).mean(1) + voxel_cross_entropy(logits, masks).mean((1, *VOXEL_AXES))
