"""The study's results for other programs, all from the same values: CSV, TensorBoard and MLflow."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedpedbrain.exports.csv_tables import write_metrics_csv, write_rounds_csv
from fedpedbrain.exports.event_files import write_event_files
from fedpedbrain.exports.mlflow_store import write_mlflow_store
from fedpedbrain.exports.model_runs import build_runs, load_model_scores, load_selections
from fedpedbrain.exports.round_values import RoundValueFiles, load_round_values
from fedpedbrain.reporting.words.answers import scored_names


@dataclass(frozen=True)
class ExportFiles:
    """Where the results are, and where their exports go.

    Attributes
    ----------
    scores, selections, cards : of each arm and seed, in the order of the config
    models : table of every model's scores
    rounds : what rounds left behind
    metrics_csv, rounds_csv : the tables to write
    event_folder, mlflow_folder : the folders to write
    """

    scores: Sequence[str | Path]
    selections: Sequence[str | Path]
    cards: Sequence[str | Path]
    models: str | Path
    rounds: RoundValueFiles
    metrics_csv: str | Path
    rounds_csv: str | Path
    event_folder: str | Path
    mlflow_folder: str | Path


def export_results_files(files: ExportFiles, study: Mapping[str, Any]) -> None:
    """Write the tables and the folders of both trackers.

    Parameters
    ----------
    study : ``Study.export_description`` and ``versions`` (name to version)
    """
    arms, sites = scored_names(study), [*study["training_sites"], *study["external_sites"]]
    write_metrics_csv(files.metrics_csv, files.scores, arms, study["classes"], study["normal_class"])
    values = load_round_values(files.rounds, study["arms"], sites)
    write_rounds_csv(files.rounds_csv, values)
    selections = load_selections(files.selections)
    runs = build_runs(study, selections, values, load_model_scores(files.models))
    write_event_files(files.event_folder, runs)
    # A card lies beside its model.
    model_folders = {model: Path(card).parent for model, card in zip(selections, files.cards, strict=True)}
    artifacts = dict(zip(selections, zip(files.cards, files.selections, strict=True), strict=True))
    write_mlflow_store(files.mlflow_folder, runs, study, model_folders, artifacts)
