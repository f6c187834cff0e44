"""Layers of a residual U-Net, computed fast on a CPU, too: in bfloat16, channels last in memory."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

# Of LeakyReLU, below 0.
SLOPE = 0.01


class InstanceNorm(nn.Module):
    """Instance normalisation with a factor and an offset per feature."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(features)), nn.Parameter(torch.zeros(features))

    def forward(self, features: Tensor) -> Tensor:
        """Normalise each feature of each sample, float (B, F, ...), over its voxels."""
        if features.device.type != "cpu":
            return functional.instance_norm(features, weight=self.weight, bias=self.bias)
        # PyTorch's own copies, on a CPU, to the default order in memory and back, which takes longer than the rest of
        # it. Batch normalisation of one sample is the same and does not copy.
        fixed = (None, None, self.weight, self.bias)
        return torch.cat([functional.batch_norm(sample, *fixed, training=True) for sample in features.split(1)])


class PooledProjection(nn.Module):
    """Average pooling over a stride and a 1x1x1 convolution, in one: pooling has no bfloat16 form on a CPU.

    Parameters
    ----------
    convolution : gives its weight (F', F, 1, 1, 1), or (F', F, 1, 1) of slices
    stride : as many numbers as the weight has axes of space
    """

    def __init__(self, convolution: nn.Module, stride: tuple[int, ...]) -> None:
        super().__init__()
        self.weight, self.stride = convolution.weight, stride
        self._convolve = functional.conv2d if len(stride) == 2 else functional.conv3d

    def forward(self, features: Tensor) -> Tensor:
        """Map float (B, F, ...) to float (B, F', ...), sizes divided by the stride."""
        kernel = self.weight.expand(-1, -1, *self.stride) / math.prod(self.stride)
        return self._convolve(features, kernel, stride=self.stride)


class Layers:
    """Layers of two or three axes: a network that never reaches along D works on slices.

    Parameters
    ----------
    is_flat : convolve slices, with the last two numbers of kernels and strides
    """

    def __init__(self, is_flat: bool) -> None:
        self._is_flat = is_flat
        self._convolution = nn.Conv2d if is_flat else nn.Conv3d
        self._transposed = nn.ConvTranspose2d if is_flat else nn.ConvTranspose3d

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

    def average_and_project(self, source: int, target: int, stride: Sequence[int]) -> nn.Module:
        """The mean over each stride, and a linear map of its features."""
        return PooledProjection(self.convolve(source, target, (1, 1, 1)), self._axes(stride))

    def convolve_and_scale(
        self, source: int, target: int, kernel: Sequence[int], stride: Sequence[int] = (1, 1, 1)
    ) -> nn.Sequential:
        """Convolution, instance normalisation, LeakyReLU."""
        convolution = self.convolve(source, target, kernel, stride)
        return nn.Sequential(convolution, InstanceNorm(target), nn.LeakyReLU(SLOPE, inplace=True))


class ResidualBlock(nn.Module):
    """Two convolutions around which the features go, averaged where the first one strides."""

    def __init__(self, layers: Layers, source: int, target: int, kernel: Sequence[int], stride: Sequence[int]) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *layers.convolve_and_scale(source, target, kernel, stride),
            layers.convolve(target, target, kernel),
            InstanceNorm(target),
        )
        self.shortcut: nn.Module = nn.Identity()
        if source != target or math.prod(stride) > 1:
            projection = layers.average_and_project(source, target, stride)
            self.shortcut = nn.Sequential(projection, InstanceNorm(target))
        self.activation = nn.LeakyReLU(SLOPE, inplace=True)

    def forward(self, features: Tensor) -> Tensor:
        """Run the block."""
        return self.activation(self.body(features) + self.shortcut(features))
