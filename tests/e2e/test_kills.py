"""Runs that are killed at random moments, whole or Snakemake alone, and simply started again.

``make kills`` does so twenty times. The tally is printed.
"""

import random
import time

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


@pytest.fixture(scope="module")
def num_kills(request) -> int:
    """How often to kill a run."""
    number = request.config.getoption("--kills")
    if not number:
        pytest.skip("run by `make kills`; test_resume kills a larger study at chosen moments")
    return number


@pytest.fixture(scope="module")
def whole_run(num_kills, tmp_path_factory) -> tuple[dict[str, bytes], float]:
    """The files of a run that nobody killed, and the seconds that it took."""
    workspace = Workspace(tmp_path_factory.mktemp("whole"))
    start = time.monotonic()
    result = workspace.snakemake(*ARGUMENTS)
    assert result.returncode == 0, result.stdout
    return model_files(workspace), time.monotonic() - start


def kill_and_resume(workspace: Workspace, seconds: float, whole_group: bool) -> str:
    """Kill a run after so many seconds and start it again; returns what was wrong, "" for nothing."""
    run = workspace.start(*ARGUMENTS)
    time.sleep(seconds)
    workspace.kill(run, whole_group)
    if left := workspace.orphans():
        return f"{len(left)} processes outlived the run: {left[0]}"
    result = workspace.snakemake(*ARGUMENTS)
    return "" if result.returncode == 0 else f"not resumed: {result.stdout}"


def test_killed_runs_go_on_by_themselves_to_the_same_bytes(num_kills, tmp_path_factory, whole_run, request, capfd):
    expected, duration = whole_run
    # Two sites' states of the last round, the server's state and the global model of two, the start and the best model.
    assert len(expected) == 2 + 2 * (1 + 1) + 2
    seed = random.randrange(10_000)
    draw, failures = random.Random(seed), []
    tell = request.config.get_terminal_writer().line
    for number in range(num_kills):
        workspace = Workspace(tmp_path_factory.mktemp("killed"))
        seconds, whole_group = draw.uniform(0.0, duration), number % 2 == 1
        problem = kill_and_resume(workspace, seconds, whole_group)
        found = model_files(workspace)
        if not problem and found != expected:
            problem = f"other bytes in {[name for name in expected if found.get(name) != expected[name]]}"
        what = "all of the run" if whole_group else "Snakemake alone"
        with capfd.disabled():
            tell(f"kill {number + 1}: {what} after {seconds:.1f} of {duration:.1f} s: {problem or 'the same bytes'}")
        failures += [problem] if problem else []
    with capfd.disabled():
        tell(f"{num_kills - len(failures)} of {num_kills} ended in the bytes of a run that nobody killed (seed {seed})")
    assert failures == []
