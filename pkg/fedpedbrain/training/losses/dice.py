"""Dice of regions alone."""

from torch import Tensor

from fedpedbrain.training.losses.voxel_terms import soft_dice


def dice_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """1 - Dice, float32 (B,); shapes as in ``soft_dice``."""
    return 1.0 - soft_dice(logits, masks).mean(1)
