"""Focal loss of classes."""

from torch import Tensor

from fedpedbrain.training.losses.cross_entropy import cross_entropy
from fedpedbrain.training.losses.focal_term import focal


def focal_cross_entropy(logits: Tensor, class_indices: Tensor, focal_gamma: float) -> Tensor:
    """Focal loss, float32 (B,), of logits (B, K); 0 for an unknown class (Lin et al., 2017, without its alpha)."""
    return focal(cross_entropy(logits, class_indices), focal_gamma)
