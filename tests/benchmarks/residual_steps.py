"""Training steps of ``residual_unet``: as a training job computes them, and as one would write them plainly.

The plain network has the same layers, by PyTorch's own functions, in float32 and in the default order in memory.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from fedpedbrain.models.architectures.residual_layers import InstanceNorm, PooledProjection
from torch import Tensor, nn
from torch.nn import functional
from training_steps import PRECISIONS, NaiveTraining, OurTraining, StepShape

CPU = torch.device("cpu")
_SLICES = {"strides": [[1, 1, 1], *[[1, 2, 2]] * 4], "kernels": [[1, 3, 3]] * 5, "neighbours": 1}
_VOLUMES = {
    "features": [16, 32, 64, 128],
    "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2], [2, 2, 2]],
    "kernels": [[1, 3, 3], *[[3, 3, 3]] * 3],
    "blocks": [1] * 4,
}
_LOSS = {"num_classes": 0, "segmentation_loss": "batch_dice_cross_entropy"}
SHAPES: Mapping[str, StepShape] = {
    "16 slices, 8 to 128 features": StepShape(
        "residual_unet", 16, (1, 128, 128), _SLICES | {"features": [8, 16, 32, 64, 128]}, **_LOSS
    ),
    "16 slices, 16 to 256": StepShape("residual_unet", 16, (1, 128, 128), _SLICES, **_LOSS),
    "2 volumes, 16 to 128": StepShape("residual_unet", 2, (16, 64, 64), _VOLUMES, **_LOSS),
}


def _pool_and_project(layer: PooledProjection, features: Tensor) -> Tensor:
    is_volume = features.dim() == 5
    pool = functional.avg_pool3d if is_volume else functional.avg_pool2d
    convolve = functional.conv3d if is_volume else functional.conv2d
    return convolve(pool(features, layer.stride), layer.weight)


def compute_plainly(model: nn.Module) -> None:
    """Have a network computed by PyTorch's own instance normalisation and average pooling."""
    for layer in model.modules():
        if isinstance(layer, InstanceNorm):
            layer.forward = partial(functional.instance_norm, weight=layer.weight, bias=layer.bias)
        elif isinstance(layer, PooledProjection):
            layer.forward = partial(_pool_and_project, layer)


def steps_of(shape: StepShape) -> dict[str, Callable[[], float]]:
    """Steps on one batch, each of which returns its loss: plain, and of a job in each precision."""
    plain = NaiveTraining(shape, CPU)
    compute_plainly(plain.model)
    ours = {precision: OurTraining(shape, CPU, precision=precision) for precision in PRECISIONS}
    batch = ours["float32"].draw_batch()
    steps = {"plain": partial(plain.learn, replace(batch, images=batch.images.contiguous()))}
    return steps | {precision: partial(training.learn, batch) for precision, training in ours.items()}


def residual_steps(repeats: int = 7) -> dict[str, float]:
    """Median milliseconds of a step by shape, all kinds of steps in turn.

    CPU time of one thread, which other work on the machine hardly changes.
    """
    threads, found = torch.get_num_threads(), {}
    torch.set_num_threads(1)
    for name, shape in SHAPES.items():
        steps = steps_of(shape)
        times: dict[str, list[float]] = {kind: [] for kind in steps}
        # The first turn does not count: it also chooses how to convolve.
        for _ in range(repeats + 1):
            for kind, step in steps.items():
                start = time.process_time()
                step()
                times[kind].append(time.process_time() - start)
        found |= {f"{name}, {kind}": 1000.0 * float(np.median(values[1:])) for kind, values in times.items()}
    torch.set_num_threads(threads)
    return found
