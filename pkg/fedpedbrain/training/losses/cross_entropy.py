"""Cross-entropy of classes."""

from torch import Tensor
from torch.nn import functional

from fedpedbrain.base.cases import UNKNOWN_CLASS_INDEX


def cross_entropy(logits: Tensor, class_indices: Tensor) -> Tensor:
    """Cross-entropy, float32 (B,), of logits (B, K); 0 for an unknown class."""
    return functional.cross_entropy(logits.float(), class_indices, ignore_index=UNKNOWN_CLASS_INDEX, reduction="none")
