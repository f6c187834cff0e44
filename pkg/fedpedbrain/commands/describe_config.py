"""``describe-config``: the schema's descriptions as comments of ``config.yaml`` and as a page of the documentation."""

import argparse
import logging
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from fedpedbrain.base.files import replacing
from fedpedbrain.study.schema import load_schema

logger = logging.getLogger(__name__)

_WIDTH = 120
_CONFIG, _SCHEMA, _PAGE = "config.yaml", "rules/schemas/config.schema.yaml", "docs/reference/config.md"
_KEY = re.compile(r"^( *)(\w+):(?: |$)")
# Longer defaults are not repeated on the page.
_LONGEST_DEFAULT = 60
# The value of a key that the config does not have.
_UNSET = object()
# A pattern that matches one word alone, or one of several.
_WORDS = re.compile(r"\^\(?(\w+(?:\|\w+)*)\)?\$")
_NOUNS = {"integer": "integer", "number": "number", "string": "text", "boolean": "true or false", "object": "block"}
_BOUNDS = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}
_TOP = """\
# Config

`config.yaml` is the default study. A study of your own is a file of the keys that differ (`--configfile`);
[a tutorial](../tutorials/your-hospital.md) shows how. `python -m fedpedbrain describe-config` writes this page and the
comments of `config.yaml` from the descriptions in `rules/schemas/config.schema.yaml`.

An unknown key is refused by its path, with the nearest known key:

```
config: unknown key training.optimizer.lerning_rate; the nearest known key is training.optimizer.learning_rate
```
"""


def resolved(schema: Mapping[str, Any], root: Mapping[str, Any]) -> dict[str, Any]:
    """A part of the schema with what its ``$ref`` points to; its own words are laid over that, its properties too."""
    if "$ref" not in schema:
        return dict(schema)
    target = resolved(root["$defs"][schema["$ref"].rsplit("/", 1)[1]], root)
    merged = target | {key: value for key, value in schema.items() if key != "$ref"}
    if "properties" in schema and "properties" in target:
        own = schema["properties"]
        merged["properties"] = {key: value | own.get(key, {}) for key, value in target["properties"].items()}
    return merged


def commented(config: str, schema: Mapping[str, Any]) -> str:
    """The text of a config whose keys have the first paragraphs of their descriptions as comments, and no others.

    What stands above the first empty line stays: it speaks of the study. So do the values, as they are written.
    """
    top, rest = config.split("\n\n", 1)
    lines: list[str] = []
    places: list[tuple[int, dict[str, Any]]] = [(-1, dict(schema))]
    for line in rest.splitlines():
        if line.lstrip().startswith("#"):
            continue
        if match := _KEY.match(line):
            indent, key = len(match[1]), match[2]
            places = [place for place in places if place[0] < indent]
            block = resolved(places[-1][1].get("properties", {}).get(key, {}), schema)
            places.append((indent, block))
            if "description" in block:
                lines += _wrapped(_comment(block), f"{match[1]}# ")
        lines.append(line)
    return "\n".join([top, "", *lines, ""])


def _comment(block: Mapping[str, Any]) -> str:
    """The first paragraph of a description, and the words of a choice where it does not explain each."""
    text, words = block["description"].split("\n")[0], list(map(str, block.get("enum", [])))
    return text if all(word in text for word in words) else f"{text.removesuffix('.')}: {', '.join(words)}."


def _wrapped(text: str, prefix: str) -> list[str]:
    return textwrap.wrap(
        text, _WIDTH, initial_indent=prefix, subsequent_indent=prefix, break_long_words=False, break_on_hyphens=False
    )


