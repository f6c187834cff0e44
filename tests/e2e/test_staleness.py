"""What a change makes stale, asserted on the job graph of a finished study."""

import pytest
from workspace import TINY

pytestmark = pytest.mark.slow

# Of the tiny study: centralized, local-north, local-east and fedavg, 2 rounds.
ARMS = 4
TRAINING_JOBS_A_ROUND = 5
# What shows all arms, and so is made again where there is one more.
OF_ALL_ARMS = ["compare_arms", "plot_convergence", "plot_updates", "plot_comparison", "plot_classes"]
OF_ALL_ARMS += ["plot_confusion", "plot_cross_sites", "plot_reliability", "plot_volumes", "measure_cost"]
OF_ALL_ARMS += ["measure_timeline", "plot_timeline", "write_report", "write_model_folders", "export_results", "all"]


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


def test_a_new_arm_reruns_nothing_of_the_others(finished_study):
    arms = "arms=[{name: centralized, participants: pooled}, {name: local, participants: alone}, "
    arms += (
        "{name: fedavg, participants: sites}, {name: more, participants: sites, strategy: {name: fedprox, mu: 0.1}}]"
    )
    of_the_arm = {"train_site": 2 * 2} | dict.fromkeys(["aggregate_round", "inspect_updates", "validate_round"], 2)
    once = ["select_model", "record_lineage", "summarize_intensities", "predict_cases", "score_predictions"]
    # No video: it shows other arms.
    assert planned(finished_study, "--config", arms) == of_the_arm | dict.fromkeys([*once, *OF_ALL_ARMS], 1)


def test_leave_for_missing_sites_trains_nothing_again(finished_study):
    jobs = planned(finished_study, "--config", "arm_defaults={participation: {allow_missing_sites: true}}")
    # They say how each arm trains.
    assert jobs == {"write_report": 1, "write_model_folders": 1, "export_results": 1, "all": 1}


def test_after_the_models_alone_the_report_trains_nothing(finished_study):
    jobs, whole = (planned(finished_study, "--forceall", "--", target) for target in ("models", "all"))
    # What reads updates, which are deleted then.
    for rule in ("aggregate_round", "inspect_updates"):
        assert jobs[rule] == whole[rule] > 0


def test_for_a_record_of_cost_that_is_gone_nothing_trains_again(study_copy):
    arm = study_copy.folder / "results/models/fedavg/seed-0"
    (arm / "round-001/usage/train-north.json").unlink()
    (arm / "cost.tsv").unlink()
    assert planned(study_copy, "--", "results/models/fedavg/seed-0/cost.tsv") == {"measure_cost": 1}


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


def test_edits_of_the_report_and_of_captions_rerun_the_report_alone(study_copy):
    study_copy.edit(
        "pkg/fedpedbrain/reporting/report.py", "def write_report_files(", "LEFT_OVER = 1\n\n\ndef write_report_files("
    )
    study_copy.edit("pkg/fedpedbrain/reporting/templates/report/statistics.html.j2", "Tests of", "All tests of")
    # The caption of Snakemake's report, and of ours.
    study_copy.edit("rules/captions/classes.rst", "Precision, recall, F1 and AUROC", "How well each class is told")
    study_copy.edit(
        "pkg/fedpedbrain/reporting/templates/report/results.html.j2", "Each class against", "A class against"
    )
    assert planned(study_copy) == {"write_report": 1, "all": 1}


def test_touched_but_unchanged_tables_rerun_nothing(study_copy):
    (study_copy.folder / "results/cohort/splits.tsv").touch()
    assert planned(study_copy) == {}
