"""FL-PedBrain's network: an I3D encoder, a U-Net decoder for regions and a classifier on the bottleneck.

The encoder is Inflated 3D Inception (Carreira and Zisserman, "Quo Vadis, Action Recognition?", CVPR 2017),
the whole is the network of Lee et al., "FL-PedBrain", Nature Communications 2024. Modules bear the
reference's names, so that state dicts exchange key by key. Its layers behind the bottleneck (Mixed_5b,
Mixed_5c, logits) feed neither head and are not built: they would only be sent to and fro in every round.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedpedbrain.models.outputs import Logits

Size = tuple[int, int, int]
Built = tuple[nn.Module, int]

# The smallest input (D, H, W). 5 x 17 x 17 would leave one voxel at the bottleneck, but below a depth of 8
# the stem's gradient from oneDNN 3.12 (PyTorch 2.13, CPU) is wrong or written out of bounds.
SMALLEST_SIZE: Size = (8, 17, 17)
# The pretrained stem expects colour video; a single image channel stands for all three.
STEM_CHANNELS = 3
HIDDEN_FEATURES = 128


def scale_channels(channels: int, width: float) -> int:
    """Return ``channels`` times ``width``, rounded and at least 4, so that a narrow branch never vanishes."""
    return max(4, round(channels * width))


class ConvUnit(nn.Module):
    """Convolution without bias, batch normalisation and ReLU, the unit of the encoder."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv3d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm3d(out_channels, eps=1e-3, momentum=0.01)

    def forward(self, features: Tensor) -> Tensor:
        """Map float (B, C, D, H, W) to non-negative float (B, out_channels, D', H', W').

        Features of one channel stand for as many equal ones as the convolution takes: they are not repeated, the kernel
        is summed over them, which gives the same at a fraction of the work.
        """
        if features.shape[1] == 1 < self.conv.in_channels:
            kernel = self.conv.weight.sum(1, keepdim=True)
            features = functional.conv3d(features, kernel, None, self.conv.stride, self.conv.padding)
        else:
            features = self.conv(features)
        return functional.relu(self.bn(features), inplace=True)


class Inception(nn.Module):
    """Four parallel branches over the same voxels, concatenated by channel."""

    def __init__(self, in_channels: int, b0: int, b1a: int, b1b: int, b2a: int, b2b: int, b3: int) -> None:
        super().__init__()
        pool = nn.MaxPool3d(3, stride=1, padding=1)
        self.branch0 = ConvUnit(in_channels, b0, kernel=1)
        self.branch1 = nn.Sequential(ConvUnit(in_channels, b1a, kernel=1), ConvUnit(b1a, b1b, kernel=3))
        self.branch2 = nn.Sequential(ConvUnit(in_channels, b2a, kernel=1), ConvUnit(b2a, b2b, kernel=3))
        self.branch3 = nn.Sequential(pool, ConvUnit(in_channels, b3, kernel=1))

    def forward(self, features: Tensor) -> Tensor:
        """Map float (B, C, D, H, W) to non-negative float (B, b0 + b1b + b2b + b3, D, H, W)."""
        branches = (self.branch0, self.branch1, self.branch2, self.branch3)
        return torch.cat([branch(features) for branch in branches], dim=1)


def build_conv(in_channels: int, width: float, channels: int, kernel: int, stride: int = 1) -> Built:
    """Return a convolution with a cubic kernel and its output channels; ``channels`` are those at width 1."""
    out_channels = scale_channels(channels, width)
    return ConvUnit(in_channels, out_channels, kernel, stride), out_channels


def build_pool(in_channels: int, width: float, kernel: Size, stride: Size, padding: Size) -> Built:
    """Return a maximum pooling and its output channels, which no width changes."""
    return nn.MaxPool3d(kernel, stride, padding), in_channels


def build_inception(in_channels: int, width: float, channels: Sequence[int]) -> Built:
    """Return an inception block and its output channels; ``channels`` are b0 to b3 at width 1."""
    b0, b1a, b1b, b2a, b2b, b3 = (scale_channels(branch, width) for branch in channels)
    return Inception(in_channels, b0, b1a, b1b, b2a, b2b, b3), b0 + b1b + b2b + b3


