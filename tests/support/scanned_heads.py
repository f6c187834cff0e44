"""Made scans of any spacing, direction and order of axes, with rough regions inside a head."""

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

STRAIGHT = np.eye(3).ravel().tolist()
OBLIQUE = Rotation.from_euler("xyz", (14.0, -9.0, 21.0), degrees=True).as_matrix().ravel().tolist()


@dataclass(frozen=True)
class MadeScan:
    """How a scanner stores what it sees: voxels (D, H, W) in LPS order, spacing (x, y, z), and the order of axes."""

    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    direction: list[float]
    orientation: str

    def stored(self, array: np.ndarray) -> sitk.Image:
        """An array (D, H, W) as the scanner stores it."""
        image = sitk.GetImageFromArray(array)
        image.SetSpacing(self.spacing)
        image.SetOrigin((-31.0, 17.5, 3.25))
        image.SetDirection(self.direction)
        return sitk.DICOMOrient(image, self.orientation)

    def head(self) -> np.ndarray:
        """A bright ellipsoid in air, int16 (D, H, W)."""
        axes = [np.linspace(-1.25, 1.25, count) for count in self.size]
        distance = sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij"))
        noise = np.random.default_rng(0).integers(0, 40, self.size)
        return ((distance < 1.0) * (200 + noise)).astype(np.int16)

    def labels(self, seed: int) -> np.ndarray:
        """Two rough regions in the middle, 1 and, inside it, 2; uint8 (D, H, W)."""
        rough = gaussian_filter(np.random.default_rng(seed).normal(size=self.size), 1.0)
        axes = [np.linspace(-1.25, 1.25, count) for count in self.size]
        near = sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij")) + 0.15 * rough / rough.std()
        return ((near < 0.3).astype(np.uint8) + (near < 0.08)).astype(np.uint8)


MADE_SCANS = {
    "oblique": MadeScan((12, 40, 36), (1.6, 1.4, 6.9), OBLIQUE, "LPS"),
    "sagittal": MadeScan((24, 28, 10), (5.5, 2.2, 2.4), STRAIGHT, "PIR"),
    "oblique, turned": MadeScan((14, 30, 33), (2.1, 1.7, 4.4), OBLIQUE, "RAS"),
}
