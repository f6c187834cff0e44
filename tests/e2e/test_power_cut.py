"""A power cut takes what the disk does not hold yet: no file is there in half, and the study goes on by itself."""

import os
import time
from pathlib import Path

import pytest
from fedpedbrain.planning.records import record_name
from workspace import TINY, Workspace

pytestmark = pytest.mark.slow
ROUND = "results/models/fedavg/seed-0/round-002"
BEST = "results/models/fedavg/seed-0/best.pth"
ARGUMENTS = ["--configfile", TINY, "--cores", "2", "--", BEST]


@pytest.fixture
def study(finished_study, journalled_disk) -> Workspace:
    """The finished study without the federated arm's last round and its records, on a disk that holds all of it."""
    study = finished_study.copy(journalled_disk.folder / "study")
    records = study.folder / "results/records/metadata"
    for path in [study.folder / BEST, *filter(Path.is_file, (study.folder / ROUND).rglob("*"))]:
        path.unlink()
        (records / record_name(str(path.relative_to(study.folder)))).unlink()
    os.sync()
    return study


def test_a_study_goes_on_to_the_same_bytes_after_a_power_cut(finished_study, study, journalled_disk):
    run = study.start(*ARGUMENTS)
    deadline = time.monotonic() + 1800
    while not (study.folder / BEST).exists():
        assert run.poll() is None, f"the run ended before the power was cut: {run.stdout.read()}"
        assert time.monotonic() < deadline, "no best model came"
        time.sleep(0.02)
    study.kill(run)
    assert study.orphans() == []
    journalled_disk.cut_power(holds_names=True)
    files = [BEST, *(f"{ROUND}/{name}" for name in ("global.pth", "server.pth", "states/north.pth", "states/east.pth"))]
    assert [
        name for name in files if (study.folder / name).read_bytes() != (finished_study.folder / name).read_bytes()
    ] == []
    # There are not only the files, but also the records of how they were made.
    (study.folder / BEST).unlink()
    assert study.planned(*ARGUMENTS).keys() <= {"validate_site", "select_model"}
    left = study.folder / ROUND / ".unfinished-1.server.pth"
    left.write_text("half")
    result = study.snakemake(*ARGUMENTS)
    assert result.returncode == 0, result.stdout
    assert (study.folder / BEST).read_bytes() == (finished_study.folder / BEST).read_bytes()
    assert not left.exists()
