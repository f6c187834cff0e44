import logging
import os
import re
from types import SimpleNamespace

import pytest
from fedpedbrain.jobs.job import note_failure
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_logger_plugin_study import LogHandler


@pytest.fixture
def is_dry_run() -> bool:
    return False


@pytest.fixture
def say(capsys, monkeypatch, is_dry_run):
    """``say(event, message, level, **values)``: the lines that a record puts on the terminal."""
    monkeypatch.setattr(logging, "raiseExceptions", True)
    handler = LogHandler(SimpleNamespace(dryrun=is_dry_run), settings=None)

    def _say(event=None, message="", level=logging.INFO, **values) -> list[str]:
        record = logging.LogRecord("snakemake", level, "", 0, message, None, None)
        if event is not None:
            record.event = event
        vars(record).update(values)
        handler.emit(record)
        return capsys.readouterr().err.splitlines()

    return _say


def start(say, jobid: int, message: str | None) -> list[str]:
    return say(LogEvent.JOB_INFO, jobid=jobid, rule_name="train_site", rule_msg=message)


def test_a_job_is_one_line_with_how_far_the_run_is(say):
    say(LogEvent.RUN_INFO, stats={"total": 8})
    say(LogEvent.PROGRESS, done=2, total=8)
    (line,) = start(say, 1, "fedavg, seed 0: round 003 of 6, training north")
    assert line.endswith("25 %  fedavg, seed 0: round 003 of 6, training north")


@pytest.mark.parametrize("is_dry_run", [True])
def test_a_plan_says_nothing_of_the_commands_that_jobs_do_not_have(say):
    assert say(LogEvent.SHELLCMD, "Shell command: None", shellcmd=None) == []
    assert say(LogEvent.SHELLCMD, "Shell command: cp a b", shellcmd="cp a b") == ["Shell command: cp a b"]


def test_a_failed_job_is_named_as_it_was_announced(say):
    start(say, 7, "fedavg, seed 0: round 003 of 6, training north")
    (line,) = say(LogEvent.JOB_ERROR, jobid=7, rule_name="train_site", rule_msg=None, log=["train.log"])
    assert line == "FAILED: fedavg, seed 0: round 003 of 6, training north (log: train.log)"


VERDICT = "WorkflowError:\nAt least one job did not complete successfully."


def test_a_run_that_is_stopped_says_once_what_it_waits_for_and_at_last_how_far_it_came(say):
    say(LogEvent.RUN_INFO, stats={"total": 8})
    ending = "Will exit after finishing currently running jobs (scheduler)."
    assert [say(message=ending), say(message=ending)] == [[ending], []]
    (line,) = say(LogEvent.ERROR, message=VERDICT, exception="WorkflowError", level=logging.ERROR)
    assert line == "0 of 8 steps are done; run again to go on from here"


def test_a_run_that_failed_ends_with_every_failure_and_its_reason(say, tmp_path):
    say(LogEvent.RUN_INFO, stats={"total": 8})
    logs = [str(tmp_path / f"{name}.log") for name in ("north", "east", "south")]
    for jobid, log in enumerate(logs):
        note_failure(log, "the site is down")
        start(say, jobid, f"training {jobid}")
        say(LogEvent.JOB_ERROR, jobid=jobid, rule_name="train_site", rule_msg=None, log=[log])
    # What an earlier run left is not the reason.
    os.utime(logs[2], (0, 0))
    say(LogEvent.JOB_ERROR, jobid=2, rule_name="train_site", rule_msg=None, log=[logs[2]])
    # Tried again.
    say(LogEvent.JOB_FINISHED, job_id=0)
    say(LogEvent.PROGRESS, done=3, total=8)
    assert say(message="Exiting because a job execution failed. Look above", level=logging.ERROR) == []
    assert say(LogEvent.ERROR, message=VERDICT, exception="WorkflowError", level=logging.ERROR) == [
        "3 of 8 steps are done, these failed; run again to go on from here:",
        f"  training 1: the site is down; log: {logs[1]}",
        f"  training 2: log: {logs[2]}",
    ]


def test_snakemakes_own_failure_on_a_full_disk_is_one_line(say):
    trace = "RuleException:\nOSError in file x, line 72:\n[Errno 28] No space left on device\n  File y"
    (line,) = say(LogEvent.ERROR, message=trace, exception="RuleException", level=logging.ERROR)
    assert re.fullmatch(r"ERROR: .*\.snakemake: no space left on the disk \([\d,]+ kB free\); make room.*", line)


def test_the_last_line_says_that_all_is_done(say):
    assert start(say, 1, None) == []
    (line,) = say(LogEvent.PROGRESS, done=8, total=8)
    assert line.endswith("100 %  done")


def test_warnings_show_and_chatter_does_not(say):
    assert say(message="Removing temporary output x.") == []
    assert say(message="Building DAG of jobs...") == []
    assert say(message="low on disk", level=logging.WARNING) == ["low on disk"]
    assert say(message="Nothing to be done (all requested files are present).") != []
