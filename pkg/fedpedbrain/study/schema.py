"""The config against its schema: unknown keys, wrong types and impossible values are refused by their path."""

import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from fedpedbrain.base.choices import block_schema
from fedpedbrain.base.errors import StudyError
from fedpedbrain.study.metric_facts import METRICS, ZERO
from fedpedbrain.study.tables import TABLES
from fedpedbrain.study.training_facts import TRAINING_CHOICES


def _is_number(checker: Any, value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_integer(checker: Any, value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


# JSON Schema takes 6.0 for an integer and YAML's .nan and .inf for numbers.
_Validator = jsonschema.validators.extend(
    jsonschema.Draft202012Validator,
    type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine_many(
        {"number": _is_number, "integer": _is_integer}
    ),
)


def load_schema(path: str | Path) -> dict[str, Any]:
    """Read the schema of the config, with the words and the options of the tables of choices filled in."""
    # By the library in C: in Python alone it takes a noticeable part of every start.
    schema = yaml.load(Path(path).read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    _fill_choices(schema)
    for name, facts in TABLES["NETWORKS"].items():
        schema["$defs"]["network"]["properties"][name] = block_schema(facts.options, f"Options of {name}.")
    for facts in TABLES["STRATEGIES"].values():
        # Strategies that share an option may have defaults of their own.
        options = block_schema(facts.declared, "")["properties"].items()
        schema["$defs"]["strategy"]["properties"] |= {name: _without(option, "default") for name, option in options}
    training = schema["properties"]["training"]["properties"]
    for (name, _), table in TRAINING_CHOICES.items():
        for facts in table.values():
            training[name]["properties"] |= block_schema(facts.options, "")["properties"]
    for name, facts in TABLES["SOURCES"].items():
        # Sources with options of more than one kind have their block in the schema itself.
        schema["properties"].setdefault(name, block_schema(facts.options, f"Options of the source {name}."))
    margins = schema["properties"]["evaluation"]["properties"]["noninferiority_margin"]
    margins["properties"] = {
        name: {"$ref": "#/$defs/margin"} for name, facts in METRICS.items() if facts.better != ZERO
    }
    _fill_recipes(schema)
    return schema


def _without(block: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in block.items() if key != name}


def _fill_recipes(schema: dict[str, Any]) -> None:
    """Let an arm have blocks ``training`` and ``network`` of its own, of which every key may be left out."""
    own = {name: _without_required(schema["properties"][name], schema) for name in ("training", "network")}
    # The number of threads is the machine's, and one for all jobs.
    del own["training"]["properties"]["threads"]
    for name, block in own.items():
        block |= {"as": name, "description": f"As `{name}`, of this arm alone; keys left out are those of `{name}`."}
    schema["properties"]["arms"]["items"]["properties"] |= own


def _without_required(part: Any, schema: Mapping[str, Any]) -> Any:
    """A copy of a part of the schema in which no key has to be there, references resolved."""
    if isinstance(part, Mapping):
        if "$ref" in part:
            part = schema["$defs"][part["$ref"].rsplit("/", 1)[1]] | {key: part[key] for key in part if key != "$ref"}
        return {key: _without_required(value, schema) for key, value in part.items() if key != "required"}
    return part


def _fill_choices(schema: Any) -> None:
    """Turn every ``choices: TABLE`` into the words of that table."""
    if isinstance(schema, dict):
        if "choices" in schema:
            schema["enum"] = list(TABLES[schema.pop("choices")])
        for part in schema.values():
            _fill_choices(part)
    elif isinstance(schema, list):
        for part in schema:
            _fill_choices(part)


def restore_types(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any]) -> Any:
    """Read text as YAML wherever the schema wants no text: nested values of ``--config`` arrive as text.

    Keys come in the schema's order, names of the study's own in theirs, so that equal settings are equal to whoever
    compares them as text, whatever file they come from.

    Parameters
    ----------
    schema, root : the part of the schema that describes ``value``, and the whole of it, where references point to
    """
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rsplit("/", 1)[1]]
    if isinstance(value, Mapping):
        known, others = schema.get("properties", {}), schema.get("additionalProperties") or {}
        keys = [*(key for key in known if key in value), *sorted(value.keys() - known.keys(), key=str)]
        return {key: restore_types(value[key], known.get(key, others), root) for key in keys}
    if isinstance(value, list):
        return [restore_types(item, schema.get("items", {}), root) for item in value]
    wanted = schema.get("type", "string")
    takes_text = "string" in wanted and value != "null"
    return _read_text(value, wanted) if isinstance(value, str) and not takes_text else value


def _read_text(text: str, wanted: str | Sequence[str]) -> Any:
    """The value that a text stands for, the text itself where it stands for none."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    if isinstance(value, str) and "number" in wanted:
        # YAML 1.1 takes 1e-3, which has no point, for text.
        with suppress(ValueError):
            return float(value)
    return value


def check_config(config: Mapping[str, Any], schema: Mapping[str, Any]) -> None:
    """Refuse unknown keys, wrong types and impossible values, by their path."""
    messages = list(
        dict.fromkeys(message for error in _Validator(schema).iter_errors(config) for message in _messages_of(error))
    )
    if messages:
        raise StudyError("\n".join(f"config: {message}" for message in messages))


def _messages_of(error: jsonschema.ValidationError) -> Iterator[str]:
    path = ".".join(str(part) for part in error.absolute_path)
    if error.validator == "additionalProperties":
        known = list(error.schema["properties"])
        for key in error.instance:
            if key not in known:
                full = f"{path}.{key}" if path else key
                near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.0)[0]
                nearest = f"{path}.{near}" if path else near
                yield f"unknown key {full}; the nearest known key is {nearest}"
    elif error.validator == "required":
        missing = [key for key in error.validator_value if key not in error.instance]
        yield f"{path or 'top level'}: missing key {', '.join(missing)}"
    elif "hint" in error.schema and error.validator != "type":
        yield f"{path}: found {error.instance!r}; {error.schema['hint']}"
    else:
        yield f"{path}: {error.message}"
