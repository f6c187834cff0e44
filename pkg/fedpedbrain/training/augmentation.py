"""Random changes of training images, drawn a case and applied to the whole batch at once on its device."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from fedpedbrain.seeds import derive_seed


class Augmentation:
    """In-plane crop and resize, rotation, zoom, left-right flip, contrast change.

    What happens to a case depends on the seed parts alone, not on its place in a batch.

    Parameters
    ----------
    settings : the ``training.augmentation`` block: ``crop_fraction`` (side of the in-plane crop that is stretched to
        the full plane; 1 switches it off), ``rotation_degrees`` (in-plane angle drawn from [-r, r]), ``zoom_spread``
        (in-plane factor drawn from [1 - spread, 1 + spread]), ``flip_probability``, ``gamma_spread`` (exponent drawn
        from [1 - spread, 1 + spread])
    """

    def __init__(self, settings: dict) -> None:
        self._crop = settings["crop_fraction"]
        self._rotation = math.radians(settings["rotation_degrees"])
        self._zoom = settings["zoom_spread"]
        self._flip = settings["flip_probability"]
        self._gamma = settings["gamma_spread"]

    def draw(self, *seed_parts: str | int, aspect: float = 1.0) -> tuple[np.ndarray, float]:
        """Draw one case's change: affine matrix float32 (3, 4) for ``affine_grid``, and exponent.

        Parameters
        ----------
        aspect : height of the plane over its width, both in mm: what keeps a rotation from shearing
        """
        rng = np.random.default_rng(derive_seed("augmentation", *seed_parts))
        room = 1.0 - self._crop
        shift_x, shift_y = rng.uniform(-room, room, 2)
        mirror = -1.0 if rng.random() < self._flip else 1.0
        gamma = rng.uniform(1.0 - self._gamma, 1.0 + self._gamma)
        angle = rng.uniform(-self._rotation, self._rotation)
        size = self._crop / rng.uniform(1.0 - self._zoom, 1.0 + self._zoom)
        along, across = size * math.cos(angle), size * math.sin(angle)
        # Rows are x (W), y (H), z (D): where in the original each output voxel looks.
        theta = [
            [mirror * along, -across * aspect, 0, shift_x],
            [mirror * across / aspect, along, 0, shift_y],
            [0, 0, 1, 0],
        ]
        return np.array(theta, dtype=np.float32), gamma

    def __call__(
        self, images: Tensor, masks: Tensor | None, changes: Sequence[tuple[np.ndarray, float]]
    ) -> tuple[Tensor, Tensor | None]:
        """Apply drawn changes.

        Parameters
        ----------
        images : float32 (B, C, D, H, W) in [0, 1]
        masks : float32 (B, R, D, H, W), 0 or 1, or None
        changes : one result of ``draw`` a case

        Returns
        -------
        images and masks of the same shapes; linear interpolation for images, nearest for masks
        """
        theta = torch.from_numpy(np.stack([matrix for matrix, _ in changes])).to(images.device)
        gamma = torch.tensor([gamma for _, gamma in changes], dtype=torch.float32, device=images.device)
        where = functional.affine_grid(theta, [len(images), 1, *images.shape[2:]], align_corners=False)
        images = functional.grid_sample(images, where, mode="bilinear", padding_mode="border", align_corners=False)
        images = images.clamp(0.0, 1.0) ** gamma.view(-1, 1, 1, 1, 1)
        if masks is not None:
            masks = functional.grid_sample(masks, where, mode="nearest", padding_mode="zeros", align_corners=False)
        return images, masks
