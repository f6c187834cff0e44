"""Scored cases of made-up arms, and the tables that compare them."""

from dataclasses import dataclass, field

from fedpedbrain.evaluation.tables import POOLED_SCOPE

CLASSES = ["normal", "dipg", "ependymoma"]
SETTINGS = {"reference_arm": "centralized", "bootstrap_samples": 200, "confidence_level": 0.95, "seed": 0}
SETTINGS |= {
    "reliability_bins": 5,
    "noninferiority_margin": {"dice": 0.05, "hd95_mm": 2.0, "accuracy": None, "balanced_accuracy": 0.9},
}
TABLES = ("summary", "models", "differences", "tests", "confusion", "reliability", "sites", "gains", "cross_sites")


@dataclass
class Scored:
    """One case's scores: a Dice of a region of 10 ml (0 ml for a normal case), and the class it is taken for."""

    case: str
    dice: float | None = None
    predicted: str | None = None
    class_name: str = "dipg"
    site: str = "north"
    split: str = "test"
    patient: str = ""
    target: str = "whole_tumour"
    predicted_ml: float = 5.0
    seed: int = 0
    classes: list[str] = field(default_factory=lambda: CLASSES)
    # Metric to its value and, where the rule for empty masks decided it, the rule's name.
    others: dict[str, tuple[float, str]] = field(default_factory=dict)

    def rows(self, arm: str) -> list[dict]:
        common = {"arm": arm, "seed": self.seed, "case": self.case, "patient": self.patient or self.case}
        common |= {"site": self.site, "split": self.split, "class": self.class_name}
        values = []
        if self.dice is not None:
            true_ml = 0.0 if self.class_name == "normal" else 10.0
            values += [
                (self.target, "dice", self.dice),
                (self.target, "true_volume_ml", true_ml),
                (self.target, "predicted_volume_ml", self.predicted_ml),
            ]
        if self.predicted is not None:
            values += [(name, "probability", 0.6 if name == self.predicted else 0.2) for name in self.classes]
        rows = [common | {"target": target, "metric": metric, "value": value} for target, metric, value in values]
        return rows + [
            common | {"target": self.target, "metric": metric, "value": value, "empty_rule": rule}
            for metric, (value, rule) in self.others.items()
        ]


class Tables:
    """All tables by name, each a list of rows of text."""

    def __init__(self, **tables: list) -> None:
        vars(self).update(tables)

    def one(self, table: str, **wanted: str) -> dict[str, str]:
        (row,) = [row for row in getattr(self, table) if wanted.items() <= row.items()]
        return row

    def value(self, arm: str, metric: str, scope: str = POOLED_SCOPE, **wanted: str) -> float:
        return float(self.one("summary", arm=arm, metric=metric, scope=scope, **wanted)["value"])
