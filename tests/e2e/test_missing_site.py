"""A site whose training fails: the rounds of an arm that allows it go on without it, those of another arm stop."""

import json
import shutil

import pytest
from fedpedbrain.models.files import load_model_file
from workspace import TINY

pytestmark = pytest.mark.slow
FEDAVG = "results/models/fedavg/seed-0"
CENTRALIZED = "results/models/centralized/seed-0"
LOG = "results/logs/models/fedavg/seed-0/round-001/train-east.log"


@pytest.fixture
def train_while_east_fails(study_copy):
    """Train the tiny study's federated arm anew; the training of east fails in round 1, however often it is tried."""

    def _train(allow_missing_sites: str, *other_targets: str):
        shutil.rmtree(study_copy.folder / FEDAVG)
        work = "    run = _SiteRun(files, work, plan, device)\n"
        failure = '    if (work.site, work.round) == ("east", 1):\n        raise StudyError("the site is down")\n'
        study_copy.edit("pkg/fedpedbrain/federated/site.py", work, failure + work)
        participation = f"participation: {{allow_missing_sites: {allow_missing_sites}}}"
        arms = "arms=[{name: centralized, participants: pooled}, "
        arms += f"{{name: fedavg, participants: sites, {participation}}}]"
        targets = [f"{FEDAVG}/best.pth", f"{FEDAVG}/lineage.json", *other_targets]
        result = study_copy.snakemake("--configfile", TINY, "--cores", "2", "--config", arms, "--", *targets)
        return study_copy.folder / FEDAVG, result

    return _train


def test_a_round_goes_on_without_a_site_whose_training_failed(train_while_east_fails):
    folder, result = train_while_east_fails("true")
    assert result.returncode == 0, result.stdout
    assert "ERROR: the site is down" in result.stdout
    updates = [load_model_file(folder / f"round-{number}/global.pth").lineage.updates for number in ("001", "002")]
    assert [[update.site for update in of_round] for of_round in updates] == [["north"], ["east", "north"]]
    assert updates[0][0].weight == 1.0
    assert json.loads((folder / "round-001/metrics/east.json").read_text())["num_cases"] == 0


def test_without_leave_for_it_the_arm_stops_and_the_other_one_ends(train_while_east_fails, study_copy):
    shutil.rmtree(study_copy.folder / CENTRALIZED)
    folder, result = train_while_east_fails("false", f"{CENTRALIZED}/best.pth")
    assert result.returncode != 0
    assert not (folder / "round-001/global.pth").exists()
    assert (study_copy.folder / CENTRALIZED / "best.pth").exists()
    # Once as it happens, and what failed and why at the end; a message is not tried again.
    assert result.stdout.count("ERROR: the site is down\n") == 1
    head, failure = result.stdout.splitlines()[-2:]
    assert head.endswith("these failed; run again to go on from here:")
    assert failure == f"  fedavg, seed 0: round 001 of 2, training east: the site is down; log: {LOG}"
