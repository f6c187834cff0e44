"""Training steps as a job computes them and as the baseline does, on made-up cases: for benchmarks with torch alone.

Needs torch, NumPy and the package, and what of the package needs no more.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fedpedbrain.base.cases import Case, Shard, write_cases
from fedpedbrain.data.grid.dataset import digest_on_grid
from fedpedbrain.models.networks import build_model
from fedpedbrain.study.augmentation_facts import AUGMENTATIONS
from fedpedbrain.study.network_facts import NETWORKS
from fedpedbrain.training.augmentation import Augmentation
from fedpedbrain.training.batches import Batch
from fedpedbrain.training.epochs import train_epochs
from fedpedbrain.training.execution import prepare_training
from fedpedbrain.training.losses.joint import JointLoss
from fedpedbrain.training.optimizers import build_optimizer
from naive import NaiveI3DUNet, NaiveSite
from torch import nn

Grid = tuple[int, int, int]

# A crop of 240 of 256 voxels, as the published network is trained with.
REFERENCE_CROP = 240 / 256
PLAIN_CROP = dict.fromkeys(AUGMENTATIONS["in_plane"].options, 0.0) | {"crop_fraction": REFERENCE_CROP}
PRECISIONS = ("float32", "bfloat16")
LEARNING_RATE = 1e-4
OPTIMIZER = {"name": "adamw", "weight_decay": 0.0}
LOSS = {"classification": "cross_entropy", "segmentation_weight": 1.0, "classification_weight": 1.0}
# What a step reads of the ``training`` block.
SETTINGS = {
    "precision": "auto",
    "deterministic": False,
    "freeze_encoder": False,
    "checkpoint_activations": False,
    "compile": False,
    "micro_batch_size": None,
    "max_gradient_norm": 1.0,
}


def seconds_in_turn(
    actions: Mapping[str, Callable[[], object]],
    repeats: int,
    prepare: Callable[[], object] = lambda: None,
    at_most_seconds: float = math.inf,
) -> dict[str, float]:
    """Median wall time of each action, all of them run in turn, after one turn that does not count.

    Parameters
    ----------
    prepare : called before each action, and not timed
    at_most_seconds : after which no further turn begins, once there is one that counts
    """
    times: dict[str, list[float]] = {name: [] for name in actions}
    begun = time.perf_counter()
    for turn in range(repeats + 1):
        for name, action in actions.items():
            prepare()
            start = time.perf_counter()
            action()
            if turn:
                times[name].append(time.perf_counter() - start)
        if turn and time.perf_counter() - begun > at_most_seconds:
            break
    return {name: float(np.median(values)) for name, values in times.items()}


@cache
def simulated_site(num_cases: int, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Images and masks uint8 (N, 1, D, H, W), not to be written to: noise with a bright ball that is the tumour."""
    rng = np.random.default_rng(0)
    where = np.indices(grid).astype(np.float32)
    masks = np.zeros((num_cases, 1, *grid), np.uint8)
    for mask in masks:
        centre = [rng.uniform(0.3, 0.7) * size for size in grid]
        distance = sum(((axis - middle) / size) ** 2 for axis, middle, size in zip(where, centre, grid, strict=True))
        mask[0] = distance < rng.uniform(0.1, 0.2) ** 2
    return rng.integers(0, 120, masks.shape, dtype=np.uint8) + 100 * masks, masks


def write_shard(folder: Path, images: np.ndarray, masks: np.ndarray) -> Shard:
    """Write cases, uint8 (N, 1, D, H, W), as the shard of a site that trains on all of them."""
    for name, arrays in (("images", images), ("masks", masks)):
        np.save(folder / f"{name}.npy", arrays)
    grid, spacing_mm = images.shape[2:], (1.0, 1.0, 1.0)
    cases = []
    for number, arrays in enumerate(zip(images, masks, strict=True)):
        name, digests = f"case-{number:03d}", tuple(map(digest_on_grid, arrays))
        cases.append(Case(name, name, "north", "a", (), "", grid, spacing_mm, "sha", "train", spacing_mm, digests))
    write_cases(folder / "cases.tsv", cases)
    return Shard(folder, folder / "cases.tsv")


