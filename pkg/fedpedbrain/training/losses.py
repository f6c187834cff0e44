"""Losses of joint segmentation and classification."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from fedpedbrain.models.outputs import Logits

# Target of a case whose diagnosis is unknown: it counts for segmentation alone.
UNKNOWN_CLASS_INDEX = -1
SMOOTH = 1.0


def soft_dice(logits: Tensor, masks: Tensor) -> Tensor:
    """Dice coefficient of sigmoid probabilities, smoothed by 1 voxel (Milletari et al., V-Net, 2016).

    Parameters
    ----------
    logits : float (B, R, D, H, W)
    masks : the same shape, 0 or 1

    Returns
    -------
    float32 (B, R), in (0, 1]; 1 for an empty prediction of an empty mask
    """
    probabilities = torch.sigmoid(logits.float())
    masks = masks.float()
    axes = (2, 3, 4)
    overlap = (probabilities * masks).sum(axes)
    return (2.0 * overlap + SMOOTH) / (probabilities.sum(axes) + masks.sum(axes) + SMOOTH)


def dice_cross_entropy(logits: Tensor, masks: Tensor) -> Tensor:
    """1 - Dice plus voxel-wise binary cross-entropy, a scalar; shapes as in ``soft_dice``."""
    dice = soft_dice(logits, masks).mean()
    return 1.0 - dice + functional.binary_cross_entropy_with_logits(logits.float(), masks.float())


def reference_dice(logits: Tensor, masks: Tensor) -> Tensor:
    """0.5 x -log(Dice) a sample, averaged: the segmentation loss of FLPedBrain (Lee et al., 2024)."""
    return 0.5 * -torch.log(soft_dice(logits, masks)).mean()


SEGMENTATION_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "dice_cross_entropy": dice_cross_entropy,
    "reference": reference_dice,
}


class JointLoss:
    """Weighted sum of a segmentation loss and the classification cross-entropy; a missing head adds nothing.

    Parameters
    ----------
    name : a key of ``SEGMENTATION_LOSSES``
    segmentation_weight, classification_weight : factors of the two parts
    """

    def __init__(self, name: str, segmentation_weight: float, classification_weight: float) -> None:
        self._segmentation_loss = SEGMENTATION_LOSSES[name]
        self._weights = (segmentation_weight, classification_weight)

    def __call__(self, logits: Logits, masks: Tensor | None, class_indices: Tensor) -> Tensor:
        """Return the loss of a batch.

        Parameters
        ----------
        masks : (B, R, D, H, W), 0 or 1, or None where the model has no segmentation head
        class_indices : int64 (B,), ``UNKNOWN_CLASS_INDEX`` where the diagnosis is unknown
        """
        parts = []
        if logits.segmentation is not None:
            parts.append(self._weights[0] * self._segmentation_loss(logits.segmentation, masks))
        if logits.classification is not None:
            scores = logits.classification.float()
            summed = functional.cross_entropy(scores, class_indices, ignore_index=UNKNOWN_CLASS_INDEX, reduction="sum")
            num_known = (class_indices != UNKNOWN_CLASS_INDEX).sum()
            parts.append(self._weights[1] * summed / num_known.clamp(min=1))
        return torch.stack(parts).sum()
