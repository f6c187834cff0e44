"""A checkpoint made elsewhere, imported and scored beside the arms of the tiny study."""

import csv
import json

import pytest
import torch
from fedpedbrain.models.files import load_model_file
from workspace import TINY

pytestmark = pytest.mark.slow
IMPORTED = "results/models/imported/published.pth"


def rows_of(study, candidate):
    with (study.folder / f"results/scores/{candidate}/seed-0.tsv").open() as file:
        return [{**row, "arm": ""} for row in csv.DictReader(file, delimiter="\t")]


def test_an_imported_checkpoint_is_scored_beside_the_arms_and_trains_nothing(study_copy, tmp_path):
    weights = load_model_file(study_copy.folder / "results/models/fedavg/seed-0/best.pth").weights
    torch.save(weights, tmp_path / "published.pth")
    checkpoint = ["import_model", "--config", f"checkpoint={tmp_path / 'published.pth'}"]
    imported = study_copy.snakemake("--configfile", TINY, "--cores", "2", *checkpoint)
    assert imported.returncode == 0, imported.stdout
    assert load_model_file(study_copy.folder / IMPORTED).lineage.kind == "imported"

    candidates = ["--config", f"candidates=[{{name: published, model: {IMPORTED}}}]"]
    assert "train_site" not in study_copy.planned("--configfile", TINY, *candidates)
    result = study_copy.snakemake("--configfile", TINY, "--cores", "2", *candidates)
    assert result.returncode == 0, result.stdout
    # The weights are those of an arm, and so are the scores of every case.
    assert rows_of(study_copy, "published") == rows_of(study_copy, "fedavg") != []
    with (study_copy.folder / "results/tables/summary.tsv").open() as file:
        assert {"published", "fedavg"} <= {row["arm"] for row in csv.DictReader(file, delimiter="\t")}
    report = json.loads((study_copy.folder / "results/report.json").read_text())
    assert "published" in json.dumps(report)
    page = (study_copy.folder / "results/report.html").read_text()
    assert "published" in page
    assert study_copy.planned("--configfile", TINY, *candidates) == {}
