import json
import shutil

import pytest
from arm_history import KINDS, Study, flip
from fedpedbrain.base.errors import StudyError
from fedpedbrain.base.files import sha256_of_file
from fedpedbrain.federated.chain.chain_files import ArmFiles, record_lineage_files, verify_lineage_files
from fedpedbrain.models.files import load_tensors, save_tensors


def test_a_history_names_every_file_in_the_order_of_the_chain(study):
    content = study.record()
    assert (content["arm"], content["seed"]) == ("fedavg", 0)
    rounds = [
        f"round-{number:03d}/{part}"
        for number in (1, 2, 3)
        for part in ("global.pth", "server.pth", "states/north.pth", "states/south.pth")
    ]
    assert [entry["name"] for entry in content["files"]] == [
        "../../initial/seed-0.pth",
        *rounds,
        "best.pth",
        "personal/north.pth",
    ]
    kinds = [entry["kind"] for entry in content["files"]]
    assert kinds == ["initial", *["global", "server", "state", "state"] * 3, "best", "personal"]
    for entry in content["files"]:
        assert entry["sha256"] == sha256_of_file(study.arm_folder / entry["name"])


def test_an_entry_says_what_the_model_was_made_from(study):
    entry = study.record()["files"][5]
    assert entry == {
        "name": "round-002/global.pth",
        "sha256": sha256_of_file(study.models[1]),
        "kind": "global",
        "arm": "fedavg",
        "seed": 0,
        "round": 2,
        "site": "",
        "num_cases": 4,
        "num_steps": 8,
        "settings_digest": "digest",
        "parent_sha256": sha256_of_file(study.models[0]),
        "cases_sha256": "",
        "updates": [
            {"site": "north", "sha256": "2a", "weight": 0.75},
            {"site": "south", "sha256": "2b", "weight": 0.25},
        ],
    }


def test_a_state_says_whose_it_is_and_of_which_round(study):
    entry = study.record()["files"][8]
    assert [entry[key] for key in ("arm", "seed", "round", "site")] == ["fedavg", 0, 2, "south"]


def test_a_state_of_a_site_that_sent_no_update_is_recorded(study):
    study.save_state(1, "west")
    study.trained.append((1, "west"))
    assert "round-001/states/west.pth" in {entry["name"] for entry in study.record()["files"]}


def test_a_state_that_the_study_has_and_that_is_gone_is_named(study):
    path = study.state_path(1, "north")
    path.unlink()
    with pytest.raises(StudyError, match=f"^{path}: missing; bring it "):
        study.record()


@pytest.mark.parametrize("digest", ["digest", "earlier"])
def test_what_is_left_over_from_a_study_of_other_sites_is_not_recorded(study, digest):
    # Of a site that took part before, and of a best model that is another now.
    study.save_state(1, "west", settings_digest=digest)
    study.save_personal(site="west", parent_sha256="of an earlier best model", settings_digest=digest)
    (study.arm_folder / "personal" / "north.pth").rename(study.arm_folder / "personal" / "west.pth")
    study.save_personal()
    content = study.record()
    assert {entry["site"] for entry in content["files"]} == {"", "north", "south"}
    study.verify()


def test_a_recorded_state_of_a_site_that_is_absent_now_stays_a_part_of_the_history(recorded):
    path = recorded.state_path(3, "south")
    recorded.trained.remove((3, "south"))
    recorded.note()
    recorded.verify()
    flip(path, 500)
    with pytest.raises(StudyError, match=f"^{path}: expected SHA-256 "):
        recorded.verify()


def test_a_state_that_does_not_say_whose_it_is_is_known_by_its_place(study):
    save_tensors(study.state_path(1, "north"), {"optimizer": None})
    entry = study.record()["files"][3]
    assert [entry[key] for key in ("arm", "seed", "round", "site")] == ["fedavg", 0, 1, "north"]
    study.verify()


def test_recording_twice_gives_the_same_bytes(recorded):
    before = recorded.lineage.read_bytes()
    recorded.record()
    assert recorded.lineage.read_bytes() == before


