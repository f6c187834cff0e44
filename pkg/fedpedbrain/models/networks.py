"""Networks: one explicit table from the config's word to the class."""

from torch import nn

from fedpedbrain.base.errors import StudyError
from fedpedbrain.models.architectures.i3d_unet import I3DUNet
from fedpedbrain.models.architectures.unet import UNet

MODELS: dict[str, type[nn.Module]] = {"unet": UNet, "i3d_unet": I3DUNet}


def build_model(name: str, in_channels: int, num_regions: int, num_classes: int, **options) -> nn.Module:
    """Build a network with fresh weights.

    Parameters
    ----------
    name : a key of ``MODELS``
    in_channels, num_regions, num_classes : image channels C, segmentation outputs R, classification outputs K
    options : further arguments of that network, the config's ``network.<name>`` block
    """
    if name not in MODELS:
        raise StudyError(f"network.name: unknown model {name!r}; known are {', '.join(MODELS)}")
    return MODELS[name](in_channels, num_regions, num_classes, **options)
