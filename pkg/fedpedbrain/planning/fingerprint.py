"""Fingerprints of code: what a rule's result depends on.

Comments, docstrings and layout are no part of it. Neither are the import statements of the package itself, so that a
module can move, nor the arguments of ``StudyError``, ``CohortError`` and of calls of a module's ``logger``. The modules
that these imports lead to are part of it, and so are the versions of other packages. Of a table of choices
(``base.choices``), the rows that are chosen count, with the code that they lead to, and no others. Code with a
certificate counts as the code before, see ``equal_code``. Standard library only: nothing of the code is imported, it is
read as text. What a text says can be remembered from one process to the next.
"""

import ast
import atexit
import contextlib
import hashlib
import json
import os
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from fedpedbrain.planning.equal_code import counted_digests
from fedpedbrain.study.tables import Choice

PACKAGE_ROOT = Path(__file__).resolve().parents[1]
PACKAGE = PACKAGE_ROOT.name
# Of a file or a folder of data, as a module or a template names it.
_FILE_NAME = re.compile(r"\w[\w-]*(?:/[\w-]+)*(?:\.\w+)*/?")
_QUOTED_NAME = re.compile(rf"[\"']({_FILE_NAME.pattern})[\"']")
# Packages that are installed under another name than they are imported by.
_INSTALLED_AS = {"PIL": "pillow", "sklearn": "scikit-learn", "yaml": "PyYAML"}
# It brings files, whose content no version of it decides.
_CLIENT = "huggingface_hub"
# How a job is run, which no result depends on.
NOT_PART_OF_RESULTS = {PACKAGE_ROOT / "jobs" / "job.py", PACKAGE_ROOT / "jobs" / "worker.py"}


# What is said to users, and changes no result: the arguments of these errors, and of calls of a module's logger.
_ERRORS = {"StudyError", "CohortError"}
_LOGGER = "logger"


def _is_docstring(node: ast.stmt) -> bool:
    is_constant = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return is_constant and isinstance(node.value.value, str)


def _is_own_import(node: ast.stmt) -> bool:
    """Whether a statement names modules of this package: no two public names are alike, so its place says nothing."""
    if isinstance(node, ast.ImportFrom):
        return (node.module or "").split(".")[0] == PACKAGE
    return isinstance(node, ast.Import) and all(alias.name.split(".")[0] == PACKAGE for alias in node.names)


def _aliases(node: ast.Import | ast.ImportFrom) -> list[ast.stmt]:
    """What is left of an import: the names that it gives to things under other names, which decide what these mean."""
    renamed = [alias for alias in node.names if alias.asname]
    return [ast.Expr(ast.Tuple([ast.Constant(f"{item.name} {item.asname}") for item in renamed]))] if renamed else []


def _is_said_to_users(call: ast.Call) -> bool:
    if isinstance(call.func, ast.Attribute):
        return isinstance(call.func.value, ast.Name) and call.func.value.id == _LOGGER
    return isinstance(call.func, ast.Name) and call.func.id in _ERRORS


def _remove_words(nodes: Iterable[ast.AST]) -> None:
    """Take out of a tree what no result depends on: docstrings, own imports, what errors, logs and options say."""
    for node in nodes:
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if node.body and _is_docstring(node.body[0]):
                node.body = node.body[1:]
        elif isinstance(node, ast.Call) and _is_said_to_users(node):
            node.args, node.keywords = [], []
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == _OPTION:
            node.args, node.keywords = node.args[:1], [item for item in node.keywords if item.arg == "default"]
        for name in ("body", "orelse", "finalbody"):
            statements = getattr(node, name, None)
            if isinstance(statements, list):
                kept = (_aliases(item) if _is_own_import(item) else [item] for item in statements)
                setattr(node, name, [item for items in kept for item in items])


def digest_of_source(source: str) -> str:
    """SHA-256 of a module's syntax tree without the words that no result depends on, see ``_remove_words``."""
    return _parse(source).digest


# What a row of a table says: digest of its facts, and the module that its code lies in.
_Row = tuple[str, str]
_TABLE = "Choices"
# How facts end that are said to users.
_WORDS = "words"
# A choice's setting: its default decides, what values may be and what the docs say of it decides nothing.
_OPTION = "Option"
_IMPLEMENTATION = re.compile(r"(\w+(?:\.\w+)*):(\w+)")


