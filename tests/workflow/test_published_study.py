"""The published study is planned with its files at hand or from a hub, without a network and without a token."""

import pytest
import yaml
from flpedbrain_files import published_files
from workspace import REPOSITORY, Workspace

STUDY = REPOSITORY / "studies" / "flpedbrain.yaml"
SITES = yaml.safe_load(STUDY.read_text())["cohort"]["sites"]


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """``plan(override)``: jobs up to the second round of the warm start; nobody answers for the hub."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    (tmp_path / "study").mkdir()
    workspace = Workspace(tmp_path / "study")
    target = "results/models/fedavg/seed-0/round-002/global.pth"
    return lambda override: workspace.planned("--configfile", str(STUDY), "--config", override, "--", target)


def test_a_folder_of_the_files_is_planned_without_fetching(plan, tmp_path):
    labels = {site: ([1, 2], [3, 4]) for site in [*SITES["training"], *SITES["external"]]}
    for name, content in published_files(labels).items():
        (tmp_path / name).write_bytes(content)
    jobs = plan(f"cohort_root={tmp_path}")
    assert "fetch_site" not in jobs
    # The warm start is on two sites; of its first round the model stays, of its second nothing.
    assert jobs["check_cohort"] == jobs["aggregate_round"] == jobs["aggregate_passing_round"] == 1
    assert jobs["train_passing_site"] == 2 * 2


def test_every_site_is_fetched_from_a_hub_once(plan):
    jobs = plan("flpedbrain={revision: v1.0}")
    assert (jobs["fetch_site"], jobs["index_site"], jobs["train_passing_site"]) == (18, 18, 4)
