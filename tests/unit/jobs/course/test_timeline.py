"""When jobs ran, on runs of a few jobs: pauses, devices, how much was busy, and the critical path."""

import json

import numpy as np
import pytest
from fedpedbrain.base.files import read_table
from fedpedbrain.jobs.course.critical_path import WAITS_FOR, Job, critical_path, seconds_on_path
from fedpedbrain.jobs.course.timeline import (
    assign_devices,
    cut_pauses,
    mean_busy,
    measure_timeline_files,
    read_jobs,
    summarize_timeline,
)
from fedpedbrain.jobs.usage import Usage, usage_line


def make_job(rule, started, ended, round_number=0, arm="fedavg", name="", **more):
    values = {"seed": "0" if arm else "", "busy_from": started, "cpu_seconds": ended - started} | more
    name = name or f"{arm}-{round_number}-{rule}-{started}"
    return Job(name, rule, arm=arm, round=round_number, started=started, ended=ended, **values)


# Two sites on two cores, and the second round of one of them: north takes longer, averaging waits a second for a core.
RUN = [
    make_job("train_site", 0.0, 6.0, 1, name="north"),
    make_job("train_site", 0.0, 4.0, 1, name="east"),
    make_job("aggregate_round", 7.0, 8.0, 1, name="average"),
    make_job("validate_round", 8.0, 9.0, 1, name="validation"),
    make_job("train_site", 8.5, 12.0, 2, name="next"),
]


def names(jobs):
    return [job.name for job in jobs]


def test_the_critical_path_goes_back_over_the_job_that_ended_last_of_those_waited_for():
    assert names(critical_path(RUN)) == ["north", "average", "next"]


def test_what_is_no_work_on_the_path_is_waiting():
    seconds = seconds_on_path(critical_path(RUN))
    assert {kind: value for kind, value in seconds.items() if value} == {
        "training": 6.0 + 3.5,
        "averaging": 1.0,
        "waiting": 1.0 + 0.5,
    }
    assert sum(seconds.values()) == 12.0


def test_sites_of_a_round_wait_for_each_other_in_a_chain_alone():
    jobs = [make_job("train_site", 0.0, 2.0, 1, name="first"), make_job("train_site", 2.0, 5.0, 1, name="second")]
    assert names(critical_path(jobs)) == ["second"]
    assert names(critical_path(jobs, chains=["fedavg"])) == ["first", "second"]


def test_no_job_waits_for_another_arm_or_a_later_round_and_tables_wait_for_all_arms():
    jobs = [
        make_job("aggregate_round", 0.0, 1.0, 1, name="own"),
        make_job("aggregate_round", 0.0, 2.0, 1, arm="other", name="other arm"),
        make_job("aggregate_round", 0.0, 3.0, 3, name="later round"),
        make_job("train_site", 4.0, 5.0, 2, name="training"),
    ]
    assert names(critical_path(jobs)) == ["own", "training"]
    scores = [make_job("score_predictions", 0.0, end, arm=arm, name=arm) for arm, end in (("a", 3.0), ("b", 2.0))]
    assert names(critical_path([*scores, make_job("compare_arms", 4.0, 5.0, arm="", name="tables")])) == ["a", "tables"]


def test_a_job_that_left_no_record_is_where_the_path_begins():
    assert names(critical_path([job for job in RUN if job.name != "average"])) == ["next"]
    assert seconds_on_path(critical_path(RUN[-1:]))["waiting"] == 8.5
    assert critical_path([]) == []


def test_a_wait_for_a_gpu_is_waiting():
    (job,) = critical_path([make_job("train_site", 0.0, 5.0, 1, busy_from=2.0, gpu_id="uuid")])
    assert seconds_on_path([job])["waiting"] == 2.0
    assert seconds_on_path([job])["training"] == 3.0


def test_jobs_of_other_rules_are_waited_for_by_none_that_is_not_there():
    assert {other for rules in WAITS_FOR.values() for other in rules} <= set(WAITS_FOR)


def test_times_in_which_nothing_ran_for_long_are_cut_out_and_short_ones_stay():
    jobs = [
        make_job("train_site", 1000.0, 1010.0, 1),
        make_job("aggregate_round", 1030.0, 1031.0, 1),
        # Started again a day later.
        make_job("train_site", 87431.0, 87435.0, 2, busy_from=87432.0),
    ]
    moved, pauses = cut_pauses(jobs[::-1])
    assert [(job.started, job.ended) for job in moved] == [(0.0, 10.0), (30.0, 31.0), (31.0, 35.0)]
    assert moved[-1].busy_from == 32.0
    assert pauses == [(31.0, 86400.0)]
    assert cut_pauses([]) == ([], [])


def test_a_long_run_keeps_a_pause_that_would_be_cut_from_a_short_one():
    jobs = [make_job("train_site", 0.0, 3600.0, 1), make_job("aggregate_round", 3700.0, 3701.0, 1)]
    assert cut_pauses(jobs)[1] == []
    assert cut_pauses([make_job("train_site", 0.0, 36.0, 1), make_job("aggregate_round", 136.0, 137.0, 1)])[1] == [
        (36.0, 100.0)
    ]


def test_jobs_share_as_few_slots_as_ran_at_once_and_a_gpu_is_a_device_of_its_own():
    assert assign_devices(RUN) == ["CPU 1", "CPU 2", "CPU 1", "CPU 1", "CPU 2"]
    on_gpu = [make_job("train_site", 0.0, 1.0, gpu_id=gpu) for gpu in ("b", "a", "b")]
    assert assign_devices([*on_gpu, RUN[0]]) == ["GPU 2", "GPU 1", "GPU 2", "CPU 1"]


