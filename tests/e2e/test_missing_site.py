"""A site whose training fails: the rounds of an arm that allows it go on without it, those of another arm stop."""

import json
import shutil

import pytest
from fedpedbrain.models.files import load_model_file
from workspace import TINY

pytestmark = pytest.mark.slow
FEDAVG = "results/models/fedavg/seed-0"


@pytest.fixture
def train_while_east_fails(study_copy):
    """Train the tiny study's federated arm anew; the training of east fails in round 1, however often it is tried."""

    def _train(allow_missing_sites: str):
        shutil.rmtree(study_copy.folder / FEDAVG)
        work = "    run = _SiteRun(files, work, plan, device)\n"
        failure = '    if (work.site, work.round) == ("east", 1):\n        raise StudyError("the site is down")\n'
        study_copy.edit("pkg/fedpedbrain/federated/site.py", work, failure + work)
        participation = f"participation: {{allow_missing_sites: {allow_missing_sites}}}"
        arms = "arms=[{name: centralized, participants: pooled}, "
        arms += f"{{name: fedavg, participants: sites, {participation}}}]"
        targets = [f"{FEDAVG}/{name}" for name in ("best.pth", "lineage.json")]
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


def test_without_leave_for_it_the_arm_stops(train_while_east_fails):
    folder, result = train_while_east_fails("false")
    assert result.returncode != 0
    assert "ERROR: the site is down" in result.stdout
    assert not (folder / "round-001/global.pth").exists()
