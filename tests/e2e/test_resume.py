"""A run that is killed and resumed ends in the bytes of one that was not, whatever the number of cores."""

import time

import pytest
from workspace import TINY, Workspace

pytestmark = [pytest.mark.slow, pytest.mark.long]
ARMS = {
    "fedavg": {},
    "scaffold": {"strategy": "{name: scaffold}"},
    "fedadam": {"strategy": "{name: fedadam}"},
    "ditto": {"strategy": "{name: ditto}"},
}
_BLOCKS = [
    ", ".join(["name: " + name, "participants: sites", *(f"{key}: {value}" for key, value in block.items())])
    for name, block in ARMS.items()
]
STUDY = [
    "arms=[" + ", ".join(f"{{{block}}}" for block in _BLOCKS) + "]",
    # An external site has a shard, and no part in what is compared.
    "cohort={sites: {external: []}}",
    "evaluation={reference_arm: fedavg}",
    "reporting={video: {arms: [fedavg]}}",
]


def arguments(keep_every: int = 3) -> list[str]:
    """Of a run; where only every third round is kept, nothing stays of round 2."""
    study = f"study={{rounds: 3, keep_every: {keep_every}}}"
    return ["models", "--configfile", TINY, "--config", study, *STUDY]


def final_files(workspace: Workspace) -> dict[str, bytes]:
    """Models and states after the last round, and the best models."""
    models = workspace.folder / "results" / "models"
    paths = [*models.glob("*/seed-0/round-003/**/*.pth"), *models.glob("*/seed-0/best.pth")]
    return {str(path.relative_to(models)): path.read_bytes() for path in sorted(paths)}


def training_jobs(jobs: dict[str, int]) -> dict[str, int]:
    """Those of planned jobs that train."""
    return {name: count for name, count in jobs.items() if name.startswith("train_")}


def kill_when(workspace: Workspace, trigger: str, whole_group: bool) -> None:
    """Start a run, kill it as soon as a file is there, and see that nothing of it is left."""
    run = workspace.start("--cores", "2", *arguments())
    deadline = time.monotonic() + 1800
    while not (workspace.folder / "results" / "models" / trigger).exists():
        assert run.poll() is None, f"the run ended before it could be killed: {run.stdout.read()}"
        assert time.monotonic() < deadline, f"no {trigger} came"
        time.sleep(0.02)
    workspace.kill(run, whole_group)
    assert workspace.orphans() == []


def test_a_killed_run_resumes_to_the_same_bytes(tmp_path_factory):
    whole, broken = (Workspace(tmp_path_factory.mktemp(name)) for name in ("whole", "broken"))
    result = whole.snakemake("--cores", "1", *arguments(keep_every=1))
    assert result.returncode == 0, result.stdout
    assert not training_jobs(whole.planned(*arguments())), "the kept rounds are there"
    result = whole.snakemake("--cores", "1", *arguments())
    assert result.returncode == 0, result.stdout
    kill_when(broken, "scaffold/seed-0/round-001/global.pth", whole_group=True)
    # Snakemake alone: its jobs have to notice.
    kill_when(broken, "ditto/seed-0/round-002/states/east.pth", whole_group=False)
    result = broken.snakemake("--cores", "2", *arguments())
    assert result.returncode == 0, result.stdout
    assert not [*broken.folder.glob("results/models/*/seed-0/round-002/**/*.pth")]
    # Round 2 is wanted again. Sites train from what they kept of round 1, which ditto alone still has.
    assert training_jobs(broken.planned(*arguments(keep_every=1))) == {"train_site": 2 * (3 * 3 + 2)}
    expected, found = final_files(whole), final_files(broken)
    assert expected.keys() == found.keys()
    # Global model, server's state and two sites' states of the last round, and the best model.
    assert len(expected) == 5 * len(ARMS)
    assert [name for name in expected if expected[name] != found[name]] == []
