"""The networks that a study can choose; a network is its own module, one row here and a test.

``study/schema.py`` makes the config's schema from the rows: words of ``network.name`` and blocks ``network.NAME``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fedpedbrain.base.choices import Choices, Option, defaults_of


@dataclass(frozen=True)
class NetworkFacts:
    """What the job graph has to know of a network.

    Attributes
    ----------
    implementation : class of ``torch.nn.Module``, called with the numbers of channels, regions and classes and its
        options; its ``forward`` takes images (B, C, D, H, W) and returns ``models.outputs.Logits``, and it has
        ``encoder``, ``classifier`` (None without classes) and ``stages()``
    options : the block ``network.NAME`` of the config
    has_batch_norm : it keeps statistics of the cases that it sees
    smallest_grid : the smallest grid (D, H, W) that it takes
    stages, strides : names of the options that have one entry per stage: features, and downsampling (D, H, W), by whose
        product the grid has to divide; "" where it has no such options
    per_stage : names of its other options that have one entry per stage
    neighbours : name of the option that says how many slices on either side it sees a slice with; "" for none
    """

    implementation: str
    options: Mapping[str, Option] = field(default_factory=dict)
    has_batch_norm: bool = False
    smallest_grid: tuple[int, int, int] = (1, 1, 1)
    stages: str = ""
    strides: str = ""
    per_stage: tuple[str, ...] = ()
    neighbours: str = ""

    def settings(self, block: Mapping[str, Any]) -> dict[str, Any]:
        """Every option, from the config's block where that names it."""
        return defaults_of(self.options) | dict(block)


_FRACTION = {"type": "number", "minimum": 0, "maximum": 1}
_THREE = {"type": "array", "minItems": 3, "maxItems": 3, "items": {"type": "integer", "minimum": 1}}
_ODD = {"type": "array", "minItems": 3, "maxItems": 3, "items": {"type": "integer", "enum": [1, 3, 5, 7]}}
_FEATURES = {"type": "array", "minItems": 2, "items": {"type": "integer", "minimum": 1}}

NETWORKS: Choices[NetworkFacts] = Choices(
    {
        "unet": NetworkFacts(
            "fedpedbrain.models.architectures.unet:UNet",
            {
                "channels": Option(
                    [8, 16, 32, 64], _FEATURES, "Features of each stage, from the finest to the deepest."
                ),
                "strides": Option(
                    [[1, 2, 2], [2, 2, 2], [2, 2, 2], [2, 2, 2]],
                    {"type": "array", "minItems": 2, "items": _THREE},
                    "Downsampling (D, H, W) at the entry of each stage.",
                ),
                "pooled_grid": Option(
                    [2, 3, 3], _THREE, "The classifier sees the deepest features averaged on this grid (D, H, W)."
                ),
                "dropout": Option(0.2, _FRACTION, "Probability that the classifier drops a feature."),
            },
            stages="channels",
            strides="strides",
        ),
        "i3d_unet": NetworkFacts(
            "fedpedbrain.models.architectures.i3d_unet:I3DUNet",
            {
                "width": Option(
                    0.125,
                    {"type": "number", "exclusiveMinimum": 0},
                    "Factor on every number of features; 1.0 is the published network.",
                ),
                "dropout": Option(0.5, _FRACTION, "Probability that the classifier drops a feature."),
            },
            has_batch_norm=True,
            smallest_grid=(8, 17, 17),
        ),
        "residual_unet": NetworkFacts(
            "fedpedbrain.models.architectures.residual_unet:ResidualUNet",
            {
                "features": Option(
                    [16, 32, 64, 128, 256], _FEATURES, "Features of each stage, from the finest to the deepest."
                ),
                "strides": Option(
                    [[1, 1, 1], [1, 2, 2], [2, 2, 2], [2, 2, 2], [2, 2, 2]],
                    {"type": "array", "minItems": 2, "items": _THREE},
                    "Downsampling (D, H, W) at the entry of each stage.",
                ),
                "kernels": Option(
                    [[1, 3, 3], [3, 3, 3], [3, 3, 3], [3, 3, 3], [3, 3, 3]],
                    {"type": "array", "minItems": 2, "items": _ODD},
                    "Size of the convolutions (D, H, W) of each stage, odd numbers. With 1 along D in all kernels and "
                    "strides the network works slice by slice.",
                ),
                "blocks": Option(
                    [1, 1, 1, 1, 1],
                    {"type": "array", "minItems": 2, "items": {"type": "integer", "minimum": 1}},
                    "Residual blocks of each stage.",
                ),
                "neighbours": Option(
                    0,
                    {"type": "integer", "minimum": 0},
                    "Slices on either side that a slice is seen with, as further channels; for a network that works "
                    "slice by slice.",
                ),
                "deep_supervision": Option(
                    True, {"type": "boolean"}, "Whether the segmentations of coarser stages count in the loss."
                ),
                "exclusive_regions": Option(
                    False,
                    {"type": "boolean"},
                    "Whether no voxel belongs to two regions: probabilities are then a softmax over the regions and "
                    "the background. For losses over labels.",
                ),
                "pooled_grid": Option(
                    [1, 1, 1], _THREE, "The classifier sees the deepest features averaged on this grid (D, H, W)."
                ),
                "dropout": Option(0.2, _FRACTION, "Probability that the classifier drops a feature."),
            },
            stages="features",
            strides="strides",
            per_stage=("kernels", "blocks"),
            neighbours="neighbours",
        ),
    }
)