# Each entry takes the input channels and the width and returns the layer and its output channels.
ENCODER_PLAN: dict[str, Callable[[int, float], Built]] = {
    "Conv3d_1a_7x7": partial(build_conv, channels=64, kernel=7, stride=2),
    "MaxPool3d_2a_3x3": partial(build_pool, kernel=(1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1)),
    "Conv3d_2b_1x1": partial(build_conv, channels=64, kernel=1),
    "Conv3d_2c_3x3": partial(build_conv, channels=192, kernel=3),
    "MaxPool3d_3a_3x3": partial(build_pool, kernel=(1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1)),
    "Mixed_3b": partial(build_inception, channels=(64, 96, 128, 16, 32, 32)),
    "Mixed_3c": partial(build_inception, channels=(128, 128, 192, 32, 96, 64)),
    "MaxPool3d_4a_3x3": partial(build_pool, kernel=(3, 3, 3), stride=(2, 2, 2), padding=(1, 1, 1)),
    "Mixed_4b": partial(build_inception, channels=(192, 96, 208, 16, 48, 64)),
    "Mixed_4c": partial(build_inception, channels=(160, 112, 224, 24, 64, 64)),
    "Mixed_4d": partial(build_inception, channels=(128, 128, 256, 24, 64, 64)),
    "Mixed_4e": partial(build_inception, channels=(112, 144, 288, 32, 64, 64)),
    "Mixed_4f": partial(build_inception, channels=(256, 160, 320, 32, 128, 128)),
    "MaxPool3d_5a_2x2": partial(build_pool, kernel=(2, 2, 2), stride=(2, 2, 2), padding=(0, 0, 0)),
}
SKIP_LAYERS = ("Conv3d_1a_7x7", "MaxPool3d_2a_3x3", "MaxPool3d_3a_3x3", "MaxPool3d_4a_3x3")

# Output channels at width 1, kernel and stride of each step from the bottleneck upwards. A step ends at the
# next skip of SKIP_LAYERS, taken from the last to the first.
DECODER_PLAN: dict[str, tuple[int, Size, Size]] = {
    "up1": (832, (2, 3, 3), (2, 2, 2)),
    "up2": (480, (2, 3, 3), (2, 2, 2)),
    "up3": (192, (1, 3, 3), (1, 2, 2)),
    "up4": (64, (1, 3, 3), (1, 2, 2)),
}


def resize(features: Tensor, size: Sequence[int]) -> Tensor:
    """Return ``features``, float (B, C, D, H, W), at ``size`` (D, H, W), trilinear where the size differs."""
    if features.shape[2:] == tuple(size):
        return features
    return functional.interpolate(features, size=tuple(size), mode="trilinear", align_corners=False)


