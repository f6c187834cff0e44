import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

import pytest
from fedpedbrain.planning import fingerprint
from fedpedbrain.planning.fingerprint import PACKAGE_ROOT, code_fingerprint, digest_of_source, reached_files
from fedpedbrain.study.study import load_study

SOURCE = '''"""Module."""
LIMIT = 3


def double(value):
    """Double it."""
    return 2 * value  # twice
'''


@pytest.mark.parametrize(
    "source",
    [
        SOURCE.replace("  # twice", ""),
        SOURCE.replace("Double it.", "Return twice the value."),
        SOURCE.replace('    """Double it."""\n', ""),
        SOURCE.replace('"""Module."""\n', ""),
        SOURCE.replace("2 * value", "(2\n        * value)"),
        SOURCE.replace("\n\n\n", "\n"),
    ],
    ids=["comment", "docstring", "no docstring", "no module docstring", "brackets and line break", "blank lines"],
)
def test_words_and_layout_leave_the_digest(source):
    assert source != SOURCE
    assert digest_of_source(source) == digest_of_source(SOURCE)


@pytest.mark.parametrize(
    "source",
    [
        SOURCE.replace("2 * value", "3 * value"),
        SOURCE.replace("2 * value", "value * 2"),
        SOURCE.replace("LIMIT = 3", "LIMIT = 4"),
        SOURCE.replace("def double(value)", "def double(value=1)"),
        SOURCE + "\nLABEL = 'a'\n",
    ],
    ids=["number", "order", "constant", "default", "addition"],
)
def test_code_changes_the_digest(source):
    assert digest_of_source(source) != digest_of_source(SOURCE)


SPEAKING = """
import math
from fedpedbrain.models.files import load_model_file

logger = logging.getLogger(__name__)


def read(path):
    from fedpedbrain.base.errors import StudyError
    if math.isnan(path):
        raise StudyError(f"{path}: not a number; correct it")
    logger.info("%s is read", path)
    return load_model_file(path)
"""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("fedpedbrain.models.files", "fedpedbrain.base.model_files"),
        ("import load_model_file", "import load_model_file, save_model_file"),
        ("    from fedpedbrain.base.errors import StudyError\n", ""),
        ("not a number; correct it", "expected a number"),
        ('"%s is read", path', '"read"'),
    ],
    ids=[
        "module of an import",
        "names of an import",
        "import in a function",
        "words of an error",
        "words of a log line",
    ],
)
def test_where_names_come_from_and_what_is_said_leave_the_digest(old, new):
    assert old in SPEAKING
    assert digest_of_source(SPEAKING.replace(old, new)) == digest_of_source(SPEAKING)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("import math", "import cmath as math"),
        ("import load_model_file", "import save_model_file as load_model_file"),
        ("raise StudyError", "raise ValueError"),
        ('    logger.info("%s is read", path)\n', ""),
        ("logger.info(", "print("),
    ],
    ids=["other package", "renamed import", "kind of error", "log line", "print"],
)
def test_what_a_module_uses_and_does_changes_the_digest(old, new):
    assert old in SPEAKING
    assert digest_of_source(SPEAKING.replace(old, new)) != digest_of_source(SPEAKING)


def test_a_string_that_is_no_docstring_counts():
    assert digest_of_source("def name():\n    return 'a'\n") != digest_of_source("def name():\n    return 'b'\n")


MODULES = {
    "__init__.py": "",
    "step.py": "from toy.tools import numbers\n\n\ndef run():\n    from toy import late\n    return late, numbers\n",
    "late.py": "import toy.deep.inner\n\nPAGE = 'page.html'\n",
    "pages/page.html": "{% include 'row.html' %}{% include 'parts/' ~ name %}\n",
    "pages/row.html": "<br>\n",
    "pages/parts/one.html": "<i>\n",
    "pages/other.html": "<p>\n",
    "tools/__init__.py": "",
    "tools/numbers.py": "ONE = 1\n",
    "deep/__init__.py": "DEPTH = 2\n",
    "deep/inner.py": "import json\n",
    "unused.py": "import toy.step\n",
}


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """Write the package ``toy`` with some modules changed, and a script that imports toy.step; return the script."""
    monkeypatch.setattr(fingerprint, "PACKAGE", "toy")

    def write(version: str, changes: dict[str, str] | None = None) -> Path:
        root = tmp_path / version / "toy"
        for name, source in (MODULES | (changes or {})).items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(source)
        monkeypatch.setattr(fingerprint, "PACKAGE_ROOT", root)
        script = tmp_path / version / "script.py"
        script.write_text("from toy.step import run\n\nrun()\n")
        return script

    return write


