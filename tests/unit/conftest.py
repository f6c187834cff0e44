"""Unit tests compute on one thread: their arrays are too small to share out, and the machine may be busy."""

import torch

torch.set_num_threads(1)
