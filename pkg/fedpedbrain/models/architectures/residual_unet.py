"""A U-Net with a residual encoder, for volumes, slices, and slices with their neighbours.

The form is that of nnU-Net's residual encoder (Isensee et al., "nnU-Net Revisited", MICCAI 2024): stages of residual
blocks whose shortcut averages where the block strides (He et al., "Bag of Tricks", CVPR 2019), a decoder of one
convolution per stage, instance normalisation, and segmentations of coarser stages for deep supervision (Lee et al.,
"Deeply-Supervised Nets", AISTATS 2015). It keeps no running statistics, so averaging its weights loses nothing.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedpedbrain.models.outputs import Logits

_SLOPE = 0.01
# About one voxel in a hundred of a field of view belongs to a region.
_REGION_FRACTION = 0.01


class _Layers:
    """Layers of two or three axes: a network that never reaches along D works on slices.

    Parameters
    ----------
    is_flat : convolve slices, with the last two numbers of kernels and strides
    """

    def __init__(self, is_flat: bool) -> None:
        self._is_flat = is_flat
        self.norm = nn.InstanceNorm2d if is_flat else nn.InstanceNorm3d
        self._convolution = nn.Conv2d if is_flat else nn.Conv3d
        self._transposed = nn.ConvTranspose2d if is_flat else nn.ConvTranspose3d
        self._mean = nn.AvgPool2d if is_flat else nn.AvgPool3d

    def _axes(self, sizes: Sequence[int]) -> tuple[int, ...]:
        return tuple(sizes)[1:] if self._is_flat else tuple(sizes)

    def convolve(self, source: int, target: int, kernel: Sequence[int], stride: Sequence[int] = (1, 1, 1)) -> nn.Module:
        """A convolution that keeps the size, up to its stride."""
        size, padding = self._axes(kernel), self._axes([extent // 2 for extent in kernel])
        return self._convolution(source, target, size, self._axes(stride), padding, bias=False)

    def project(self, source: int, target: int) -> nn.Module:
        """A linear map of the features of each voxel."""
        return self._convolution(source, target, 1)

    def upsample(self, source: int, target: int, stride: Sequence[int]) -> nn.Module:
        """A transposed convolution that undoes a stride."""
        return self._transposed(source, target, self._axes(stride), self._axes(stride))

    def average(self, stride: Sequence[int]) -> nn.Module:
        """The mean over each stride."""
        return self._mean(self._axes(stride), self._axes(stride))

    def convolve_and_scale(self, source: int, target: int, kernel: Sequence[int]) -> nn.Sequential:
        """Convolution, instance normalisation, LeakyReLU."""
        layers = (self.convolve(source, target, kernel), self.norm(target, affine=True))
        return nn.Sequential(*layers, nn.LeakyReLU(_SLOPE, inplace=True))


class _ResidualBlock(nn.Module):
    """Two convolutions around which the features go, averaged where the first one strides."""

    def __init__(self, layers: _Layers, source: int, target: int, kernel: Sequence[int], stride: Sequence[int]) -> None:
        super().__init__()
        self.body = nn.Sequential(
            layers.convolve(source, target, kernel, stride),
            layers.norm(target, affine=True),
            nn.LeakyReLU(_SLOPE, inplace=True),
            layers.convolve(target, target, kernel),
            layers.norm(target, affine=True),
        )
        shortcut: list[nn.Module] = [] if math.prod(stride) == 1 else [layers.average(stride)]
        if source != target:
            shortcut += [layers.convolve(source, target, (1, 1, 1)), layers.norm(target, affine=True)]
        self.shortcut = nn.Sequential(*shortcut)
        self.activation = nn.LeakyReLU(_SLOPE, inplace=True)

    def forward(self, features: Tensor) -> Tensor:
        """Run the block."""
        return self.activation(self.body(features) + self.shortcut(features))


class _Decoder(nn.Module):
    """From the deepest features back to the size of the first stage's, with a segmentation after each stage."""

    def __init__(
        self,
        layers: _Layers,
        num_regions: int,
        features: Sequence[int],
        strides: Sequence[Sequence[int]],
        kernels: Sequence[Sequence[int]],
    ) -> None:
        super().__init__()
        self.upsamplers, self.blocks, self.heads = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for stage in range(len(features) - 1, 0, -1):
            shallow = features[stage - 1]
            self.upsamplers.append(layers.upsample(features[stage], shallow, strides[stage]))
            self.blocks.append(layers.convolve_and_scale(2 * shallow, shallow, kernels[stage - 1]))
            head = layers.project(shallow, num_regions)
            # Start from how rare voxels of a region are, so that the first steps need not learn it (Lin et al., 2017).
            nn.init.constant_(head.bias, -math.log(1.0 / _REGION_FRACTION - 1.0))
            self.heads.append(head)

    def forward(self, skips: Sequence[Tensor], is_supervised: bool) -> list[Tensor]:
        """Logits from the finest stage to the coarsest, of the finest alone where nothing coarser is asked for."""
        features, logits = skips[-1], []
        stages = zip(self.upsamplers, self.blocks, self.heads, skips[-2::-1], strict=True)
        for number, (upsample, block, head, skip) in enumerate(stages, start=1):
            features = block(torch.cat([upsample(features), skip], dim=1))
            if is_supervised or number == len(self.heads):
                logits.insert(0, head(features))
        return logits