def test_imports_are_followed_through_packages_and_into_functions(toy):
    script = toy("a")
    names = {path.relative_to(script.parent).as_posix() for path in reached_files(script)}
    assert names == {
        "script.py",
        "toy/__init__.py",
        "toy/step.py",
        "toy/late.py",
        "toy/tools/__init__.py",
        "toy/tools/numbers.py",
        "toy/deep/__init__.py",
        "toy/deep/inner.py",
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"tools/numbers.py": "ONE = 2\n"},
        {"deep/inner.py": "import json\n\nVALUE = 1\n"},
        {"deep/__init__.py": "DEPTH = 3\n"},
        {"pages/page.html": "<br>\n"},
        {"pages/row.html": "<hr>\n"},
        {"pages/parts/one.html": "<b>\n"},
        {"pages/parts/two.html": "<b>\n"},
    ],
    ids=[
        "module",
        "module imported inside a function",
        "package that a module lies in",
        "template that a module names",
        "template that this one names",
        "template in a folder that this one names",
        "new template in such a folder",
    ],
)
def test_a_change_of_a_reached_module_changes_the_fingerprint(toy, changes):
    assert code_fingerprint(str(toy("a"))) != code_fingerprint(str(toy("b", changes)))


@pytest.mark.parametrize(
    "changes",
    [
        {"unused.py": "import toy.step\n\nVALUE = 1\n"},
        {"tools/numbers.py": '"""Numbers."""\nONE = 1  # the first\n'},
        {"new.py": "VALUE = 1\n"},
        {"pages/other.html": "<br>\n"},
        {
            "step.py": MODULES["step.py"].replace("toy.tools", "toy.rooms.first"),
            "rooms/__init__.py": "",
            "rooms/first/__init__.py": '"""A room."""\n',
            "rooms/first/numbers.py": "ONE = 1\n",
        },
    ],
    ids=["module that nothing reaches", "comment", "new module", "template that nothing names", "module that moved"],
)
def test_other_changes_leave_the_fingerprint(toy, changes):
    assert code_fingerprint(str(toy("a"))) == code_fingerprint(str(toy("b", changes)))


def test_the_scripts_own_code_is_part_of_the_fingerprint(toy):
    script = toy("a")
    before = code_fingerprint(str(script))
    other = script.with_name("other.py")
    other.write_text("from toy.step import run\n\nrun()\nrun()\n")
    assert code_fingerprint(str(other)) != before


def test_versions_of_packages_that_a_reached_module_imports_are_part_of_the_fingerprint(toy, monkeypatch):
    versions = {"scikit-learn": "1.0", "torch": "2.0"}
    monkeypatch.setattr(fingerprint, "version", versions.__getitem__)

    def found(**changed):
        fingerprint._version.cache_clear()
        code_fingerprint.cache_clear()
        versions.update(changed)
        return code_fingerprint(str(script))

    script = toy("a", {"late.py": "import os\nfrom sklearn.metrics import auc\n", "unused.py": "import torch\n"})
    before = found()
    assert found(torch="3.0") == before
    # What it was built for is no other version.
    versions["scikit-learn"] = "1.0+local"
    assert found() == before
    versions["scikit-learn"] = "1.1"
    assert found() != before
    monkeypatch.undo()
    fingerprint._version.cache_clear()


TABLE = """from toy.base import Choices

LIMIT = 3
TOOLS: Choices = Choices(
    {
        "first": Facts("toy.tools.numbers:ONE", size=1, width=Option(1, {"minimum": 0}, "A width.")),
        "second": Facts("toy.deep.inner:run"),
        "torch": Facts("torch.nn:L"),
    }
)
"""
WITH_TABLE = {"step.py": "from toy.facts import TOOLS\n", "facts.py": TABLE}
FIRST = frozenset({("TOOLS", "first"), ("OTHERS", "second")})


def test_of_a_table_of_choices_the_code_of_the_chosen_rows_alone_is_reached(toy):
    script = toy("a", WITH_TABLE)

    def reached(*words):
        files = reached_files(script, {("TOOLS", word) for word in words})
        return {path.relative_to(script.parent / "toy").as_posix() for path in files - {script}}

    common = {"__init__.py", "step.py", "facts.py"}
    assert reached("first") == common | {"tools/__init__.py", "tools/numbers.py"}
    assert reached("second") == common | {"deep/__init__.py", "deep/inner.py"}
    # Of a table that nothing is said of, every row counts.
    assert reached() == reached("first") | reached("second")


