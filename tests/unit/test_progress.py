import logging
from types import SimpleNamespace

import pytest
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_logger_plugin_study import LogHandler


@pytest.fixture
def say(capsys):
    """``say(event, message, level, **values)``: the lines that a record puts on the terminal."""
    handler = LogHandler(SimpleNamespace(dryrun=False), settings=None)

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


def test_a_failed_job_is_named_as_it_was_announced(say):
    start(say, 7, "fedavg, seed 0: round 003 of 6, training north")
    (line,) = say(LogEvent.JOB_ERROR, jobid=7, rule_name="train_site", rule_msg=None, log=["train.log"])
    assert line == "FAILED: fedavg, seed 0: round 003 of 6, training north (log: train.log)"


def test_the_last_line_says_that_all_is_done(say):
    assert start(say, 1, None) == []
    (line,) = say(LogEvent.PROGRESS, done=8, total=8)
    assert line.endswith("100 %  done")


def test_warnings_show_and_chatter_does_not(say):
    assert say(message="Removing temporary output x.") == []
    assert say(message="Building DAG of jobs...") == []
    assert say(message="low on disk", level=logging.WARNING) == ["low on disk"]
    assert say(message="Nothing to be done (all requested files are present).") != []
