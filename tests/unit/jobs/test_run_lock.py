import errno
import json
import os
import signal
import subprocess
import sys

import pytest
from fedpedbrain.base.errors import StudyError
from fedpedbrain.jobs.run_lock import take_run_lock

HOLDER = """
import subprocess, sys, time
from fedpedbrain.jobs.run_lock import take_run_lock
take_run_lock(sys.argv[1])
child = subprocess.Popen(["sleep", "600"])
print(child.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock and has started another program."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path / "run.lock"], stdout=subprocess.PIPE, text=True)
    child = int(process.stdout.readline())
    yield process
    os.kill(child, signal.SIGKILL)
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_second_run_is_refused_and_told_who_works_there(tmp_path, holder):
    with pytest.raises(
        StudyError, match=rf"^another run \(process {holder.pid} on .+, since .+\) works in this folder;"
    ):
        take_run_lock(tmp_path / "run.lock")


def test_a_killed_run_holds_nothing_even_where_what_it_started_lives_on(tmp_path, holder):
    holder.kill()
    holder.wait()
    take_run_lock(tmp_path / "run.lock")
    assert json.loads((tmp_path / "run.lock").read_text())["pid"] == os.getpid()


def test_a_run_on_a_full_disk_is_refused_in_one_line(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", refuse)
    with pytest.raises(StudyError, match=r"run\.lock: no space left on the disk \(.+ kB free\); make room"):
        take_run_lock(tmp_path / "run.lock")


def test_a_lock_file_that_says_nothing_does_not_hide_that_it_is_held(tmp_path, holder):
    (tmp_path / "run.lock").write_text("")
    with pytest.raises(StudyError, match=r"^another run works in this folder; wait"):
        take_run_lock(tmp_path / "run.lock")
