"""Dice and focal loss of regions."""

from torch import Tensor

from fedpedbrain.training.losses.focal_term import focal
from fedpedbrain.training.losses.voxel_terms import VOXEL_AXES, soft_dice, voxel_cross_entropy


def dice_focal(logits: Tensor, masks: Tensor, focal_gamma: float) -> Tensor:
    """1 - Dice plus voxel-wise focal loss, float32 (B,) (Lin et al., "Focal Loss", ICCV 2017, without its alpha)."""
    losses = focal(voxel_cross_entropy(logits, masks), focal_gamma)
    return 1.0 - soft_dice(logits, masks).mean(1) + losses.mean((1, *VOXEL_AXES))