class _Parsed(NamedTuple):
    """What the text of a module says.

    Attributes
    ----------
    digest : of its tree, tables of choices without their rows
    imported : names that it imports
    texts : that may name a file
    tables : rows of its tables of choices, by table and word
    """

    digest: str
    imported: list[str]
    texts: list[str]
    tables: dict[str, dict[str, _Row]]


def _take_tables(tree: ast.Module) -> dict[str, dict[str, _Row]]:
    """Take the rows of tables of choices out of a module's tree; returns them."""
    tables = {}
    for node in tree.body:
        value, target = getattr(node, "value", None), getattr(node, "target", None)
        if isinstance(node, ast.Assign):
            target = node.targets[0]
        is_table = isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == _TABLE
        if is_table and isinstance(target, ast.Name):
            rows = value.args[0]
            tables[target.id] = {key.value: _read_row(row) for key, row in zip(rows.keys, rows.values, strict=True)}
            value.args = []
    return tables


def _read_row(row: ast.Call) -> _Row:
    """The facts of a row, in which the place of any code is no more than that code's own name, and words are none."""
    module, _ = _IMPLEMENTATION.fullmatch(row.args[0].value).groups()
    row.keywords = [item for item in row.keywords if not (item.arg or "").endswith(_WORDS)]
    _remove_words(ast.walk(row))
    for node in ast.walk(row):
        if isinstance(node, ast.Constant) and (place := _IMPLEMENTATION.fullmatch(str(node.value))):
            node.value = place[2]
    return hashlib.sha256(ast.dump(row).encode()).hexdigest(), module


def _parse(source: str) -> _Parsed:
    tree = ast.parse(source)
    tables = _take_tables(tree)
    nodes = list(ast.walk(tree))
    imported = sorted(set(_imported_modules(nodes)))
    constants = (node.value for node in nodes if isinstance(node, ast.Constant))
    texts = sorted({value for value in constants if isinstance(value, str) and _FILE_NAME.fullmatch(value)})
    _remove_words(nodes)
    return _Parsed(_digest_of_tree(tree), imported, texts, tables)


def _digest_of_tree(tree: ast.Module) -> str:
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


# What was parsed in earlier processes and in this one, by the text's SHA-256.
_remembered: dict[str, _Parsed] = {}
_parsed: dict[str, _Parsed] = {}


def remember_sources(path: Path) -> None:
    """Read from a file what earlier processes parsed, and add what this one does; losing it costs time alone."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["parser"] == _parser():
            _remembered.update({digest: _Parsed(*values) for digest, values in content["sources"].items()})
    # By the end another folder may be the current one.
    atexit.register(_write_sources, path.absolute())


@cache
def _parser() -> str:
    """What decides what is made of a text: this module, and the Python that writes its tree in words."""
    return f"{sys.version} {hashlib.sha256(Path(__file__).read_bytes()).hexdigest()}"


def _write_sources(path: Path) -> None:
    if _parsed.keys() <= _remembered.keys():
        return
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps({"parser": _parser(), "sources": _parsed}), encoding="utf-8")
        temporary.replace(path)


def _parse_file(path: Path) -> _Parsed:
    """What a module says, parsed unless that text was before."""
    source = path.read_bytes()
    digest = hashlib.sha256(source).hexdigest()
    _parsed[digest] = _remembered.get(digest) or _parse(source.decode("utf-8"))
    return _parsed[digest]


def _path_of_module(name: str) -> Path | None:
    """File of a module of this package, or None for another package or a name inside a module."""
    parts = name.split(".")
    if parts[0] != PACKAGE:
        return None
    base = PACKAGE_ROOT.joinpath(*parts[1:])
    for candidate in (base / "__init__.py", base.with_suffix(".py")):
        if candidate.is_file():
            return candidate
    return None


def _imported_modules(nodes: Sequence[ast.AST]) -> Iterator[str]:
    """Names of modules that may be meant by the imports anywhere in a module, those inside functions too."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def _data_folders(folder: Path) -> tuple[Path, ...]:
    """Folders of data (templates) in a folder of the package."""
    found = (path for path in sorted(folder.iterdir()) if path.is_dir() and path.name != "__pycache__")
    return tuple(path for path in found if not (path / "__init__.py").exists())


