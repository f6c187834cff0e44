"""Seeded batches of patches of a site's cases, augmented: as many patches of every case in every epoch."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch

from fedpedbrain.base.seeds import derive_seed
from fedpedbrain.data.grid.dataset import ShardDataset
from fedpedbrain.study.training_facts import samples_of_epoch
from fedpedbrain.training.batches import Batch, SiteRound, build_augmentation, shuffled_order

# First voxel (D, H, W) of a patch on its case's grid; below 0 where the case is smaller than the patch.
Start = tuple[int, int, int]


class CasePatches:
    """Draws where the patches of cases lie, and reads them out of the shards without the rest of the cases.

    Parameters
    ----------
    settings : the ``training.patch`` block
    """

    def __init__(self, dataset: ShardDataset, settings: Mapping) -> None:
        self._dataset, self._size = dataset, settings["size"]
        self._wanted = settings["per_case"] * settings["foreground_share"]
        # Of cases that were looked at: voxels by region and slice, int (R, D); intensities of air, by channel.
        self._counts: dict[int, np.ndarray] = {}
        self._air: dict[int, np.ndarray] = {}

    def draw(self, row: int, number: int, *seed_parts: str | int) -> Start:
        """Draw where one patch lies.

        Parameters
        ----------
        row : of the case
        number : of the patch among the case's, from 0; the first ones hold foreground
        seed_parts : what seeds the draws beside the case and the patch
        """
        seed_parts = (*seed_parts, self._dataset.cases[row].case)
        rng = np.random.default_rng(derive_seed("patch", *seed_parts, number))
        shape = self._dataset.grid_shape(row)
        voxel = self._draw_foreground(rng, row) if number < self._num_with_foreground(*seed_parts) else None
        return tuple(
            _draw_start(rng, outer, inner) if voxel is None else _start_around(voxel[axis], outer, inner)
            for axis, (outer, inner) in enumerate(zip(shape, self._size, strict=True))
        )

    def _num_with_foreground(self, *seed_parts: str | int) -> int:
        """How many of a case's patches hold foreground: the wanted number, one more by chance where it is broken."""
        whole = math.floor(self._wanted)
        rng = np.random.default_rng(derive_seed("patches with foreground", *seed_parts))
        return whole + (rng.random() < self._wanted - whole)

    def _draw_foreground(self, rng: np.random.Generator, row: int) -> tuple[int, int, int] | None:
        """A random voxel (D, H, W) of a random region that the case has; None where it has no region."""
        masks = self._dataset.mask_map(row)
        if row not in self._counts:
            counts = [[np.count_nonzero(plane) for plane in region] for region in masks]
            self._counts[row] = np.array(counts, dtype=np.int64).reshape(masks.shape[:2])
        counts = self._counts[row]
        regions = np.flatnonzero(counts.sum(1))
        if not len(regions):
            return None
        region = rng.choice(regions)
        ends = counts[region].cumsum()
        drawn = rng.integers(ends[-1])
        depth = int(np.searchsorted(ends, drawn, side="right"))
        place = np.flatnonzero(masks[region, depth])[drawn - ends[depth]]
        height, width = np.unravel_index(place, masks.shape[2:])
        return depth, int(height), int(width)

    def read(self, row: int, start: Start, reach: Sequence[int], context: int) -> tuple[np.ndarray, np.ndarray]:
        """Read a patch with what lies around it.

        Parameters
        ----------
        reach : how many voxels (D, H, W) around the patch's middle to read, an even number more than the patch has
        context : slices on either side that the network sees of more than the patch

        Returns
        -------
        images (C, D, H, W) in the shard's dtype and masks uint8 (R, D, H, W), both of ``reach`` voxels. Beyond the case
        lies air, the least intensity of each channel; along D, where the network sees neighbours, the last slice again
        """
        first = [low - (length - size) // 2 for low, length, size in zip(start, reach, self._size, strict=True)]
        images, masks = self._dataset.image_map(row), self._dataset.mask_map(row)
        box = [(low, low + length) for low, length in zip(first, reach, strict=True)]
        # Slices that are there, or filled up with air for the whole of a patch.
        filled = (min(0, start[0]), max(images.shape[1], start[0] + self._size[0])) if context else box[0]
        air = np.zeros(len(images))
        if any(low < 0 or high > size for (low, high), size in zip(box, images.shape[1:], strict=True)):
            air = self._air_of(row)
        return _read_box(images, box, air, filled), _read_box(masks, box, np.zeros(len(masks)), filled)

    def _air_of(self, row: int) -> np.ndarray:
        if row not in self._air:
            self._air[row] = self._dataset.image_map(row).min((1, 2, 3))
        return self._air[row]


def _draw_start(rng: np.random.Generator, outer: int, inner: int) -> int:
    """Where a patch begins along an axis, anywhere on the grid; a case that is smaller lies in its middle."""
    return int(rng.integers(outer - inner + 1)) if outer >= inner else -((inner - outer) // 2)


def _start_around(voxel: int, outer: int, inner: int) -> int:
    """Where a patch around a voxel begins along an axis, within the grid; a case that is smaller lies in its middle."""
    return min(max(voxel - inner // 2, 0), outer - inner) if outer >= inner else -((inner - outer) // 2)


def _overlap(low: int, high: int, size: int) -> tuple[slice, slice]:
    """Where [low, high) overlaps an axis of ``size`` voxels: on the axis, and relative to ``low``."""
    first = max(low, 0)
    end = max(min(high, size), first)
    return slice(first, end), slice(first - low, end - low)


def _read_box(
    volumes: np.ndarray, box: Sequence[tuple[int, int]], air: np.ndarray, filled: tuple[int, int]
) -> np.ndarray:
    """Copy a box (first voxel and one past the last, D, H, W) out of volumes (N, D, H, W).

    Beyond the volumes lies ``air`` (N,), and beyond the slices ``filled`` the last of them again.
    """
    (low, high), *plane = box
    first, end = max(low, filled[0]), min(high, filled[1])
    part = np.empty((len(volumes), end - first, *(after - before for before, after in plane)), volumes.dtype)
    part[:] = air.reshape(-1, 1, 1, 1)
    places = zip([(first, end), *plane], volumes.shape[1:], strict=True)
    source, target = zip(*(_overlap(*limits, size) for limits, size in places), strict=True)
    part[:, *target] = volumes[:, *source]
    repeated = (first - low, high - end)
    return np.pad(part, ((0, 0), repeated, (0, 0), (0, 0)), mode="edge") if any(repeated) else part


def patch_batches(
    dataset: ShardDataset,
    class_indices: np.ndarray,
    settings: Mapping,
    work: SiteRound,
    epoch: int,
    device: torch.device,
    draw: Callable[[int, int, np.random.Generator], list[np.ndarray]] = shuffled_order,
    context: int = 0,
) -> Iterator[Batch]:
    """Go through the patches of a site's training cases in the seeded order that ``draw`` makes.

    What is drawn of a case follows from seed, round, epoch and case, so all arms draw the same. Arguments as of
    ``epoch_batches``; the slices of ``context`` are those around a patch.
    """
    augmentation, patches = build_augmentation(settings["augmentation"]), CasePatches(dataset, settings["patch"])
    depth, *plane = settings["patch"]["size"]
    size = (depth + 2 * context, *plane)
    shape = (len(dataset.image_map(0)), *size)
    rng = np.random.default_rng(derive_seed(work.seed, "order", work.round, epoch, work.site))
    seed_parts = (work.seed, work.round, epoch)
    for drawn in draw(samples_of_epoch(len(dataset), settings), settings["batch_size"], rng):
        rows, numbers = (part.tolist() for part in np.divmod(drawn, settings["patch"]["per_case"]))
        cases = [dataset.cases[row] for row in rows]
        changes = [
            augmentation.draw(*seed_parts, case.case, number, shape=shape, spacing_mm=case.grid_spacing_mm)
            for case, number in zip(cases, numbers, strict=True)
        ]
        reach = augmentation.reach(size, changes)
        samples = [
            patches.read(row, patches.draw(row, number, *seed_parts), reach, context)
            for row, number in zip(rows, numbers, strict=True)
        ]
        images, masks = (torch.from_numpy(np.stack(parts)).to(device) for parts in zip(*samples, strict=True))
        images, masks = augmentation(images, masks, changes)
        masks = masks[:, :, context : context + depth]
        yield Batch(images, masks, torch.from_numpy(class_indices[rows]).to(device))
