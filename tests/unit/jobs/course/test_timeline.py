"""When jobs ran, on runs of a few jobs: pauses, devices, how much was busy, and the critical path."""

import json

import numpy as np
import pytest
from fedpedbrain.base.files import read_table
from fedpedbrain.jobs.course.critical_path import (
    FILES,
    NOTHING,
    ROOM,
    Job,
    critical_path,
    kind_of_job,
    longest_chain,
    seconds_on_path,
)
from fedpedbrain.jobs.course.timeline import (
    assign_devices,
    cut_pauses,
    mean_busy,
    measure_timeline_files,
    read_jobs,
    read_makers,
    summarize_timeline,
)
from fedpedbrain.jobs.usage import Usage, usage_line
from fedpedbrain.planning.records import FileRecord, record_name


def make_job(rule, started, ended, round_number=0, arm="fedavg", name="", **more):
    values = {"seed": "0" if arm else "", "busy_from": started, "cpu_seconds": ended - started} | more
    name = name or f"{arm}-{round_number}-{rule}-{started}"
    return Job(name, rule, arm=arm, round=round_number, started=started, ended=ended, **values)


# Two sites on two cores, and the second round of one of them: north takes longer, averaging waits a second for a core.
RUN = [
    make_job("train_site", 0.0, 6.0, 1, name="north"),
    make_job("train_site", 0.0, 4.0, 1, name="east"),
    make_job("aggregate_round", 7.0, 8.0, 1, name="average"),
    make_job("validate_site", 8.0, 9.0, 1, name="validation"),
    make_job("train_site", 8.5, 12.0, 2, name="next"),
]


MAKERS = {"average": {"north", "east"}, "validation": {"average"}, "next": {"average"}}


def path_of(jobs, makers, **more):
    return critical_path(jobs, makers, assign_devices(jobs), **more)


def steps(jobs, makers, **more):
    return [(step.job.name, step.waited_for) for step in path_of(jobs, makers, **more)]


def test_the_critical_path_goes_back_over_the_job_that_made_the_last_input():
    assert steps(RUN, MAKERS) == [("north", NOTHING), ("average", FILES), ("next", FILES)]


def test_a_job_that_had_its_files_waited_for_the_job_that_freed_its_lane():
    # One lane: both arms have their start at once, and the second one trains after the first.
    jobs = [
        make_job("initialize_model", 0.0, 1.0, arm="", name="start"),
        make_job("train_site", 1.2, 6.0, 1, arm="a", name="first arm"),
        make_job("train_site", 6.3, 9.0, 1, arm="b", name="second arm"),
    ]
    makers = {"first arm": {"start"}, "second arm": {"start"}}
    assert steps(jobs, makers) == [("start", NOTHING), ("first arm", FILES), ("second arm", ROOM)]
    assert seconds_on_path(path_of(jobs, makers))["waiting"] == pytest.approx(0.2 + 0.3)


def test_of_two_lanes_that_are_freed_at_once_the_one_counts_that_the_job_took():
    jobs = [
        make_job("train_site", 0.0, 5.0, 1, name="left"),
        make_job("train_site", 0.1, 5.4, 1, name="right"),
        make_job("train_site", 5.5, 8.0, 1, name="last"),
    ]
    assert assign_devices(jobs) == ["CPU 1", "CPU 2", "CPU 1"]
    assert steps(jobs, {})[0] == ("left", NOTHING)
    # Not at once: the lane was free long before, so it was not enough for a job of two threads.
    jobs[0] = make_job("train_site", 0.0, 3.0, 1, name="left")
    assert steps(jobs, {}) == [("right", NOTHING), ("last", ROOM)]


def test_two_jobs_wait_for_one_that_had_the_room_of_both():
    jobs = [
        make_job("train_site", 0.0, 5.0, 1, name="two threads"),
        make_job("validate_site", 5.2, 6.0, 1, name="one thread"),
        make_job("validate_site", 5.2, 7.0, 1, name="another"),
    ]
    assert assign_devices(jobs) == ["CPU 1", "CPU 1", "CPU 2"]
    assert steps(jobs, {}) == [("two threads", NOTHING), ("another", ROOM)]
    assert steps(jobs[:2], {}) == [("two threads", NOTHING), ("one thread", ROOM)]


def test_what_ended_on_another_machine_or_before_the_files_were_there_gave_no_room():
    jobs = [
        make_job("train_site", 0.0, 3.0, 1, name="before"),
        make_job("train_site", 0.0, 4.0, 1, name="input"),
        make_job("train_site", 0.0, 8.0, 1, name="elsewhere", host="other"),
        make_job("aggregate_round", 9.0, 10.0, 1, name="average"),
    ]
    assert steps(jobs, {"average": {"input"}}) == [("input", NOTHING), ("average", FILES)]
    assert seconds_on_path(path_of(jobs, {"average": {"input"}}))["waiting"] == 5.0