def test_machines_are_numbered_not_named():
    jobs = [make_job("train_site", 0.0, 1.0, host=host) for host in ("hera", "zeus", "hera")]
    assert assign_devices(jobs) == ["CPU 1 of node 1", "CPU 1 of node 2", "CPU 2 of node 1"]


def test_what_is_busy_is_a_mean_over_each_bin():
    busy = mean_busy([0.0, 1.0], [2.0, 2.0], [1.0, 2.0], np.array([0.0, 1.0, 2.0, 4.0]))
    assert busy.tolist() == [1.0, 3.0, 0.0]
    assert mean_busy([0.0], [3.0], [2.0], np.array([2.0, 4.0])).tolist() == [1.0]


def test_a_run_in_numbers():
    summary = summarize_timeline(RUN, [], [])
    assert (summary["num_jobs"], summary["wall_seconds"], summary["idle_seconds"]) == (5, 12.0, 1.0)
    assert summary["cpu"] == {"num_devices": 2, "busy_share": round(15.5 / 24.0, 4)}
    assert summary["gpu"] is None
    assert summary["mean_cores"] == pytest.approx(15.5 / 12.0, abs=1e-3)
    assert (summary["path_seconds"]["training"], summary["num_path_jobs"]) == (9.5, 3)
    assert summarize_timeline([], [], [])["num_jobs"] == 0


def test_gpus_count_from_their_first_job_to_their_last():
    jobs = [make_job("build_shard", 0.0, 10.0, arm="")]
    jobs += [make_job("train_site", 10.0, 14.0, busy_from=12.0, gpu_id="a")]
    jobs += [make_job("train_site", 12.0, 20.0, gpu_id="b")]
    assert summarize_timeline(jobs, [], [])["gpu"] == {"num_devices": 2, "busy_share": (2 + 8) / (2 * 8)}


@pytest.fixture
def logs(tmp_path):
    """Logs of a study, and of what is none of it."""

    def write(name, rule, started, ended, *gpu):
        path = tmp_path / "logs" / f"{name}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        usage = Usage(ended - started, 1.5, 100, *(gpu or ("", 0, 0.0)), started, ended, "node", "uuid" * bool(gpu))
        path.write_text(f"INFO: begun\nINFO: {usage_line(rule, usage)}\n")

    write("cohort/shard-north", "build_shard", 1000.0, 1002.0)
    write("models/initial/seed-0", "initialize_model", 1000.0, 1001.0)
    write("models/fedavg/seed-0/round-001/train-north", "train_site", 1002.0, 1009.0, "H100", 10, 5.0)
    write("models/fedavg/seed-0/round-001/aggregate", "aggregate_round", 1009.5, 1010.0)
    # Not of the study: a removed arm, another seed, a round too many, a new scan.
    write("models/removed/seed-0/round-001/train-north", "train_site", 0.0, 1.0)
    write("models/fedavg/seed-1/round-001/train-north", "train_site", 0.0, 1.0)
    write("models/fedavg/seed-0/round-002/train-north", "train_site", 0.0, 1.0)
    write("inference/scan/predict-model", "predict_scan", 0.0, 1.0)
    # Killed, or of an earlier version.
    (tmp_path / "logs/models/fedavg/seed-0/round-001/validate.log").write_bytes("INFO: Süd".encode()[:-2])
    write("models/fedavg/seed-0/round-001/inspect", "inspect_updates", 0.0, 0.0)
    return tmp_path / "logs"


def test_jobs_of_the_study_are_read_from_their_logs(logs):
    jobs = {job.rule: job for job in read_jobs(logs, ["fedavg"], [0], 1)}
    assert set(jobs) == {"build_shard", "initialize_model", "train_site", "aggregate_round"}
    training = jobs["train_site"]
    assert (training.arm, training.seed, training.round, training.gpu_id) == ("fedavg", "0", 1, "uuid")
    # It waited two seconds for its GPU.
    assert (training.started, training.busy_from, training.ended) == (1002.0, 1004.0, 1009.0)
    assert (jobs["initialize_model"].arm, jobs["initialize_model"].seed) == ("", "0")
    assert jobs["build_shard"].seed == ""


def test_the_table_has_a_row_a_job_from_the_first_ones_start(logs, tmp_path):
    paths = (tmp_path / "jobs.tsv", tmp_path / "summary.json")
    measure_timeline_files(logs, *paths, arms=["fedavg"], seeds=[0], last_round=1, chains=[])
    rows = {row["rule"]: row for row in read_table(paths[0])}
    assert [rows[rule]["on_critical_path"] for rule in ("build_shard", "train_site", "aggregate_round")] == [
        "0",
        "1",
        "1",
    ]
    assert (rows["train_site"]["device"], rows["build_shard"]["device"]) == ("GPU 1", "CPU 2")
    assert float(rows["aggregate_round"]["ended"]) == 10.0
    summary = json.loads(paths[1].read_text())
    assert summary["wall_seconds"] == 10.0
    assert summary["path_seconds"]["waiting"] == pytest.approx(1.0 + 2.0 + 0.5)


def test_a_run_without_records_is_an_empty_table(tmp_path):
    paths = (tmp_path / "jobs.tsv", tmp_path / "summary.json")
    measure_timeline_files(tmp_path / "logs", *paths, arms=[], seeds=[], last_round=1, chains=[])
    assert read_table(paths[0]) == []
    assert json.loads(paths[1].read_text())["wall_seconds"] == 0.0