def _named_files(path: Path, texts: Iterable[str]) -> list[Path]:
    """Files of data beside a module that texts of its own name, and those that such files name.

    A name is meant from the folder of data; one that ends with a slash means all files below.
    """
    reached: set[Path] = set()
    for folder in _data_folders(path.parent):
        waiting = list(texts)
        while waiting:
            name = waiting.pop()
            files = (folder / name).rglob("*") if name.endswith("/") else [folder / name]
            for file in {file for file in files if file.is_file()} - reached:
                reached.add(file)
                waiting += _QUOTED_NAME.findall(file.read_text(encoding="utf-8"))
    return sorted(reached)


@cache
def _version(package: str) -> str | None:
    """Version of another package, whatever it was built for (``+cpu``); None where it is not installed."""
    try:
        return version(_INSTALLED_AS.get(package, package)).split("+")[0]
    except PackageNotFoundError:
        return None


class _Module(NamedTuple):
    """What a result takes from a file of the package.

    Attributes
    ----------
    digest : of the file with the files of data that it names
    paths : files of the package that it imports, with the packages they lie in
    packages : names of other packages that it imports
    tables : rows of its tables of choices, by table and word
    """

    digest: str
    paths: tuple[Path, ...]
    packages: frozenset[str]
    tables: dict[str, dict[str, _Row]]


def _split_imports(imported: Iterable[str]) -> tuple[set[Path], set[str]]:
    """Files of the package, with the packages they lie in, and names of other packages."""
    others = {name.split(".")[0] for name in imported} - sys.stdlib_module_names - {PACKAGE, _CLIENT}
    names = set()
    for name in imported:
        parts = name.split(".")
        names.update(".".join(parts[:end]) for end in range(1, len(parts) + 1))
    return {found for name in names if (found := _path_of_module(name)) is not None}, others


@cache
def _read_module(path: Path) -> _Module:
    parsed = _parse_file(path)
    paths, others = _split_imports(parsed.imported)
    data = (hashlib.sha256(file.read_bytes()).hexdigest() for file in _named_files(path, parsed.texts))
    digests = [parsed.digest, *data]
    digest = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    return _Module(digest, tuple(sorted(paths)), frozenset(others), parsed.tables)


def _chosen_rows(module: _Module, chosen: Collection[Choice]) -> list[_Row]:
    """Rows of a module's tables that are chosen: all of a table of which nothing says what is."""
    decided = {table for table, _ in chosen}
    return [
        row
        for table, rows in module.tables.items()
        for word, row in rows.items()
        if table not in decided or (table, word) in chosen
    ]


class _Reached(NamedTuple):
    """What a result depends on: modules of the package by their file, rows of tables, and names of other packages."""

    modules: dict[Path, _Module]
    rows: set[str]
    packages: set[str]


def _reach(entry: Path, chosen: Collection[Choice]) -> _Reached:
    reached = _Reached({}, set(), set())
    waiting = [entry]
    while waiting:
        path = waiting.pop()
        if path in reached.modules or path in NOT_PART_OF_RESULTS:
            continue
        module = reached.modules[path] = _read_module(path)
        rows = _chosen_rows(module, chosen)
        paths, others = _split_imports([place for _, place in rows])
        reached.rows.update(digest for digest, _ in rows)
        # Nor do the packages count that code imports which earlier results were made without.
        reached.packages.update(module.packages if counted_digests(module.digest) else (), others)
        waiting += [*module.paths, *paths]
    return reached


def reached_files(entry: Path, chosen: Collection[Choice] = ()) -> set[Path]:
    """The file and every module of this package that it reaches and its result depends on.

    Parameters
    ----------
    chosen : what a study chooses, as table and word; of a table that it does not name, every row counts
    """
    return set(_reach(entry, chosen).modules)


@cache
def code_fingerprint(script: str, chosen: frozenset[Choice] = frozenset()) -> str:
    """Fingerprint of a script, all that it reaches in this package, and the versions of the packages that these import.

    ``chosen`` as of ``reached_files``.
    """
    reached = _reach(Path(script).resolve(), chosen)
    # A module that only imports, as that of a folder, says nothing of its own: where it lies decides no result.
    own = {module.digest for module in reached.modules.values()} - {_digest_of_tree(ast.Module([], []))}
    counted = {earlier for digest in own | reached.rows for earlier in counted_digests(digest)}
    digests = sorted(counted | {f"{name} {_version(name)}" for name in reached.packages})
    return hashlib.sha256("".join(digests).encode()).hexdigest()[:16]
