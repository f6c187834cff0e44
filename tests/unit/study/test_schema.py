import pytest
from fedpedbrain.base.choices import Option
from fedpedbrain.base.errors import StudyError
from fedpedbrain.study.schema import load_schema, restore_types
from fedpedbrain.study.study import load_study
from fedpedbrain.study.training_facts import SEGMENTATION_LOSSES, TRAINING_CHOICES, LossFacts

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


def test_an_option_of_a_losss_row_comes_through_the_schema(config, schema_path, monkeypatch):
    option = Option(0.5, {"type": "number", "minimum": 0}, "Factor on the squares.")
    row = LossFacts("fedpedbrain.training.losses.squares:squares", {"alpha": option})
    monkeypatch.setitem(SEGMENTATION_LOSSES, "squares", row)

    def loss_of(**changes):
        block = config["training"]["loss"] | {"segmentation": "squares"} | changes
        study = load_study(config | {"training": config["training"] | {"loss": block}}, schema_path)
        return study, study.own_recipe.training_settings["loss"]

    left_out, named = loss_of(), loss_of(alpha="0.5")
    assert left_out[1]["alpha"] == 0.5
    # Snakemake compares params as text.
    assert repr(left_out[1]) == repr(named[1])
    assert left_out[0].settings_digests == named[0].settings_digests != loss_of(alpha=2.0)[0].settings_digests
    assert "alpha" not in loss_of(segmentation="reference", alpha=2.0)[1]
    with pytest.raises(StudyError, match=r"training\.loss\.alpha: -1 is less than the minimum of 0"):
        loss_of(alpha=-1)


def test_an_option_that_rows_of_a_block_share_is_one():
    seen = {}
    for (block, _), table in TRAINING_CHOICES.items():
        for facts in table.values():
            for name, option in facts.options.items():
                assert seen.setdefault((block, name), option) is option


def test_what_a_study_leaves_out_of_its_training_has_the_rows_default(config, schema_path):
    config["training"]["optimizer"] |= {"name": "sgd"}
    whole = load_study(config, schema_path).settings_digests
    for block, key in [("optimizer", "momentum"), ("schedule", "horizon_rounds"), ("schedule", "final_factor")]:
        del config["training"][block][key]
    assert load_study(config, schema_path).settings_digests == whole