def test_an_input_that_was_made_again_since_is_not_what_a_job_waited_for():
    jobs = [
        make_job("build_shard", 0.0, 1.0, arm="", name="shard"),
        make_job("train_site", 1.0, 2.0, 1, name="training"),
        make_job("initialize_model", 1.5, 2.5, arm="", name="made again"),
    ]
    assert steps(jobs[:2], {"training": {"shard", "made again"}}) == [("shard", NOTHING), ("training", FILES)]
    assert steps(jobs, {"training": {"shard", "made again"}})[-1][0] == "made again"


def test_a_job_whose_records_are_lost_waited_for_room_and_one_that_left_no_log_is_passed_over():
    lost = {"average": {"north", "east"}}
    assert steps(RUN, lost) == [("north", NOTHING), ("average", FILES), ("next", ROOM)]
    unlogged = [job for job in RUN if job.name != "average"]
    assert steps(unlogged, MAKERS) == [("north", NOTHING), ("next", ROOM)]
    assert seconds_on_path(path_of(RUN[-1:], MAKERS))["waiting"] == 8.5
    assert steps([], {}) == []


def test_after_a_pause_the_path_goes_on_with_the_job_that_ended_last_before_it():
    jobs = [
        make_job("train_site", 0.0, 4.0, 1, name="input"),
        make_job("train_site", 0.0, 9.0, 1, name="last before the pause"),
        make_job("score_predictions", 9.5, 14.0, name="after"),
        make_job("score_predictions", 14.2, 15.0, name="second after"),
    ]
    makers = {"after": {"input"}, "second after": {"input"}}
    assert steps(jobs, makers, begun=[0.0, 9.0]) == [
        ("last before the pause", NOTHING),
        ("after", NOTHING),
        ("second after", ROOM),
    ]


def test_every_rule_is_on_the_path_whatever_its_name():
    jobs = [make_job("never_heard_of", 0.0, 5.0, name="a"), make_job("nor_of_this", 5.0, 7.0, name="b")]
    assert steps(jobs, {"b": {"a"}}) == [("a", NOTHING), ("b", FILES)]
    assert [kind_of_job(job) for job in jobs] == ["other", "other"]
    assert kind_of_job(make_job("new_check", 0.0, 1.0, name="cohort/new-check")) == "cohort"


def test_what_is_no_work_on_the_path_is_waiting():
    seconds = seconds_on_path(path_of(RUN, MAKERS))
    assert {kind: value for kind, value in seconds.items() if value} == {
        "training": 6.0 + 3.5,
        "averaging": 1.0,
        "waiting": 1.0 + 0.5,
    }
    assert sum(seconds.values()) == 12.0


def test_a_wait_for_a_gpu_is_waiting():
    path = path_of([make_job("train_site", 0.0, 5.0, 1, busy_from=2.0, gpu_id="uuid")], {})
    assert seconds_on_path(path)["waiting"] == 2.0
    assert seconds_on_path(path)["training"] == 3.0


def test_the_longest_chain_is_that_of_work_without_any_waiting():
    assert longest_chain(RUN, MAKERS) == 6.0 + 1.0 + 3.5
    assert longest_chain(RUN, {}) == 6.0
    assert longest_chain([], {}) == 0.0


def test_jobs_are_named_by_their_logs_and_linked_by_their_files():
    records = [
        FileRecord("start.pth", "logs/start.log", ()),
        # Two outputs of one job, one of them deleted since.
        FileRecord("update.pth", "logs/round-1/train.log", ("start.pth", "cases.tsv")),
        FileRecord("metrics.json", "logs/round-1/train.log", ("start.pth", "cases.tsv")),
        FileRecord("global.pth", "logs/round-1/average.log", ("update.pth", "metrics.json", "start.pth")),
    ]
    assert read_makers(records, "logs") == {
        "start": set(),
        "round-1/train": {"start"},
        "round-1/average": {"start", "round-1/train"},
    }


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
    summary = summarize_timeline(RUN, [], path_of(RUN, MAKERS), MAKERS)
    assert (summary["num_jobs"], summary["wall_seconds"], summary["idle_seconds"]) == (5, 12.0, 1.0)
    assert summary["cpu"] == {"num_devices": 2, "busy_share": round(15.5 / 24.0, 4)}
    assert summary["gpu"] is None
    assert summary["mean_cores"] == pytest.approx(15.5 / 12.0, abs=1e-3)
    assert (summary["path_seconds"]["training"], summary["num_path_jobs"]) == (9.5, 3)
    assert (summary["num_path_arms"], summary["num_room_jobs"], summary["chain_seconds"]) == (1, 0, 10.5)
    assert summary["longest_path_job"] == {"job": "north", "seconds": 6.0}
    nothing = summarize_timeline([], [], [], {})
    assert (nothing["num_jobs"], nothing["longest_path_job"]) == (0, None)


