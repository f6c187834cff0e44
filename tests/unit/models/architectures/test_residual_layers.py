"""Layers that are computed in another way than PyTorch's own give the same numbers and gradients."""

import pytest
import torch
from fedpedbrain.models.architectures.residual_layers import InstanceNorm, PooledProjection
from fedpedbrain.training.execution import autocast
from torch import Tensor, nn
from torch.nn import functional

CPU = torch.device("cpu")
SHAPES = [(3, 4, 2, 6, 8), (3, 4, 6, 8)]
either_rank = pytest.mark.parametrize("shape", SHAPES, ids=["volumes", "slices"])


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def draw_features(shape: tuple[int, ...]) -> Tensor:
    """Features channels last in memory, as those of a training job."""
    order = torch.channels_last_3d if len(shape) == 5 else torch.channels_last
    return draw(*shape).contiguous(memory_format=order).requires_grad_()


def gradients(found: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad((found * draw(*found.shape, seed=1)).sum(), tensors)


@either_rank
def test_instance_normalisation_is_pytorchs(shape):
    norm, features = InstanceNorm(4), draw_features(shape)
    norm.weight.data, norm.bias.data = draw(4, seed=2), draw(4, seed=3)
    found = norm(features)
    expected = functional.instance_norm(features, weight=norm.weight, bias=norm.bias)
    torch.testing.assert_close(found, expected)
    parameters = (features, norm.weight, norm.bias)
    torch.testing.assert_close(gradients(found, *parameters), gradients(expected, *parameters))


@either_rank
def test_instance_normalisation_leaves_features_in_their_order_in_memory(shape):
    features = draw_features(shape)
    assert InstanceNorm(4)(features).stride() == features.stride()


@either_rank
def test_a_pooled_projection_is_average_pooling_and_a_convolution(shape):
    rank = len(shape) - 2
    convolution, pool = (nn.Conv3d, functional.avg_pool3d) if rank == 3 else (nn.Conv2d, functional.avg_pool2d)
    convolution, stride = convolution(4, 5, 1, bias=False), (2, 2, 4)[-rank:]
    projection, features = PooledProjection(convolution, stride), draw_features(shape)
    found, expected = projection(features), convolution(pool(features, stride))
    torch.testing.assert_close(found, expected)
    tensors = (features, projection.weight)
    torch.testing.assert_close(gradients(found, *tensors), gradients(expected, *tensors))


@pytest.mark.parametrize("size", [(2, 2, 2), (2, 4, 4), (4, 4, 4)])
def test_a_pooled_projection_of_few_voxels_has_its_gradient_in_bfloat16(size):
    # Convolutions with padding do not, there: see ``keep_small_convolutions_exact``.
    projection = PooledProjection(nn.Conv3d(16, 32, 1, bias=False), (2, 2, 2))
    features = draw_features((2, 16, *size))
    expected = gradients(projection(features), projection.weight)[0]
    with autocast("bfloat16", CPU):
        found = projection(features)
    assert found.dtype == torch.bfloat16
    assert (gradients(found.float(), projection.weight)[0] - expected).norm() < 0.02 * expected.norm()