@pytest.mark.parametrize(
    ("old", "new", "changes"),
    [
        ("size=1", "size=2", True),
        ("size=1", "size=1, own_words='said'", False),
        ("Option(1,", "Option(2,", True),
        ('{"minimum": 0}, "A width."', '{"minimum": 1}, "The width."', False),
        ("LIMIT = 3", "LIMIT = 4", True),
        ("numbers:ONE", "numbers:TWO", True),
        ("toy.deep.inner:run", "toy.late:run", False),
        ('"first"', '"third": Facts("toy.late:run", size=3), "first"', False),
        ("toy.tools.numbers:ONE", "toy.moved:ONE", False),
    ],
    ids=[
        "fact",
        "words",
        "default of an option",
        "what an option may be, and its words",
        "beside the table",
        "name of the code",
        "row that is not chosen",
        "new row",
        "module that moved",
    ],
)
def test_rows_that_are_not_chosen_leave_the_fingerprint(toy, old, new, changes):
    moved = {"moved.py": MODULES["tools/numbers.py"]}
    before = code_fingerprint(str(toy("a", WITH_TABLE | moved)), FIRST)
    assert old in TABLE
    after = code_fingerprint(str(toy("b", WITH_TABLE | moved | {"facts.py": TABLE.replace(old, new)})), FIRST)
    assert (before != after) is changes


def test_the_version_of_a_package_counts_where_a_chosen_row_leads_there(toy, monkeypatch):
    found = {}
    for version in ("1.0", "2.0"):
        monkeypatch.setattr(fingerprint, "_version", lambda name, version=version: version)
        for word in ("first", "torch"):
            code_fingerprint.cache_clear()
            script = toy("a", WITH_TABLE)
            found[word, version] = code_fingerprint(str(script), frozenset({("TOOLS", word)}))
    assert found["first", "1.0"] == found["first", "2.0"]
    assert found["torch", "1.0"] != found["torch", "2.0"]
    code_fingerprint.cache_clear()


REMEMBERED = """
import ast, sys
from fedpedbrain.planning import fingerprint

num_parsed, parse = 0, ast.parse

def counted(source):
    global num_parsed
    num_parsed += 1
    return parse(source)

ast.parse = counted
fingerprint.remember_sources(fingerprint.Path(sys.argv[1]))
print(fingerprint.code_fingerprint(sys.argv[2]), num_parsed)
"""


@pytest.fixture
def fingerprint_in_another_process(tmp_path):
    """Fingerprint of a script, and how many modules were parsed for it, in a process that remembers in a file."""

    def _fingerprint(script: Path) -> tuple[str, int]:
        command = [sys.executable, "-c", REMEMBERED, str(tmp_path / "memory" / "parsed.json"), str(script)]
        digest, num_parsed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        return digest, int(num_parsed)

    return _fingerprint


def test_what_an_earlier_process_parsed_is_not_parsed_again(repository, fingerprint_in_another_process, tmp_path):
    script = tmp_path / "script.py"
    script.write_text((repository / "workflow_scripts/split_site.py").read_text())
    expected = code_fingerprint(str(script))
    digest, num_parsed = fingerprint_in_another_process(script)
    assert (digest, num_parsed) == (expected, len(reached_files(script)))
    assert fingerprint_in_another_process(script) == (expected, 0)
    script.write_text(script.read_text() + "LIMIT = 3\n")
    digest, num_parsed = fingerprint_in_another_process(script)
    assert digest != expected
    assert num_parsed == 1
    script.write_text(script.read_text() + "# A comment is parsed, and changes nothing.\n")
    assert fingerprint_in_another_process(script) == (digest, 1)


@pytest.mark.parametrize("content", ["", "[", "7", '{"parser": "another", "sources": {"a": 1}}', '{"sources": {}}'])
def test_a_memory_that_is_of_no_use_is_made_anew(repository, fingerprint_in_another_process, tmp_path, content):
    script = repository / "workflow_scripts/fetch_site.py"
    memory = tmp_path / "memory" / "parsed.json"
    memory.parent.mkdir()
    memory.write_text(content)
    digest, num_parsed = fingerprint_in_another_process(script)
    assert (digest, num_parsed > 0) == (code_fingerprint(str(script)), True)
    assert fingerprint_in_another_process(script) == (digest, 0)
    assert [path.name for path in memory.parent.iterdir()] == ["parsed.json"]


