"""What the report says of a run, and its figure."""

import itertools
import json
import re

import numpy as np
import pandas as pd
import pytest
from fedpedbrain.jobs.course.critical_path import Job, critical_path, kind_of_job
from fedpedbrain.jobs.course.timeline import assign_devices, cut_pauses, summarize_timeline
from fedpedbrain.reporting.figures.style import arm_styles
from fedpedbrain.reporting.figures.timeline_figure import draw_timeline
from fedpedbrain.reporting.pages.report import write_report_files
from fedpedbrain.reporting.words.timeline_words import describe_devices, describe_path, describe_run, timeline_part

SUMMARY = {
    "num_jobs": 5,
    "wall_seconds": 200.0,
    "pauses": [],
    "idle_seconds": 10.0,
    "cpu": {"num_devices": 2, "busy_share": 0.5},
    "gpu": None,
    "mean_cores": 1.26,
    "path_seconds": {"cohort": 0.0, "training": 150.0, "averaging": 20.0, "waiting": 30.0},
    "num_path_jobs": 3,
    "num_path_arms": 1,
    "num_room_jobs": 0,
    "longest_path_job": {"job": "models/fedavg/seed-0/round-001/train-north", "seconds": 40.0},
    "chain_seconds": 170.0,
}


def test_what_was_busy_is_said_of_the_devices_that_there_are():
    text = " ".join(describe_devices(SUMMARY))
    assert text.startswith(
        "5 jobs in 3 min 20 s. On the CPU at most 2 jobs ran at once, and of that room 50 % was taken."
    )
    assert "1.3 cores computed; for 10.0 s (5 %) no job was at work" in text
    on_gpu = describe_devices(SUMMARY | {"gpu": {"num_devices": 4, "busy_share": 0.934}, "cpu": None})
    assert on_gpu[1].startswith("4 GPUs had a job in 93 % of the time")
    assert "On the CPU" not in " ".join(on_gpu)


def path_text(**changes):
    return " ".join(describe_path(SUMMARY | changes))


def test_the_path_is_named_by_its_largest_parts():
    assert "It has 3 jobs: 75 % training, 15 % waiting and 10 % averaging." in path_text()
    assert "waited for room." not in path_text()


def test_more_cores_shorten_a_run_that_takes_much_longer_than_its_longest_chain():
    text = path_text(num_room_jobs=2, chain_seconds=60.0, num_path_arms=2)
    assert "2 of its 3 jobs waited for room. More cores or GPUs would shorten the run, at most to 1 min 00 s" in text
    assert "So would fewer arms: 2 of them have jobs on the path." in text
    assert "fewer arms" not in path_text(num_room_jobs=2, chain_seconds=60.0)


def test_shorter_jobs_shorten_a_run_that_is_one_chain_of_files():
    text = path_text(num_path_arms=2)
    assert "More cores or GPUs would do little: the longest chain" in text
    assert "Shorter training jobs would shorten it" in text
    assert "arms" not in text
    longest = {"job": "reporting/render_videos", "seconds": 120.0}
    assert "One job is 60 % of the path, reporting/render_videos" in path_text(longest_path_job=longest)


def test_fewer_jobs_shorten_a_run_that_waits_for_their_start():
    text = path_text(path_seconds=SUMMARY["path_seconds"] | {"waiting": 300.0})
    assert text.endswith("Most of it is waiting for jobs to start: fewer and longer jobs would shorten the run.")


def test_pauses_are_counted_and_said_to_be_cut_out():
    assert "pieces" not in " ".join(describe_run(SUMMARY))
    pauses = [{"at": 10.0, "seconds": 3600.0}, {"at": 20.0, "seconds": 60.0}]
    text = describe_run(SUMMARY | {"pauses": pauses})[0]
    assert text.startswith("The run was made in 3 pieces: 2 pauses in which nothing ran, 1 h 01 min together, cut out")


def test_a_study_without_records_says_so():
    assert timeline_part({"num_jobs": 0}) == {"run": None}


