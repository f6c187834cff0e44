"""Tables that compare the arms on the same held-out patients."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from fedpedbrain.cohort import HELD_OUT, TEST
from fedpedbrain.evaluation.metrics import bootstrap_interval, confusion_matrix, macro_f1
from fedpedbrain.evaluation.scores import SCORE_COLUMNS
from fedpedbrain.files import replacing

POOLED_SCOPE = "all test patients"
SUMMARY_COLUMNS = (
    "arm",
    "scope",
    "split",
    "target",
    "metric",
    "num_cases",
    "num_patients",
    "value",
    "low",
    "high",
    "seed_sd",
)
DIFFERENCE_COLUMNS = (
    "arm",
    "reference",
    "scope",
    "split",
    "target",
    "metric",
    "num_cases",
    "num_patients",
    "difference",
    "low",
    "high",
)
CONFUSION_COLUMNS = ("arm", "split", "true_class", "predicted_class", "num_cases")
DIAGNOSIS = "diagnosis"
TEXT_COLUMNS = (
    "arm",
    "reference",
    "case",
    "patient",
    "site",
    "scope",
    "split",
    "class",
    "true_class",
    "predicted_class",
    "target",
    "metric",
)
_CASE_KEYS = ["arm", "seed", "case", "patient", "site", "split", "class"]


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


def case_values(scores: pd.DataFrame, classes: Sequence[str], normal_class: str | None) -> pd.DataFrame:
    """Reduce scores to one value a case, seed, target and metric.

    Metrics: ``dice`` (tumour cases: the truth is not empty), ``dice_all_cases`` (two empty masks count 1),
    ``empty_in_normal`` (1 where a normal case's predicted mask is empty) and ``accuracy`` (1 where the most probable
    class is the true one).
    """
    wide = scores[scores["metric"] != "probability"].pivot_table(
        index=[*_CASE_KEYS, "target"], columns="metric", values="value", observed=True
    )
    parts = []
    if len(wide):
        wide = wide.reset_index()
        tumour, normal = wide["true_volume_ml"] > 0, wide["class"] == normal_class
        empty = (wide["predicted_volume_ml"] == 0).astype(float)
        parts += [
            wide[tumour].assign(metric="dice", value=wide["dice"]),
            wide.assign(metric="dice_all_cases", value=wide["dice"]),
            wide[normal].assign(metric="empty_in_normal", value=empty),
        ]
    predicted = predicted_classes(scores, classes)
    known = predicted[predicted["class"].isin(classes)]
    parts.append(
        known.assign(target=DIAGNOSIS, metric="accuracy", value=(known["predicted"] == known["class"]).astype(float))
    )
    return pd.concat(parts)[[*_CASE_KEYS, "target", "metric", "value"]]


def predicted_classes(scores: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """The most probable class of every case and seed, in a column ``predicted``."""
    probabilities = scores[scores["metric"] == "probability"]
    if probabilities.empty:
        return pd.DataFrame(columns=[*_CASE_KEYS, "predicted"])
    wide = probabilities.pivot_table(index=_CASE_KEYS, columns="target", values="value", observed=True)[list(classes)]
    return wide.idxmax(axis=1).rename("predicted").reset_index()


def scopes_of(values: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Yield (scope, split, rows): all test patients, then every site in its order, external ones last."""
    yield POOLED_SCOPE, TEST, values[values["split"] == TEST]
    for split in HELD_OUT:
        for site, rows in values[values["split"] == split].groupby("site", observed=True):
            yield str(site), split, rows


def summarize(values: pd.DataFrame, settings: Mapping) -> pd.DataFrame:
    """Mean of every arm, scope, target and metric with a bootstrap interval over patients.

    Values of a case are averaged over seeds first; ``seed_sd`` is the standard deviation of the seeds' own means.
    """
    rows = []
    for scope, split, part in scopes_of(values):
        for (target, metric, arm), group in part.groupby(["target", "metric", "arm"], observed=True):
            cases = group.groupby(["patient", "case"])["value"].mean().reset_index()
            low, high = _interval(cases["value"], cases["patient"], settings)
            seed_means = group.groupby("seed")["value"].mean()
            seed_sd = seed_means.std() if len(seed_means) > 1 else np.nan
            sizes = (len(cases), cases["patient"].nunique())
            rows.append((arm, scope, split, target, metric, *sizes, cases["value"].mean(), low, high, seed_sd))
    return pd.DataFrame(rows, columns=SUMMARY_COLUMNS)


