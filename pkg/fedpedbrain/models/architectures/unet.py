"""A plain 3-D U-Net with an optional classification head.

After Cicek et al., "3D U-Net" (MICCAI 2016), with instance normalisation and strided convolutions as in nnU-Net
(Isensee et al., Nature Methods 2021). It keeps no running statistics, so averaging its weights loses nothing.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fedpedbrain.models.architectures.heads import build_classifier, expect_rare_regions
from fedpedbrain.models.outputs import Logits


def _block(in_channels: int, out_channels: int, stride: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for source, step in ((in_channels, tuple(stride)), (out_channels, (1, 1, 1))):
        layers += [
            nn.Conv3d(source, out_channels, 3, stride=step, padding=1, bias=False),
            nn.InstanceNorm3d(out_channels, affine=True),
            nn.LeakyReLU(0.01, inplace=True),
        ]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """Encoder, decoder with skips, and a classifier on the deepest features.

    Parameters
    ----------
    in_channels : image channels C
    num_regions : segmentation outputs R; 0 leaves the decoder out
    num_classes : classification outputs K; 0 leaves the classifier out
    channels : features of each encoder stage, from the finest to the deepest
    strides : downsampling (D, H, W) at the entry of each stage; the first one is the stem's, undone at the output
    pooled_grid, dropout : of ``build_classifier``
    """

    def __init__(
        self,
        in_channels: int,
        num_regions: int,
        num_classes: int,
        channels: Sequence[int],
        strides: Sequence[Sequence[int]],
        pooled_grid: Sequence[int],
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        if not num_regions and not num_classes:
            raise ValueError("a model needs a segmentation head, a classification head or both: found neither")
        if len(channels) != len(strides):
            raise ValueError(f"unet: {len(channels)} channels but {len(strides)} strides; give one of each a stage")
        sources = [in_channels, *channels[:-1]]
        self.encoder = nn.ModuleList(
            _block(source, target, stride) for source, target, stride in zip(sources, channels, strides, strict=True)
        )
        self.upsamplers = nn.ModuleList()
        self.decoder = nn.ModuleList()
        self.segmentation_head: nn.Module | None = None
        self.classifier: nn.Module | None = None
        if num_regions:
            for stage in range(len(channels) - 1, 0, -1):
                stride = tuple(strides[stage])
                shallow = channels[stage - 1]
                self.upsamplers.append(nn.ConvTranspose3d(channels[stage], shallow, stride, stride))
                self.decoder.append(_block(2 * shallow, shallow, (1, 1, 1)))
            stem = tuple(strides[0])
            self.segmentation_head = nn.ConvTranspose3d(channels[0], num_regions, stem, stem)
            expect_rare_regions(self.segmentation_head)
        if num_classes:
            self.classifier = build_classifier(channels[-1], num_classes, pooled_grid, dropout)

    def stages(self) -> list[nn.Module]:
        """Blocks whose activations take most of the memory."""
        return [*self.encoder, *self.decoder]

    def forward(self, images: Tensor) -> Logits:
        """Run the network.

        Parameters
        ----------
        images : float32 (B, C, D, H, W), scaled to [0, 1]; sizes that the strides divide
        """
        skips = []
        features = images
        for stage in self.encoder:
            features = stage(features)
            skips.append(features)
        classification = None if self.classifier is None else self.classifier(features)
        if self.segmentation_head is None:
            return Logits(None, classification)
        for upsample, block, skip in zip(self.upsamplers, self.decoder, skips[-2::-1], strict=True):
            features = block(torch.cat([upsample(features), skip], dim=1))
        return Logits(self.segmentation_head(features), classification)
