"""The reference network's own facts, beside the repository: its keys, and the weights and input of its logits."""

import math
import zlib
from pathlib import Path

import numpy as np
import torch

REFERENCE = Path(__file__).resolve().parents[2].parent / "shared" / "reference"


def reference_path(name: str) -> Path:
    """A file of the reference's facts; skips the test where it is not there."""
    # Here alone, so that benchmarks need no pytest.
    import pytest

    path = REFERENCE / name
    if not path.exists():
        pytest.skip(f"{path} is absent: the reference's facts are not part of the repository")
    return path


def fixture_tensor(key: str, shape: tuple[int, ...]) -> torch.Tensor:
    """The value that the parity fixture's weights have at ``key``, as its facts file states the rule."""
    if key.endswith("num_batches_tracked"):
        return torch.tensor(7)
    x = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(shape)
    kind = key.rsplit(".", maxsplit=1)[1]
    if kind == "running_var":
        x = 1 + 0.1 * np.abs(x)
    elif kind == "weight" and len(shape) == 1:
        x = 1 + 0.1 * x
    elif kind == "weight":
        x = x * math.sqrt(2 / math.prod(shape[1:]))
    else:
        x = 0.1 * x
    return torch.from_numpy(x.astype(np.float32))
