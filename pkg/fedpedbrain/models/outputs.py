"""What every network returns."""

from typing import NamedTuple

from torch import Tensor


class Logits(NamedTuple):
    """Raw scores of one forward pass; a head that the study does not use is ``None``.

    Attributes
    ----------
    segmentation : float (B, R, D, H, W), one logit a region and voxel (regions may overlap: sigmoid, not softmax)
    classification : float (B, K), one logit a class
    deeper : segmentations of coarser stages, from the finest to the coarsest, float (B, R, D', H', W') each; empty
        where a network has none, and outside of training
    """

    segmentation: Tensor | None
    classification: Tensor | None
    deeper: tuple[Tensor, ...] = ()
