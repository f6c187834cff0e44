"""How many jobs a study has, and of which kind."""

import pytest
from workspace import Workspace


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return Workspace(tmp_path_factory.mktemp("graph"))


def test_the_default_study_trains_every_arm_every_round(workspace):
    jobs = workspace.planned("--config", "study={rounds: 3}")
    # A round is one pooled job, one for each of three sites alone, and one for each of three federated sites.
    assert jobs["train_site"] == 3 * (1 + 3 + 3)
    assert jobs["aggregate_round"] == jobs["validate_round"] == 3 * 5
    assert jobs["select_model"] == jobs["predict_cases"] == jobs["score_predictions"] == 5
    assert jobs["build_shard"] == 4
    assert jobs["initialize_model"] == jobs["write_report"] == 1


def test_a_second_seed_doubles_training_and_shares_the_cohort(workspace):
    jobs = workspace.planned("--config", "study={rounds: 1, seeds: [0, 1]}")
    assert jobs["train_site"] == 2 * 7
    assert jobs["initialize_model"] == 2
    assert jobs["build_shard"] == 4


def test_a_new_scan_is_predicted_where_the_cohort_of_its_models_study_is_not(workspace):
    files = {name: workspace.folder / name for name in ("scan.nii.gz", "model.pth")}
    for path in files.values():
        path.touch()
    arguments = [f"scan={files['scan.nii.gz']}", f"model={files['model.pth']}"]
    jobs = workspace.planned("--configfile", "studies/tcga_lgg.yaml", "--config", *arguments, "--", "predict")
    assert jobs == {"predict_scan": 1, "predict": 1}


def test_a_study_without_external_sites_is_planned(workspace):
    jobs = workspace.planned("--config", "study={rounds: 1}", "cohort={sites: {training: [north, east], external: []}}")
    assert jobs["build_shard"] == 2
    assert jobs["train_site"] == 1 + 2 + 2