def _interval(values: pd.Series, patients: pd.Series, settings: Mapping) -> tuple[float, float]:
    return bootstrap_interval(
        values.to_numpy(dtype=float),
        patients.to_numpy(dtype=str),
        settings["bootstrap_samples"],
        settings["confidence_level"],
        settings["seed"],
    )


def compare_with_reference(values: pd.DataFrame, settings: Mapping) -> pd.DataFrame:
    """Paired difference of every arm to the reference arm, case by case, with a bootstrap interval over patients."""
    reference = settings["reference_arm"]
    rows = []
    for scope, split, part in scopes_of(values):
        keys = ["target", "metric", "patient", "case"]
        means = part.groupby([*keys, "arm"], observed=True)["value"].mean().unstack("arm")
        for arm in [name for name in means.columns if name != reference]:
            differences = (means[arm] - means[reference]).rename("value").reset_index()
            for (target, metric), group in differences.groupby(["target", "metric"], sort=False):
                low, high = _interval(group["value"], group["patient"], settings)
                sizes = (len(group), group["patient"].nunique())
                rows.append((arm, reference, scope, split, target, metric, *sizes, group["value"].mean(), low, high))
    return pd.DataFrame(rows, columns=DIFFERENCE_COLUMNS)


def _confusion_of(predicted: pd.DataFrame, classes: Sequence[str]) -> np.ndarray:
    index_of = {name: index for index, name in enumerate(classes)}
    truth, guess = (predicted[column].map(index_of).to_numpy() for column in ("class", "predicted"))
    return confusion_matrix(truth, guess, len(classes))


def count_confusions(predicted: pd.DataFrame, classes: Sequence[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Confusion counts of every arm and split (summed over seeds), and macro-F1 in the summary's columns."""
    known = predicted[predicted["class"].isin(classes)]
    counts, f1_rows = [], []
    for scope, split, part in scopes_of(known):
        for arm, group in part.groupby("arm", observed=True):
            sizes = (group["case"].nunique(), group["patient"].nunique())
            value = macro_f1(_confusion_of(group, classes))
            f1_rows.append((arm, scope, split, DIAGNOSIS, "macro_f1", *sizes, value, np.nan, np.nan, np.nan))
    for (arm, split), group in known.groupby(["arm", "split"], observed=True):
        matrix = _confusion_of(group, classes)
        counts += [
            (arm, split, true_class, predicted_class, int(matrix[row, column]))
            for row, true_class in enumerate(classes)
            for column, predicted_class in enumerate(classes)
        ]
    return pd.DataFrame(counts, columns=CONFUSION_COLUMNS), pd.DataFrame(f1_rows, columns=SUMMARY_COLUMNS)


def compare_arms_files(
    scores_paths: Sequence[str | Path],
    summary_path: str | Path,
    differences_path: str | Path,
    confusion_path: str | Path,
    arms: Sequence[str],
    sites: Sequence[str],
    classes: Sequence[str],
    normal_class: str | None,
    settings: Mapping,
) -> None:
    """Read the scores of all arms and seeds and write the tables of the report.

    Parameters
    ----------
    arms, sites : in the order of the config, which the tables keep
    settings : the ``evaluation`` block
    """
    scores = pd.concat(map(read_results, scores_paths))[list(SCORE_COLUMNS)]
    for column, order in (("arm", arms), ("site", sites)):
        scores[column] = pd.Categorical(scores[column], categories=order, ordered=True)
    values = case_values(scores, classes, normal_class)
    confusion, f1 = count_confusions(predicted_classes(scores, classes), classes)
    summary = summarize(values, settings)
    if len(f1):
        summary = pd.concat([summary, f1])
    for table, path in (
        (summary, summary_path),
        (compare_with_reference(values, settings), differences_path),
        (confusion, confusion_path),
    ):
        with replacing(path) as temporary:
            table.to_csv(temporary, sep="\t", index=False, float_format="%.6g")
