"""What each metric is: which way is better, the declared rule for empty masks, and what computes it."""

from dataclasses import dataclass

HIGHER, LOWER, ZERO = "higher", "lower", "zero"

# Name of a rule, as the tables carry it, to what it says.
EMPTY_RULES = {
    "one_or_zero": "1 where both masks are empty, 0 where one is",
    # As the BraTS challenges count a missed lesion; leaving it out would reward an arm for what it does not find.
    "diagonal_or_left_out": "the grid's diagonal where one mask is empty, left out where both are",
    "left_out_without_lesion": "left out where no lesion is to be counted",
    "left_out_without_truth": "left out where the true mask is empty",
}


@dataclass(frozen=True)
class MetricOrigin:
    """Where a metric's values come from.

    Attributes
    ----------
    computed_with : the implementation
    tested_against : an independent one, or a definition, that this project's tests hold it against
    """

    computed_with: str
    tested_against: str


OVERLAPS = MetricOrigin("voxels counted with NumPy", "SimpleITK: LabelOverlapMeasures")
VOLUMES = MetricOrigin("voxels counted with NumPy, times the size of one", "SimpleITK: LabelShapeStatistics")
SURFACES = MetricOrigin(
    "SciPy: binary_erosion, distance_transform_edt; NumPy: percentile",
    "SimpleITK: LabelContour, SignedMaurerDistanceMap",
)
LESIONS = MetricOrigin("SciPy: label", "SimpleITK: ConnectedComponent, LabelIntensityStatistics")
RIGHT_ONES = MetricOrigin("cases counted with pandas", "scikit-learn: accuracy_score")
CLASS_SCORES = MetricOrigin("scikit-learn: precision_recall_fscore_support", "their definitions, case by case")
MEANS_OF_CLASSES = MetricOrigin(
    "means over classes of scikit-learn: precision_recall_fscore_support",
    "scikit-learn: f1_score, balanced_accuracy_score",
)
AREAS = MetricOrigin("scikit-learn: roc_auc_score, one class against the rest", "SciPy: mannwhitneyu")
CALIBRATION = MetricOrigin("cases counted by bin with NumPy", "scikit-learn: calibration_curve")


@dataclass(frozen=True)
class MetricFacts:
    """A metric's facts.

    Attributes
    ----------
    better : ``HIGHER``, ``LOWER``, or ``ZERO`` where a value can err to both sides
    origin : what computes it
    empty_rule : one of ``EMPTY_RULES``, or "" where an empty mask is a mask like any other, or no mask counts
    """

    better: str
    origin: MetricOrigin
    empty_rule: str = ""


# Of one region of one case.
REGION_METRICS = {
    "dice": MetricFacts(HIGHER, OVERLAPS, "one_or_zero"),
    "surface_dice": MetricFacts(HIGHER, SURFACES, "one_or_zero"),
    "hd95_mm": MetricFacts(LOWER, SURFACES, "diagonal_or_left_out"),
    "volume_error_ml": MetricFacts(LOWER, VOLUMES),
    "relative_volume_error": MetricFacts(LOWER, VOLUMES, "left_out_without_truth"),
    "volume_bias_ml": MetricFacts(ZERO, VOLUMES),
    "lesion_sensitivity": MetricFacts(HIGHER, LESIONS, "left_out_without_lesion"),
    "lesion_precision": MetricFacts(HIGHER, LESIONS, "left_out_without_lesion"),
}
# Of one case, made of its scores.
CASE_METRICS = {
    **REGION_METRICS,
    "dice_all_cases": MetricFacts(HIGHER, OVERLAPS, "one_or_zero"),
    "empty_in_normal": MetricFacts(HIGHER, OVERLAPS),
    "accuracy": MetricFacts(HIGHER, RIGHT_ONES),
}
# Of a group of cases, of the diagnosis or of one class.
GROUP_METRICS = {
    "macro_f1": MetricFacts(HIGHER, MEANS_OF_CLASSES),
    "balanced_accuracy": MetricFacts(HIGHER, MEANS_OF_CLASSES),
    "auroc": MetricFacts(HIGHER, AREAS),
    "calibration_error": MetricFacts(LOWER, CALIBRATION),
    "precision": MetricFacts(HIGHER, CLASS_SCORES),
    "recall": MetricFacts(HIGHER, CLASS_SCORES),
    "f1": MetricFacts(HIGHER, CLASS_SCORES),
}
METRICS = {**CASE_METRICS, **GROUP_METRICS}