def test_untouched_files_are_as_recorded(recorded):
    assert recorded.verify() == "fedavg, seed 0: 15 files of 3 rounds are as recorded\n"


def test_verifying_changes_no_file(recorded):
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in recorded.folder.rglob("*.*")}
    recorded.verify()
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in recorded.folder.rglob("*.*")} == before


# What happens to files after they were recorded.


@pytest.mark.parametrize("kind", KINDS)
def test_one_changed_byte_anywhere_in_a_file_names_it(recorded, kind):
    path = recorded.folder / KINDS[kind]
    size, whole = path.stat().st_size, path.read_bytes()
    # The archive's first header, around and in its parts, and its directory at the end.
    positions = [0, 1, 9, 14, *range(30, size, 97), size - 100, size - 46, size - 22, size - 1]
    for position in positions:
        flip(path, position)
        with pytest.raises(StudyError) as caught:
            recorded.verify()
        message = str(caught.value)
        assert message.startswith(f"{path}: expected SHA-256 "), position
        assert sha256_of_file(path) in message
        assert "\n" not in message
        path.write_bytes(whole)
    recorded.verify()


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_file_is_named(recorded, kind):
    path = recorded.folder / KINDS[kind]
    path.unlink()
    with pytest.raises(StudyError) as caught:
        recorded.verify()
    assert str(caught.value).startswith(f"{path}: missing; bring it ")


@pytest.mark.parametrize("kind", KINDS)
def test_a_truncated_or_lengthened_file_is_named(recorded, kind):
    path = recorded.folder / KINDS[kind]
    whole = path.read_bytes()
    for content in (whole[:-1], whole[: len(whole) // 2], b"", whole + b"\0"):
        path.write_bytes(content)
        with pytest.raises(StudyError, match=f"^{path}: expected SHA-256 "):
            recorded.verify()


def test_of_two_changed_files_the_earlier_is_named(recorded):
    for path in (recorded.best, recorded.models[2], recorded.models[0]):
        flip(path, 500)
    with pytest.raises(StudyError, match=f"^{recorded.models[0]}: "):
        recorded.verify()


def test_a_model_that_was_trained_again_is_named_though_it_fits(recorded):
    recorded.save_round(3, num_steps=9)
    with pytest.raises(StudyError, match=f"^{recorded.models[2]}: expected SHA-256 "):
        recorded.verify()


def test_a_later_round_in_the_place_of_an_earlier_is_named(recorded):
    recorded.models[1].write_bytes(recorded.models[2].read_bytes())
    with pytest.raises(StudyError, match=f"^{recorded.models[1]}: expected SHA-256 "):
        recorded.verify()


def test_a_state_that_came_later_is_named(study):
    path = study.state_path(3, "south")
    study.trained.remove((3, "south"))
    study.record()
    study.trained.append((3, "south"))
    study.note()
    with pytest.raises(StudyError, match=rf"^{path}: expected its record here, found best best\.pth; "):
        study.verify()


def test_a_round_that_has_not_run_yet_is_named(recorded):
    fourth = recorded.arm_folder / "round-004" / "global.pth"
    recorded.models.append(fourth)
    recorded.note()
    with pytest.raises(StudyError, match=f"^{fourth}: missing"):
        recorded.verify()


def test_a_recorded_round_that_the_study_has_no_more_is_named(recorded):
    recorded.models.pop()
    recorded.note()
    with pytest.raises(StudyError, match=f"^{recorded.best}: expected its record here, found global round-003/"):
        recorded.verify()


def test_all_arms_are_checked(recorded, tmp_path, spec):
    other = Study(tmp_path / "other", spec)
    other.record()
    assert verify_lineage_files([recorded.arguments, other.arguments]).count("as recorded") == 2
    flip(other.best, 0)
    with pytest.raises(StudyError, match=f"^{other.best}: "):
        verify_lineage_files([recorded.arguments, other.arguments])


@pytest.mark.parametrize("kind", KINDS)
def test_the_message_says_what_to_do(recorded, kind):
    path = recorded.folder / KINDS[kind]
    flip(path, 0)
    remedy = f"; bring it and {recorded.lineage} back as they were, or delete both and run the study again$"
    with pytest.raises(StudyError, match=remedy):
        recorded.verify()


# What happens to the history itself.


def test_a_missing_history_is_named(study):
    with pytest.raises(StudyError, match=f"^{study.lineage}: missing; "):
        study.verify()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", '{"arm": "fedavg"}', '{"arm": "fedavg", "seed": 0, "files": [1]}']
)
def test_a_history_of_another_form_is_named(study, text):
    study.lineage.write_text(text)
    with pytest.raises(StudyError, match=f"^{study.lineage}: expected a history, found something else") as caught:
        study.verify()
    assert "\n" not in str(caught.value)


def test_a_history_of_another_arm_is_named(recorded):
    recorded.lineage.write_text(recorded.lineage.read_text().replace('"fedavg"', '"fedprox"', 1))
    with pytest.raises(StudyError, match=rf"^{recorded.lineage}: expected the history of arm and seed \('fedavg', 0\)"):
        recorded.verify()


@pytest.mark.parametrize("name", ["../../initial/seed-0.pth", "round-002/global.pth", "best.pth"])
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("arm", "fedprox"),
        ("seed", 1),
        ("round", 9),
        ("site", "north"),
        ("num_cases", 3),
        ("num_steps", 1),
        ("settings_digest", "another"),
        ("parent_sha256", "00"),
        ("cases_sha256", "00"),
        ("updates", [{"site": "north", "sha256": "2a", "weight": 1.0}]),
    ],
)
def test_an_edited_value_of_a_models_record_is_noticed(recorded, name, field, value):
    recorded.edit_record(name, **{field: value})
    path = (recorded.arm_folder / name).resolve()
    with pytest.raises(StudyError, match=rf"^{path}: recorded with {field} .*, carries .*{recorded.lineage}"):
        recorded.verify()


