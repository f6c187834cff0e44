"""What each metric is: which way is better, and the declared rule for empty masks."""

from dataclasses import dataclass

HIGHER, LOWER, ZERO = "higher", "lower", "zero"

# Name of a rule, as the tables carry it, to what it says.
EMPTY_RULES = {
    "one_or_zero": "1 where both masks are empty, 0 where one is",
    # As the BraTS challenges count a missed tumour; leaving it out would reward an arm for what it does not find.
    "diagonal_or_left_out": "the grid's diagonal where one mask is empty, left out where both are",
    "left_out_without_lesion": "left out where no lesion is to be counted",
    "left_out_without_truth": "left out where the true mask is empty",
}


@dataclass(frozen=True)
class MetricFacts:
    """A metric's facts.

    Attributes
    ----------
    better : ``HIGHER``, ``LOWER``, or ``ZERO`` where a value can err to both sides
    empty_rule : one of ``EMPTY_RULES``, or "" where an empty mask is a mask like any other, or no mask counts
    """

    better: str
    empty_rule: str = ""


# Of one region of one case.
REGION_METRICS = {
    "dice": MetricFacts(HIGHER, "one_or_zero"),
    "surface_dice": MetricFacts(HIGHER, "one_or_zero"),
    "hd95_mm": MetricFacts(LOWER, "diagonal_or_left_out"),
    "volume_error_ml": MetricFacts(LOWER),
    "relative_volume_error": MetricFacts(LOWER, "left_out_without_truth"),
    "volume_bias_ml": MetricFacts(ZERO),
    "lesion_sensitivity": MetricFacts(HIGHER, "left_out_without_lesion"),
    "lesion_precision": MetricFacts(HIGHER, "left_out_without_lesion"),
}
# Of one case, made of its scores.
CASE_METRICS = {
    **REGION_METRICS,
    "dice_all_cases": MetricFacts(HIGHER, "one_or_zero"),
    "empty_in_normal": MetricFacts(HIGHER),
    "accuracy": MetricFacts(HIGHER),
}
# Of a group of cases, of the diagnosis or of one class.
GROUP_METRICS = {
    "macro_f1": MetricFacts(HIGHER),
    "balanced_accuracy": MetricFacts(HIGHER),
    "auroc": MetricFacts(HIGHER),
    "calibration_error": MetricFacts(LOWER),
    "precision": MetricFacts(HIGHER),
    "recall": MetricFacts(HIGHER),
    "f1": MetricFacts(HIGHER),
}
METRICS = {**CASE_METRICS, **GROUP_METRICS}
