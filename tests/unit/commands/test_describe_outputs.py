"""What a file of the results is, in words, and the page that lists them all."""

import logging
import shutil

import pytest
from fedpedbrain.base.errors import StudyError
from fedpedbrain.commands.describe_outputs import describe_outputs, described_output, described_outputs
from workspace import REPOSITORY

PAGE = "docs/reference/outputs.md"


def test_the_page_is_what_the_command_writes():
    page = (REPOSITORY / PAGE).read_text(encoding="utf-8")
    message = f"{PAGE}: run python -m fedpedbrain describe-outputs"
    assert described_outputs(page, REPOSITORY / "docs") == page, message


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (
            "/data/results/models/fedavg/seed-0/round-003/updates/north.pth",
            "what a site sends to the server; temporary (arm fedavg, seed 0, round 3, site north); "
            "made by rules/training.smk; more in docs/how-to/disk.md",
        ),
        ("results/gallery/cases.tsv", "the cases shown in the gallery, and why; made by rules/gallery.smk"),
        (
            "results/logs/cohort/check.log",
            "what each job said and used, one file per job; made by no rule; more in docs/how-to/failures.md#logs",
        ),
    ],
)
def test_a_file_is_described_in_one_line(path, words):
    assert described_output(path) == f"{path}: {words}"


def test_the_page_has_an_example_of_what_the_command_says():
    path = "results/models/fedavg/seed-0/round-003/server.pth"
    assert f"```\n{described_output(path)}\n```" in (REPOSITORY / PAGE).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("path", "nearest"),
    [
        ("results/models/fedavg/seed-0/best.pt", "models/{arm}/seed-{seed}/best.pth"),
        ("tables/summry.tsv", "tables/summary.tsv"),
    ],
)
def test_another_path_is_refused_with_the_nearest_and_where_to_look(path, nearest):
    with pytest.raises(StudyError) as error:
        described_output(path)
    assert str(error.value) == (
        f"{path}: found no file of a study; expected one such as results/{nearest}; look it up in {PAGE}"
    )


@pytest.fixture
def copied_docs(tmp_path, monkeypatch, caplog):
    """A folder with a copy of the documentation, as the current one."""
    shutil.copytree(REPOSITORY / "docs", tmp_path / "docs")
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.INFO, "fedpedbrain")
    return tmp_path / "docs"


def test_the_command_describes_paths_in_their_order_up_to_one_that_is_unknown(copied_docs, caplog):
    with pytest.raises(StudyError, match=r"^b\.txt: "):
        describe_outputs(["report.html", "report.json", "b.txt", "tables/tests.tsv"])
    assert [record.getMessage().split(":")[0] for record in caplog.records] == ["report.html", "report.json"]


def test_the_command_writes_the_tables_once_and_leaves_what_stands_around_them(copied_docs, caplog):
    path = copied_docs / "reference" / "outputs.md"
    path.write_text(path.read_text().replace("| a figure of the report |", "| a drawing |") + "The end.\n")
    for _ in range(2):
        describe_outputs([])
        assert [record.getMessage() for record in caplog.records] == [f"{PAGE}: written"]
    assert path.read_text() == (REPOSITORY / PAGE).read_text(encoding="utf-8") + "The end.\n"


def test_the_title_of_a_link_is_that_of_its_page(copied_docs):
    (copied_docs / "how-to" / "disk.md").write_text("# Room on the disk\n")
    describe_outputs([])
    text = (copied_docs / "reference" / "outputs.md").read_text()
    assert "| [Room on the disk](../how-to/disk.md) |" in text


def test_a_page_without_the_marks_of_its_tables_is_refused(copied_docs):
    path = copied_docs / "reference" / "outputs.md"
    path.write_text(path.read_text().replace("<!-- To here -->", ""))
    with pytest.raises(StudyError, match=r"expected the lines .* and .*, found one or neither; put them back"):
        describe_outputs([])


def test_without_the_page_the_command_says_where_to_call_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StudyError, match=r"outputs\.md: found no such file; expected .*; go there, or name PATH"):
        describe_outputs([])
