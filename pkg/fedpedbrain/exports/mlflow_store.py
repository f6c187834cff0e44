"""MLflow's file store, written as plain files: an experiment, a run for every arm and seed, values by round.

The form: ``{experiment}/meta.yaml`` and, for each run, ``{run}/meta.yaml`` and a file for each parameter, tag and
metric, of which a metric's has one line "time value step" a round. MLflow develops it no further: it stays as it is,
newer versions read it when told to, and ``mlflow migrate-filestore`` makes a database of it
(https://mlflow.org/docs/latest/self-hosting/migrate-from-file-store).

All times are 0: what the files hold then follows from the study alone.
"""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from fedpedbrain.base.files import replacing
from fedpedbrain.base.lineage import digest_of
from fedpedbrain.exports.model_runs import ModelKey, ModelRun
from fedpedbrain.exports.round_values import WHOLE_ARM
from fedpedbrain.reporting.figures.style import readable

# MLflow's numbers for a run that came to its end and for one that was started by hand.
_FINISHED, _LOCAL = 3, 4
# MLflow refuses longer values of parameters.
_MOST_LETTERS = 6000


def write_mlflow_store(
    folder: str | Path,
    runs: Iterable[ModelRun],
    study: Mapping[str, Any],
    model_folders: Mapping[ModelKey, str | Path],
    artifacts: Mapping[ModelKey, Sequence[str | Path]],
) -> None:
    """Write an experiment with a run for every arm and seed below a folder.

    Names of folders are digests, as MLflow wants them, of what they stand for, and the experiment's name ends in digits
    of its own: experiments of several studies, though of one title, can stand in one folder and in one database.

    Parameters
    ----------
    study : ``Study.export_description`` and ``versions`` (name to version)
    model_folders : where each model is; runs say so and hold no copy of it
    artifacts : small files that are copied to each run
    """
    # Other versions of packages make it no other study.
    digest = digest_of({key: value for key, value in study.items() if key != "versions"})
    # Within the 63 bits that a database has for it.
    number = int(digest[:15], 16)
    place = Path(folder, str(number))
    experiment = {"artifact_location": str(place), "creation_time": 0, "experiment_id": str(number)}
    experiment |= {"last_update_time": 0, "lifecycle_stage": "active"}
    # A database takes no two experiments of one name.
    experiment["name"] = f"{study['title']} ({digest[:6]})"
    _write_yaml(place / "meta.yaml", experiment)
    for run in runs:
        name = digest_of({"experiment": number, "arm": run.arm, "seed": run.seed})[:32]
        tags = {"model_folder": str(model_folders[run.arm, run.seed]), **_origin(run, study["versions"])}
        _write_run(place / name, run, str(number), tags)
        for path in map(Path, artifacts[run.arm, run.seed]):
            with replacing(place / name / "artifacts" / path.name) as temporary:
                shutil.copyfile(path, temporary)


def _write_yaml(path: Path, values: Mapping[str, Any]) -> None:
    _write_text(path, yaml.safe_dump(dict(values), allow_unicode=True))


def _write_text(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _write_run(place: Path, run: ModelRun, experiment_id: str, tags: Mapping[str, str]) -> None:
    title = f"{readable(run.arm)}, seed {run.seed}"
    meta = {"experiment_id": experiment_id, "run_id": place.name, "run_uuid": place.name, "run_name": title}
    meta |= {"artifact_uri": str(place / "artifacts"), "lifecycle_stage": "active", "status": _FINISHED, "tags": []}
    meta |= {"start_time": 0, "end_time": 0, "source_type": _LOCAL, "source_name": "", "source_version": ""}
    _write_yaml(place / "meta.yaml", meta | {"entry_point_name": "", "user_id": ""})
    shown = {"mlflow.runName": title, "mlflow.note.content": run.words}
    for kind, entries in (("params", run.parameters), ("tags", shown | tags)):
        for name, value in entries.items():
            _write_text(place / kind / name, str(value)[:_MOST_LETTERS])
    for name, lines in _metric_lines(run).items():
        _write_text(place / "metrics" / name, "".join(lines))


def _origin(run: ModelRun, versions: Mapping[str, str]) -> dict[str, str]:
    """Which model the run ended with, and what made it."""
    lineage = run.selection["lineage"]
    origin = {"model_sha256": run.selection["sha256"], "selected_round": run.selection["round"]}
    origin |= {key: lineage[key] for key in ("settings_digest", "parent_sha256")}
    return origin | {f"version.{name}": version for name, version in versions.items()}


def _metric_lines(run: ModelRun) -> dict[str, list[str]]:
    """Lines of each metric's file; final scores stand at the round that was chosen."""
    lines: dict[str, list[str]] = {}
    for item in run.values:
        place = "rounds" if item.site == WHOLE_ARM else f"sites/{item.site}"
        lines.setdefault(f"{place}/{item.metric}", []).append(f"0 {item.value!r} {item.round}\n")
    for tag, value in run.final_values.items():
        lines[tag] = [f"0 {value!r} {run.selection['round']}\n"]
    return lines
