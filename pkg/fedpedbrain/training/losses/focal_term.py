"""The focal factor: what is told well already counts less (Lin et al., "Focal Loss", ICCV 2017, without its alpha)."""

import torch
from torch import Tensor


def focal(cross_entropy: Tensor, gamma: float) -> Tensor:
    """Cross-entropies, float32 of any shape, each times what its probability lacks of 1, to the power gamma."""
    # exp(-cross-entropy) is the probability given to the truth. What it lacks of 1 is kept above 0, where a power below
    # 1 has no finite gradient.
    lacking = -torch.expm1(-cross_entropy.clamp(min=torch.finfo(cross_entropy.dtype).tiny))
    return lacking**gamma * cross_entropy
