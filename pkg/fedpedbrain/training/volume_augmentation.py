"""Random changes of training images as nnU-Net makes them, drawn per sample and applied to the batch on its device.

Isensee et al., "nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation", Nature
Methods 2021; order, probabilities and ranges are those of ``nnUNetTrainer`` in nnunetv2.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from fedpedbrain.base.seeds import derive_seed
from fedpedbrain.data.grid.dataset import middle_part
from fedpedbrain.models.placement import to_unit
from fedpedbrain.training.intensity_changes import (
    add_noise,
    blur,
    change_contrast,
    lower_resolution,
    multiply,
    take_inverted_power,
    take_power,
)

# Samples that are longer than deep by more than this turn in their plane alone (ANISO_THRESHOLD of nnU-Net).
_FLAT = 3
# Part of a voxel from which on it belongs to a region: more than one half, so that no two regions share a voxel that
# lies between them. Losses over labels allow one region per voxel.
_LEAST_PART = 0.5001
_AXES = {"D": -3, "H": -2, "W": -1}


@dataclass(frozen=True)
class VolumeChange:
    """What happens to one sample.

    Attributes
    ----------
    size : voxels (D, H, W) of the sample
    is_plane : it is flat, and whatever has a direction happens in its plane (H, W)
    matrix : float64 (3, 3), from a voxel's place relative to the middle (D, H, W) to where it looks; None for itself
    mirrored : axes of a batch along which it is mirrored
    noise : standard deviation of the noise, over that of the channel
    noise_seed : of the first channel's noise, one more for each further one
    blur, brightness, contrast, low_resolution, inverted_gamma, gamma : by channel, arguments of the functions of
        ``intensity_changes``; NaN for none
    """

    size: tuple[int, int, int]
    is_plane: bool
    matrix: np.ndarray | None
    mirrored: tuple[int, ...]
    noise: np.ndarray
    noise_seed: int
    blur: np.ndarray
    brightness: np.ndarray
    contrast: np.ndarray
    low_resolution: np.ndarray
    inverted_gamma: np.ndarray
    gamma: np.ndarray


def _rotation(angles: Sequence[float]) -> np.ndarray:
    """Rotate about D, then H, then W, by angles in radians: float64 (3, 3)."""
    turned = np.eye(3)
    for axis, angle in enumerate(angles):
        first, second = (other for other in range(3) if other != axis)
        step = np.eye(3)
        step[first, first] = step[second, second] = math.cos(angle)
        step[first, second], step[second, first] = -math.sin(angle), math.sin(angle)
        turned = step @ turned
    return turned


class VolumeAugmentation:
    """Rotation, scaling, noise, blur, brightness, contrast, low resolution, gamma, mirrors.

    What happens to a sample depends on the seed parts alone, not on its place in a batch. Intensities may be in [0, 1]
    or z-scores.

    Parameters
    ----------
    settings : the ``training.augmentation`` block, see ``study.augmentation_facts``
    """

    def __init__(self, settings: Mapping) -> None:
        self._settings = settings

    def draw(self, *seed_parts: str | int, shape: Sequence[int], spacing_mm: Sequence[float]) -> VolumeChange:
        """Draw one sample's change.

        Parameters
        ----------
        shape : of its images (C, D, H, W)
        spacing_mm : distance between voxel centres (D, H, W), which keeps a rotation from shearing
        """
        rng = np.random.default_rng(derive_seed("volume augmentation", *seed_parts))
        channels, *size = shape
        is_plane = size[0] == 1 or max(size) > _FLAT * size[0]
        settings = self._settings
        in_channel, each = settings["channel_probability"], 1.0
        mirrored = [axis for axis in settings["mirror_axes"] if rng.random() < settings["mirror_probability"]]
        return VolumeChange(
            size=tuple(size),
            is_plane=is_plane,
            matrix=self._draw_matrix(rng, is_plane, np.array(spacing_mm)),
            mirrored=tuple(_AXES[axis] for axis in mirrored),
            noise=np.full(channels, self._draw_channels(rng, "noise", "noise_deviation_range", 1, each)[0]),
            noise_seed=int(rng.integers(1 << 62)),
            blur=self._draw_channels(rng, "blur", "blur_sigma_range", channels, in_channel),
            brightness=self._draw_channels(rng, "brightness", "brightness_range", channels, each, is_factor=True),
            contrast=self._draw_channels(rng, "contrast", "contrast_range", channels, each, is_factor=True),
            low_resolution=self._draw_channels(rng, "low_resolution", "low_resolution_range", channels, in_channel),
            inverted_gamma=self._draw_channels(rng, "inverted_gamma", "gamma_range", channels, each, is_factor=True),
            gamma=self._draw_channels(rng, "gamma", "gamma_range", channels, each, is_factor=True),
        )

    def _draw_channels(
        self, rng: np.random.Generator, name: str, key: str, channels: int, in_channel: float, is_factor: bool = False
    ) -> np.ndarray:
        """A value for each channel that a change happens to, NaN for the others: float64 (C,)."""
        happens = rng.random() < self._settings[f"{name}_probability"]
        chosen = rng.random(channels) < in_channel
        draw = _draw_factor if is_factor else _draw_value
        values = np.array([draw(rng, self._settings[key]) for _ in range(channels)])
        return np.where(chosen & happens, values, np.nan)

    def _draw_matrix(self, rng: np.random.Generator, is_plane: bool, spacing: np.ndarray) -> np.ndarray | None:
        settings = self._settings
        rotates, scales = (rng.random() < settings[f"{name}_probability"] for name in ("rotation", "scaling"))
        degrees = [settings["plane_rotation_degrees"], 0.0, 0.0]
        if not is_plane:
            degrees = [settings["volume_rotation_degrees"]] * 3
        angles = np.radians([rng.uniform(-1.0, 1.0) * largest for largest in degrees]) * rotates
        factor = _draw_factor(rng, settings["scaling_range"])
        if not rotates and not scales:
            return None
        matrix = _rotation(angles) * spacing[None, :] / spacing[:, None]
        # What looks at a smaller part is shown larger.
        factors = np.array([1.0 if is_plane else factor, factor, factor]) if scales else np.ones(3)
        return matrix / factors[:, None]

    def reach(self, size: Sequence[int], changes: Sequence[VolumeChange]) -> tuple[int, ...]:
        """How many voxels (D, H, W) around the middle of each sample a call looks at, ``size`` or more."""
        half = (np.array(size) - 1) / 2
        looked = [np.abs(change.matrix) @ half for change in changes if change.matrix is not None]
        margin = np.ceil(np.max([half, *looked], axis=0) - half - 1e-6).astype(int)
        return tuple(int(length) for length in np.array(size) + 2 * margin)

    def __call__(self, images: Tensor, masks: Tensor, changes: Sequence[VolumeChange]) -> tuple[Tensor, Tensor]:
        """Apply drawn changes.

        Parameters
        ----------
        images : uint8 or float16 (B, C, D, H, W), of the samples' size or of what ``reach`` says; where they are
            smaller, their edges are repeated
        masks : uint8 (B, R, D, H, W), 0 or 1; R may be 0
        changes : one per sample, all of one size

        Returns
        -------
        images float32 (uint8 scaled to [0, 1] first), channels last in memory, and masks uint8, both of the samples'
        size; linear interpolation for both, masks hold from more than one half on
        """
        images, masks = _place(images, masks, changes)
        images = self._change_intensities(images, changes)
        for axis in sorted({axis for change in changes for axis in change.mirrored}):
            chosen = [number for number, change in enumerate(changes) if axis in change.mirrored]
            images[chosen], masks[chosen] = images[chosen].flip(axis), masks[chosen].flip(axis)
        return images.contiguous(memory_format=torch.channels_last_3d), masks

    @staticmethod
    def _change_intensities(images: Tensor, changes: Sequence[VolumeChange]) -> Tensor:
        volumes = images.flatten(0, 1)
        is_plane = changes[0].is_plane
        seeds = [change.noise_seed + channel for change in changes for channel in range(images.shape[1])]
        steps: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
            "noise": lambda chosen, values: add_noise(chosen, values, chosen_seeds),
            "blur": partial(blur, is_plane=is_plane),
            "brightness": multiply,
            "contrast": change_contrast,
            "low_resolution": partial(lower_resolution, is_plane=is_plane),
            "inverted_gamma": take_inverted_power,
            "gamma": take_power,
        }
        for name, step in steps.items():
            values = np.concatenate([getattr(change, name) for change in changes])
            chosen = np.flatnonzero(~np.isnan(values))
            chosen_seeds = [seeds[number] for number in chosen]
            if len(chosen):
                of_chosen = torch.tensor(values[chosen], dtype=torch.float32, device=volumes.device)
                volumes[chosen] = step(volumes[chosen], of_chosen)
        return volumes.view(images.shape)


def _draw_value(rng: np.random.Generator, limits: Sequence[float]) -> float:
    return rng.uniform(*limits)


def _draw_factor(rng: np.random.Generator, limits: Sequence[float]) -> float:
    """A factor that is as often below 1 as above, as far as the limits have both."""
    low, high = limits
    below = rng.random() < 0.5
    if low < 1.0 < high:
        low, high = (low, 1.0) if below else (1.0, high)
    return rng.uniform(low, high)


def _theta(change: VolumeChange, source: Sequence[int]) -> list[list[float]]:
    """A change's matrix in the form of ``affine_grid``: rows are x (W), y (H) and z (D), places in [-1, 1]."""
    matrix = change.matrix * np.array(change.size)[None, :] / np.array(source)[:, None]
    matrix = matrix[::-1, ::-1]
    if change.is_plane:
        matrix = matrix[:2, :2]
    return np.pad(matrix, ((0, 0), (0, 1))).tolist()


