"""A disk that fills up while a study trains and while it averages: one line says so, and with room it goes on."""

import os
import re
import shutil
from pathlib import Path

import pytest
from workspace import TINY, Workspace

pytestmark = pytest.mark.slow
ROUND = "results/models/fedavg/seed-0/round-002"
BEST = "results/models/fedavg/seed-0/best.pth"
# Enough for Snakemake's own files and for a log, and too little for a model beside what has to stay free.
LEFT_BYTES = 100_000
# A job waits, at most 120 s, until the disk is full, however busy the machine is. This code has no part in results.
START = '    end = "failed after"\n'
HOLD = """\
    for _ in range(12_000):
        if not Path("../hold").exists():
            break
        time.sleep(0.01)
"""


@pytest.fixture
def small_disk_study(finished_study, make_disk):
    """The finished study without the federated arm's last round, on a disk of its own."""
    study = finished_study.copy(make_disk("60m") / "study")
    shutil.rmtree(study.folder / ROUND)
    (study.folder / BEST).unlink()
    study.edit("pkg/fedpedbrain/jobs/job.py", START, HOLD + START)
    return study


def run_until_full(study: Workspace, announced: str, *arguments: str) -> str:
    """Run, hold the first job, fill the disk once the job is announced, and let it go; returns what was said."""
    hold = study.folder.parent / "hold"
    hold.touch()
    run = study.start("--configfile", TINY, "--cores", "2", *arguments)
    said = []
    for line in run.stdout:
        said.append(line)
        if announced in line:
            break
    with open(ballast(study), "wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(study.folder).free - LEFT_BYTES)
    hold.unlink()
    said += run.stdout
    assert run.wait() != 0
    ballast(study).unlink()
    return "".join(said)


def ballast(study: Workspace) -> Path:
    return study.folder.parent / "ballast"


def assert_said(output: str, job: str, file: str) -> None:
    """Each failed job is explained in one line, and again at the end."""
    reason = (
        rf"{ROUND}/{file}: no space left on the disk \([\d,]+ kB or more needed, \d+ kB free\); make room and run again"
    )
    assert re.search(rf"^ERROR: {reason}$", output, re.MULTILINE), output
    assert re.search(rf"^  fedavg, seed 0: round 002 of 2, {job}: {reason}; log: ", output, re.MULTILINE), output
    assert "Traceback" not in output
    assert "Logging error" not in output


def test_a_disk_full_in_training_and_in_averaging_is_said_and_with_room_the_same_bytes_come(
    finished_study, small_disk_study
):
    study = small_disk_study
    output = run_until_full(study, "training", "--", BEST)
    assert_said(output, r"training (north|east)", r"updates/(north|east)\.pth")
    assert not [path for path in (study.folder / ROUND).rglob("*") if path.is_file()]

    updates = [f"{ROUND}/updates/{site}.pth" for site in ("north", "east")]
    result = study.snakemake("--configfile", TINY, "--cores", "2", "--notemp", "--", *updates)
    assert result.returncode == 0, result.stdout
    output = run_until_full(study, "averaging", "--", BEST)
    assert_said(output, "averaging", r"global\.pth")
    assert not [path for path in (study.folder / ROUND).iterdir() if path.is_file()]
    assert all((study.folder / path).exists() for path in updates)

    result = study.snakemake("--configfile", TINY, "--cores", "2", "--", BEST)
    assert result.returncode == 0, result.stdout
    assert "training" not in result.stdout
    files = [BEST, *(f"{ROUND}/{name}" for name in ("global.pth", "server.pth", "states/north.pth", "states/east.pth"))]
    assert [
        name for name in files if (study.folder / name).read_bytes() != (finished_study.folder / name).read_bytes()
    ] == []