def described_page(schema: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """A page (Markdown) with a section per block: what each key may be, is in ``config``, and means."""
    parts, single = [_TOP], []
    for name, place in schema["properties"].items():
        block = resolved(place, schema)
        rows = list(_rows(block, schema, config[name]))
        if rows:
            description = "\n\n".join(_prose(line) for line in _paragraphs(block))
            parts.append(f"## {name}\n\n{description}\n\n{_table(rows)}")
        else:
            single.append(_row(name, block, schema, config[name]))
    parts.append(f"## Keys without a block\n\n{_table(single)}")
    return "\n".join(parts)


def _prose(paragraph: str) -> str:
    return "\n".join(_wrapped(paragraph, ""))


def _paragraphs(block: Mapping[str, Any]) -> list[str]:
    """A description's paragraphs; stars and angle brackets are no Markdown."""
    return [re.sub(r"([*<])", r"\\\1", line) for line in block.get("description", "").strip().split("\n")]


def _table(rows: Sequence[str]) -> str:
    return "\n".join(["| key | value | default | |", "|---|---|---|---|", *rows, ""])


def _rows(block: Mapping[str, Any], schema: Mapping[str, Any], values: Any, place: str = "") -> Iterator[str]:
    """A row for each key below a block, in the schema's order."""
    if "items" in block:
        items = resolved(block["items"], schema)
        yield from _rows(items, schema, _UNSET, f"{place}[]") if "properties" in items else ()
    for key, below in block.get("properties", {}).items():
        inner, path = resolved(below, schema), f"{place}.{key}" if place else key
        value = values.get(key, _UNSET) if isinstance(values, Mapping) else _UNSET
        yield _row(path, inner, schema, value)
        # What entries of a list have in common with another block is described there.
        if not ("[]" in place and below.keys() & {"$ref", "as"}):
            yield from _rows(inner, schema, value, path)


def _row(path: str, block: Mapping[str, Any], schema: Mapping[str, Any], value: Any) -> str:
    cells = [f"`{path}`", described_type(block, schema), _default(block, value), " ".join(_paragraphs(block))]
    return "|" + "|".join(f" {cell} ".replace("|", r"\|") if cell else " " for cell in cells) + "|"


def _default(block: Mapping[str, Any], value: Any) -> str:
    """A short value as the config writes it, else the option's own; nothing for a block, whose keys have their rows."""
    value = block.get("default", _UNSET) if value is _UNSET else value
    if value is _UNSET or ("properties" in block and value is not None):
        return ""
    text = yaml.safe_dump(value, default_flow_style=True, width=1e6, sort_keys=False).removesuffix("...\n").strip()
    return f"`{text}`" if len(text) <= _LONGEST_DEFAULT else ""


def described_type(block: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """What a value may be, in words: ``integer from 1``, ``list of 3: number above 0``, ```float32`, `int8```."""
    block = resolved(block, schema)
    if "enum" in block:
        return ", ".join(f"`{choice}`" for choice in block["enum"])
    kinds = [block["type"]] if isinstance(block["type"], str) else block["type"]
    words = [_kind_in_words(kind, block, schema) for kind in kinds if kind != "null"]
    bounds = [f"{word} {block[key]}" for key, word in _BOUNDS.items() if key in block]
    *others, last = [" ".join([words[0], *bounds]), *words[1:], *(["null"] if "null" in kinds else [])]
    return f"{', '.join(others)} or {last}" if others else last


def _kind_in_words(kind: str, block: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    if kind == "array":
        items = described_type(block["items"], schema)
        length = f" of {block['minItems']}" if block.get("minItems") == block.get("maxItems") is not None else ""
        return f"list{length}: {items}"
    if kind == "object" and "properties" not in block and isinstance(block.get("additionalProperties"), Mapping):
        return f"name: {described_type(block['additionalProperties'], schema)}"
    words = _WORDS.fullmatch(block.get("pattern", "")) if kind == "string" else None
    return ", ".join(f"`{word}`" for word in words[1].split("|")) if words else _NOUNS[kind]


def described_files(folder: Path) -> dict[Path, str]:
    """The config and the page as the schema describes them, by path, from the repository in ``folder``."""
    schema = load_schema(folder / _SCHEMA)
    config = (folder / _CONFIG).read_text(encoding="utf-8")
    page = described_page(schema, yaml.safe_load(config))
    return {folder / _CONFIG: commented(config, schema), folder / _PAGE: page}


def describe_config(arguments: Sequence[str]) -> None:
    """Write both files anew where they say anything else."""
    parser = argparse.ArgumentParser(prog="python -m fedpedbrain describe-config", description=__doc__)
    parser.add_argument("folder", nargs="?", default=".", type=Path, help="of the repository")
    for path, text in described_files(parser.parse_args(arguments).folder).items():
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            with replacing(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
            logger.info("%s: written", path)