def _sample(volumes: Tensor, where: Tensor, padding: str) -> Tensor:
    """Sample float32 (B, C, D, H, W) where a grid says; slices are sampled like channels where it is one of planes."""
    if where.dim() == 5:
        return functional.grid_sample(volumes, where, padding_mode=padding, align_corners=False)
    sampled = functional.grid_sample(volumes.flatten(1, 2), where, padding_mode=padding, align_corners=False)
    return sampled.unflatten(1, volumes.shape[1:3])


def _place(images: Tensor, masks: Tensor, changes: Sequence[VolumeChange]) -> tuple[Tensor, Tensor]:
    """Cut the samples out of what was read, rotated and scaled where they are to be: float32 and uint8."""
    source, size = images.shape[2:], changes[0].size
    inner = middle_part(source, size)
    placed = to_unit(images[:, :, *inner]).contiguous()
    placed_masks = masks[:, :, *inner].clone(memory_format=torch.contiguous_format)
    moved = [number for number, change in enumerate(changes) if change.matrix is not None]
    if not moved:
        return placed, placed_masks
    theta = torch.tensor([_theta(changes[number], source) for number in moved], device=images.device)
    shape = size[1:] if changes[0].is_plane else size
    where = functional.affine_grid(theta, [len(moved), 1, *shape], align_corners=False)
    placed[moved] = _sample(to_unit(images[moved]), where, "border")
    if masks.shape[1]:
        placed_masks[moved] = (_sample(masks[moved].float(), where, "zeros") >= _LEAST_PART).byte()
    return placed, placed_masks
