"""The baseline that the benchmarks compare with: training as the FL-PedBrain port is described to do it.

The whole site lies in memory as (N, H, W, D), each sample is cropped and resized by SciPy on its own, the network
computes and trains layers that feed nothing, everything is float32 in the default memory layout.
"""

import numpy as np
import torch
from fedpedbrain.models.architectures.i3d_unet import I3DUNet, build_inception
from torch import nn


class NaiveSite:
    """Every image uint8 (N, H, W, D) and mask of a site, in memory.

    Parameters
    ----------
    images, masks : uint8 (N, 1, D, H, W), as a shard holds them
    crop_fraction : side of the random crop that is resized to the full plane
    """

    def __init__(self, images: np.ndarray, masks: np.ndarray, crop_fraction: float) -> None:
        self.images = np.ascontiguousarray(images[:, 0].transpose(0, 2, 3, 1))
        self.masks = np.ascontiguousarray(masks[:, 0].transpose(0, 2, 3, 1))
        self.crop_fraction = crop_fraction
        self.rng = np.random.default_rng(0)

    def sample(self, row: int) -> tuple[torch.Tensor, torch.Tensor]:
        """One augmented sample: image and mask float32 (1, D, H, W)."""
        # Here alone, so that the network below needs no SciPy.
        import scipy.ndimage

        image, mask = self.images[row].astype(np.float32) / 255.0, self.masks[row].astype(np.float32)
        height, width, _ = image.shape
        rows, columns = round(self.crop_fraction * height), round(self.crop_fraction * width)
        top, left = self.rng.integers(0, height - rows + 1), self.rng.integers(0, width - columns + 1)
        window = np.s_[top : top + rows, left : left + columns]
        factors = (height / rows, width / columns, 1.0)
        image = scipy.ndimage.zoom(image[window], factors, order=1)
        mask = scipy.ndimage.zoom(mask[window], factors, order=0)
        arrays = (np.ascontiguousarray(array.transpose(2, 0, 1))[None] for array in (image, mask))
        image_tensor, mask_tensor = map(torch.from_numpy, arrays)
        return image_tensor, mask_tensor

    def batch(self, rows: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Augmented samples, stacked: float32 (B, 1, D, H, W) each."""
        images, masks = zip(*map(self.sample, rows), strict=True)
        return torch.stack(images), torch.stack(masks)


class NaiveI3DUNet(I3DUNet):
    """The reference network with the layers behind the bottleneck that feed neither head."""

    def __init__(self, num_classes: int, width: float = 1.0) -> None:
        super().__init__(1, 1, num_classes, width=width, dropout=0.0)
        first, channels = build_inception(self.encoder.out_channels, width, (256, 160, 320, 32, 128, 128))
        second, channels = build_inception(channels, width, (384, 192, 384, 48, 128, 128))
        self.unused = nn.Sequential(first, second, nn.Conv3d(channels, 400, 1))
        self.encoder.register_forward_hook(self._compute_unused)

    def _compute_unused(self, encoder: nn.Module, inputs: tuple, outputs: tuple) -> None:
        self.unused(outputs[0])
