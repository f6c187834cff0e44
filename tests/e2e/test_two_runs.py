"""What a run does to others: in its folder a second one is refused, a dry run and a run of another folder are not."""

import os
import signal

import pytest
from workspace import TINY

pytestmark = pytest.mark.slow
AUDIT = "results/cohort/audit.json"
INDEX = "results/cohort/index.tsv"


@pytest.fixture
def held_run(study_copy):
    """A run that has begun its work and is held in the middle of it."""
    (study_copy.folder / AUDIT).unlink()
    run = study_copy.start("--configfile", TINY, "--cores", "1", "--", AUDIT)
    for line in run.stdout:
        if "auditing" in line:
            break
    os.killpg(run.pid, signal.SIGSTOP)
    yield run
    if run.poll() is None:
        study_copy.kill(run)


def test_a_second_run_of_a_folder_is_refused_and_harms_nothing(study_copy, held_run, tmp_path):
    common = ["--configfile", TINY, "--cores", "1"]
    # Beside the others, since most of what it takes is its start.
    elsewhere = study_copy.start(*common, "--directory", str(tmp_path / "other"), "--", INDEX)
    second = study_copy.without_jobs(*common, "--", AUDIT)
    assert second.returncode != 0
    assert f"another run (process {held_run.pid} on " in second.stdout
    assert "works in this folder; wait until it ends, or stop it" in second.stdout
    assert "Traceback" not in second.stdout
    dry = study_copy.without_jobs(*common, "--dry-run", "--", AUDIT)
    assert dry.returncode == 0, dry.stdout
    said = elsewhere.communicate(timeout=1800)[0]
    assert elsewhere.returncode == 0, said
    assert (tmp_path / "other" / INDEX).exists()

    os.killpg(held_run.pid, signal.SIGCONT)
    said = held_run.stdout.read()
    assert held_run.wait() == 0, said
    assert (study_copy.folder / AUDIT).exists()
