"""A whole study on a real SLURM, with its node drained and a job cancelled, ends in the bytes of a local run."""

import time
from pathlib import Path

import pytest
import slurm_cluster
from workspace import TINY, Workspace

pytestmark = [
    pytest.mark.slow,
    pytest.mark.long,
    pytest.mark.skipif(bool(slurm_cluster.reason_against()), reason=str(slurm_cluster.reason_against())),
]
ROUND = "results/models/fedavg/seed-0/round-001"
BEST = "results/models/fedavg/seed-0/best.pth"
STUDY = [
    "study={rounds: 1}",
    "cohort={sites: {training: [north, east], external: []}}",
    "arms=[{name: fedavg, participants: sites}]",
    "evaluation={reference_arm: fedavg}",
    "reporting={video: {arms: [fedavg]}}",
]
ARGUMENTS = ["--configfile", TINY, "--config", *STUDY, "--", BEST]
# Fewer and larger groups than the profile's: every start of Snakemake counts in a test.
COHORT_RULES = ["index_site", "split_site", "check_cohort", "build_shard", "split_shard"]
COHORT_RULES += ["find_duplicates", "audit_cohort", "initialize_model"]
ROUND_RULES = ["train_site", "aggregate_round", "validate_site"]
ROUND_GROUP = "round-{arm}-{seed}-{round}"
ON_SLURM = [
    *("--workflow-profile", "profiles/slurm"),
    *("--groups", *(f"{rule}=cohort" for rule in COHORT_RULES), *(f"{rule}={ROUND_GROUP}" for rule in ROUND_RULES)),
    *("--group-components", "cohort=1000"),
    *("--latency-wait", "10"),
    # Without accounting, as here.
    *("--slurm-status-command", "squeue"),
    *("--slurm-init-seconds-before-status-checks", "1"),
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with slurm_cluster.SlurmCluster(tmp_path_factory.mktemp("slurm")) as running:
        yield running


@pytest.fixture
def start(tmp_path_factory):
    """``start(name, arguments)``: a run of the study and its workspace."""
    runs = []

    def _start(name: str, *arguments: str):
        workspace = Workspace(tmp_path_factory.mktemp(name))
        runs.append((workspace.start(*arguments, *ARGUMENTS), workspace))
        return runs[-1]

    yield _start
    for run, workspace in runs:
        if run.poll() is None:
            # While its jobs wait, Snakemake does not end when asked to.
            workspace.kill(run)


def wait_until(condition, what: str):
    """What ``condition`` gives as soon as that is true."""
    deadline = time.monotonic() + 3600
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.3)
    return found


def models_of(workspace: Workspace) -> dict[str, bytes]:
    paths = [*(workspace.folder / ROUND).rglob("*.pth"), workspace.folder / BEST]
    return {str(path.relative_to(workspace.folder)): path.read_bytes() for path in paths}


def test_a_study_on_slurm_survives_a_drained_node_and_a_cancelled_job(cluster, start, monkeypatch):
    cluster.set_node_state("drain")
    with monkeypatch.context() as changes:
        changes.setenv("PATH", cluster.programs())
        run, workspace = start("cluster", *ON_SLURM)
    wait_until(cluster.jobs, "a job is submitted")
    assert cluster.node_state().startswith("drain")
    assert [job["JobState"] for job in cluster.jobs()] == ["PENDING"]
    assert not (workspace.folder / "results/cohort").exists()
    cluster.set_node_state("resume")

    # Beside the cluster's, which mostly waits.
    local_run, local = start("local", "--cores", "1")
    wait_until(lambda: list((workspace.folder / "results/logs").rglob("train-*.log")), "a site trains")
    # A job elsewhere is a process of its own; none is forked by a worker of the run.
    assert not [process for process in workspace.processes() if "fedpedbrain.jobs.worker" in process]
    [training] = [job for job in cluster.jobs() if "train_site" in job["Comment"]]
    cluster.ask("scancel", training["JobId"])
    output, _ = run.communicate(timeout=3600)
    assert run.returncode == 0, output
    output, _ = local_run.communicate(timeout=3600)
    assert local_run.returncode == 0, output

    assert not workspace.processes()
    cohort, *tries, selection = cluster.jobs()
    assert cohort["JobState"] == selection["JobState"] == "COMPLETED"
    states = [(job["JobState"], job["MinMemoryNode"]) for job in tries]
    assert states == [("CANCELLED", "4000M"), ("COMPLETED", "8000M")]
    assert [job["TresPerJob"] for job in tries] == ["gres:gpu:1"] * 2
    assert "TresPerJob" not in cohort
    # The log of a job that failed is kept, and the round's updates are deleted as they are locally.
    [log] = (workspace.folder / "results/logs/slurm").rglob("*.log")
    assert log.stem == training["JobId"]
    expected = models_of(local)
    assert {Path(path).stem for path in expected} == {"global", "server", "north", "east", "best"}
    assert models_of(workspace) == expected
