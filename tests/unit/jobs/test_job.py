import errno
import logging
import re
import subprocess
import sys

import pytest
from fedpedbrain.base.errors import CohortError, StudyError
from fedpedbrain.jobs import job
from fedpedbrain.jobs.job import failure_reason, job_log
from fedpedbrain.jobs.usage import read_usage_line

CHILD = """
import sys, threading
from fedpedbrain.jobs.job import job_log
with job_log(sys.argv[1]):
    print("working", flush=True)
    threading.Event().wait(120)
    print("outlived its parent", flush=True)
"""
PARENT = """
import subprocess, sys
subprocess.Popen([sys.executable, "-c", sys.argv[1], sys.argv[2]])
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _stay_alive(monkeypatch):
    """Keep the test process itself from being tied to its parent."""
    monkeypatch.setattr(job, "die_with_parent", lambda: None)


def test_a_study_error_is_one_line_a_problem_and_exit_status_1(tmp_path, capsys):
    with pytest.raises(SystemExit) as caught, job_log(tmp_path / "job.log"):
        raise CohortError(["site north: first", "site south: second"])
    assert caught.value.code == 1
    captured = capsys.readouterr()
    assert captured.err == "ERROR: site north: first\nERROR: site south: second\n"
    assert captured.out == ""


def test_the_log_file_holds_the_study_error_without_a_traceback(tmp_path):
    with pytest.raises(SystemExit), job_log(tmp_path / "job.log"):
        raise StudyError("round 3: no update of site Süd")
    text = (tmp_path / "job.log").read_text(encoding="utf-8")
    assert "ERROR fedpedbrain: round 3: no update of site Süd" in text
    assert "Traceback" not in text


def test_other_exceptions_are_logged_with_their_traceback_and_raised(tmp_path):
    with pytest.raises(ZeroDivisionError), job_log(tmp_path / "job.log"):
        _ = 1 / 0
    text = (tmp_path / "job.log").read_text()
    assert "unexpected failure" in text
    assert "ZeroDivisionError: division by zero" in text


def test_lines_stay_in_the_file_where_a_library_sets_up_logging(tmp_path):
    code = """
import logging, sys
from fedpedbrain.jobs.job import job_log
with job_log(sys.argv[1]):
    logging.basicConfig(level=logging.INFO)
    logging.getLogger("fedpedbrain.training.epochs").info("epoch 1 of 2")
