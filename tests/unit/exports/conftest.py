"""A small study as its jobs leave it, and its exports."""

import json
from dataclasses import dataclass
from itertools import chain, product
from pathlib import Path

import pytest
import yaml
from fedpedbrain.base.files import write_json, write_table
from fedpedbrain.evaluation.comparison import compare_arms_files
from fedpedbrain.evaluation.scores import SCORE_COLUMNS
from fedpedbrain.exports.model_folders import FolderFiles, write_model_folders_files
from fedpedbrain.exports.results import ExportFiles, export_results_files
from fedpedbrain.exports.round_values import RoundValueFiles
from fedpedbrain.federated.site_metrics import write_round_metrics
from round_metrics import make_metrics
from study_arms import arm

REPOSITORY = Path(__file__).resolve().parents[3]
NUM_ROUNDS = 2
TABLES = ("summary", "models", "differences", "tests", "confusion", "reliability", "sites", "gains", "cross_sites")
ARMS = (arm("pooled-arm", {"pooled": ["a", "b"]}), arm("fedavg", {"a": ["a"], "b": ["b"]}))
# Of each case: site, split, class.
CASES = {"p1": ("a", "test", "normal"), "p2": ("a", "test", "glioma"), "p3": ("b", "test", "glioma")}
CASES |= {"p4": ("x", "external", "glioma")}


@dataclass(frozen=True)
class Exported:
    """Where the exports of a study are."""

    folder: Path
    study: dict

    def card(self, arm_name: str, seed: int = 0) -> Path:
        return self.folder / "models" / arm_name / f"seed-{seed}" / "README.md"

    @property
    def models(self) -> list[tuple[str, int]]:
        return list(product((item["name"] for item in self.study["arms"]), self.study["seeds"]))


def dice_of(place: int, seed: int, number: int) -> float:
    """Dice of a case: another with every arm, seed and case."""
    return 0.5 + 0.1 * place + 0.01 * seed + 0.001 * number


class StudyWriter:
    """Writes a study's files below a folder, each with numbers that follow from its place."""

    def __init__(self, folder: Path, study: dict) -> None:
        self.folder, self.study = folder, study

    def json(self, name: str, content: dict) -> Path:
        write_json(self.folder / name, content)
        return self.folder / name

    def scores(self, place: int, name: str, seed: int) -> Path:
        rows = []
        for number, (case, (site, split, class_name)) in enumerate(CASES.items()):
            common = {"arm": name, "seed": seed, "case": case, "patient": f"Jane-{case}", "site": site, "split": split}
            common |= {"class": class_name if self.study["classes"] else "", "empty_rule": ""}
            is_empty = class_name == "normal"
            values = {
                "dice": 1.0 if is_empty else dice_of(place, seed, number),
                "true_volume_ml": 0.0 if is_empty else 9.0,
            }
            values |= {"predicted_volume_ml": 0.0 if is_empty else 8.0}
            for region, (metric, value) in product(self.study["regions"], values.items()):
                rows.append(common | {"target": region, "metric": metric, "value": value})
            for word in self.study["classes"]:
                probability = 0.75 if word == class_name else 0.25
                rows.append(common | {"target": word, "metric": "probability", "value": probability})
        path = self.folder / f"scores-{name}-{seed}.tsv"
        write_table(path, SCORE_COLUMNS, rows)
        return path

    def rounds(self, item: dict, seed: int) -> tuple[Path, list[Path], list[Path], Path]:
        """History, training metrics, validations, and one inspection; in round 2 site b is missing."""
        who = {"arm": item["name"], "seed": seed}
        rows, trainings, inspected, blocks = [], [], [], {"a": [], "b": []}
        for number in range(1, NUM_ROUNDS + 1):
            place, at = f"{item['name']}-{seed}-{number}", who | {"round": number}
            rows.append(at | {"training_loss": 1 / number, "dice": 0.3 * number, "accuracy": "nan"})
            rows[-1] |= {"selection_score": 0.3 * number, "uploaded_bytes": 200, "num_updates": 2}
            cases = [("v1", "a", 0.25, True), ("v2", "a", 0.75, False), ("v3", "b", None, None)]
            entries = [dict(zip(("case", "site", "dice", "correct"), case, strict=True)) for case in cases]
            for site, block in blocks.items():
                block.append(at | {"site": site, "cases": [entry for entry in entries if entry["site"] == site]})
            trained = []
            for site in item["participants"]:
                numbers = {"learning_rate": 0.5 / number, "epoch_losses": (9.0, 1.5 * number)}
                if (site, number) == ("b", 2):
                    trained.append(make_metrics(site, number, 0, 0, **who, missing=True, update_bytes=0))
                else:
                    trained.append(make_metrics(site, number, 11, 12, **who, **numbers))
                inspected.append(at | {"site": site, "share": 0.5, "cosine_to_others": "" if number == 2 else -0.25})
            trainings.append(self.folder / f"{place}-metrics.json")
            write_round_metrics(trainings[-1], trained)
        for kind, content in (("history", rows), ("inspection", inspected)):
            write_table(self.folder / f"{item['name']}-{seed}-{kind}.tsv", list(content[0]), content)
        prefix = self.folder / f"{item['name']}-{seed}"
        validations = [self.json(f"{prefix.name}-validation-{site}.json", block) for site, block in blocks.items()]
        return Path(f"{prefix}-history.tsv"), trainings, validations, Path(f"{prefix}-inspection.tsv")

    def selection(self, name: str, seed: int) -> Path:
        updates = [
            {"site": "a", "sha256": "ab" * 32, "weight": 0.25},
            {"site": "b", "sha256": "cd" * 32, "weight": 0.75},
        ]
        lineage = {"settings_digest": "ef" * 32, "parent_sha256": "12" * 32, "updates": updates}
        chosen = {"arm": name, "seed": seed, "round": 2, "num_rounds": NUM_ROUNDS, "sha256": "34" * 32}
        return self.json(f"{name}-{seed}/selection.json", chosen | {"num_validated": 2, "lineage": lineage})

    def compare(self, scores: list[Path]) -> dict[str, Path]:
        study = self.study
        tables = {name: self.folder / f"{name}.tsv" for name in TABLES}
        settings = study["config"]["evaluation"] | {"reference_arm": study["arms"][0]["name"], "bootstrap_samples": 50}
        sites_of = {item["name"]: item["sites"] for item in study["arms"]}
        compare_arms_files(scores, tables, sites_of, ["a", "b", "x"], study["classes"], study["normal_class"], settings)
        return tables

    def audit(self) -> Path:
        sites = [
            {"site": site, "num_patients": 17, "splits": {"train": 11, "validation": 3, "test": 2, "external": 1}}
            | {"classes": dict.fromkeys(self.study["classes"], 8)}
            for site in ("a", "b", "x")
        ]
        return self.json("audit.json", {"sites": sites})


