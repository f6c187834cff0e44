import pytest
from workspace import TINY, Workspace


@pytest.fixture(scope="session")
def finished_study(tmp_path_factory):
    """The tiny study, run to its report. Shared: a test that changes it works on a copy."""
    workspace = Workspace(tmp_path_factory.mktemp("study"))
    result = workspace.snakemake("--configfile", TINY, "--cores", "2")
    assert result.returncode == 0, result.stdout
    workspace.output = result.stdout
    return workspace


@pytest.fixture
def study_copy(finished_study, tmp_path):
    """A copy of the finished study, file dates and Snakemake's records included."""
    return finished_study.copy(tmp_path / "study")