class ResidualUNet(nn.Module):
    """Residual encoder, decoder with skips, and a classifier on the deepest features.

    Where no kernel and no stride reaches along D, every slice goes through the network by itself, with 2-D
    convolutions, whose ``2 * neighbours + 1`` slices are the channels of the one in their middle.

    Parameters
    ----------
    in_channels : image channels C
    num_regions : segmentation outputs R; 0 leaves the decoder out
    num_classes : classification outputs K; 0 leaves the classifier out
    features : of each stage, from the finest to the deepest
    strides : downsampling (D, H, W) at the entry of each stage; that of the first is undone by interpolating the logits
    kernels : size of the convolutions (D, H, W) of each stage, odd numbers
    blocks : residual blocks of each stage
    neighbours : slices on either side that a slice is seen with; the network then takes as many more of each image
    deep_supervision : give the segmentations of coarser stages, too, in training
    exclusive_regions : no voxel belongs to two regions: probabilities are a softmax over them and the background
    pooled_grid : the classifier sees the deepest features averaged on this grid (D, H, W)
    dropout : probability in the classifier

    Attributes
    ----------
    context : ``neighbours``, the slices on either side of a patch that go in and do not come out

    Raises
    ------
    ValueError : no head; lists of different lengths; neighbours of a network that reaches along D
    """

    def __init__(
        self,
        in_channels: int,
        num_regions: int,
        num_classes: int,
        features: Sequence[int],
        strides: Sequence[Sequence[int]],
        kernels: Sequence[Sequence[int]],
        blocks: Sequence[int],
        neighbours: int = 0,
        deep_supervision: bool = True,
        exclusive_regions: bool = False,
        pooled_grid: Sequence[int] = (1, 1, 1),
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        if not num_regions and not num_classes:
            raise ValueError("a model needs a segmentation head, a classification head or both: found neither")
        if len({len(features), len(strides), len(kernels), len(blocks)}) > 1:
            raise ValueError("residual_unet: give one of features, strides, kernels and blocks for each stage")
        self._is_flat = all(sizes[0] == 1 for sizes in (*strides, *kernels))
        if neighbours and not self._is_flat:
            raise ValueError("residual_unet: neighbours are for kernels and strides of 1 along D")
        self.context, self._is_exclusive = neighbours, exclusive_regions
        self._is_supervised = deep_supervision
        layers = _Layers(self._is_flat)
        sources = [in_channels * (2 * neighbours + 1), *features[:-1]]
        self.encoder = nn.ModuleList(
            nn.Sequential(
                _ResidualBlock(layers, source, target, kernel, stride),
                *(_ResidualBlock(layers, target, target, kernel, (1, 1, 1)) for _ in range(number - 1)),
            )
            for source, target, kernel, stride, number in zip(sources, features, kernels, strides, blocks, strict=True)
        )
        self.decoder = _Decoder(layers, num_regions, features, strides, kernels) if num_regions else None
        self.classifier: nn.Module | None = None
        if num_classes:
            self.classifier = nn.Sequential(
                nn.AdaptiveAvgPool3d(tuple(pooled_grid)),
                nn.Flatten(),
                nn.Dropout(dropout),
                nn.Linear(features[-1] * math.prod(pooled_grid), features[-1]),
                nn.LeakyReLU(_SLOPE),
                nn.Linear(features[-1], num_classes),
            )

    def stages(self) -> list[nn.Module]:
        """Blocks whose activations take most of the memory."""
        return [*self.encoder, *(self.decoder.blocks if self.decoder is not None else ())]

    def forward(self, images: Tensor) -> Logits:
        """Run the network.

        Parameters
        ----------
        images : float32 (B, C, D + 2 ``context``, H, W); sizes that the strides divide

        Returns
        -------
        logits of D slices; ``deeper`` in training alone, where there is deep supervision
        """
        num_slices, size = images.shape[2] - 2 * self.context, images.shape[3:]
        features = self._to_slices(images) if self._is_flat else images
        skips = []
        for stage in self.encoder:
            features = stage(features)
            skips.append(features)
        classification = None
        if self.classifier is not None:
            classification = self.classifier(self._to_volumes(features, num_slices))
        if self.decoder is None:
            return Logits(None, classification)
        logits = [self._to_volumes(part, num_slices) for part in self.decoder(skips, self._asks_for_deeper())]
        if logits[0].shape[2:] != (num_slices, *size):
            logits[0] = functional.interpolate(logits[0], (num_slices, *size), mode="trilinear", align_corners=False)
        return Logits(logits[0], classification, tuple(logits[1:]))

    def to_probabilities(self, logits: Tensor) -> Tensor:
        """Probabilities of the regions, float32 of the shape of ``logits`` (B, R, D, H, W)."""
        if not self._is_exclusive:
            return torch.sigmoid(logits.float())
        background = torch.zeros_like(logits[:, :1])
        return torch.softmax(torch.cat([background, logits], dim=1).float(), dim=1)[:, 1:]

    def _asks_for_deeper(self) -> bool:
        return self._is_supervised and self.training

    def _to_slices(self, images: Tensor) -> Tensor:
        """Every slice with its neighbours as channels: (B D, C (2 context + 1), H, W), channels last in memory."""
        windows = images.unfold(2, 2 * self.context + 1, 1)
        slices = windows.permute(0, 2, 1, 5, 3, 4).flatten(2, 3).flatten(0, 1)
        return slices.contiguous(memory_format=torch.channels_last)

    def _to_volumes(self, features: Tensor, num_slices: int) -> Tensor:
        """Features of slices as volumes (B, F, D, h, w); those of volumes as they are."""
        return features.unflatten(0, (-1, num_slices)).transpose(1, 2) if self._is_flat else features
