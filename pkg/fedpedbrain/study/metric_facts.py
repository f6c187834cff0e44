"""The metrics of a study: which way is better, the rule for empty masks, what computes them, and how they are shown.

A metric of a region is a row of ``REGION_METRICS``, a function of a ``MaskPair`` and a test. Every study has all
metrics.
"""

from collections import ChainMap
from collections.abc import Mapping
from dataclasses import dataclass

from fedpedbrain.base.choices import Choices

HIGHER, LOWER, ZERO = "higher", "lower", "zero"
# Tables of the report.
OUTLINES, AMOUNTS, OF_DIAGNOSIS, OF_CLASSES = "Outlines", "Volumes and lesions", "Diagnosis", "Classes"

# Name of a rule, as the tables carry it, to what it says. The functions of the metrics follow it. Means of a region's
# metrics are over the cases whose true mask is not empty (``evaluation.case_values``), ``dice_all_cases`` over all.
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


@dataclass(frozen=True, kw_only=True)
class MetricFacts:
    """A metric's facts.

    Attributes
    ----------
    better : ``HIGHER``, ``LOWER``, or ``ZERO`` where a value can err to both sides
    origin : what computes it
    title : what it is called, without its unit; {finding} is the study's word
    groups : tables of the report that show it
    unit : "" of a part of 1
    digits : after the point
    empty_rule : one of ``EMPTY_RULES``, or "" where an empty mask is a mask like any other, or no mask counts
    mean_of : the metric of classes whose mean it is, over the classes that have a case; "" of no such mean
    """

    better: str
    origin: MetricOrigin
    title: str
    groups: tuple[str, ...]
    unit: str = ""
    digits: int = 3
    empty_rule: str = ""
    mean_of: str = ""

    @property
    def full_title(self) -> str:
        """The title with the unit."""
        return f"{self.title} ({self.unit})" if self.unit else self.title


PREDICTION, TRUTH = "prediction", "truth"


@dataclass(frozen=True)
class RegionMetricFacts(MetricFacts):
    """What is known of a metric of one region of one case.

    Attributes
    ----------
    implementation : function that maps a ``MaskPair`` to a float, nan where the rule leaves the case out. It follows
        ``empty_rule`` itself; the row states the rule for tables and report
    decided_by : masks of which an empty one lets ``empty_rule`` decide
    """

    implementation: str
    decided_by: tuple[str, ...] = (PREDICTION, TRUTH)


# Of one region of one case. Their order is that of the rows of a table of scores.
REGION_METRICS: Choices[RegionMetricFacts] = Choices(
    {
        "dice": RegionMetricFacts(
            "fedpedbrain.evaluation.region_metrics:dice",
            better=HIGHER,
            origin=OVERLAPS,
            title="{finding} Dice",
            groups=(OUTLINES,),
            empty_rule="one_or_zero",
        ),
        "surface_dice": RegionMetricFacts(
            "fedpedbrain.evaluation.region_metrics:surface_dice",
            better=HIGHER,
            origin=SURFACES,
            title="surface Dice",
            groups=(OUTLINES,),
            empty_rule="one_or_zero",
        ),
        "hd95_mm": RegionMetricFacts(
            "fedpedbrain.evaluation.region_metrics:hd95_mm",
            better=LOWER,
            origin=SURFACES,
            title="HD95",
            groups=(OUTLINES,),
            unit="mm",
            digits=1,
            empty_rule="diagonal_or_left_out",
        ),
        "volume_error_ml": RegionMetricFacts(
            "fedpedbrain.evaluation.region_metrics:volume_error_ml",
            better=LOWER,
            origin=VOLUMES,
            title="volume error",
            groups=(AMOUNTS,),
            unit="ml",
            digits=1,
        ),
        "relative_volume_error": RegionMetricFacts(
            "fedpedbrain.evaluation.region_metrics:relative_volume_error",
            decided_by=(TRUTH,),
            better=LOWER,
            origin=VOLUMES,
            title="relative volume error",
            groups=(AMOUNTS,),
            empty_rule="left_out_without_truth",
        ),
        "volume_bias_ml": RegionMetricFacts(
            "fedpedbrain.evaluation.region_metrics:volume_bias_ml",
            better=ZERO,
            origin=VOLUMES,
            title="volume bias",
            groups=(AMOUNTS,),
            unit="ml",
            digits=1,
        ),
        "lesion_sensitivity": RegionMetricFacts(
            "fedpedbrain.evaluation.region_metrics:lesion_sensitivity",
            decided_by=(TRUTH,),
            better=HIGHER,
            origin=LESIONS,
            title="lesion sensitivity",
            groups=(AMOUNTS,),
            empty_rule="left_out_without_lesion",
        ),
        "lesion_precision": RegionMetricFacts(
            "fedpedbrain.evaluation.region_metrics:lesion_precision",
            decided_by=(PREDICTION,),
            better=HIGHER,
            origin=LESIONS,
            title="lesion precision",
            groups=(AMOUNTS,),
            empty_rule="left_out_without_lesion",
        ),
    }
)
# Of one case, made of its scores by ``case_values``.
CASE_METRICS: Mapping[str, MetricFacts] = {
    "dice_all_cases": MetricFacts(
        better=HIGHER, origin=OVERLAPS, title="all-case Dice", groups=(OUTLINES,), empty_rule="one_or_zero"
    ),
    "empty_in_normal": MetricFacts(better=HIGHER, origin=OVERLAPS, title="normal cases left empty", groups=(OUTLINES,)),
    "accuracy": MetricFacts(better=HIGHER, origin=RIGHT_ONES, title="accuracy", groups=(OF_DIAGNOSIS,)),
}
# Of a group of cases, of the diagnosis or of one class: by ``classification``, all together and for many draws at once.
GROUP_METRICS: Mapping[str, MetricFacts] = {
    "macro_f1": MetricFacts(
        better=HIGHER, origin=MEANS_OF_CLASSES, title="macro-F1", groups=(OF_DIAGNOSIS,), mean_of="f1"
    ),
    "balanced_accuracy": MetricFacts(
        better=HIGHER, origin=MEANS_OF_CLASSES, title="balanced accuracy", groups=(OF_DIAGNOSIS,), mean_of="recall"
    ),
    "precision": MetricFacts(better=HIGHER, origin=CLASS_SCORES, title="precision", groups=(OF_CLASSES,)),
    "recall": MetricFacts(better=HIGHER, origin=CLASS_SCORES, title="recall", groups=(OF_CLASSES,)),
    "f1": MetricFacts(better=HIGHER, origin=CLASS_SCORES, title="F1", groups=(OF_CLASSES,)),
    "auroc": MetricFacts(
        better=HIGHER, origin=AREAS, title="AUROC", groups=(OF_DIAGNOSIS, OF_CLASSES), mean_of="auroc"
    ),
    "calibration_error": MetricFacts(
        better=LOWER, origin=CALIBRATION, title="calibration error", groups=(OF_DIAGNOSIS,)
    ),
}

# All of them, in the order in which the report shows them: what is made of Dice stands beside it.
METRICS: ChainMap[str, MetricFacts] = ChainMap(
    GROUP_METRICS, REGION_METRICS, CASE_METRICS, {"dice": REGION_METRICS["dice"]}
)


def shown_in(group: str) -> list[str]:
    """Metrics that a table of the report shows."""
    return [metric for metric, facts in METRICS.items() if group in facts.groups]
