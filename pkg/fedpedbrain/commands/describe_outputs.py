"""``describe-outputs``: what a file of the results is, and the table of all of them in the documentation."""

import argparse
import logging
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from posixpath import dirname, relpath

from fedpedbrain.base.errors import StudyError
from fedpedbrain.base.files import replacing
from fedpedbrain.planning.layout import BY_NO_RULE, LAYOUT, LAYOUT_PHASES, RESULTS, OutputKind, find_output

logger = logging.getLogger(__name__)

_PAGE = "reference/outputs.md"
# The table stands between these lines of the page.
_BEGIN = "<!-- From here: written by python -m fedpedbrain describe-outputs -->"
_END = "<!-- To here -->"


def described_output(path: str) -> str:
    """One line: what a file is, of which arm, seed and round, which rules make it, and the page that says more."""
    found = find_output(path)
    if found is None:
        patterns = [kind.pattern for kind in LAYOUT.values()]
        below = path.rpartition(f"{RESULTS}/")[2]
        nearest = get_close_matches(below, patterns, n=1, cutoff=0.0)[0]
        raise StudyError(
            f"{path}: found no file of a study; expected one such as {RESULTS}/{nearest}; look it up in docs/{_PAGE}"
        )
    kind, values = found.kind, ", ".join(f"{name} {value}" for name, value in found.values.items())
    parts = [
        kind.what + (f" ({values})" if values else ""),
        "made by no rule" if kind.phase == BY_NO_RULE else f"made by rules/{kind.phase}.smk",
        *([f"more in docs/{kind.page}"] if kind.page else []),
    ]
    return f"{path}: {'; '.join(parts)}"


def described_layout(titles: Mapping[str, str]) -> str:
    """A section (Markdown) per phase, with a row for each kind of file.

    Parameters
    ----------
    titles : of the pages that rows name, by their path below ``docs``
    """
    sections = []
    for phase, title in LAYOUT_PHASES.items():
        rows = [_row(kind, titles) for kind in LAYOUT.values() if kind.phase == phase]
        sections.append("\n".join([f"## {title}\n", "| path | what | more |", "|---|---|---|", *rows]))
    return "\n\n".join(sections)


def _row(kind: OutputKind, titles: Mapping[str, str]) -> str:
    title = titles[kind.page.partition("#")[0]] if kind.page else ""
    link = f" [{title}]({relpath(kind.page, dirname(_PAGE))}) " if kind.page else " "
    return f"| `{RESULTS}/{kind.pattern}` | {kind.what} |{link}|"


def described_outputs(page: str, docs: Path) -> str:
    """The text of the page on outputs with its tables written anew; what stands around them stays."""
    before, begin, rest = page.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not (begin and end):
        raise StudyError(f"docs/{_PAGE}: expected the lines {_BEGIN} and {_END}, found one or neither; put them back")
    pages = {kind.page.partition("#")[0] for kind in LAYOUT.values()} - {""}
    titles = {name: _title_of(docs / name) for name in pages}
    return f"{before}{begin}\n\n{described_layout(titles)}\n\n{end}{after}"


def _title_of(page: Path) -> str:
    return page.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")


def describe_outputs(arguments: Sequence[str]) -> None:
    """Say what each path is; without paths, write the page's tables anew where they say anything else."""
    parser = argparse.ArgumentParser(prog="python -m fedpedbrain describe-outputs", description=__doc__)
    parser.add_argument("paths", nargs="*", metavar="PATH", help="of a file; without any, the page is written")
    paths = parser.parse_args(arguments).paths
    for path in paths:
        logger.info("%s", described_output(path))
    if not paths:
        _write_page(Path("docs"))


def _write_page(docs: Path) -> None:
    path = docs / _PAGE
    if not path.is_file():
        raise StudyError(
            f"{path}: found no such file; expected to be in the repository's folder; go there, or name PATH"
        )
    text = path.read_text(encoding="utf-8")
    if (described := described_outputs(text, docs)) != text:
        with replacing(path) as temporary:
            temporary.write_text(described, encoding="utf-8")
        logger.info("%s: written", path)
