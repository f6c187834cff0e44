"""The schema describes every key, and the config's comments and the page of the documentation say what it says."""

import logging
import shutil
from textwrap import dedent

import pytest
import yaml
from fedpedbrain.commands.describe_config import (
    commented,
    describe_config,
    described_files,
    described_page,
    described_type,
    resolved,
)
from fedpedbrain.study.schema import load_schema
from workspace import REPOSITORY

SCHEMA = {
    "properties": {
        "grid": {"description": "Voxels of the grid.\nSee [the grid](grid.md).", "type": "array", "items": {}},
        "site": {
            "description": "What a site does.",
            "type": "object",
            "properties": {
                "rate": {"description": "Learning rate, a*b.", "type": "number", "exclusiveMinimum": 0},
                "start": {"$ref": "#/$defs/start", "description": "Where it starts."},
            },
        },
    },
    "$defs": {"start": {"description": "Unseen.", "type": ["string", "null"]}},
}
CONFIG = """\
# A study.

# An old comment.
grid: [1,   2]

site:
    # Another
    rate: 0.10
    start: null
"""


def properties_of(schema, root, place=""):
    """Every property of a schema with its path, references followed."""
    block = resolved(schema, root)
    for key, below in block.get("properties", {}).items():
        yield f"{place}.{key}", resolved(below, root)
        yield from properties_of(below, root, f"{place}.{key}")
    if "items" in block:
        yield from properties_of(block["items"], root, f"{place}[]")


def test_every_key_has_a_description(schema_path):
    schema = load_schema(schema_path)
    found = dict(properties_of(schema, schema))
    assert len(found) > 200
    assert [path for path, block in found.items() if not block.get("description")] == []


def test_the_config_and_the_page_are_what_the_command_writes():
    for path, text in described_files(REPOSITORY).items():
        assert path.read_text(encoding="utf-8") == text, f"{path}: run python -m fedpedbrain describe-config"


def test_comments_are_first_paragraphs_and_values_stay_as_they_are_written():
    assert commented(CONFIG, SCHEMA) == dedent(
        """\
        # A study.

        # Voxels of the grid.
        grid: [1,   2]

        # What a site does.
        site:
            # Learning rate, a*b.
            rate: 0.10
            # Where it starts.
            start: null
        """
    )


def test_comments_are_wrapped():
    long = {"properties": {"grid": {"description": "word " * 30}}}
    lines = commented("# A study.\n\ngrid: [1, 2]\n", long).splitlines()
    assert lines[2:] == ["# " + "word " * 22 + "word", "# " + "word " * 6 + "word", "grid: [1, 2]"]
    assert len(lines[2]) <= 120 < len(lines[2] + " word")


@pytest.mark.parametrize(
    ("description", "comment"),
    [
        ("Its form.", "# Its form: step, 90."),
        ("step (in steps) or 90 (degrees).", "# step (in steps) or 90 (degrees)."),
    ],
)
def test_words_that_a_description_does_not_explain_are_listed(description, comment):
    schema = {"properties": {"grid": {"description": description, "enum": ["step", 90]}}}
    assert commented("# A study.\n\ngrid: step\n", schema).splitlines()[2] == comment


def test_the_page_says_what_a_key_may_be_is_and_means():
    page = described_page(SCHEMA | {"properties": {"site": SCHEMA["properties"]["site"]}}, yaml.safe_load(CONFIG))
    assert "## site\n\nWhat a site does.\n" in page
    assert "| `rate` | number above 0 | `0.1` | Learning rate, a\\*b. |" in page
    assert "| `start` | text or null | `null` | Where it starts. |" in page


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ({"enum": ["a", 90]}, "`a`, `90`"),
        ({"type": "integer", "minimum": 1, "maximum": 9}, "integer from 1 to 9"),
        ({"type": ["number", "null"], "exclusiveMaximum": 1}, "number below 1 or null"),
        ({"type": "array", "minItems": 3, "maxItems": 3, "items": {"type": "integer"}}, "list of 3: integer"),
        ({"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/start"}}, "list: text or null"),
        (
            {"type": ["array", "string", "null"], "pattern": "^native$", "items": {"type": "number"}},
            "list: number, `native` or null",
        ),
        (
            {"type": ["string", "array"], "pattern": "^(none|left_right)$", "items": {"enum": ["D", "W"]}},
            "`none`, `left_right` or list: `D`, `W`",
        ),
        ({"type": "object", "additionalProperties": {"type": "boolean"}}, "name: true or false"),
        ({"type": "object", "properties": {}, "additionalProperties": False}, "block"),
    ],
)
def test_types_in_words(block, words):
    assert described_type(block, SCHEMA) == words


def test_what_refers_lays_its_own_words_over_what_it_refers_to():
    root = {"$defs": {"d": {"type": "object", "properties": {"a": {"type": "string", "description": "A."}}}}}
    found = resolved({"$ref": "#/$defs/d", "properties": {"a": {"minLength": 1}}}, root)
    assert found == {"type": "object", "properties": {"a": {"type": "string", "description": "A.", "minLength": 1}}}


def test_the_command_writes_both_files_once(tmp_path, caplog):
    caplog.set_level(logging.INFO, "fedpedbrain")
    for name in ("config.yaml", "rules/schemas/config.schema.yaml", "docs/reference/config.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, tmp_path / name)
    schema = tmp_path / "rules/schemas/config.schema.yaml"
    title = "One line, shown at the top of the report."
    schema.write_text(schema.read_text().replace(title, "A line."))
    describe_config([str(tmp_path)])
    assert "  # A line.\n  title:" in (tmp_path / "config.yaml").read_text()
    assert "| A line. |" in (tmp_path / "docs/reference/config.md").read_text()
    assert len(caplog.records) == 2
    describe_config([str(tmp_path)])
    assert len(caplog.records) == 2
