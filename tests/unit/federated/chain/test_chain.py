import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from arm_history import Study, flip
from fedpedbrain.base.errors import StudyError
from fedpedbrain.base.files import sha256_of_file
from fedpedbrain.base.lineage import AveragedUpdate, Lineage
from fedpedbrain.federated.chain.chain_files import ArmFiles, record_lineage_files
from fedpedbrain.models.files import load_model_file

# Files that do not follow from each other are not recorded in the first place, and not accepted if they are.


def assert_break(study: Study, path: Path, match: str) -> None:
    """The study's files are refused, when they are recorded and when one has recorded them all the same."""
    study.note()
    files = ArmFiles(**study.arguments)
    with pytest.raises(StudyError, match=rf"^{path}: {match}"):
        record_lineage_files(files)
    assert not study.lineage.exists()
    content = {"arm": "fedavg", "seed": 0, "files": [entry.to_dict() for entry in files.read_entries()]}
    study.lineage.write_text(json.dumps(content))
    with pytest.raises(StudyError, match=rf"^{path}: {match}"):
        study.verify()


def test_a_parent_that_is_no_earlier_model_is_a_break(study):
    study.save_round(3, parent_sha256="00ff")
    assert_break(study, study.models[2], "expected an earlier model as parent, found parent_sha256 '00ff'")


def test_a_parent_of_a_later_round_is_a_break(study):
    study.save_round(2, parent=study.models[2])
    assert_break(study, study.models[1], "expected an earlier model as parent")


@pytest.mark.parametrize("parent", ["initial", "round 1"])
def test_a_round_may_start_from_any_earlier_model(study, parent):
    study.save_round(3, parent={"initial": study.initial, "round 1": study.models[0]}[parent])
    study.record()
    study.verify()


def test_a_site_state_is_no_parent(study):
    study.save_round(3, parent=study.state_path(2, "north"))
    assert_break(study, study.models[2], "expected an earlier model as parent")


def test_a_missing_round_is_a_break(study):
    del study.models[1]
    study.best.write_bytes(study.models[0].read_bytes())
    assert_break(study, study.models[1], "expected round 2, found 3")


def test_an_initial_model_of_a_later_round_is_a_break(study):
    study.save(study.initial, Lineage("initial", "", 0, 1, "", 0, 0, "of the network", ""))
    assert_break(study, study.initial, "expected round 0, found 1")


def test_an_initial_model_of_another_seed_is_a_break(study):
    study.save(study.initial, Lineage("initial", "", 1, 0, "", 0, 0, "of the network", ""))
    assert_break(study, study.initial, "expected seed 0, found 1")


@pytest.mark.parametrize(("field", "value"), [("arm", "fedprox"), ("seed", 1), ("settings_digest", "another")])
def test_a_model_of_another_arm_seed_or_setting_is_a_break(study, field, value):
    study.save_round(2, **{field: value})
    assert_break(study, study.models[1], rf"expected {field} .*, found {value!r}")


@pytest.mark.parametrize("weight", [0.25 + 2e-9, 0.3, -0.25, float("nan")])
def test_weights_that_do_not_sum_to_one_are_a_break(study, weight):
    updates = (AveragedUpdate("north", "a", 0.75), AveragedUpdate("south", "b", weight))
    study.save_round(2, updates=updates)
    with pytest.raises(StudyError, match=f"^{study.models[1]}: expected weights that sum to 1, found a sum of "):
        study.record()


def test_weights_may_sum_to_one_but_for_rounding(study):
    updates = tuple(AveragedUpdate(site, site, 1 / 3) for site in ("east", "north", "south"))
    study.save_round(3, updates=updates)
    study.record()
    study.verify()


def test_a_model_of_no_update_is_a_break(study):
    study.save_round(3, updates=())
    assert_break(study, study.models[2], "expected weights that sum to 1, found a sum of 0")


def test_a_site_that_counts_twice_is_a_break(study):
    study.save_round(3, updates=(AveragedUpdate("north", "a", 0.5), AveragedUpdate("north", "b", 0.5)))
    assert_break(study, study.models[2], "expected one update a site, found north, north")


@pytest.mark.parametrize(("field", "value"), [("arm", "fedprox"), ("seed", 1), ("round", 1), ("site", "north")])
def test_a_state_of_another_arm_seed_round_or_site_is_a_break(study, field, value):
    study.save_state(2, "south", **{field: value})
    assert_break(study, study.state_path(2, "south"), rf"expected {field} .*, found {value!r}")


@pytest.mark.parametrize(
    ("field", "value"),
    [("kind", "global"), ("arm", "fedprox"), ("seed", 1), ("site", "south"), ("parent_sha256", "00")],
)
def test_a_personal_model_of_another_site_or_parent_is_a_break(study, field, value):
    study.save_personal(**{field: value})
    with pytest.raises(StudyError, match=rf"personal/north\.pth: expected {field} .*, found {value!r}"):
        study.record()


def test_the_best_model_of_a_phase_is_one_of_the_rounds_before(study):
    path = study.models[2].with_name("best_before.pth")
    path.write_bytes(study.models[0].read_bytes())
    study.beside.append(path)
    study.save_round(3, parent=study.models[0])
    study.record()
    study.verify()
    flip(path, 500)
    with pytest.raises(StudyError, match=f"^{path}: expected SHA-256 "):
        study.verify()
    study.save(path, replace(load_model_file(study.models[0]).lineage, num_cases=5))
    with pytest.raises(StudyError, match=rf"^{path}: expected the bytes of one of the arm's global models"):
        study.record()


def test_a_servers_state_of_another_round_is_a_break(study):
    study.save_state(2, "", round=1)
    assert_break(study, study.models[1].with_name("server.pth"), "expected round 2, found 1")


def test_a_best_model_that_is_no_rounds_model_is_a_break(study):
    study.save(study.best, replace(load_model_file(study.models[1]).lineage, num_cases=5))
    assert_break(study, study.best, "expected the bytes of one of the arm's global models, found others")


def test_an_update_in_the_place_of_a_global_model_is_a_break(study):
    study.save_round(2, kind="update", site="north")
    with pytest.raises(StudyError, match=rf"^{study.models[1]}: expected kind 'global', found 'update'"):
        study.record()


def test_a_damaged_file_is_not_recorded(study):
    flip(study.models[1], 500)
    with pytest.raises(StudyError, match=rf"^{study.models[1]}: "):
        study.record()
    assert not study.lineage.exists()


def test_a_damaged_file_is_named_though_its_hash_is_recorded(recorded):
    path = recorded.state_path(2, "south")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    recorded.edit_record("round-002/states/south.pth", sha256=sha256_of_file(path))
    with pytest.raises(StudyError, match=rf"^{path}: not a readable model file"):
        recorded.verify()


def test_a_file_that_holds_more_than_tensors_is_named(recorded):
    path = recorded.state_path(2, "south")
    torch.save({"optimizer": Path("x")}, path)
    recorded.edit_record("round-002/states/south.pth", sha256=sha256_of_file(path))
    with pytest.raises(StudyError, match=rf"^{path}: holds more than tensors and plain values"):
        recorded.verify()
