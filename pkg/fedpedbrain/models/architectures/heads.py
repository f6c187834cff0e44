"""What the heads of several networks have in common."""

import math
from collections.abc import Sequence

from torch import nn

# About one voxel in a hundred of a field of view belongs to a region.
REGION_VOXEL_FRACTION = 0.01


def expect_rare_regions(head: nn.Module) -> None:
    """Start from how rare voxels of a region are, so that the first steps need not learn it (Lin et al., 2017)."""
    nn.init.constant_(head.bias, -math.log(1.0 / REGION_VOXEL_FRACTION - 1.0))


def build_classifier(features: int, num_classes: int, pooled_grid: Sequence[int], dropout: float) -> nn.Sequential:
    """A classifier on the deepest features, float (B, ``features``, D', H', W').

    Parameters
    ----------
    pooled_grid : it sees the features averaged on this grid (D, H, W): where a region lies counts. Not a global mean:
        instance normalisation makes that the same for every image
    dropout : probability that a feature is dropped
    """
    return nn.Sequential(
        nn.AdaptiveAvgPool3d(tuple(pooled_grid)),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(features * math.prod(pooled_grid), features),
        nn.LeakyReLU(0.01),
        nn.Linear(features, num_classes),
    )
