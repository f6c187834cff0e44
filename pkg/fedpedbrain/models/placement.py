"""What a network is handed: weights and images on a device, in the order in memory and the scale that it works in."""

import torch
from torch import Tensor, nn


def to_device(model: nn.Module, device: torch.device) -> nn.Module:
    """Move a network to a device with its weights channels last in memory, in which convolutions run faster."""
    has_volumes = any(weight.dim() == 5 for weight in model.parameters())
    return model.to(device, memory_format=torch.channels_last_3d if has_volumes else torch.channels_last)


def to_unit(images: Tensor) -> Tensor:
    """Images of a shard as float32: uint8 in [0, 1], other numbers as they are."""
    return images * (1.0 / 255.0) if images.dtype == torch.uint8 else images.float()
