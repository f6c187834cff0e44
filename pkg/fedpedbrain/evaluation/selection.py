"""The choice of an arm's best round, by scores on validation patients only."""

import math
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedpedbrain.base.files import replacing, sha256_of_file, write_json, write_table
from fedpedbrain.evaluation.validation import read_validations
from fedpedbrain.federated.site_metrics import SiteMetrics, read_round_metrics
from fedpedbrain.models.files import load_model_file

HISTORY_COLUMNS = (
    "arm",
    "seed",
    "round",
    "training_loss",
    "dice",
    "accuracy",
    "selection_score",
    "uploaded_bytes",
    "num_updates",
    "selected",
)


def mean_of_known(entries: Sequence[Mapping[str, Any]], key: str) -> float:
    """Mean of a key over the entries that have it; nan where none has."""
    values = [float(entry[key]) for entry in entries if entry[key] is not None]
    return sum(values) / len(values) if values else math.nan


def selection_score(entries: Sequence[Mapping[str, Any]]) -> float:
    """What the best round is chosen by: the mean of Dice and accuracy, or the one that the study has."""
    parts = [mean_of_known(entries, "dice"), mean_of_known(entries, "correct")]
    known = [part for part in parts if not math.isnan(part)]
    return sum(known) / len(known) if known else math.nan


def build_history(
    validations: Sequence[Mapping[str, Any]], metrics: Sequence[SiteMetrics], own_sites: Sequence[str]
) -> list[dict[str, Any]]:
    """One row a round, whether it was validated or not: where not, its scores are nan and it is not selected.

    ``dice`` and ``accuracy`` are over the validation patients of all training sites, the same for every arm;
    ``selection_score`` is over the arm's own sites, since a site alone has no other patients to choose by. The highest
    one is selected, of equal ones the earliest round's. Where an arm's sites have no validation patient the last
    validated round is taken.

    Parameters
    ----------
    validations : all sites' scores of each round whose model stays
    metrics : contents of all training metrics of the arm
    own_sites : sites that the arm learns from
    """
    cases_of = {validation["round"]: validation["cases"] for validation in validations}
    metrics_of = defaultdict(list)
    for item in metrics:
        metrics_of[item.round].append(item)
    rows = []
    for number in sorted(metrics_of):
        trained = [item for item in metrics_of[number] if item.num_cases]
        num_cases = sum(item.num_cases for item in trained)
        cases = cases_of.get(number, [])
        own = [entry for entry in cases if entry["site"] in own_sites]
        rows.append(
            {
                "arm": validations[0]["arm"],
                "seed": validations[0]["seed"],
                "round": number,
                "training_loss": sum(item.epoch_losses[-1] * item.num_cases for item in trained) / num_cases,
                "dice": mean_of_known(cases, "dice"),
                "accuracy": mean_of_known(cases, "correct"),
                "selection_score": selection_score(own),
                "uploaded_bytes": sum(item.update_bytes for item in trained),
                "num_updates": len(trained),
            }
        )
    scores = {row["round"]: row["selection_score"] for row in rows if not math.isnan(row["selection_score"])}
    best = max(scores, key=scores.get) if scores else max(cases_of)
    for row in rows:
        row["selected"] = int(row["round"] == best)
    return rows


def select_model_files(
    model_paths: Sequence[str | Path],
    validation_paths: Sequence[str | Path],
    metrics_paths: Sequence[str | Path],
    own_sites: Sequence[str],
    best_path: str | Path,
    history_path: str | Path,
    selection_path: str | Path,
) -> None:
    """Write an arm's history, copy the model of its best round, and record what it is.

    Parameters
    ----------
    model_paths : of the rounds whose models stay
    validation_paths : of the same rounds, what each site wrote of each block of them
    metrics_paths : of every round, those of all its sites
    """
    validations = read_validations(validation_paths)
    history = build_history(validations, read_round_metrics(metrics_paths), own_sites)
    write_table(history_path, HISTORY_COLUMNS, history)
    chosen = next(row for row in history if row["selected"])
    model_of = {item["round"]: path for item, path in zip(validations, model_paths, strict=True)}
    with replacing(best_path) as temporary:
        shutil.copyfile(model_of[chosen["round"]], temporary)
    selection = {
        **{key: None if isinstance(value, float) and math.isnan(value) else value for key, value in chosen.items()},
        "num_rounds": len(history),
        "num_validated": len(validations),
        "sha256": sha256_of_file(best_path),
        "model_bytes": Path(best_path).stat().st_size,
        "lineage": load_model_file(best_path).lineage.to_dict(),
    }
    write_json(selection_path, selection)
