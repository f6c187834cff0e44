"""Losses of joint segmentation and classification, a number a case."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from fedpedbrain.models.outputs import Logits

# Target of a case whose diagnosis is unknown: it counts for segmentation alone.
UNKNOWN_CLASS_INDEX = -1
SMOOTH = 1.0
_VOXELS = (2, 3, 4)


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
    overlap = (probabilities * masks).sum(_VOXELS)
    return (2.0 * overlap + SMOOTH) / (probabilities.sum(_VOXELS) + masks.sum(_VOXELS) + SMOOTH)


def _voxel_cross_entropy(logits: Tensor, masks: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(logits.float(), masks, reduction="none")


def _focal(cross_entropy: Tensor, gamma: float) -> Tensor:
    # exp(-cross-entropy) is the probability given to the truth. What it lacks of 1 is kept above 0, where a power below
    # 1 has no finite gradient.
    lacking = -torch.expm1(-cross_entropy.clamp(min=torch.finfo(cross_entropy.dtype).tiny))
    return lacking**gamma * cross_entropy


def dice_cross_entropy(logits: Tensor, masks: Tensor, focal_gamma: float) -> Tensor:
    """1 - Dice plus voxel-wise binary cross-entropy, float32 (B,); shapes as in ``soft_dice``."""
    return 1.0 - soft_dice(logits, masks).mean(1) + _voxel_cross_entropy(logits, masks).mean((1, *_VOXELS))


def dice_focal(logits: Tensor, masks: Tensor, focal_gamma: float) -> Tensor:
    """1 - Dice plus voxel-wise focal loss, float32 (B,) (Lin et al., "Focal Loss", ICCV 2017, without its alpha)."""
    focal = _focal(_voxel_cross_entropy(logits, masks), focal_gamma)
    return 1.0 - soft_dice(logits, masks).mean(1) + focal.mean((1, *_VOXELS))


def reference_dice(logits: Tensor, masks: Tensor, focal_gamma: float) -> Tensor:
    """0.5 x -log(Dice), float32 (B,): the segmentation loss of FLPedBrain (Lee et al., 2024)."""
    return 0.5 * -torch.log(soft_dice(logits, masks)).mean(1)


SEGMENTATION_LOSSES: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "dice_cross_entropy": dice_cross_entropy,
    "dice_focal": dice_focal,
    "reference": reference_dice,
}


def cross_entropy(logits: Tensor, class_indices: Tensor, focal_gamma: float) -> Tensor:
    """Cross-entropy, float32 (B,), of logits (B, K); 0 for an unknown class."""
    return functional.cross_entropy(logits.float(), class_indices, ignore_index=UNKNOWN_CLASS_INDEX, reduction="none")


def focal_cross_entropy(logits: Tensor, class_indices: Tensor, focal_gamma: float) -> Tensor:
    """Focal loss, float32 (B,), of logits (B, K); 0 for an unknown class (Lin et al., 2017, without its alpha)."""
    return _focal(cross_entropy(logits, class_indices, focal_gamma), focal_gamma)


CLASSIFICATION_LOSSES: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "cross_entropy": cross_entropy,
    "focal": focal_cross_entropy,
}


def class_weights(settings: Mapping, classes: Sequence[str], class_indices: np.ndarray) -> Tensor:
    """Factors of the classes in the classification loss, float32 (K,).

    Parameters
    ----------
    settings : the ``training.loss`` block: ``class_weights`` by name, and ``balance_classes``, which divides each by
        how often the class is among ``class_indices``, relative to an even share
    class_indices : int64 (N,), of the site's training cases
    """
    weights = np.array([settings["class_weights"].get(name, 1.0) for name in classes])
    if settings["balance_classes"]:
        counts = np.bincount(class_indices[class_indices != UNKNOWN_CLASS_INDEX], minlength=len(classes))
        weights = weights * counts.sum() / (max((counts > 0).sum(), 1) * counts.clip(min=1))
    return torch.from_numpy(weights).float()


class JointLoss:
    """Weighted sum of a segmentation loss and a classification loss; a missing head adds nothing.

    Parameters
    ----------
    settings : the ``training.loss`` block
    weights : factors of the classes, float32 (K,)
    """

    def __init__(self, settings: Mapping, weights: Tensor) -> None:
        self._segmentation = SEGMENTATION_LOSSES[settings["segmentation"]]
        self._classification = CLASSIFICATION_LOSSES[settings["classification"]]
        self._factors = (settings["segmentation_weight"], settings["classification_weight"])
        # Without a focal loss there need be none.
        self._gamma = settings.get("focal_gamma", 0.0)
        self._weights = weights

    def __call__(
        self, logits: Logits, masks: Tensor, class_indices: Tensor, batch_class_indices: Tensor | None = None
    ) -> Tensor:
        """Return the loss of a batch, or the share that a part of it has in it: the shares of all parts add up to it.

        Parameters
        ----------
        masks : (B, R, D, H, W), 0 or 1
        class_indices : int64 (B,), ``UNKNOWN_CLASS_INDEX`` where the diagnosis is unknown
        batch_class_indices : int64, of the whole batch where the other arguments are a part of it

        Returns
        -------
        float32 scalar: mean over cases of the segmentation loss, and weighted mean over cases with a known class of the
        classification loss
        """
        of_batch = class_indices if batch_class_indices is None else batch_class_indices
        parts = []
        if logits.segmentation is not None:
            losses = self._segmentation(logits.segmentation, masks.float(), self._gamma)
            parts.append(self._factors[0] * losses.sum() / len(of_batch))
        if logits.classification is not None:
            losses = self._classification(logits.classification, class_indices, self._gamma)
            # A class of weight 0 adds nothing either; a batch without any other has loss 0.
            total = self._weight_of(of_batch).sum().clamp(min=torch.finfo(torch.float32).tiny)
            parts.append(self._factors[1] * (losses * self._weight_of(class_indices)).sum() / total)
        return torch.stack(parts).sum()

    def of_cases(self, logits: Logits, masks: Tensor, class_indices: Tensor) -> Tensor:
        """Return the loss of each case with nothing shared between cases, float32 (B,); arguments as of a call.

        Their mean is the loss of the batch where all class weights are 1. There a class weight counts relative to the
        others of the batch. Here it is a plain factor, and an unknown class takes nothing away from the other cases'
        part of the classification.
        """
        parts = []
        if logits.segmentation is not None:
            parts.append(self._factors[0] * self._segmentation(logits.segmentation, masks.float(), self._gamma))
        if logits.classification is not None:
            losses = self._classification(logits.classification, class_indices, self._gamma)
            parts.append(self._factors[1] * self._weight_of(class_indices) * losses)
        return torch.stack(parts).sum(0)

    def _weight_of(self, class_indices: Tensor) -> Tensor:
        known = class_indices != UNKNOWN_CLASS_INDEX
        return self._weights.to(class_indices.device)[class_indices.clamp(min=0)] * known
