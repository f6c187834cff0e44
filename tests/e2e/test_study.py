"""The tiny study from cohort to report, and what can be done with it afterwards."""

import hashlib
import json
import re
import shutil
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pandas as pd
import pytest
from browser import open_browser
from fedpedbrain.base.cases import read_split_cases
from fedpedbrain.base.files import read_table
from fedpedbrain.jobs.course.timeline import read_makers
from fedpedbrain.models.files import load_model_file
from fedpedbrain.planning.records import read_records
from workspace import TINY

pytestmark = pytest.mark.slow
FEDAVG = "results/models/fedavg/seed-0"


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_progress_names_arm_and_round_of_how_many(finished_study):
    assert re.search(r"\d+ %  fedavg, seed 0: round 002 of 2, training north", finished_study.output)
    assert "steps to do" in finished_study.output


def test_every_arm_is_scored_on_the_same_held_out_cases(finished_study):
    results = finished_study.folder / "results"
    cases = read_split_cases(results / "cohort/index.tsv", results / "cohort/splits.tsv")
    held_out = {case.case for case in cases if case.split in ("test", "external")}
    scores = [pd.read_csv(path, sep="\t") for path in (results / "scores").glob("*/*.tsv")]
    assert len(scores) == 4
    assert all(set(table["case"]) == held_out for table in scores)
    assert {case.site for case in cases if case.split == "external"} == {"west"}


def test_lineage_leads_from_every_model_back_to_the_common_start(finished_study):
    initial = finished_study.folder / "results/models/initial/unet/seed-0.pth"
    for arm in ("centralized", "local-north", "local-east", "fedavg"):
        parent = initial
        for number in ("001", "002"):
            path = finished_study.folder / f"results/models/{arm}/seed-0/round-{number}/global.pth"
            lineage = load_model_file(path).lineage
            assert (lineage.arm, lineage.round, lineage.parent_sha256) == (arm, int(number), sha256(parent))
            assert sum(update.weight for update in lineage.updates) == pytest.approx(1.0)
            parent = path


def test_the_cost_of_every_arm_is_that_of_all_its_jobs(finished_study):
    costs = [pd.read_csv(path, sep="\t") for path in (finished_study.folder / "results/models").rglob("cost.tsv")]
    assert len(costs) == len(pd.concat(costs)["arm"].unique()) > 1
    for cost in costs:
        assert (cost["num_recorded"] == cost["num_jobs"]).all()
        assert (cost["num_jobs"] > 0).all()
        assert (cost["wall_seconds"] > 0).all()


def test_fedavg_weighs_sites_by_their_training_cases(finished_study):
    lineage = load_model_file(finished_study.folder / FEDAVG / "round-001/global.pth").lineage
    metrics = json.loads((finished_study.folder / FEDAVG / "round-001/metrics.json").read_text())
    total = sum(item["num_cases"] for item in metrics)
    assert {update.site: update.weight for update in lineage.updates} == {
        item["site"]: pytest.approx(item["num_cases"] / total) for item in metrics
    }


def test_the_timeline_has_every_job_of_the_rounds_and_its_path_begins_with_the_cohort(finished_study):
    jobs = pd.read_csv(finished_study.folder / "results/timeline/jobs.tsv", sep="\t", keep_default_na=False)
    counts = jobs["rule"].value_counts()
    # Two rounds of four arms, one of which has two sites.
    assert (counts["train_site"], counts["aggregate_round"]) == (2 * 5, 2 * 4)
    # Both rounds of an arm at once, at either site.
    assert counts["validate_site"] == 4 * 2
    assert counts["predict_cases"] == counts["score_predictions"] == 4
    first = jobs[(jobs["arm"] == "fedavg") & (jobs["round"].astype(str) == "1")].set_index("rule")
    assert first.loc["train_site", "ended"].max() <= first.loc["aggregate_round", "started"]
    assert set(jobs["device"]) <= {"CPU 1", "CPU 2"}
    path = jobs[jobs["on_critical_path"] == 1].sort_values("started")
    assert (path["rule"].iloc[0], path["ended"].iloc[-1]) == ("index_site", jobs["ended"].max())


