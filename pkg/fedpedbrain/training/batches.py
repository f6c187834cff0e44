"""Seeded batches of a site's cases, augmented. Batches of patches are made in ``training.patches``."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from fedpedbrain.base.seeds import derive_seed
from fedpedbrain.data.grid.dataset import ShardDataset
from fedpedbrain.study.augmentation_facts import AUGMENTATIONS, DEFAULT_AUGMENTATION


@dataclass(frozen=True)
class SiteRound:
    """Which work this is: it names the files and, with nothing else, seeds every random draw."""

    arm: str
    seed: int
    round: int
    site: str


@dataclass(frozen=True)
class Batch:
    """One optimizer step's samples, cases or patches.

    Attributes
    ----------
    images : float32 (B, C, D + 2n, H, W), where n is the network's ``context``
    masks : uint8 (B, R, D, H, W), 0 or 1
    class_indices : int64 (B,)
    """

    images: Tensor
    masks: Tensor
    class_indices: Tensor

    def parts(self, size: int | None) -> Iterator["Batch"]:
        """The batch in parts of at most ``size`` samples; None for the whole."""
        tensors = (self.images, self.masks, self.class_indices)
        yield from (Batch(*part) for part in zip(*(t.split(size or len(t)) for t in tensors), strict=True))


def shuffled_order(num_cases: int, batch_size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Draw the cases of each step of an epoch: every case once, the last batch may be smaller; int64 (B,) per step."""
    order = rng.permutation(num_cases)
    return [order[start : start + batch_size] for start in range(0, num_cases, batch_size)]


def build_augmentation(settings: Mapping) -> Any:
    """The augmentation that a ``training.augmentation`` block chooses, see ``AugmentationFacts``."""
    return AUGMENTATIONS.load(settings.get("name", DEFAULT_AUGMENTATION))(settings)


def _repeat_edges(images: Tensor, context: int) -> Tensor:
    """Add ``context`` copies of the first and of the last slice (B, C, D, H, W) for a network that sees neighbours."""
    if not context:
        return images
    more = functional.pad(images, (0, 0, 0, 0, context, context), mode="replicate")
    return more.contiguous(memory_format=torch.channels_last_3d)


def epoch_batches(
    dataset: ShardDataset,
    class_indices: np.ndarray,
    settings: Mapping,
    work: SiteRound,
    epoch: int,
    device: torch.device,
    draw: Callable[[int, int, np.random.Generator], list[np.ndarray]] = shuffled_order,
    context: int = 0,
) -> Iterator[Batch | None]:
    """Go through a site's training cases in the seeded order that ``draw`` makes; None for a batch without cases.

    Parameters
    ----------
    class_indices : int64 (N,), of the cases of ``dataset``
    settings : the ``training`` block
    context : slices beyond a sample on either side that the network sees
    """
    augmentation = build_augmentation(settings["augmentation"])
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
            augmentation.draw(
                work.seed, work.round, epoch, case.case, shape=images.shape[1:], spacing_mm=case.grid_spacing_mm
            )
            for case in cases
        ]
        images, masks = augmentation(images, masks, changes)
        yield Batch(_repeat_edges(images, context), masks, torch.from_numpy(class_indices[rows]).to(device))
