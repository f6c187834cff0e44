"""Metrics of one region of one case: functions that ``REGION_METRICS`` names, each of a ``MaskPair``.

Errors of volume are predicted minus true. Each function returns what the rule of its row says where a mask is empty;
which cases count in means is decided in ``case_values``.
"""

import math

from fedpedbrain.evaluation.dice import dice_coefficient
from fedpedbrain.evaluation.mask_pair import MaskPair
from fedpedbrain.evaluation.surfaces import grid_diagonal_mm
from fedpedbrain.study.metric_facts import TRUTH


def dice(pair: MaskPair) -> float:
    """Overlap, see ``dice_coefficient``."""
    return dice_coefficient(pair.predicted, pair.truth)


def surface_dice(pair: MaskPair) -> float:
    """Part of both surfaces within the tolerance of the other, see ``SurfaceDistances``."""
    if pair.empty:
        return float(len(pair.empty) == 2)
    return pair.distances.surface_dice(pair.surface_tolerance_mm)


def hd95_mm(pair: MaskPair) -> float:
    """The larger of the two directed 95th percentiles of surface distances, see ``SurfaceDistances``."""
    if len(pair.empty) == 2:
        return math.nan
    return grid_diagonal_mm(pair.truth.shape, pair.spacing_mm) if pair.empty else pair.distances.hd95_mm


def volume_error_ml(pair: MaskPair) -> float:
    """Absolute error of the volume."""
    return abs(pair.predicted_ml - pair.true_ml)


def relative_volume_error(pair: MaskPair) -> float:
    """Absolute error of the volume as a part of the true one."""
    return math.nan if TRUTH in pair.empty else volume_error_ml(pair) / pair.true_ml


def volume_bias_ml(pair: MaskPair) -> float:
    """Error of the volume with its sign."""
    return pair.predicted_ml - pair.true_ml


def lesion_sensitivity(pair: MaskPair) -> float:
    """Part of the true lesions of which enough is predicted."""
    return pair.true_lesions.part_covered


def lesion_precision(pair: MaskPair) -> float:
    """Part of the predicted lesions of which enough is true."""
    return pair.predicted_lesions.part_covered