def test_the_records_link_every_job_to_what_made_its_inputs(finished_study, monkeypatch):
    monkeypatch.chdir(finished_study.folder)
    makers = read_makers(read_records(Path("results/records")), "results/logs")
    jobs = pd.read_csv("results/timeline/jobs.tsv", sep="\t", keep_default_na=False).set_index("job")
    first = {name for name in jobs.index if not makers[name]}
    assert set(jobs.loc[sorted(first), "rule"]) == {"index_site", "initialize_model"}
    for name in set(jobs.index) - first:
        known = jobs.index.intersection(makers[name])
        assert jobs.loc[known, "ended"].max() <= jobs.loc[name, "started"], name
    # By way of updates, which are gone.
    training = {"models/fedavg/seed-0/round-002/train-north", "models/fedavg/seed-0/round-002/train-east"}
    assert training <= makers["models/fedavg/seed-0/round-002/aggregate"]


def test_updates_do_not_stay_on_disk(finished_study):
    assert not list((finished_study.folder / "results/models").glob("*/*/*/updates/*.pth"))


def test_training_again_gives_the_same_bytes(study_copy):
    before = sha256(study_copy.folder / FEDAVG / "best.pth")
    shutil.rmtree(study_copy.folder / FEDAVG)
    result = study_copy.snakemake("--configfile", TINY, "--cores", "2", f"{FEDAVG}/best.pth")
    assert result.returncode == 0, result.stdout
    assert sha256(study_copy.folder / FEDAVG / "best.pth") == before


def test_the_report_holds_everything_it_shows(finished_study):
    report = (finished_study.folder / "results/report.html").read_text()
    assert "A tiny study" in report
    assert "Simulated cohort" in report
    references = re.findall(r"(?:src|href|poster)=[\"']([^\"']+)", report)
    assert references
    assert all(reference.startswith(("data:", "#")) for reference in references)
    assert "video/mp4" in report


def test_videos_are_h264_with_one_frame_a_slice(finished_study):
    videos = list((finished_study.folder / "results/videos").glob("*.mp4"))
    assert len(videos) == 1
    tables = finished_study.folder.glob("results/cohort/sites/*/scans.tsv")
    shapes = {row["case"]: row["shape"] for table in tables for row in read_table(table)}
    # Slices of the scan, of which the grid has 8.
    num_slices = int(shapes[videos[0].stem].split("x")[0])
    assert len(list(iio.imiter(videos[0]))) == num_slices > 8
    assert iio.immeta(videos[0])["codec"] == "h264"


def test_chromium_shows_the_report_without_a_network(finished_study, tmp_path):
    report = finished_study.folder / "results/report.html"
    with open_browser(tmp_path / "profile") as page:
        for width in (1280, 400):
            page.open(report, width)
            picture = iio.imread(page.screenshot())
            assert picture.shape[1] == width
            assert len(np.unique(picture.reshape(-1, picture.shape[2]), axis=0)) > 100
        assert page.undecoded == []
        assert (page.requests, page.complaints) == ([report.as_uri()], [])


def test_the_record_is_of_the_files_that_are_there(finished_study):
    record = json.loads((finished_study.folder / "results/report.json").read_text())
    tables = {path.stem for path in (finished_study.folder / "results/tables").glob("*.tsv")}
    # Of single models, the summary has the means.
    assert set(record["tables"]) == tables - {"cohort", "models"}
    assert len(record["files"]) > 20
    assert all(sha256(finished_study.folder / path) == digest for path, digest in record["files"].items())


def test_every_model_is_exported(finished_study):
    results = finished_study.folder / "results"
    arms = {"centralized", "local-north", "local-east", "fedavg"}
    for arm in arms:
        folder = results / "exports" / "models" / arm / "seed-0"
        assert sha256(folder / "best.pth") == sha256(results / "models" / arm / "seed-0" / "best.pth")
        assert sha256(folder / "best.pth") in (folder / "README.md").read_text()
        assert (results / "exports" / "tensorboard" / arm / "seed-0" / "events.out.tfevents.0").is_file()
    assert set(pd.read_csv(results / "exports" / "metrics.csv")["arm"]) == arms
    assert set(pd.read_csv(results / "exports" / "rounds.csv")["arm"]) == arms
    assert len(list((results / "exports" / "mlflow").glob("*/*/meta.yaml"))) == len(arms)


def test_every_figure_is_a_picture(finished_study):
    for path in (finished_study.folder / "results/figures").glob("*.png"):
        assert iio.imread(path).std() > 5, path.name
