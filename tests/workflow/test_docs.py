"""The documentation holds together: every link leads somewhere, the index lists every page, the README stays short."""

import re
from pathlib import Path

import pytest
import yaml
from fedpedbrain.study.study import load_study
from snakemake.utils import update_config
from workspace import REPOSITORY

README = REPOSITORY / "README.md"
INDEX = REPOSITORY / "docs" / "index.md"
PAGES = sorted(INDEX.parent.rglob("*.md"))
DOCUMENTS = [README, REPOSITORY / "CONTRIBUTING.md", REPOSITORY / "CHANGELOG.md", *PAGES]


def text_of(document: Path) -> str:
    """A document without its blocks of code, in which # begins no heading."""
    text = document.read_text(encoding="utf-8")
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def links_of(document: Path) -> list[tuple[Path, str]]:
    """File and fragment of each link into the repository."""
    targets = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]+`", "", text_of(document)))
    parts = [target.partition("#") for target in targets if not target.startswith("https://")]
    return [((document.parent / path).resolve() if path else document, fragment) for path, _, fragment in parts]


def anchors_of(document: Path) -> set[str]:
    """Headings as a forge names them: small letters, hyphens for spaces, no punctuation."""
    headings = re.findall(r"^#+ (.+)$", text_of(document), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def broken_links(document: Path) -> list[str]:
    """Links to no file, or to a heading that the file does not have."""
    return [
        f"{target}#{fragment}"
        for target, fragment in links_of(document)
        if not target.is_file() or (fragment and fragment not in anchors_of(target))
    ]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_every_link_leads_to_a_file_and_its_heading(document):
    assert not broken_links(document)


def test_links_to_no_file_and_to_no_heading_are_broken(tmp_path):
    (tmp_path / "page.md").write_text("# One *word*: two\n```\n# code\n```\n")
    index = tmp_path / "index.md"
    index.write_text(
        "[a](page.md) [b](page.md#one-word-two) [c](https://example.org/x) `[d](code.md)`\n"
        "[e](gone.md) [f](page.md#code) [the\ng](#here)\n"
    )
    assert broken_links(index) == [f"{tmp_path}/gone.md#", f"{tmp_path}/page.md#code", f"{index}#here"]


def test_the_index_lists_every_page():
    listed = {target for target, _ in links_of(INDEX)}
    assert len(PAGES) > 1
    assert not set(PAGES) - {INDEX} - listed


def test_the_readme_is_short():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 120


def test_the_readmes_study_is_a_study(config, schema_path):
    (example,) = re.findall(r"```yaml\n(.+?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert len(example.splitlines()) == 10
    update_config(config, yaml.safe_load(example))
    study = load_study(config, schema_path, lambda settings: dict.fromkeys(settings["sites"], 10))
    assert list(study.arms) == ["centralized", "fedavg"]
