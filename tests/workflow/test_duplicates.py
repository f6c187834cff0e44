"""Nothing stands twice: no ten lines of the package, the scripts and the rules are ten lines elsewhere."""

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
FILES = sorted(
    path for pattern in ("pkg/**/*.py", "workflow_scripts/*.py", "rules/*.smk") for path in REPOSITORY.glob(pattern)
)
NUM_LINES = 10
FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef
# What a call hands on as it is: a list of these repeats the signature of what is called.
PLAIN = ast.Name | ast.Attribute | ast.Constant


def lines_of(node: ast.AST) -> range:
    return range(node.lineno, node.end_lineno + 1)


def lines_apart(text: str) -> set[int]:
    """Numbers of a module's lines that may be equal: imports, signatures, docstrings, arguments handed on by name."""
    apart = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            apart.update(lines_of(node))
        if isinstance(node, FUNCTION):
            apart.update(range(node.lineno, node.body[0].lineno))
        if isinstance(node, FUNCTION | ast.ClassDef | ast.Module) and ast.get_docstring(node) is not None:
            apart.update(lines_of(node.body[0]))
        if isinstance(node, ast.keyword) and isinstance(node.value, PLAIN):
            apart.update(lines_of(node))
    return apart


def code_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number and text of the lines that count, indentation apart."""
    text = path.read_text(encoding="utf-8")
    apart = lines_apart(text) if path.suffix == ".py" else set()
    for number, line in enumerate(map(str.strip, text.splitlines()), start=1):
        if line and number not in apart and not line.startswith(("#", "import ", "from ")):
            yield number, line


def equal_places(paths: Iterable[Path]) -> list[str]:
    """Where ``NUM_LINES`` or more lines in a row are equal, one text per pair of places."""
    places = defaultdict(list)
    for path in paths:
        lines = list(code_lines(path))
        for start in range(len(lines) - NUM_LINES + 1):
            window = lines[start : start + NUM_LINES]
            places[tuple(line for _, line in window)].append((path, start, window[0][0]))
    found, continued = [], set()
    for first, *others in places.values():
        for other in others:
            # A longer run of equal lines is reported once, where it begins.
            if (first[:2], other[:2]) not in continued:
                found.append(" = ".join(f"{path}:{number}" for path, _, number in (first, other)))
            continued.add(tuple((path, start + 1) for path, start, _ in (first, other)))
    return found


def test_no_ten_lines_stand_twice():
    assert len(FILES) > 200
    assert equal_places(FILES) == []


BODY = [f"value_{number} = {number}" for number in range(NUM_LINES)]
INDENTED = [f"    {line}" for line in BODY]
CALL = ["combine(", *(f"    value_{number}=value_{number}," for number in range(NUM_LINES)), ")"]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (BODY, BODY, ["a.py:1 = b.py:1"]),
        (["first = 1", *BODY, "last = 1"], ["other = 1", *BODY, "more = 1"], ["a.py:2 = b.py:2"]),
        ([*BODY, "last = 1"], [*BODY, "last = 1"], ["a.py:1 = b.py:1"]),
        (BODY + BODY, [], ["a.py:1 = a.py:11"]),
        (["if True:", *INDENTED], BODY, ["a.py:2 = b.py:1"]),
        ([*BODY[:5], "", "# Why.", *BODY[5:]], BODY, ["a.py:1 = b.py:1"]),
        (BODY[1:], BODY[1:], []),
        ([*BODY[:5], "another = 1", *BODY[5:]], BODY, []),
        ([*BODY[1:], "import os"], [*BODY[1:], "import os"], []),
        ([*BODY[1:], "def f(a):", "    pass"], [*BODY[1:], "def f(a):", "    return"], []),
        (['"""Text.', *BODY, '"""'], ['"""Text.', *BODY, '"""'], []),
        (CALL, CALL, []),
    ],
)
def test_ten_equal_lines_are_found_and_what_may_be_equal_is_not(tmp_path, monkeypatch, first, second, expected):
    monkeypatch.chdir(tmp_path)
    paths = [Path("a.py"), Path("b.py")]
    for path, lines in zip(paths, (first, second), strict=True):
        path.write_text("\n".join(lines) + "\n")
    assert equal_places(paths) == expected


def test_equal_directives_of_rules_are_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    directives = [f"    directive_{number}:" for number in range(NUM_LINES)]
    Path("a.smk").write_text("\n".join(["rule one:", *directives, "", "rule two:", *directives]) + "\n")
    assert equal_places([Path("a.smk")]) == ["a.smk:2 = a.smk:14"]