logging.getLogger("fedpedbrain").info("after the job")
"""
    command = [sys.executable, "-c", code, str(tmp_path / "job.log")]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    assert "epoch 1 of 2" not in shown
    assert "after the job" in shown


def test_lines_of_the_packages_loggers_go_to_the_file(tmp_path):
    with job_log(tmp_path / "logs" / "job.log"):
        logging.getLogger("fedpedbrain.training.epochs").info("epoch 1 of 2")
    text = (tmp_path / "logs" / "job.log").read_text()
    assert "INFO fedpedbrain.training.epochs: epoch 1 of 2\n" in text


def test_the_log_ends_with_what_the_job_used(tmp_path):
    with job_log(tmp_path / "job.log"):
        pass
    assert re.search(r"done, used \d+\.\d s of CPU time, [1-9]\d* MB of memory\n\Z", (tmp_path / "job.log").read_text())


def test_the_log_of_a_job_that_ends_well_holds_its_record_and_another_none(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/scripts/tmp1234.train_site.py"])
    with job_log(tmp_path / "job.log"):
        pass
    job, usage = read_usage_line(tmp_path / "job.log")
    assert (job, usage.ended >= usage.started > 0) == ("train_site", True)
    assert usage.peak_memory_mb > 0
    with pytest.raises(SystemExit), job_log(tmp_path / "job.log"):
        raise StudyError("no room on the disk")
    assert read_usage_line(tmp_path / "job.log") is None
    with pytest.raises(ZeroDivisionError), job_log(tmp_path / "job.log"):
        _ = 1 / 0
    assert read_usage_line(tmp_path / "job.log") is None


def test_the_log_starts_anew_with_every_job_and_ends_with_it(tmp_path):
    for number in (1, 2):
        with job_log(tmp_path / "job.log"):
            logging.getLogger("fedpedbrain").info("try %d", number)
    logging.getLogger("fedpedbrain").info("after the job")
    lines = (tmp_path / "job.log").read_text().splitlines()
    assert [line.split(": ")[1][:5] for line in lines] == ["try 2", "recor", "done,"]


def test_what_a_try_failed_of_is_kept_when_the_job_is_tried_again(tmp_path):
    for number in (1, 2):
        with pytest.raises(SystemExit), job_log(tmp_path / "job.log"):
            raise StudyError(f"failure {number}")
    # Killed before it could say anything of its end.
    (tmp_path / "job.log").write_text("failure 3\n")
    for _ in range(2):
        with job_log(tmp_path / "job.log"):
            pass
    kept = (tmp_path / "job.log.failed").read_text()
    assert re.findall(r"failure \d", kept) == ["failure 1", "failure 3"]
    assert "failed after" in kept


def test_a_log_that_ends_inside_a_character_does_not_stop_the_next_try(tmp_path):
    (tmp_path / "job.log").write_bytes("site Süd".encode()[:-2])
    with job_log(tmp_path / "job.log"):
        pass
    assert (tmp_path / "job.log.failed").read_text(encoding="utf-8") == "site S\N{REPLACEMENT CHARACTER}"


def test_a_job_that_succeeds_leaves_no_log_of_failures(tmp_path):
    for _ in range(2):
        with job_log(tmp_path / "job.log"):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["job.log"]


def test_a_log_on_a_full_disk_hides_nothing_of_what_a_job_says(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(job._LogFile, "_open", lambda self: open("/dev/full", "w"))  # noqa: SIM115 closed as a log is
    with pytest.raises(SystemExit), job_log(tmp_path / "job.log"):
        raise StudyError("round 3: no update of site south")
    assert capsys.readouterr().err == "ERROR: round 3: no update of site south\n"


def test_a_log_that_cannot_be_begun_on_a_full_disk_ends_the_job_in_one_line(tmp_path, capsys, monkeypatch):
    def refuse(self):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(job._LogFile, "_open", refuse)
    with pytest.raises(SystemExit) as caught, job_log(tmp_path / "job.log"):
        pytest.fail("the job began")
    assert caught.value.code == 1
    assert re.fullmatch(r"ERROR: .*job\.log: no space left on the disk \(.*; make room.*\n", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (StudyError("round 3: no update of site south"), "round 3: no update of site south"),
        (CohortError(["site north: first", "site south: second"]), "site north: first"),
        (ZeroDivisionError("division by zero"), "unexpected failure: ZeroDivisionError: division by zero"),
    ],
)
def test_a_log_tells_why_its_job_failed(tmp_path, error, reason):
    with pytest.raises((SystemExit, ZeroDivisionError)), job_log(tmp_path / "job.log"):
        raise error
    assert failure_reason(tmp_path / "job.log") == reason


def test_a_log_of_no_failure_tells_none(tmp_path):
    with job_log(tmp_path / "job.log"):
        logging.getLogger("fedpedbrain").warning("a site is missing")
    assert failure_reason(tmp_path / "job.log") == failure_reason(tmp_path / "no.log") == ""


STUCK = """
import sys, threading
from fedpedbrain.jobs.job import job_log, limit_jobs
limit_jobs(float(sys.argv[2]))
with job_log(sys.argv[1]):
    threading.Event().wait(120)
"""


def test_a_job_that_is_stuck_ends_and_says_where_it_stood(tmp_path):
    command = [sys.executable, "-c", STUCK, str(tmp_path / "job.log"), "0.005"]
    # The limit ends it, and not the end of its wait.
    assert subprocess.run(command, check=False, timeout=100).returncode == 1
    text = (tmp_path / "job.log").read_text()
    assert text.startswith("Timeout (0:00:00.300000)!")
    # On a busy machine the time may be over before the job reaches its wait.
    assert 'File "<string>", line ' in text


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's death")
def test_a_job_ends_when_its_parent_is_killed(tmp_path):
    command = [sys.executable, "-c", PARENT, CHILD, str(tmp_path / "job.log")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout.readline() == "working\n"
        parent.kill()
        # The end of the output comes when the job, which shares it, is gone too.
        assert parent.stdout.read() == ""
