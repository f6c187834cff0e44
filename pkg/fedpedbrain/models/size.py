"""Size of a network's weights, without making any: for the process that plans a run, which does not import torch."""

import json
import sys

import torch

from fedpedbrain.models.files import ModelSpec


def num_bytes(spec: ModelSpec) -> int:
    """Bytes of all weights and buffers of a network."""
    with torch.device("meta"):
        model = spec.build()
    return sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())


if __name__ == "__main__":
    sys.stdout.write(f"{num_bytes(ModelSpec(**json.load(sys.stdin)))}\n")
