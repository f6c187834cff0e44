"""Random in-plane changes of training images, drawn per case and applied to the batch on its device."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from fedpedbrain.base.errors import StudyError
from fedpedbrain.base.seeds import derive_seed
from fedpedbrain.models.placement import to_unit


@dataclass(frozen=True)
class Change:
    """What happens to one case.

    Attributes
    ----------
    shift : where the crop lies in the room that it has (H, W), each in [0, 1)
    mirrored : left and right exchanged
    angle : in-plane rotation in radians
    zoom : in-plane factor
    gamma : exponent of the intensities
    aspect : height of the plane over its width, both in mm: what keeps a rotation from shearing
    """

    shift: tuple[float, float] = (0.0, 0.0)
    mirrored: bool = False
    angle: float = 0.0
    zoom: float = 1.0
    gamma: float = 1.0
    aspect: float = 1.0


class Augmentation:
    """In-plane crop and resize, rotation, zoom, left-right mirror, contrast.

    What happens to a case depends on the seed parts alone, not on its place in a batch.

    Parameters
    ----------
    settings : the ``training.augmentation`` block: ``crop_fraction`` (side of the crop that is stretched to the full
        plane; 1 switches it off), ``rotation_degrees`` (angle drawn from [-r, r]), ``zoom_spread`` (factor drawn from
        [1 - spread, 1 + spread]), ``flip_probability``, ``gamma_spread`` (exponent drawn from [1 - spread, 1 + spread])
    """

    def __init__(self, settings: Mapping) -> None:
        self._settings = settings
        self._is_turning = settings["rotation_degrees"] > 0.0 or settings["zoom_spread"] > 0.0

    def draw(
        self,
        *seed_parts: str | int,
        shape: Sequence[int] = (1, 1, 1, 1),
        spacing_mm: Sequence[float] = (1.0, 1.0, 1.0),
    ) -> Change:
        """Draw one case's change.

        Parameters
        ----------
        shape : of its images (C, D, H, W)
        spacing_mm : distance between voxel centres (D, H, W)
        """
        rng = np.random.default_rng(derive_seed("augmentation", *seed_parts))
        settings = self._settings
        height_mm, width_mm = (size * spacing for size, spacing in zip(shape[2:], spacing_mm[1:], strict=True))
        return Change(
            shift=tuple(rng.random(2)),
            mirrored=rng.random() < settings["flip_probability"],
            angle=math.radians(rng.uniform(-1.0, 1.0) * settings["rotation_degrees"]),
            zoom=1.0 + rng.uniform(-1.0, 1.0) * settings["zoom_spread"],
            gamma=1.0 + rng.uniform(-1.0, 1.0) * settings["gamma_spread"],
            aspect=height_mm / width_mm,
        )

    def reach(self, size: Sequence[int], changes: Sequence[Change]) -> tuple[int, ...]:
        """How many voxels (D, H, W) a call looks at: those of the sample, whatever happens to it."""
        return tuple(size)

    def __call__(self, images: Tensor, masks: Tensor, changes: Sequence[Change]) -> tuple[Tensor, Tensor]:
        """Apply drawn changes.

        Parameters
        ----------
        images : uint8 (B, C, D, H, W), or float16 where gamma_spread is 0
        masks : uint8 (B, R, D, H, W), 0 or 1; R may be 0
        changes : one a case

        Returns
        -------
        images float32, uint8 in [0, 1], channels last in memory, and masks uint8, of the same shapes; linear
        interpolation for images, nearest voxels for masks

        Raises
        ------
        StudyError : images that are not uint8 have no power
        """
        if self._settings["gamma_spread"] > 0.0 and images.dtype != torch.uint8:
            raise StudyError(
                f"training.augmentation.gamma_spread: in_plane takes powers of intensities from 0 to 1, found "
                f"{images.dtype}; set it to 0, or training.augmentation.name: volume"
            )
        spatial = self._warp if self._is_turning else self._crop
        images, masks = spatial(images, masks, changes)
        if self._settings["gamma_spread"] > 0.0:
            gamma = torch.tensor([change.gamma for change in changes], device=images.device)
            images = images.clamp_(0.0, 1.0) ** gamma.view(-1, 1, 1, 1, 1)
        return images.contiguous(memory_format=torch.channels_last_3d), masks

    def _window(self, change: Change, height: int, width: int) -> tuple[int, int, int, int]:
        """First row and column, number of rows and columns of a case's crop."""
        rows, columns = (max(1, round(self._settings["crop_fraction"] * size)) for size in (height, width))
        top = int(change.shift[0] * (height - rows + 1))
        left = int(change.shift[1] * (width - columns + 1))
        return top, left, rows, columns

    def _crop(self, images: Tensor, masks: Tensor, changes: Sequence[Change]) -> tuple[Tensor, Tensor]:
        """Crop and mirror case by case, stretch the batch: what is not used is cut off before anything is computed."""
        size = images.shape[-2:]
        windows = [self._window(change, *size) for change in changes]

        def cut(volumes: Tensor) -> Tensor:
            parts = [
                volume[..., top : top + rows, left : left + columns]
                for volume, (top, left, rows, columns) in zip(volumes, windows, strict=True)
            ]
            pairs = zip(parts, changes, strict=True)
            return torch.stack([part.flip(-1) if change.mirrored else part for part, change in pairs])

        def stretch(volumes: Tensor, mode: str) -> Tensor:
            if volumes.shape[-2:] == size:
                return volumes
            stretched = functional.interpolate(volumes.flatten(1, 2), size=size, mode=mode)
            return stretched.unflatten(1, volumes.shape[1:3])

        # nearest-exact looks at the same voxels as bilinear does; nearest would shift masks by up to half a voxel.
        new_masks = stretch(cut(masks), "nearest-exact") if masks.shape[1] else masks
        return stretch(to_unit(cut(images)), "bilinear"), new_masks

    def _warp(self, images: Tensor, masks: Tensor, changes: Sequence[Change]) -> tuple[Tensor, Tensor]:
        """Crop, rotate, zoom and mirror the batch by one sampling; slices are sampled like channels, all alike."""
        size = images.shape[-2:]
        planes = torch.tensor([self._plane(change, *size) for change in changes], device=images.device)
        where = functional.affine_grid(planes, [len(images), 1, *size], align_corners=False)

        def sample(volumes: Tensor, mode: str, padding: str) -> Tensor:
            slices = volumes.flatten(1, 2)
            sampled = functional.grid_sample(slices, where, mode=mode, padding_mode=padding, align_corners=False)
            return sampled.view(volumes.shape)

        images = sample(to_unit(images), "bilinear", "border")
        return images, sample(masks.float(), "nearest", "zeros").byte() if masks.shape[1] else masks

    def _plane(self, change: Change, height: int, width: int) -> list[list[float]]:
        """Where in the original each output pixel looks, for ``affine_grid``: rows are x (W) and y (H), in [-1, 1]."""
        top, left, rows, columns = self._window(change, height, width)
        mirror = -1.0 if change.mirrored else 1.0
        along, across = math.cos(change.angle) / change.zoom, math.sin(change.angle) / change.zoom
        centre_x, centre_y = (2 * left + columns) / width - 1.0, (2 * top + rows) / height - 1.0
        scale_x, scale_y = columns / width, rows / height
        return [
            [mirror * along * scale_x, -across * change.aspect * scale_y, centre_x],
            [mirror * across / change.aspect * scale_x, along * scale_y, centre_y],
        ]
