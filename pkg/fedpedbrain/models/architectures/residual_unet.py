"""A U-Net with a residual encoder, for volumes, slices, and slices with their neighbours.

The form is that of nnU-Net's residual encoder (Isensee et al., "nnU-Net Revisited", MICCAI 2024): a stem, stages of
residual blocks whose shortcut averages where the block strides (He et al., "Bag of Tricks", CVPR 2019), a decoder of
one convolution per stage, instance normalisation, and segmentations of coarser stages for deep supervision (Lee et al.,
"Deeply-Supervised Nets", AISTATS 2015). It keeps no running statistics, so averaging its weights loses nothing.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedpedbrain.models.architectures.heads import build_classifier, expect_rare_regions
from fedpedbrain.models.architectures.residual_layers import Layers, ResidualBlock
from fedpedbrain.models.outputs import Logits


class _Decoder(nn.Module):
    """From the deepest features back to the size of the first stage's, with a segmentation after the last stage.

    Parameters
    ----------
    is_supervised : also with one after each stage before, for training
    """

    def __init__(
        self,
        layers: Layers,
        num_regions: int,
        features: Sequence[int],
        strides: Sequence[Sequence[int]],
        kernels: Sequence[Sequence[int]],
        is_supervised: bool,
    ) -> None:
        super().__init__()
        self.upsamplers, self.blocks = nn.ModuleList(), nn.ModuleList()
        for stage in range(len(features) - 1, 0, -1):
            shallow = features[stage - 1]
            self.upsamplers.append(layers.upsample(features[stage], shallow, strides[stage]))
            self.blocks.append(layers.convolve_and_scale(2 * shallow, shallow, kernels[stage - 1]))
        segmented = features[:-1] if is_supervised else features[:1]
        self.heads = nn.ModuleList(layers.project(number, num_regions) for number in segmented)
        for head in self.heads:
            expect_rare_regions(head)

    def forward(self, skips: Sequence[Tensor]) -> list[Tensor]:
        """Logits from the finest stage to the coarsest, of the finest alone outside of training."""
        features, decoded = skips[-1], []
        for upsample, block, skip in zip(self.upsamplers, self.blocks, skips[-2::-1], strict=True):
            features = block(torch.cat([upsample(features), skip], dim=1))
            decoded.insert(0, features)
        heads = self.heads if self.training else self.heads[:1]
        return [head(part) for head, part in zip(heads, decoded, strict=False)]


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
    strides : downsampling (D, H, W) at the entry of each stage; that of the first is the stem's, and undone by
        interpolating the logits
    kernels : size of the convolutions (D, H, W) of each stage, odd numbers
    blocks : residual blocks of each stage
    neighbours : slices on either side that a slice is seen with; the network then takes as many more of each image
    deep_supervision : give the segmentations of coarser stages, too, in training
    exclusive_regions : no voxel belongs to two regions: probabilities are a softmax over them and the background
    pooled_grid, dropout : of ``build_classifier``

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
        layers = Layers(self._is_flat)
        stem = layers.convolve_and_scale(in_channels * (2 * neighbours + 1), features[0], kernels[0], strides[0])
        self.encoder = nn.ModuleList()
        source, steps = features[0], [(1, 1, 1), *strides[1:]]
        for target, kernel, stride, number in zip(features, kernels, steps, blocks, strict=True):
            first = ResidualBlock(layers, source, target, kernel, stride)
            others = (ResidualBlock(layers, target, target, kernel, (1, 1, 1)) for _ in range(number - 1))
            self.encoder.append(nn.Sequential(*(() if self.encoder else (stem,)), first, *others))
            source = target
        self.decoder, self.classifier = None, None
        if num_regions:
            self.decoder = _Decoder(layers, num_regions, features, strides, kernels, deep_supervision)
        if num_classes:
            self.classifier = build_classifier(features[-1], num_classes, pooled_grid, dropout)

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
        logits = [self._to_volumes(part, num_slices) for part in self.decoder(skips)]
        if logits[0].shape[2:] != (num_slices, *size):
            logits[0] = functional.interpolate(logits[0], (num_slices, *size), mode="trilinear", align_corners=False)
        return Logits(logits[0], classification, tuple(logits[1:]))

    def to_probabilities(self, logits: Tensor) -> Tensor:
        """Probabilities of the regions, float32 of the shape of ``logits`` (B, R, D, H, W)."""
        if not self._is_exclusive:
            return torch.sigmoid(logits.float())
        background = torch.zeros_like(logits[:, :1])
        return torch.softmax(torch.cat([background, logits], dim=1).float(), dim=1)[:, 1:]

    def _to_slices(self, images: Tensor) -> Tensor:
        """Every slice with its neighbours as channels: (B D, C (2 context + 1), H, W), channels last in memory."""
        windows = images.unfold(2, 2 * self.context + 1, 1)
        slices = windows.permute(0, 2, 1, 5, 3, 4).flatten(2, 3).flatten(0, 1)
        return slices.contiguous(memory_format=torch.channels_last)

    def _to_volumes(self, features: Tensor, num_slices: int) -> Tensor:
        """Features of slices as volumes (B, F, D, h, w); those of volumes as they are."""
        return features.unflatten(0, (-1, num_slices)).transpose(1, 2) if self._is_flat else features