@pytest.mark.parametrize(
    "name", ["../../initial/seed-0.pth", "round-001/global.pth", "round-003/states/north.pth", "best.pth"]
)
def test_an_edited_hash_is_noticed(recorded, name):
    recorded.edit_record(name, sha256="0" * 64)
    path = (recorded.arm_folder / name).resolve()
    with pytest.raises(StudyError, match=f"^{path}: expected SHA-256 0{{64}}, found {sha256_of_file(path)}; "):
        recorded.verify()


def test_an_edited_weight_is_noticed_with_both_values(recorded):
    updates = json.loads(recorded.lineage.read_text())["files"][5]["updates"]
    updates[1]["weight"] = 0.26
    recorded.edit_record("round-002/global.pth", updates=updates)
    with pytest.raises(StudyError, match=r"round-002/global\.pth: recorded with updates .*0\.26.*, carries .*0\.25"):
        recorded.verify()


@pytest.mark.parametrize("name", ["round-001/global.pth", "round-002/states/south.pth", "best.pth"])
def test_a_removed_record_is_noticed(recorded, name):
    content = json.loads(recorded.lineage.read_text())
    content["files"] = [entry for entry in content["files"] if entry["name"] != name]
    recorded.lineage.write_text(json.dumps(content))
    with pytest.raises(StudyError, match=rf"^{recorded.arm_folder / name}: expected its record here, found "):
        recorded.verify()


def test_a_record_too_many_is_noticed(recorded):
    content = json.loads(recorded.lineage.read_text())
    content["files"].append(content["files"][-1])
    recorded.lineage.write_text(json.dumps(content))
    path = recorded.folder / KINDS["personal"]
    with pytest.raises(StudyError, match=rf"^{path}: recorded, but no file that the study would have"):
        recorded.verify()


def test_another_kind_is_noticed(recorded):
    recorded.edit_record("best.pth", kind="global")
    with pytest.raises(StudyError, match=r"best\.pth: expected its record here, found global best\.pth"):
        recorded.verify()


# Files of rounds that the study does not keep.


@pytest.fixture
def passed(study) -> Study:
    """The history of a study that keeps rounds 1 and 3, recorded when the rest was gone."""
    study.arguments |= {"kept_rounds": [1, 3], "rounds_of_kept_states": [1, 3]}
    study.best.write_bytes(study.models[0].read_bytes())
    study.save_personal()
    study.note()
    for path in (study.models[1], study.models[1].with_name("server.pth")):
        path.unlink()
    shutil.rmtree(study.state_path(2, "north").parent)
    record_lineage_files(ArmFiles(**study.arguments))
    return study


