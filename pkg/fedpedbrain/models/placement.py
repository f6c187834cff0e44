"""Where a network's weights lie: on which device, and in which order in memory."""

import torch
from torch import nn


def to_device(model: nn.Module, device: torch.device) -> nn.Module:
    """Move a network to a device with its weights channels last in memory, in which convolutions run faster."""
    has_volumes = any(weight.dim() == 5 for weight in model.parameters())
    return model.to(device, memory_format=torch.channels_last_3d if has_volumes else torch.channels_last)
