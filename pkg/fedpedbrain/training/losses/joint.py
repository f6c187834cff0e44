"""The loss of joint segmentation and classification."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from fedpedbrain.base.cases import UNKNOWN_CLASS_INDEX
from fedpedbrain.base.choices import Choices
from fedpedbrain.models.outputs import Logits
from fedpedbrain.study.training_facts import CLASSIFICATION_LOSSES, SEGMENTATION_LOSSES, LossFacts


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


def _load(losses: Choices[LossFacts], name: str, settings: Mapping) -> Callable[[Tensor, Tensor], Tensor]:
    """A loss of a table with its own options of the ``training.loss`` block."""
    return partial(losses.load(name), **{option: settings[option] for option in losses[name].options})


class JointLoss:
    """Weighted sum of a segmentation loss and a classification loss; a missing head adds nothing.

    Parameters
    ----------
    settings : the ``training.loss`` block
    weights : factors of the classes, float32 (K,)
    """

    def __init__(self, settings: Mapping, weights: Tensor) -> None:
        self._segmentation = _load(SEGMENTATION_LOSSES, settings["segmentation"], settings)
        self._classification = _load(CLASSIFICATION_LOSSES, settings["classification"], settings)
        self._factors = (settings["segmentation_weight"], settings["classification_weight"])
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
            losses = self._of_regions(logits, masks.float())
            parts.append(self._factors[0] * losses.sum() / len(of_batch))
        if logits.classification is not None:
            losses = self._classification(logits.classification, class_indices)
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
            parts.append(self._factors[0] * self._of_regions(logits, masks.float()))
        if logits.classification is not None:
            losses = self._classification(logits.classification, class_indices)
            parts.append(self._factors[1] * self._weight_of(class_indices) * losses)
        return torch.stack(parts).sum(0)

    def _of_regions(self, logits: Logits, masks: Tensor) -> Tensor:
        """Loss of the regions, float32 (B,): the mean over stages, of which each coarser one counts half as much.

        The masks of a coarser stage are the nearest voxels of the full ones, as in nnU-Net (Isensee et al., 2021).
        """
        if not logits.deeper:
            return self._segmentation(logits.segmentation, masks)
        stages = (logits.segmentation, *logits.deeper)
        sized = (functional.interpolate(masks, stage.shape[2:], mode="nearest-exact") for stage in stages)
        weights = [0.5**number for number in range(len(stages))]
        losses = (self._segmentation(stage, part) for stage, part in zip(stages, sized, strict=True))
        return sum(weight * loss for weight, loss in zip(weights, losses, strict=True)) / sum(weights)

    def _weight_of(self, class_indices: Tensor) -> Tensor:
        known = class_indices != UNKNOWN_CLASS_INDEX
        return self._weights.to(class_indices.device)[class_indices.clamp(min=0)] * known
