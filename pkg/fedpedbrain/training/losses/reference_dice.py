"""The segmentation loss of FL-PedBrain."""

import torch
from torch import Tensor

from fedpedbrain.training.losses.voxel_terms import soft_dice


def reference_dice(logits: Tensor, masks: Tensor) -> Tensor:
    """0.5 x -log(Dice), float32 (B,): the segmentation loss of FLPedBrain (Lee et al., 2024)."""
    return 0.5 * -torch.log(soft_dice(logits, masks)).mean(1)