def write_exports(folder: Path, regions, classes, seeds, arms, privacy, title, anatomy) -> Exported:
    """Write a study below a folder and export it."""
    config = yaml.safe_load((REPOSITORY / "config.yaml").read_text(encoding="utf-8"))
    study = {
        "title": title,
        "source": "bids",
        "arms": list(arms),
        "candidates": [],
        "seeds": list(seeds),
        "config": config,
    }
    study |= {"training_sites": ["a", "b"], "external_sites": ["x"], "regions": list(regions)}
    study |= {"classes": list(classes), "normal_class": "normal" if classes else None, "num_rounds": NUM_ROUNDS}
    study |= {"versions": {"fedpedbrain": "1.2.3"}, "anatomy": config["cohort"]["anatomy"] | dict(anatomy)}
    writer, exported = StudyWriter(folder / "study", study), Exported(folder / "exports", study)
    scores = [writer.scores(place, item["name"], seed) for place, item in enumerate(arms) for seed in seeds]
    rounds = [writer.rounds(item, seed) for item in arms for seed in seeds]
    selections = [writer.selection(*model) for model in exported.models]
    tables = writer.compare(scores)
    cards = [exported.card(*model) for model in exported.models]
    for selection in selections:
        selection.with_name("best.pth").write_bytes(b"weights")
        selection.with_name("intensities.json").write_text("{}")
    folders = FolderFiles(
        models=[path.with_name("best.pth") for path in selections],
        intensities=[path.with_name("intensities.json") for path in selections],
        selections=selections,
        scores=tables["models"],
        summary=tables["summary"],
        audit=writer.audit(),
        privacy=[writer.json(f"privacy-{account['arm']}.json", account) for account in privacy],
        cards=cards,
        published_models=[path.with_name("best.pth") for path in cards],
        published_intensities=[path.with_name("intensities.json") for path in cards],
    )
    write_model_folders_files(folders, study)
    histories, trainings, validations, inspections = zip(*rounds, strict=True)
    files = ExportFiles(
        scores=scores,
        selections=selections,
        cards=cards,
        models=tables["models"],
        rounds=RoundValueFiles(histories, [*chain(*trainings)], [*chain(*validations)], inspections),
        metrics_csv=exported.folder / "metrics.csv",
        rounds_csv=exported.folder / "rounds.csv",
        event_folder=exported.folder / "tensorboard",
        mlflow_folder=exported.folder / "mlflow",
    )
    export_results_files(files, study)
    return exported


@pytest.fixture(scope="session")
def export(tmp_path_factory):
    """``export(regions, classes, ..., again)``: such a study's exports, made once, or ``again``."""
    made: dict[str, tuple[Path, Exported]] = {}

    def _export(
        regions=("tumour",),
        classes=("normal", "glioma"),
        seeds=(0,),
        arms=ARMS,
        privacy=(),
        title="A study",
        anatomy=(),
        again=False,
    ) -> Exported:
        asked = (regions, classes, seeds, arms, privacy, title, anatomy)
        key = json.dumps(asked)
        if key not in made or again:
            folder = made[key][0] if key in made else tmp_path_factory.mktemp("study")
            made[key] = folder, write_exports(folder, *asked)
        return made[key][1]

    return _export
