"""A predicted mask and the true one, with what several metrics of a region need, computed once."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fedpedbrain.evaluation.lesions import LesionCounts, count_lesions
from fedpedbrain.evaluation.surfaces import SurfaceDistances, surface_distances
from fedpedbrain.study.metric_facts import PREDICTION, TRUTH


@dataclass(frozen=True, eq=False)
class MaskPair:
    """One region of one case.

    Attributes
    ----------
    predicted, truth : bool (D, H, W)
    spacing_mm : distance between voxel centres (D, H, W)
    surface_tolerance_mm : surfaces this close agree
    lesion_overlap : part of a lesion that the other mask must fill for it to count as found
    """

    predicted: np.ndarray
    truth: np.ndarray
    spacing_mm: Sequence[float]
    surface_tolerance_mm: float
    lesion_overlap: float

    @cached_property
    def empty(self) -> set[str]:
        """Which of the masks are empty: ``PREDICTION``, ``TRUTH``."""
        return {name for name, mask in ((PREDICTION, self.predicted), (TRUTH, self.truth)) if not mask.any()}

    @cached_property
    def true_ml(self) -> float:
        """True volume."""
        return self._volume_ml(self.truth)

    @cached_property
    def predicted_ml(self) -> float:
        """Predicted volume."""
        return self._volume_ml(self.predicted)

    def _volume_ml(self, mask: np.ndarray) -> float:
        voxel_ml = math.prod(self.spacing_mm) / 1000.0
        return float(mask.sum() * voxel_ml)

    @cached_property
    def distances(self) -> SurfaceDistances:
        """Distances of the surfaces; neither mask may be empty."""
        return surface_distances(self.predicted, self.truth, self.spacing_mm)

    @cached_property
    def true_lesions(self) -> LesionCounts:
        """True lesions, and how many of them are predicted."""
        return count_lesions(self.truth, self.predicted, self.lesion_overlap)

    @cached_property
    def predicted_lesions(self) -> LesionCounts:
        """Predicted lesions, and how many of them are true."""
        return count_lesions(self.predicted, self.truth, self.lesion_overlap)
