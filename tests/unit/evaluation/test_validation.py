import json

import numpy as np
import pytest
import torch
from fedpedbrain.base.errors import StudyError
from fedpedbrain.evaluation.validation import join_validation_files, validate_site_files

CPU = torch.device("cpu")
DECISION = {"threshold": 0.5, "smallest_region_ml": 0.0}


@pytest.fixture
def shard(tmp_path, make_case, write_shard):
    """Validation cases: half a tumour, none, one of unknown class; and a training case."""
    cases = [
        make_case("half", split="validation"),
        make_case("healthy", split="validation", class_name="normal"),
        make_case("unknown", split="validation", class_name=""),
        make_case("learnt", split="train"),
    ]
    masks = np.zeros((4, 1, 4, 8, 8), np.uint8)
    masks[0, :, :2] = 1
    masks[2] = 1
    return write_shard(tmp_path / "north", cases, masks=masks)


@pytest.fixture
def validate(tmp_path, shard, write_constant_model):
    """Validate a constant model; returns the file's content."""

    def _validate(decision=DECISION, **model) -> dict:
        write_constant_model(tmp_path / "global.pth", **model)
        files = (tmp_path / "global.pth", None, [shard], "north", tmp_path / "validation.json")
        validate_site_files(*files, decision, CPU)
        return json.loads((tmp_path / "validation.json").read_text())

    return _validate


def test_every_validation_case_has_an_entry(validate):
    content = validate(regions=["whole_tumour"], class_name="dipg", round_number=3)
    assert (content["arm"], content["seed"], content["round"]) == ("fedavg", 0, 3)
    # Everything for half of it: 2 x 128 / (256 + 128).
    assert content["cases"] == [
        {"case": "half", "site": "north", "dice": pytest.approx(2 / 3), "correct": True},
        {"case": "healthy", "site": "north", "dice": None, "correct": False},
        {"case": "unknown", "site": "north", "dice": 1.0, "correct": None},
    ]


def test_a_region_too_small_to_be_one_counts_as_missed(validate):
    # The grid of 256 voxels is 128 ml.
    entries = validate({"threshold": 0.5, "smallest_region_ml": 129.0}, regions=["whole_tumour"], class_name="normal")
    assert [entry["dice"] for entry in entries["cases"]] == [0.0, None, 0.0]


def test_a_tumour_taken_for_a_normal_case_counts_as_missed(validate):
    decision = DECISION | {"empty_class": "normal"}
    missed = validate(decision, regions=["whole_tumour"], class_name="normal")["cases"]
    assert [entry["dice"] for entry in missed] == [0.0, None, 0.0]
    found = validate(decision, regions=["whole_tumour"], class_name="dipg")["cases"]
    assert [entry["dice"] for entry in found] == [pytest.approx(2 / 3), None, 1.0]


def test_the_dice_of_a_case_is_the_mean_of_its_outlined_regions(tmp_path, spec, make_case, write_shard, validate):
    spec["regions"] = ["whole_tumour", "core", "enhancing"]
    masks = np.zeros((1, 3, 4, 8, 8), np.uint8)
    masks[0, :2] = 1
    write_shard(tmp_path / "north", [make_case("a", split="validation")], masks=masks)
    (entry,) = validate(regions=["whole_tumour", "enhancing"], class_name="dipg")["cases"]
    # 1 for the whole tumour, 0 for the core; nothing is enhancing.
    assert entry["dice"] == 0.5


@pytest.mark.parametrize(("missing", "empty"), [("regions", "dice"), ("classes", "correct")])
def test_a_task_that_the_study_lacks_has_no_values(tmp_path, spec, make_case, write_shard, validate, missing, empty):
    spec[missing] = []
    masks = np.ones((1, len(spec["regions"]), 4, 8, 8), np.uint8)
    write_shard(tmp_path / "north", [make_case("a", split="validation")], masks=masks)
    (entry,) = validate(regions=["whole_tumour"], class_name="dipg")["cases"]
    assert {key for key, value in entry.items() if value is None} == {empty}


def test_without_validation_cases_there_are_no_entries(tmp_path, make_case, write_shard, validate):
    write_shard(tmp_path / "north", [make_case("a")])
    assert validate()["cases"] == []


# All sites of a round.


@pytest.fixture
def join(tmp_path):
    """Join what sites wrote of round 3; returns the file's content. ``changes`` are laid over what south wrote."""

    def _join(sites=("north", "south"), **changes) -> dict:
        paths = []
        for site in sites:
            entries = [{"case": f"{site}-{n}", "site": site, "dice": 0.5, "correct": None} for n in range(2)]
            content = {"arm": "fedavg", "seed": 2, "round": 3, "cases": entries}
            paths.append(tmp_path / f"validation-{site}.json")
            paths[-1].write_text(json.dumps(content | (changes if site == "south" else {})))
        join_validation_files(paths, tmp_path / "validation.json")
        return json.loads((tmp_path / "validation.json").read_text())

    return _join


@pytest.mark.parametrize("sites", [("north", "south"), ("south", "north"), ("north",)])
def test_a_rounds_scores_are_those_of_its_sites_in_their_order(join, sites):
    found = join(sites)
    assert (found["arm"], found["seed"], found["round"]) == ("fedavg", 2, 3)
    assert [entry["case"] for entry in found["cases"]] == [f"{site}-{n}" for site in sites for n in range(2)]


def test_a_site_without_validation_cases_adds_none(join):
    assert [entry["site"] for entry in join(cases=[])["cases"]] == ["north", "north"]


@pytest.mark.parametrize("changes", [{"round": 2}, {"arm": "local"}, {"seed": 0}])
def test_scores_of_another_round_are_refused_by_their_file(join, tmp_path, changes):
    (value,) = changes.values()
    with pytest.raises(
        StudyError, match=rf"^{tmp_path}/validation-south\.json: expected scores of .*, found .*{value}"
    ):
        join(**changes)
    assert not (tmp_path / "validation.json").exists()
