import pytest
from fedpedbrain.study.schema import load_schema, restore_types

TEXT, NUMBER = {"type": "string"}, {"type": "number"}


@pytest.mark.parametrize(
    ("value", "schema", "expected"),
    [
        ("3", {"type": "integer"}, 3),
        ("0.5", NUMBER, 0.5),
        ("1e-3", NUMBER, 0.001),
        ("true", {"type": "boolean"}, True),
        ("null", {"type": ["integer", "null"]}, None),
        ("2", {"type": ["integer", "null"]}, 2),
        ("null", {"type": ["string", "null"]}, None),
        ("[a, b]", {"type": "array"}, ["a", "b"]),
        ("{a: 1}", {"type": "object"}, {"a": 1}),
        ("3", TEXT, "3"),
        ("true", {"type": ["string", "null"]}, "true"),
        ("adamw", {"enum": ["adamw", "sgd"]}, "adamw"),
        ("some text", NUMBER, "some text"),
        (3, TEXT, 3),
    ],
)
def test_text_is_read_where_the_schema_wants_none(value, schema, expected):
    found = restore_types(value, schema, schema)
    assert found == expected
    assert type(found) is type(expected)


def test_text_inside_of_blocks_and_lists_is_read():
    schema = {
        "properties": {
            "sites": {"type": "array", "items": TEXT},
            "grid": {"type": "array", "items": {"type": "integer"}},
            "class_weights": {"type": "object", "additionalProperties": NUMBER},
        }
    }
    found = restore_types({"sites": ["1", "2"], "grid": ["4", "8"], "class_weights": {"dipg": "2"}}, schema, schema)
    assert found == {"sites": ["1", "2"], "grid": [4, 8], "class_weights": {"dipg": 2}}


def test_references_are_followed():
    schema = {"$defs": {"fraction": NUMBER}, "properties": {"flip": {"$ref": "#/$defs/fraction"}}}
    assert restore_types({"flip": "0.5"}, schema, schema) == {"flip": 0.5}


def test_unknown_keys_stay_for_the_schema_to_refuse():
    schema = {"properties": {"flip": NUMBER}, "additionalProperties": False}
    assert restore_types({"flop": "0.5"}, schema, schema) == {"flop": "0.5"}


def test_text_that_is_no_yaml_stays_for_the_schema_to_refuse():
    assert restore_types("[1, 2", {"type": "array"}, {}) == "[1, 2"


def as_text(value):
    """Nested values as they arrive from ``--config``: text alone."""
    if isinstance(value, dict):
        return {key: as_text(item) for key, item in value.items()}
    return [as_text(item) for item in value] if isinstance(value, list) else str(value) if value is not None else None


def test_the_configs_own_values_are_restored_from_text(config, schema_path):
    schema = load_schema(schema_path)
    assert restore_types(as_text(config), schema, schema) == config


def test_the_configs_own_values_stay_as_they_are(config, schema_path):
    schema = load_schema(schema_path)
    assert restore_types(config, schema, schema) == config


def test_equal_settings_are_equal_text_whatever_the_order_of_their_keys(config, schema_path):
    schema = load_schema(schema_path)
    turned = {key: dict(reversed(value.items())) if isinstance(value, dict) else value for key, value in config.items()}
    turned["phantom"]["cases"] = dict(reversed(config["phantom"]["cases"].items()))
    assert repr(turned) != repr(config)
    assert repr(restore_types(turned, schema, schema)) == repr(restore_types(config, schema, schema))
