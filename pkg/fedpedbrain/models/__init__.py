"""Networks, and the weights that they start from."""

from fedpedbrain.models.networks import MODELS, build_model
from fedpedbrain.models.pretrained import load_pretrained, save_reference_checkpoint

__all__ = ["MODELS", "build_model", "load_pretrained", "save_reference_checkpoint"]