def reached_modules(repository: Path, rule: str, chosen: Collection[tuple[str, str]] = ()) -> set[str]:
    files = reached_files(repository / "workflow_scripts" / f"{rule}.py", chosen)
    return {path.relative_to(PACKAGE_ROOT).as_posix() for path in files if path.is_relative_to(PACKAGE_ROOT)}


def test_every_template_is_one_that_some_page_is_made_of():
    folder = PACKAGE_ROOT / "reporting" / "pages"
    pages = {
        path.name: set(fingerprint._named_files(path, fingerprint._parse_file(path).texts))
        for path in folder.glob("*.py")
    }
    assert set().union(*pages.values()) == {path for path in (folder / "templates").rglob("*") if path.is_file()}
    own = {name for name, files in pages.items() if folder / "templates" / "report" / "answer.html.j2" in files}
    assert own == {"report.py"}


def test_training_depends_on_its_loop_but_not_on_the_exchange_of_a_round(repository):
    reached = reached_modules(repository, "train_site")
    assert {
        "training/epochs.py",
        "training/losses/joint.py",
        "models/architectures/unet.py",
        "data/grid/dataset.py",
    } <= reached
    assert not {"federated/rounds.py", "evaluation/dice.py", "data/sources/bids/cases.py"} & reached


def test_the_default_study_trains_with_what_its_arms_choose_and_nothing_else(repository, config, schema_path):
    study = load_study(config, schema_path)
    for arm in study.arms:
        reached = reached_modules(repository, "train_site", study.arm_choices[arm])
        assert {"models/architectures/unet.py", "training/losses/dice_cross_entropy.py"} <= reached
        assert not {"models/architectures/i3d_unet.py", "models/pretrained.py", "models/sliding_window.py"} & reached
        rooms = ("federated/strategies/", "training/losses/", "models/architectures/")
        chosen = {name for name in reached if name.startswith(rooms) and not name.endswith("/__init__.py")}
        common = {"federated/strategies/strategy.py", "federated/strategies/proximal_rule.py"}
        common |= {f"training/losses/{name}.py" for name in ("joint", "voxel_terms", "cross_entropy")}
        own = {"models/architectures/heads.py", "models/architectures/unet.py", "training/losses/dice_cross_entropy.py"}
        assert chosen == common | own


def test_no_result_depends_on_how_a_job_is_started(repository):
    assert not {"jobs/job.py", "jobs/worker.py"} & reached_modules(repository, "train_site")


def test_averaging_depends_on_its_own_code_but_not_on_training(repository):
    reached = reached_modules(repository, "aggregate_round")
    assert {"federated/exchange/averaging.py", "federated/rounds.py", "models/files.py"} <= reached
    assert not {"training/epochs.py", "training/losses/joint.py", "data/grid/geometry.py"} & reached


def test_shards_depend_on_the_sources_and_not_on_the_networks(repository):
    reached = reached_modules(repository, "build_shard")
    assert {"data/sources/phantom/tumours.py", "data/grid/geometry.py", "data/sources/bids/cases.py"} <= reached
    assert not {name for name in reached if name.startswith(("models/", "training/"))}


@pytest.mark.parametrize(
    ("source", "own"),
    [
        ("phantom", "phantom/cases.py"),
        ("bids", "bids/cases.py"),
        ("listed", "listed/cases.py"),
        ("class_folders", "class_folders/cases.py"),
        ("flpedbrain", "flpedbrain/cases.py"),
    ],
)
@pytest.mark.parametrize("rule", ["index_site", "build_shard"])
def test_a_cohort_depends_on_its_own_source_and_the_forms_that_it_reads(repository, rule, source, own):
    reached = reached_modules(repository, rule, {("SOURCES", source)})
    sources = {name for name in reached if name.startswith("data/sources/") and not name.endswith("/__init__.py")}
    assert f"data/sources/{own}" in sources
    of_all = {
        f"data/sources/{name}.py" for name in ("source", "source_files", "outlined_case", "class_names", "copies")
    }
    assert all(name.startswith(f"data/sources/{source}") for name in sources - of_all)
    assert ("data/formats/png.py" in reached) == (source in ("listed", "class_folders"))
    assert "base/downloads.py" not in reached


@pytest.mark.parametrize("rule", ["train_site", "aggregate_round", "initialize_model"])
def test_nothing_that_trains_depends_on_how_files_are_fetched(repository, rule):
    assert "base/downloads.py" not in reached_modules(repository, rule)


def test_relative_imports_are_not_used_since_they_are_not_followed():
    for path in PACKAGE_ROOT.rglob("*.py"):
        lines = path.read_text(encoding="utf-8").splitlines()
        assert not [line for line in lines if line.strip().startswith("from .")], path
