"""Seeded batches of a site's cases, augmented."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fedpedbrain.base.seeds import derive_seed
from fedpedbrain.data.grid.dataset import ShardDataset
from fedpedbrain.training.augmentation import Augmentation


@dataclass(frozen=True)
class SiteRound:
    """Which work this is: it names the files and, with nothing else, seeds every random draw."""

    arm: str
    seed: int
    round: int
    site: str


@dataclass(frozen=True)
class Batch:
    """One optimizer step's cases: images float32 (B, C, D, H, W), masks uint8 (B, R, D, H, W), classes int64 (B,)."""

    images: Tensor
    masks: Tensor
    class_indices: Tensor

    def parts(self, size: int | None) -> Iterator["Batch"]:
        """The batch in parts of at most ``size`` cases; None for the whole."""
        tensors = (self.images, self.masks, self.class_indices)
        yield from (Batch(*part) for part in zip(*(t.split(size or len(t)) for t in tensors), strict=True))


def shuffled_order(num_cases: int, batch_size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Draw the cases of each step of an epoch: every case once, the last batch may be smaller; int64 (B,) a step."""
    order = rng.permutation(num_cases)
    return [order[start : start + batch_size] for start in range(0, num_cases, batch_size)]


def epoch_batches(
    dataset: ShardDataset,
    class_indices: np.ndarray,
    settings: Mapping,
    work: SiteRound,
    epoch: int,
    device: torch.device,
    draw: Callable[[int, int, np.random.Generator], list[np.ndarray]] = shuffled_order,
) -> Iterator[Batch | None]:
    """Go through a site's training cases in the seeded order that ``draw`` makes; None for a batch without cases."""
    augmentation = Augmentation(settings["augmentation"])
    rng = np.random.default_rng(derive_seed(work.seed, "order", work.round, epoch, work.site))
    for rows in draw(len(dataset), settings["batch_size"], rng):
        if not len(rows):
            yield None
            continue
        images, masks = (
            torch.from_numpy(np.stack([read(row) for row in rows])).to(device) for read in (dataset.image, dataset.mask)
        )
        cases = [dataset.cases[row] for row in rows]
        changes = [
            augmentation.draw(work.seed, work.round, epoch, case.case, aspect=case.plane_aspect(*images.shape[-2:]))
            for case in cases
        ]
        yield Batch(*augmentation(images, masks, changes), torch.from_numpy(class_indices[rows]).to(device))
