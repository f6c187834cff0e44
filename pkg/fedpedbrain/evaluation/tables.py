"""The evaluation's tables: their columns, and how they are read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from fedpedbrain.base.files import replacing

POOLED_SCOPE = "all test patients"
# A case's value comes from the rule for empty masks (num_by_rule), or the rule leaves the case out (num_left_out).
_RULE_COLUMNS = ("empty_rule", "num_by_rule", "num_left_out")
_MEASURED = ("scope", "split", "target", "metric", "num_cases", "num_patients")
SUMMARY_COLUMNS = ("arm", *_MEASURED, "value", "low", "high", "seed_sd", *_RULE_COLUMNS)
MODEL_COLUMNS = ("arm", "seed", *_MEASURED, "value", "low", "high", *_RULE_COLUMNS)
DIFFERENCE_COLUMNS = ("arm", "reference", *_MEASURED, "difference", "low", "high", "seed_sd", *_RULE_COLUMNS)
TEST_COLUMNS = (
    *("arm", "reference", "scope", "split", "target", "metric"),
    *("num_patients", "num_arms", "p_value", "p_holm", "margin", "noninferiority"),
)
CONFUSION_COLUMNS = ("arm", "split", "true_class", "predicted_class", "num_cases")
RELIABILITY_COLUMNS = (
    *("arm", "scope", "split", "lowest_probability", "highest_probability"),
    *("num_predictions", "mean_probability", "accuracy"),
)
SITE_COLUMNS = (
    *("arm", "target", "metric", "better", "num_sites", "num_too_small"),
    *("worst_site", "worst", "best_site", "best", "gap"),
)
GAIN_COLUMNS = (
    *("arm", "local_arm", "site", "target", "metric", "num_cases", "num_patients"),
    *("gain", "low", "high", "seed_sd", *_RULE_COLUMNS),
)
CROSS_SITE_COLUMNS = (
    *("arm", "kind", "trained_on", "tested_on", "split", "is_own_site", "target", "metric"),
    *("num_cases", "num_patients", "value", "low", "high"),
)
TEXT_COLUMNS = (
    *("arm", "reference", "local_arm", "kind", "case", "patient", "site", "scope", "split", "class"),
    *("true_class", "predicted_class", "target", "metric", "empty_rule", "better", "noninferiority"),
    *("worst_site", "best_site", "trained_on", "tested_on"),
)


def read_results(path: str | Path) -> pd.DataFrame:
    """Read one of the study's tables: text stays as it is, though it be ``NA`` or ``007``; numbers may be missing."""
    numbers = [column for column in pd.read_csv(path, sep="\t", nrows=0) if column not in TEXT_COLUMNS]
    return pd.read_csv(
        path,
        sep="\t",
        dtype=dict.fromkeys(TEXT_COLUMNS, str),
        keep_default_na=False,
        na_values={column: ["", "nan"] for column in numbers},
    )


def write_results(tables: Mapping[str, pd.DataFrame], paths: Mapping[str, Any]) -> None:
    """Write tables, each to the path of its name."""
    for name, table in tables.items():
        with replacing(paths[name]) as temporary:
            table.to_csv(temporary, sep="\t", index=False, float_format="%.6g")
