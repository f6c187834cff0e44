"""Networks: built by the config's word, see ``study.network_facts``."""

from torch import nn

from fedpedbrain.study.network_facts import NETWORKS


def build_model(name: str, in_channels: int, num_regions: int, num_classes: int, **options) -> nn.Module:
    """Build a network with fresh weights.

    Parameters
    ----------
    name : a word of ``NETWORKS``
    in_channels, num_regions, num_classes : image channels C, segmentation outputs R, classification outputs K
    options : further arguments of that network, the config's ``network.<name>`` block
    """
    return NETWORKS.load(name)(in_channels, num_regions, num_classes, **options)


def freeze_encoder(model: nn.Module) -> None:
    """Keep the encoder's weights and batch statistics as they are."""
    model.encoder.requires_grad_(False)
    model.encoder.train(False)
