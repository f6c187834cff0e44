"""What a change makes stale, asserted on the job graph of a finished study."""

import pytest
from workspace import TINY

pytestmark = pytest.mark.slow

# Of the tiny study: centralized, local-north, local-east and fedavg, 2 rounds.
ARMS = 4
TRAINING_JOBS_A_ROUND = 5
REPORTING = {"plot_convergence", "plot_comparison", "plot_confusion", "render_videos", "write_report"}


def planned(study, *arguments):
    return study.planned("--configfile", TINY, *arguments)


def test_a_finished_study_has_nothing_to_do(finished_study):
    assert planned(finished_study) == {}


def test_two_more_rounds_run_only_those_rounds(finished_study):
    jobs = planned(finished_study, "--config", "study={rounds: 4}")
    assert jobs["train_site"] == 2 * TRAINING_JOBS_A_ROUND
    assert jobs["aggregate_round"] == jobs["validate_round"] == 2 * ARMS
    assert jobs["select_model"] == ARMS
    assert not {"initialize_model", "build_shard", "index_cohort"} & set(jobs)


def test_a_changed_learning_rate_reruns_training_and_later(finished_study):
    jobs = planned(finished_study, "--config", "training={optimizer: {learning_rate: 0.0001}}")
    assert jobs["train_site"] == 2 * TRAINING_JOBS_A_ROUND
    assert jobs["aggregate_round"] == jobs["validate_round"] == 2 * ARMS
    assert jobs["predict_cases"] == ARMS
    assert not {"initialize_model", "build_shard", "index_cohort", "split_cohort", "plot_cohort"} & set(jobs)


def test_a_changed_figure_colour_reruns_one_figure_and_the_report(finished_study):
    jobs = planned(finished_study, "--config", "reporting={confusion_colour_map: Greens}")
    assert jobs == {"plot_confusion": 1, "write_report": 1, "all": 1}


def test_leave_for_missing_sites_trains_nothing_again(finished_study):
    jobs = planned(finished_study, "--config", "arm_defaults={participation: {allow_missing_sites: true}}")
    assert jobs == {"write_report": 1, "all": 1}


def test_after_the_models_alone_the_report_trains_nothing(finished_study):
    jobs, whole = (planned(finished_study, "--forceall", "--", target) for target in ("models", "all"))
    # What reads updates, which are deleted then.
    for rule in ("aggregate_round", "inspect_updates"):
        assert jobs[rule] == whole[rule] > 0


def test_a_comment_in_the_package_reruns_nothing(study_copy):
    study_copy.edit("pkg/fedpedbrain/federated/averaging.py", "import torch\n", "import torch\n\n# A remark.\n")
    assert planned(study_copy) == {}


def test_an_edit_of_the_averaging_code_reruns_every_average(study_copy):
    old, new = "total.div_(sum(factors))", "total.div_(math.fsum(factors))"
    study_copy.edit("pkg/fedpedbrain/federated/averaging.py", old, new)
    jobs = planned(study_copy)
    assert jobs["aggregate_round"] == 2 * ARMS
    assert "build_shard" not in jobs
    assert "initialize_model" not in jobs


def test_an_edit_of_the_report_reruns_the_report_alone(study_copy):
    study_copy.edit(
        "pkg/fedpedbrain/reporting/report.py", "def write_report_files(", "LEFT_OVER = 1\n\n\ndef write_report_files("
    )
    assert planned(study_copy) == {"write_report": 1, "all": 1}


def test_touched_but_unchanged_tables_rerun_nothing(study_copy):
    (study_copy.folder / "results/cohort/splits.tsv").touch()
    assert planned(study_copy) == {}