class Encoder(nn.Module):
    """I3D up to the bottleneck of ``out_channels``, with skips of ``skip_channels`` at ``SKIP_LAYERS``."""

    def __init__(self, in_channels: int, width: float) -> None:
        super().__init__()
        self.layers_dict = nn.ModuleDict()
        self.skip_channels: list[int] = []
        channels = in_channels
        for name, build in ENCODER_PLAN.items():
            self.layers_dict[name], channels = build(channels, width)
            if name in SKIP_LAYERS:
                self.skip_channels.append(channels)
        self.out_channels = channels

    def forward(self, features: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Map float (B, C, D, H, W) to bottleneck and skips, finest first, float (B, C', D', H', W')."""
        skips = []
        for name, layer in self.layers_dict.items():
            features = layer(features)
            if name in SKIP_LAYERS:
                skips.append(features)
        return features, skips


class UpUnit(nn.Module):
    """Transposed convolution without bias, batch normalisation, ReLU and resize, the unit of the decoder."""

    def __init__(self, in_channels: int, out_channels: int, kernel: Size, stride: Size) -> None:
        super().__init__()
        padding = tuple(extent // 2 for extent in kernel)
        self.conv_transpose = nn.ConvTranspose3d(in_channels, out_channels, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm3d(out_channels)

    def forward(self, features: Tensor, size: Sequence[int]) -> Tensor:
        """Map float (B, C, D, H, W) to non-negative float (B, out_channels, *size)."""
        if features.shape[2] == 1:
            # The padding of the even kernel takes two slices away: one slice would leave none.
            features = features.expand(-1, -1, 2, -1, -1)
        return resize(functional.relu(self.bn(self.conv_transpose(features)), inplace=True), size)


class I3DUNet(nn.Module):
    """Joint segmentation and classification of a volume.

    Parameters
    ----------
    in_channels : channels of the images; one channel stands for the three that pretrained weights expect
    num_regions : segmented regions; 0 builds no decoder
    num_classes : classes; 0 builds no classifier
    width : factor on every channel count, above 0; 1 is the published network
    dropout : probability that a bottleneck feature is dropped before the classifier, in [0, 1]

    Raises
    ------
    ValueError
        If neither head is asked for or ``width`` is not above 0.
    """

    def __init__(
        self, in_channels: int, num_regions: int, num_classes: int, width: float = 1.0, dropout: float = 0.5
    ) -> None:
        super().__init__()
        if num_regions == 0 and num_classes == 0:
            raise ValueError("I3DUNet: num_regions and num_classes are both 0; expected at least one above 0")
        if width <= 0:
            raise ValueError(f"I3DUNet: width is {width}; expected a number above 0")
        self.in_channels = in_channels
        self.num_regions = num_regions
        self.num_classes = num_classes
        self.encoder = Encoder(STEM_CHANNELS if in_channels == 1 else in_channels, width)
        if num_regions:
            self._build_decoder(width)
        if num_classes:
            hidden = scale_channels(HIDDEN_FEATURES, width)
            self.classifier = nn.Sequential(
                nn.AdaptiveAvgPool3d(1),
                nn.Flatten(),
                nn.Dropout(dropout),
                nn.Linear(self.encoder.out_channels, hidden),
                nn.ReLU(),
                nn.Linear(hidden, num_classes),
            )

    def stages(self) -> list[nn.Module]:
        """Layers whose activations take most of the memory."""
        layers = [layer for layer in self.encoder.layers_dict.values() if not isinstance(layer, nn.MaxPool3d)]
        return layers + ([self.get_submodule(name) for name in DECODER_PLAN] if self.num_regions else [])

    def _build_decoder(self, width: float) -> None:
        channels = self.encoder.out_channels
        skips = reversed(self.encoder.skip_channels)
        for (name, plan), skip_channels in zip(DECODER_PLAN.items(), skips, strict=True):
            full_channels, kernel, stride = plan
            out_channels = scale_channels(full_channels, width)
            self.add_module(name, UpUnit(channels, out_channels, kernel, stride))
            channels = out_channels + skip_channels
        self.final_conv = nn.ConvTranspose3d(channels, self.num_regions, 5, 2, padding=2, output_padding=1)

    def forward(self, images: Tensor) -> Logits:
        """Score every voxel and every volume.

        Parameters
        ----------
        images : float32 (B, C, D, H, W), scaled to [0, 1], C being ``in_channels``

        Returns
        -------
        Logits
            Segmentation float (B, num_regions, D, H, W) and classification float (B, num_classes).

        Raises
        ------
        ValueError
            If the number of channels differs from ``in_channels`` or an axis is below ``SMALLEST_SIZE``.
        """
        self._check(images)
        bottleneck, skips = self.encoder(images)
        return Logits(
            segmentation=self._segment(bottleneck, skips, images.shape[2:]) if self.num_regions else None,
            classification=self.classifier(bottleneck) if self.num_classes else None,
        )

    def _check(self, images: Tensor) -> None:
        channels, size = images.shape[1], tuple(images.shape[2:])
        if channels != self.in_channels:
            raise ValueError(f"I3DUNet: images have {channels} channels; expected {self.in_channels}")
        if any(extent < smallest for extent, smallest in zip(size, SMALLEST_SIZE, strict=True)):
            raise ValueError(f"I3DUNet: images are {size} (D, H, W); expected at least {SMALLEST_SIZE}")

    def _segment(self, bottleneck: Tensor, skips: list[Tensor], size: Sequence[int]) -> Tensor:
        features = bottleneck
        for name, skip in zip(DECODER_PLAN, reversed(skips), strict=True):
            # The skip's size is input size x stride, or off by one where the encoder rounded an odd size.
            raised = self.get_submodule(name)(features, skip.shape[2:])
            features = torch.cat([raised, skip], dim=1)
        return resize(self.final_conv(features), size)
