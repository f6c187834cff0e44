"""The published files from a hub to a trained round, with the real client and a server on the loopback interface."""

import pytest
from fedpedbrain.base.cases import read_cases
from fedpedbrain.models.files import load_model_file
from flpedbrain_files import published_files
from hub_server import Hub
from workspace import TINY, Workspace

pytestmark = [pytest.mark.slow, pytest.mark.long]
REPOSITORY = "datasets/clinic/published"
SITES = {"AA": ([1, 2, 3, 4], [1, 2]), "BB": ([4, 3, 2, 1], [3, 4]), "CC": ([1, 2, 3, 4], [4, 1])}
STUDY = """
cohort:
  source: flpedbrain
  sites: {training: [AA, BB], external: [CC]}
flpedbrain: {repository: clinic/published, revision: v1.0}
preprocessing: {field_of_view: image, intensity: {name: reference}}
training: {loss: {segmentation: reference}, optimizer: {name: adam, learning_rate: 0.0001}}
"""
ROUND = "results/models/fedavg/seed-0/round-001/global.pth"


@pytest.fixture(scope="module")
def hub():
    """A gated data set: three sites of six cases, and another site's files."""
    hub = Hub()
    for name, content in published_files(SITES | {"DD": ([1], [1])}).items():
        hub.store(REPOSITORY, name, content, revision="v1.0")
    hub.gated.add(REPOSITORY)
    with hub.serve() as hub.url:
        yield hub


@pytest.fixture
def run(hub, tmp_path, monkeypatch):
    """``run(token, has_jobs)``: the workflow up to the first federated round, in a folder of its own."""
    for name, value in hub.environment(hub.url, tmp_path / "home").items():
        monkeypatch.setenv(name, value)
    (tmp_path / "study").mkdir()
    workspace = Workspace(tmp_path / "study")
    (workspace.folder / "study.yaml").write_text(STUDY)

    def _run(token="", has_jobs=True):
        monkeypatch.setenv("HF_TOKEN", token)
        start = workspace.snakemake if has_jobs else workspace.without_jobs
        return start("--cores", "2", "--configfile", TINY, "study.yaml", "--", ROUND)

    _run.folder = workspace.folder
    return _run


def test_the_published_files_are_fetched_and_trained_on(hub, run):
    refused = run()
    assert refused.returncode != 0
    assert "hf://datasets/clinic/published@v1.0: " in refused.stdout
    assert "access is gated; accept its terms on the hub and set HF_TOKEN" in refused.stdout
    assert "Traceback" not in refused.stdout

    # The first connection breaks, and the client goes on.
    hub.cuts.append(2000)
    result = run(hub.token)
    assert result.returncode == 0, result.stdout
    fetched = [path.rsplit("/", 1)[1] for method, path in hub.requests if method == "GET"]
    assert set(fetched) == set(published_files(SITES))
    assert len(fetched) == len(set(fetched)) + 1

    cases = read_cases(run.folder / "results/cohort/index.tsv")
    tumours = [case for case in cases if case.class_name != "normal"]
    # A quarter of four cases, and of two.
    assert (len(tumours), len(cases) - len(tumours)) == (18, 3 * (1 + 1))
    lineage = load_model_file(run.folder / ROUND).lineage
    assert {update.site for update in lineage.updates} == {"AA", "BB"}

    hub.requests.clear()
    assert "Nothing to be done" in run(hub.token, has_jobs=False).stdout
    assert hub.requests == []