def test_the_history_has_what_jobs_noted_of_files_that_are_gone(passed, tmp_path, spec):
    whole = Study(tmp_path / "whole", spec).record()["files"]
    entries = {entry["name"]: entry for entry in json.loads(passed.lineage.read_text())["files"]}
    of_second = [entry for entry in whole if entry["name"].startswith("round-002/")]
    assert len(of_second) == 4
    # The same files were there once.
    assert [entries[entry["name"]] for entry in of_second] == of_second
    tally = "fedavg, seed 0: 11 files of 3 rounds are as recorded, 4 that may be gone and are as noted\n"
    assert passed.verify() == tally


def test_a_file_that_did_not_have_to_stay_counts_while_it_is_there(passed):
    passed.save_state(2, "north")
    passed.verify()
    flip(passed.state_path(2, "north"), 500)
    with pytest.raises(StudyError, match=f"^{passed.state_path(2, 'north')}: expected SHA-256 "):
        passed.verify()


@pytest.mark.parametrize("kind", ["initial", "last global", "best", "personal"])
def test_a_kept_file_that_is_gone_or_changed_is_named_whatever_else_is_gone(passed, kind):
    path = passed.folder / KINDS[kind]
    flip(path, 500)
    with pytest.raises(StudyError, match=f"^{path}: expected SHA-256 "):
        passed.verify()
    path.unlink()
    with pytest.raises(StudyError, match=f"^{path}: missing; "):
        passed.verify()


def test_of_a_round_whose_states_alone_stay_the_model_may_be_gone(passed):
    passed.arguments["rounds_of_kept_states"] = [1, 2, 3]
    with pytest.raises(StudyError, match=f"^{passed.state_path(2, 'north')}: missing; "):
        passed.verify()


@pytest.mark.parametrize("field", ["sha256", "parent_sha256", "num_steps"])
@pytest.mark.parametrize("edits_note", [False, True], ids=["the history alone", "the note, too"])
def test_an_edit_of_what_is_known_of_a_file_that_is_gone_breaks_the_chain(passed, field, edits_note):
    value = 9 if field == "num_steps" else "0" * 64
    passed.edit_record("round-002/global.pth", **{field: value})
    if edits_note:
        path = passed.models[1].with_name("lineage.json")
        note = json.loads(path.read_text())
        (note if field == "sha256" else note["lineage"])["model_sha256" if field == "sha256" else field] = value
        path.write_text(json.dumps(note))
    if edits_note and field == "num_steps":
        # No other file knows of it.
        passed.verify()
        return
    where = passed.models[2] if edits_note and field == "sha256" else passed.models[1]
    with pytest.raises(StudyError, match=f"^{where}: "):
        passed.verify()


def test_a_file_that_is_gone_with_its_note_is_named(passed):
    passed.models[1].with_name("lineage.json").unlink()
    with pytest.raises(StudyError, match=f"^{passed.models[1]}: missing, and so is its job's note of it; "):
        passed.verify()


@pytest.mark.parametrize("content", ["", "[", '[{"arm": "fedavg"}]', "7"])
def test_a_round_whose_metrics_do_not_name_its_sites_is_refused(passed, content):
    path = passed.metrics_path(2)
    path.write_text(content)
    with pytest.raises(StudyError, match=f"^{path}: expected the metrics of a round's sites, found none "):
        passed.verify()


@pytest.mark.parametrize("name", ["global.pth", "server.pth", "states/north.pth"])
def test_a_file_that_is_not_what_its_job_noted_is_not_recorded(study, name):
    path = study.arm_folder / "round-003" / name
    if name == "global.pth":
        study.save_round(3, num_steps=9)
    else:
        save_tensors(path, load_tensors(path) | {"kept": {}})
    with pytest.raises(StudyError, match=rf"^{path}: its job noted SHA-256 "):
        record_lineage_files(ArmFiles(**study.arguments))