def test_the_report_and_its_record_tell_of_the_run(write_study):
    synthetic = write_study()
    for path in synthetic.inputs.figures:
        path.write_bytes(b"")
    write_report_files(synthetic.inputs, synthetic.study)
    html = synthetic.inputs.report.read_text(encoding="utf-8")
    section = html[html.index('<section id="run"') : html.index('<section id="lineage"')]
    text = " ".join(re.sub(r"<[^>]+>", " ", section).split())
    # Four arms of three rounds, each an hour after the one before: 5 x 3 trainings and 4 x 3 averages.
    assert "27 jobs in 2 min 42 s." in text
    assert "12 pieces: 11 pauses in which nothing ran, 11 h 00 min together" in text
    record = json.loads(synthetic.inputs.record.read_text())
    assert record["timeline"]["wall_seconds"] == 5 * 3 * 10 + 12
    assert any(path.endswith("timeline.json") for path in record["files"])


# The figure.


def table_of(jobs):
    """Rows of jobs, as their file has them, and what they come to."""
    jobs, pauses = cut_pauses(jobs)
    devices = assign_devices(jobs)
    path = critical_path(jobs, {}, devices)
    on_path = {step.job.name for step in path}
    rows = [
        vars(job) | {"kind": kind_of_job(job), "device": device, "on_critical_path": int(job.name in on_path)}
        for job, device in zip(jobs, devices, strict=True)
    ]
    return pd.DataFrame(rows), summarize_timeline(jobs, pauses, path, {})


def make_run(arms, num_rounds, num_sites, num_gpus):
    """Rounds of arms that share GPUs, every site for a second and then an average on the CPU."""
    jobs, clock = [], 0.0
    for number, arm in itertools.product(range(1, num_rounds + 1), arms):
        for site in range(num_sites):
            start = clock + site // num_gpus
            times = (start, start + 1.0, start, 1.0)
            name = f"{arm}-{number}-{site}"
            jobs.append(Job(name, "train_site", arm, "0", number, *times, gpu_id=f"gpu-{site % num_gpus}"))
        clock = jobs[-1].ended
        times = (clock, clock + 0.5, clock, 0.5)
        jobs.append(Job(f"{arm}-{number}", "aggregate_round", arm, "0", number, *times))
        clock += 0.5
    return jobs


def draw(jobs, arms):
    return draw_timeline(*table_of(jobs), arm_styles(arms, {}, {}))


def labels_of(figure):
    return [[label.get_text() for label in axes.get_yticklabels()] for axes in figure.axes]


def test_a_lane_a_device_under_the_critical_path():
    figure = draw(make_run(["fedavg"], 2, 3, 2), ["fedavg"])
    path, lanes, cores, gpus = figure.axes
    assert labels_of(figure)[:2] == [["Critical path"], ["GPU 1", "GPU 2", "CPU 1"]]
    # Of each round the training that ended last and the average.
    assert len(path.collections[0].get_paths()) == 2 * 2
    bars, outlines = lanes.collections
    assert (len(bars.get_paths()), len(outlines.get_paths())) == (2 * 4, 4)
    assert (cores.get_ylabel(), gpus.get_ylabel()) == ("Cores\nbusy", "GPUs\nbusy")
    assert gpus.patches[0].get_data().values.max() == pytest.approx(2.0)


def test_a_run_without_a_gpu_has_no_panel_for_gpus_and_dashes_where_it_paused():
    jobs = [
        Job("a", "train_site", "fedavg", "0", 1, 0.0, 10.0, 0.0, 10.0),
        Job("b", "aggregate_round", "fedavg", "0", 1, 5000.0, 5010.0, 5000.0, 10.0),
    ]
    figure = draw(jobs, ["fedavg"])
    assert len(figure.axes) == 3
    assert [line.get_xdata()[0] for line in figure.axes[1].lines] == [10.0]
    assert figure.axes[0].get_xlim() == (0.0, 20.0)


def test_a_long_run_of_many_arms_and_gpus_is_no_larger_and_not_outlined():
    arms = [f"arm-{number}" for number in range(15)]
    figure = draw(make_run(arms[:2], 50, 30, 64), arms)
    small = draw(make_run(arms[:1], 2, 3, 2), arms)
    assert figure.get_figheight() < small.get_figheight() + 6.0
    assert len(figure.axes[1].collections) == 1
    assert len(labels_of(figure)[1]) <= 24


def test_a_run_without_records_is_a_figure_that_says_so():
    assert np.shape(draw_timeline(pd.DataFrame(), {}, {}).axes[0].texts) == (1,)