def test_gpus_count_from_their_first_job_to_their_last():
    jobs = [make_job("build_shard", 0.0, 10.0, arm="")]
    jobs += [make_job("train_site", 10.0, 14.0, busy_from=12.0, gpu_id="a")]
    jobs += [make_job("train_site", 12.0, 20.0, gpu_id="b")]
    assert summarize_timeline(jobs, [], [], {})["gpu"] == {"num_devices": 2, "busy_share": (2 + 8) / (2 * 8)}


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
    write("models/fedavg/seed-0/validation/north/from-026", "validate_site", 1010.0, 1011.0)
    write("requests/scans/scan/predict-model", "predict_scan", 0.0, 1.0)
    # It tells of an earlier run.
    write("reporting/plot_timeline", "plot_timeline", 0.0, 1.0)
    # Killed, or of an earlier version.
    (tmp_path / "logs/models/fedavg/seed-0/round-001/validate.log").write_bytes("INFO: Süd".encode()[:-2])
    write("models/fedavg/seed-0/round-001/inspect", "inspect_updates", 0.0, 0.0)
    return tmp_path / "logs"


@pytest.fixture
def records(logs, tmp_path):
    """Records of the outputs of these jobs."""
    round_logs = f"{logs}/models/fedavg/seed-0/round-001"
    inputs_of = {
        ("shard.npy", f"{logs}/cohort/shard-north.log"): [],
        ("start.pth", f"{logs}/models/initial/seed-0.log"): [],
        ("update.pth", f"{round_logs}/train-north.log"): ["shard.npy", "start.pth"],
        ("global.pth", f"{round_logs}/aggregate.log"): ["update.pth", "start.pth"],
        ("timeline.png", f"{logs}/reporting/plot_timeline.log"): [str(tmp_path / "jobs.tsv")],
        ("elsewhere", "another/folder.log"): ["global.pth"],
    }
    (tmp_path / "records/metadata").mkdir(parents=True)
    for (path, log), inputs in inputs_of.items():
        content = json.dumps({"log": [log], "input": inputs})
        (tmp_path / "records/metadata" / record_name(path)).write_text(content)
    return tmp_path / "records"


def measure(tmp_path, records):
    """Rows and summary of the study of these logs."""
    paths = (tmp_path / "jobs.tsv", tmp_path / "summary.json")
    logs = tmp_path / "logs"
    measure_timeline_files(logs, logs / "requests", records, *paths, arms=["fedavg"], seeds=[0], last_round=1)
    return read_table(paths[0]), json.loads(paths[1].read_text())


def test_jobs_of_the_study_are_read_from_their_logs(logs):
    found = read_jobs(logs, logs / "requests", ["fedavg"], [0], 1, left_out=["reporting/plot_timeline"])
    jobs = {job.rule: job for job in found}
    assert set(jobs) == {"build_shard", "initialize_model", "train_site", "aggregate_round"}
    training = jobs["train_site"]
    assert (training.arm, training.seed, training.round, training.gpu_id) == ("fedavg", "0", 1, "uuid")
    # It waited two seconds for its GPU.
    assert (training.started, training.busy_from, training.ended) == (1002.0, 1004.0, 1009.0)
    assert (jobs["initialize_model"].arm, jobs["initialize_model"].seed) == ("", "0")
    assert jobs["build_shard"].seed == ""


@pytest.mark.parametrize(("last_round", "expected"), [(25, []), (26, [("fedavg", "0", 26)])])
def test_a_validation_is_of_the_first_round_of_its_block(logs, last_round, expected):
    jobs = read_jobs(logs, logs / "requests", ["fedavg"], [0], last_round)
    assert [(job.arm, job.seed, job.round) for job in jobs if job.rule == "validate_site"] == expected


def test_the_table_has_a_row_a_job_from_the_first_ones_start(logs, records, tmp_path):
    table, summary = measure(tmp_path, records)
    rows = {row["rule"]: row for row in table}
    assert {rule: row["on_critical_path"] for rule, row in rows.items()} == {
        "build_shard": "1",
        "initialize_model": "0",
        "train_site": "1",
        "aggregate_round": "1",
    }
    assert (rows["train_site"]["device"], rows["build_shard"]["device"]) == ("GPU 1", "CPU 2")
    assert float(rows["aggregate_round"]["ended"]) == 10.0
    assert summary["wall_seconds"] == 10.0
    # For the GPU, and for the start of the average.
    assert summary["path_seconds"]["waiting"] == pytest.approx(2.0 + 0.5)
    assert summary["chain_seconds"] == pytest.approx(2.0 + 5.0 + 0.5)


def test_a_run_whose_records_are_lost_has_a_path_by_room(logs, tmp_path):
    _, summary = measure(tmp_path, tmp_path / "no records")
    # The average ran in the slot that was free since the start.
    assert (summary["num_path_jobs"], summary["num_room_jobs"]) == (3, 2)
    assert summary["chain_seconds"] == 5.0


def test_a_run_without_logs_is_an_empty_table(tmp_path):
    table, summary = measure(tmp_path, tmp_path / "no records")
    assert table == []
    assert summary["wall_seconds"] == 0.0
