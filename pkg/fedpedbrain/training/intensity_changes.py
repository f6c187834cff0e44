"""Changes of the intensities of a batch, as nnU-Net makes them (batchgeneratorsv2), for all chosen channels at once.

Volumes are float32 (N, D, H, W), one channel of one sample each, in any unit. What a change depends on is measured on
the volume itself, so that it means the same for intensities in [0, 1] and for z-scores.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

# Of a volume's range or deviation, below which it is taken for constant.
_SMALL = 1e-7


def _shaped(values: Tensor) -> Tensor:
    """One number per volume, to be computed with volumes."""
    return values.view(-1, 1, 1, 1)


def _means(volumes: Tensor) -> Tensor:
    return volumes.mean((1, 2, 3), keepdim=True)


def _deviations(volumes: Tensor) -> Tensor:
    return volumes.std((1, 2, 3), correction=0, keepdim=True)


def add_noise(volumes: Tensor, deviations: Tensor, seeds: Sequence[int]) -> Tensor:
    """Add Gaussian noise.

    Parameters
    ----------
    deviations : of the noise, over the standard deviation of its volume, float32 (N,)
    seeds : of each volume's noise
    """
    device = volumes.device
    generators = (torch.Generator(device).manual_seed(seed) for seed in seeds)
    noise = torch.stack([torch.randn(volumes.shape[1:], generator=one, device=device) for one in generators])
    return volumes + noise * _deviations(volumes) * _shaped(deviations)


def multiply(volumes: Tensor, factors: Tensor) -> Tensor:
    """Multiply intensities, float32 (N,)."""
    return volumes * _shaped(factors)


def change_contrast(volumes: Tensor, factors: Tensor) -> Tensor:
    """Multiply the distance from a volume's mean, float32 (N,); what leaves its range is cut off there."""
    means, least, most = _means(volumes), volumes.amin((1, 2, 3), keepdim=True), volumes.amax((1, 2, 3), keepdim=True)
    return torch.clamp((volumes - means) * _shaped(factors) + means, least, most)


def take_power(volumes: Tensor, exponents: Tensor) -> Tensor:
    """Take a power of intensities scaled to [0, 1], float32 (N,); a volume keeps its mean and standard deviation."""
    least = volumes.amin((1, 2, 3), keepdim=True)
    spread = (volumes.amax((1, 2, 3), keepdim=True) - least).clamp(min=_SMALL)
    powers = ((volumes - least) / spread).clamp(0.0, 1.0) ** _shaped(exponents)
    scale = _deviations(volumes) / _deviations(powers).clamp(min=_SMALL)
    return (powers - _means(powers)) * scale + _means(volumes)


def take_inverted_power(volumes: Tensor, exponents: Tensor) -> Tensor:
    """As ``take_power``, of the inverted intensities, which are then inverted back."""
    return -take_power(-volumes, exponents)


def _along_axes(volumes: Tensor, matrices: Sequence[Tensor | None]) -> Tensor:
    """Multiply along D, H and W by one matrix per volume, float32 (N, size, size) each; None leaves an axis."""
    products = ("nid,ndhw->nihw", "nih,ndhw->ndiw", "niw,ndhw->ndhi")
    for product, matrix in zip(products, matrices, strict=True):
        if matrix is not None:
            volumes = torch.einsum(product, matrix, volumes)
    return volumes


def blur_matrix(size: int, sigmas: Tensor) -> Tensor:
    """Gaussian means along an axis of ``size`` voxels, float32 (N, size, size); rows sum to 1, at the edges as well."""
    places = torch.arange(size, device=sigmas.device)
    distances = (places[:, None] - places[None, :]).float()
    weights = torch.exp(-0.5 * (distances[None] / sigmas.view(-1, 1, 1)) ** 2)
    return weights / weights.sum(-1, keepdim=True)


def low_resolution_matrix(size: int, fractions: Tensor) -> Tensor:
    """The voxels of a coarser axis, each taken from the nearest of ``size``, interpolated linearly to ``size`` again.

    Parameters
    ----------
    fractions : of the voxels that the coarser axis has, in (0, 1], float32 (N,)

    Returns
    -------
    float32 (N, size, size); rows sum to 1
    """
    coarse = (size * fractions).round().clamp(min=1).view(-1, 1)
    places = torch.arange(size, device=fractions.device).float()
    between = ((places + 0.5) * coarse / size - 0.5).clamp(min=0.0)
    between = torch.minimum(between, coarse - 1)
    before = between.floor()
    matrix = torch.zeros(len(fractions), size, size, device=fractions.device)
    share = between - before
    for number, weight in ((before, 1.0 - share), (torch.minimum(before + 1, coarse - 1), share)):
        source = ((number + 0.5) * size / coarse).long().clamp(max=size - 1)
        matrix.scatter_add_(2, source.unsqueeze(-1), weight.unsqueeze(-1))
    return matrix


def _matrices(
    volumes: Tensor, build: Callable[[int, Tensor], Tensor], values: Tensor, is_plane: bool
) -> list[Tensor | None]:
    sizes = volumes.shape[1:]
    return [None if is_plane and axis == 0 else build(size, values) for axis, size in enumerate(sizes)]


def blur(volumes: Tensor, sigmas: Tensor, is_plane: bool) -> Tensor:
    """Blur by a Gaussian of standard deviations in voxels, float32 (N,); ``is_plane`` leaves the axis D."""
    return _along_axes(volumes, _matrices(volumes, blur_matrix, sigmas, is_plane))


def lower_resolution(volumes: Tensor, fractions: Tensor, is_plane: bool) -> Tensor:
    """Take a part of the voxels along each axis, float32 (N,), and interpolate; ``is_plane`` leaves the axis D."""
    return _along_axes(volumes, _matrices(volumes, low_resolution_matrix, fractions, is_plane))
