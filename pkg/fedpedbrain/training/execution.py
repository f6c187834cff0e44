"""How a training step is computed: precision, memory for time, compilation. None of it changes what is computed."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn

from fedpedbrain.base.errors import StudyError
from fedpedbrain.models.networks import freeze_encoder
from fedpedbrain.models.placement import to_device


def training_batch_norms(model: nn.Module) -> list[nn.Module]:
    """Batch normalisation layers that are in training mode."""
    return [part for part in model.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.training]


def batch_statistics_names(model: nn.Module) -> set[str]:
    """State dict entries that are batch normalisation's statistics."""
    return {
        f"{layer_name}.{name}"
        for layer_name, layer in model.named_modules()
        if isinstance(layer, nn.modules.batchnorm._BatchNorm)
        for name, _ in layer.named_buffers()
    }


def freeze_batch_statistics(model: nn.Module) -> None:
    """Have batch normalisation use and keep the statistics that it starts with; its factors still train."""
    for norm in training_batch_norms(model):
        norm.train(False)


def computes_in_bfloat16(precision: str, device: torch.device) -> bool:
    """Whether ``training.precision`` means bfloat16 on a device; ``auto`` does on GPUs that have instructions for it.

    CPUs that have them gain too (``make benchmark``), but only who asks for it: see ``keep_small_convolutions_exact``.
    """
    if precision != "auto":
        return precision == "bfloat16"
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def autocast(precision: str, device: torch.device) -> AbstractContextManager:
    """Context in which a forward pass is computed; weights and losses stay float32."""
    if not computes_in_bfloat16(precision, device):
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


def _convolve_exactly(layer: nn.Module, forward: Callable[[Tensor], Tensor], features: Tensor) -> Tensor:
    """Leave autocast where the kernel is as long as the features along an axis, or longer."""
    if all(size > extent or extent == 1 for size, extent in zip(features.shape[2:], layer.kernel_size, strict=True)):
        return forward(features)
    with torch.autocast(features.device.type, enabled=False):
        return forward(features.float())


def keep_small_convolutions_exact(model: nn.Module) -> None:
    """Have convolutions of few voxels computed in float32 under autocast on a CPU.

    There the gradient of such a kernel in bfloat16 (oneDNN 3.12 of PyTorch 2.13) is memory that was never written, or
    written out of bounds: 3x3x3 over a depth of 2, 2x3x3 transposed over 1 x 1, 7x7x7 over a depth of up to 7.
    """
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
            layer.forward = partial(_convolve_exactly, layer, layer.forward)


@contextmanager
def _statistics_unmoved(module: nn.Module) -> Iterator[None]:
    """Keep batch normalisation from counting a batch twice when it is computed again: copies count it.

    Without any statistics it would save other tensors for the backward pass, which ``checkpoint`` refuses.
    """
    norms = training_batch_norms(module)
    kept = [(norm, name, statistic) for norm in norms for name, statistic in norm.named_buffers()]
    for norm, name, statistic in kept:
        setattr(norm, name, statistic.clone())
    try:
        yield
    finally:
        for norm, name, statistic in kept:
            setattr(norm, name, statistic)


def checkpoint_activations(model: nn.Module) -> None:
    """Have a network's stages, its ``stages()``, compute their activations again in the backward pass.

    Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016.
    """
    from torch.utils.checkpoint import checkpoint

    for stage in model.stages():
        contexts = partial(lambda module: (nullcontext(), _statistics_unmoved(module)), stage)
        stage.forward = partial(checkpoint, stage.forward, use_reentrant=False, context_fn=contexts)


def prepare_training(model: nn.Module, settings: Mapping, device: torch.device) -> nn.Module:
    """Bring a network to a device in training mode, set up as the ``training`` block says."""
    if settings["deterministic"]:
        # Some layers (trilinear resizing, 3-D maximum pooling) have no deterministic GPU form: those warn.
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = False
    else:
        # Shapes repeat, so the search for the fastest convolution pays.
        torch.backends.cudnn.benchmark = True
    model = to_device(model, device).train()
    if device.type == "cpu" and computes_in_bfloat16(settings["precision"], device):
        keep_small_convolutions_exact(model)
    if settings["freeze_encoder"]:
        freeze_encoder(model)
    if settings["checkpoint_activations"]:
        checkpoint_activations(model)
    if settings["compile"]:
        model.compile()
    return model


@contextmanager
def explained_memory(who: str, settings: Mapping, grid: list[int], one_by_one: bool = False) -> Iterator[None]:
    """Turn running out of memory into a message that names the setting to change.

    Parameters
    ----------
    settings : the ``training`` block; where it speaks of patches, their size counts in the place of ``grid``
    one_by_one : whether cases go through the network one at a time whatever the ``training`` block says
    """
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        part = 1 if one_by_one else settings["micro_batch_size"] or settings["batch_size"]
        at_once, patch = min(part, settings["batch_size"]), settings.get("patch")
        samples, size = ("patches", patch["size"]) if patch else ("cases", grid)
        advice = (
            f"set training.micro_batch_size below {at_once}"
            if at_once > 1
            else f"lower {'training.patch.size' if patch else 'preprocessing.grid'}"
            if settings["checkpoint_activations"]
            else "set training.checkpoint_activations: true"
        )
        raise StudyError(
            f"{who}: out of memory with {at_once} {samples} of {'x'.join(map(str, size))} voxels at once; {advice}"
        ) from None