@dataclass(frozen=True)
class StepShape:
    """What a training step is timed with: one channel and one region.

    Attributes
    ----------
    network : word of ``NETWORKS``
    batch : samples
    grid : voxels of a sample (D, H, W), without the slices around it that the network sees
    options : of the network, where not its defaults
    num_classes : 0 for none
    segmentation_loss : word of ``SEGMENTATION_LOSSES``
    """

    network: str
    batch: int
    grid: Grid
    options: Mapping[str, Any] = field(default_factory=dict)
    num_classes: int = 5
    segmentation_loss: str = "dice_cross_entropy"

    def build(self) -> nn.Module:
        """The network with fresh weights."""
        return build_model(self.network, 1, 1, self.num_classes, **NETWORKS[self.network].settings(self.options))

    def build_loss(self, device: torch.device) -> JointLoss:
        """The loss, with all classes alike."""
        settings = LOSS | {"segmentation": self.segmentation_loss}
        return JointLoss(settings, torch.ones(self.num_classes, device=device))

    def cases(self, context: int) -> tuple[np.ndarray, np.ndarray]:
        """Images and masks, uint8 (B, 1, D + 2 ``context``, H, W)."""
        depth, *plane = self.grid
        return simulated_site(self.batch, (depth + 2 * context, *plane))

    def draw_batch(self, number: int, context: int, device: torch.device) -> Batch:
        """The cases on a device, cropped as in no batch of another number."""
        augmentation = Augmentation(PLAIN_CROP)
        changes = [augmentation.draw(number, case) for case in range(self.batch)]
        arrays = (torch.from_numpy(array).to(device) for array in self.cases(context))
        return self.to_batch(*augmentation(*arrays, changes), context)

    def to_batch(self, images: torch.Tensor, masks: torch.Tensor, context: int) -> Batch:
        """A batch of augmented cases, whose masks lose the slices that the network sees beyond a sample."""
        classes = torch.arange(self.batch, device=images.device) % max(self.num_classes, 1)
        return Batch(images, masks[:, :, context : context + self.grid[0]], classes)


class OurTraining:
    """Steps as a training job computes them.

    Parameters
    ----------
    settings : keys of the ``training`` block that differ from ``SETTINGS``
    """

    def __init__(self, shape: StepShape, device: torch.device, **settings: Any) -> None:
        torch.manual_seed(0)
        self.shape, self.device, self.settings = shape, device, SETTINGS | settings
        self.model = prepare_training(shape.build(), self.settings, device)
        self.context = getattr(self.model, "context", 0)
        self.optimizer = build_optimizer(self.model.parameters(), OPTIMIZER, LEARNING_RATE)
        self.loss, self.num_batches = shape.build_loss(device), 0

    def draw_batch(self) -> Batch:
        """The cases, changed as in no batch before."""
        self.num_batches += 1
        return self.shape.draw_batch(self.num_batches, self.context, self.device)

    def learn(self, batch: Batch) -> float:
        """One optimizer step; returns its loss."""
        return train_epochs(self.model, self.optimizer, self.loss, [[batch]], self.settings)[0]

    def step(self) -> float:
        """One optimizer step on a new batch; returns its loss."""
        return self.learn(self.draw_batch())


class NaiveTraining:
    """Steps as the baseline computes them."""

    def __init__(self, shape: StepShape, device: torch.device) -> None:
        torch.manual_seed(0)
        is_published = shape.network == "i3d_unet"
        model = NaiveI3DUNet(shape.num_classes, shape.options["width"]) if is_published else shape.build()
        self.shape, self.device, self.model = shape, device, model.to(device).train()
        self.context = getattr(model, "context", 0)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=LEARNING_RATE)
        self.loss = shape.build_loss(device)
        self.site = NaiveSite(*shape.cases(self.context), REFERENCE_CROP)

    def draw_batch(self) -> Batch:
        """The cases, changed anew."""
        images, masks = (tensor.to(self.device) for tensor in self.site.batch(list(range(self.shape.batch))))
        return self.shape.to_batch(images, masks, self.context)

    def learn(self, batch: Batch) -> float:
        """One optimizer step, with PyTorch's own choice of convolutions; returns its loss."""
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=False, allow_tf32=True):
            self.optimizer.zero_grad()
            loss = self.loss(self.model(batch.images), batch.masks, batch.class_indices)
            loss.backward()
            self.optimizer.step()
        return loss.item()

    def step(self) -> float:
        """One optimizer step on a new batch; returns its loss."""
        return self.learn(self.draw_batch())
