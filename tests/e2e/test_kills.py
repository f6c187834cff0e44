"""Runs that are killed at random moments, whole or Snakemake alone or by a power cut, and simply started again.

``make kills`` does so twenty times, and ten times by a power cut. The tally is printed.
"""

import os
import random
import shutil
import time
from collections.abc import Callable
from functools import partial

import pytest
from workspace import TINY, Workspace

pytestmark = pytest.mark.slow
# One federated arm whose sites and server keep states.
ARM = "{name: scaffold, participants: sites, strategy: {name: scaffold}}"
# Of the second round nothing stays, of the first what is the server's.
STUDY = [
    "study={rounds: 3, keep_every: 3}",
    f"arms=[{ARM}]",
    "evaluation={reference_arm: scaffold}",
    "reporting={video: {arms: [scaffold]}}",
]
ARGUMENTS = ["--cores", "2", "models", "--configfile", TINY, "--config", *STUDY]


def model_files(workspace: Workspace) -> dict[str, bytes]:
    """Every model and state that a finished study keeps."""
    models = workspace.folder / "results" / "models"
    return {str(path.relative_to(models)): path.read_bytes() for path in sorted(models.rglob("*.pth"))}


def _number_of(request: pytest.FixtureRequest, option: str) -> int:
    number = request.config.getoption(option)
    if not number:
        pytest.skip("run by `make kills`; test_resume and test_power_cut end runs at chosen moments")
    return number


@pytest.fixture(scope="module")
def num_kills(request) -> int:
    """How often to kill a run."""
    return _number_of(request, "--kills")


@pytest.fixture(scope="module")
def num_power_cuts(request) -> int:
    """How often to cut a run's power."""
    return _number_of(request, "--power-cuts")


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory) -> tuple[dict[str, bytes], float]:
    """The files of a run that nobody killed, and the seconds that it took."""
    workspace = Workspace(tmp_path_factory.mktemp("whole"))
    start = time.monotonic()
    result = workspace.snakemake(*ARGUMENTS)
    assert result.returncode == 0, result.stdout
    expected = model_files(workspace)
    # Two sites' states of the last round, the server's state and the global model of two, the start and the best model.
    assert len(expected) == 2 + 2 * (1 + 1) + 2
    return expected, time.monotonic() - start


@pytest.fixture
def tell(request, capfd) -> Callable[[str], None]:
    """Print a line, whatever pytest captures."""

    def _tell(line: str) -> None:
        with capfd.disabled():
            request.config.get_terminal_writer().line(line)

    return _tell


def kill_and_resume(
    workspace: Workspace,
    seconds: float,
    whole_group: bool,
    expected: dict[str, bytes],
    meanwhile: Callable[[], None] = lambda: None,
) -> str:
    """Kill a run after so many seconds and start it again; returns what was wrong, "" for nothing."""
    run = workspace.start(*ARGUMENTS)
    time.sleep(seconds)
    workspace.kill(run, whole_group)
    if left := workspace.orphans():
        return f"{len(left)} processes outlived the run: {left[0]}"
    meanwhile()
    result = workspace.snakemake(*ARGUMENTS)
    if result.returncode:
        return f"not resumed: {result.stdout}"
    found = model_files(workspace)
    others = [name for name in expected.keys() | found.keys() if found.get(name) != expected.get(name)]
    return f"other bytes in {sorted(others)}" if others else ""


def kill_often(
    times: int, duration: float, tell: Callable[[str], None], kill: Callable[[int, float], tuple[str, str]]
) -> list[str]:
    """Kill runs, each after a random part of a whole one's time, and print the tally; returns what was wrong.

    Parameters
    ----------
    kill : from a run's number and seconds, what was killed and what was wrong
    """
    seed = random.randrange(10_000)
    draw, failures = random.Random(seed), []
    for number in range(times):
        seconds = draw.uniform(0.0, duration)
        what, problem = kill(number, seconds)
        tell(f"{number + 1}: {what} after {seconds:.1f} of {duration:.1f} s: {problem or 'the same bytes'}")
        failures += [problem] if problem else []
    tell(f"{times - len(failures)} of {times} ended in the bytes of a run that went through (seed {seed})")
    return failures


def test_killed_runs_go_on_by_themselves_to_the_same_bytes(num_kills, whole_run, tmp_path_factory, tell):
    expected, duration = whole_run

    def kill(number: int, seconds: float) -> tuple[str, str]:
        whole_group = number % 2 == 1
        workspace = Workspace(tmp_path_factory.mktemp("killed"))
        what = "all of the run" if whole_group else "Snakemake alone"
        return what, kill_and_resume(workspace, seconds, whole_group, expected)

    assert kill_often(num_kills, duration, tell, kill) == []


def test_runs_go_on_by_themselves_to_the_same_bytes_after_a_power_cut(num_power_cuts, whole_run, journalled_disk, tell):
    expected, duration = whole_run

    def cut(number: int, seconds: float) -> tuple[str, str]:
        folder = journalled_disk.folder / f"study-{number}"
        folder.mkdir()
        workspace = Workspace(folder)
        os.sync()
        holds_names = number % 2 == 1
        cut_power = partial(journalled_disk.cut_power, holds_names)
        problem = kill_and_resume(workspace, seconds, True, expected, cut_power)
        shutil.rmtree(folder)
        return "power cut, names on the disk" if holds_names else "power cut", problem

    assert kill_often(num_power_cuts, duration, tell, cut) == []
