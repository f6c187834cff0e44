import hashlib

from fedpedbrain.base.lineage import AveragedUpdate, Lineage, digest_of


def test_the_digest_is_that_of_canonical_json():
    assert digest_of({"b": [1, 2], "a": None}) == hashlib.sha256(b'{"a":null,"b":[1,2]}').hexdigest()


def test_the_order_of_keys_does_not_change_the_digest():
    assert digest_of({"a": 1, "b": {"c": 2, "d": 3}}) == digest_of({"b": {"d": 3, "c": 2}, "a": 1})


def test_the_order_of_a_list_changes_the_digest():
    assert digest_of({"a": [1, 2]}) != digest_of({"a": [2, 1]})


def test_an_imported_lineage_survives_plain_values_and_others_have_no_source():
    lineage = Lineage("imported", "", 0, 0, "", 0, 0, "digest", "parent", source="ckpt.pth")
    assert Lineage.from_dict(lineage.to_dict()) == lineage
    assert "source" not in Lineage("initial", "", 0, 0, "", 0, 0, "digest", "").to_dict()


def test_a_lineage_survives_plain_values():
    updates = (AveragedUpdate("north", "aa", 0.25), AveragedUpdate("south", "bb", 0.75))
    lineage = Lineage("global", "fedavg", 1, 3, "", 40, 160, "digest", "parent", "cases", updates)
    values = lineage.to_dict()
    assert values["updates"] == [
        {"site": "north", "sha256": "aa", "weight": 0.25},
        {"site": "south", "sha256": "bb", "weight": 0.75},
    ]
    assert Lineage.from_dict(values) == lineage
