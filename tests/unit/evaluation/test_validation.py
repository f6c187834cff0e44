import json
from pathlib import Path

import numpy as np
import pytest
import torch
from fedpedbrain.base.errors import StudyError
from fedpedbrain.evaluation import validation
from fedpedbrain.evaluation.validation import read_validations, validate_site_files
from fedpedbrain.models.files import load_model_file

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
    """Validate a constant model; returns what the file holds of its round."""

    def _validate(decision=DECISION, **model) -> dict:
        write_constant_model(tmp_path / "global.pth", **model)
        files = ([tmp_path / "global.pth"], [], [None], [shard], "north", tmp_path / "validation.json")
        validate_site_files(*files, decision, CPU)
        (content,) = json.loads((tmp_path / "validation.json").read_text())
        return content

    return _validate


def test_every_validation_case_has_an_entry(validate):
    content = validate(regions=["whole_tumour"], class_name="dipg", round_number=3)
    assert (content["site"], content["arm"], content["seed"], content["round"]) == ("north", "fedavg", 0, 3)
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


# A block of rounds.

# Round to the class that its model finds everywhere.
BLOCK = {2: "dipg", 5: "normal"}


def test_every_round_of_a_block_has_its_own_scores(tmp_path, shard, write_constant_model):
    models = [write_constant_model(tmp_path / f"{n}.pth", class_name=c, round_number=n) for n, c in BLOCK.items()]
    validate_site_files(models, [], [None, None], [shard], "north", tmp_path / "block.json", DECISION, CPU)
    first, second = json.loads((tmp_path / "block.json").read_text())
    assert (first["round"], second["round"]) == (2, 5)
    assert [entry["correct"] for entry in first["cases"]] == [True, False, None]
    assert [entry["correct"] for entry in second["cases"]] == [False, True, None]


def test_each_round_is_scored_with_the_sites_own_weights_of_that_round(
    tmp_path, shard, monkeypatch, write_constant_model
):
    models = [write_constant_model(tmp_path / f"{n}.pth", round_number=n) for n in (1, 3, 4, 6)]
    asked = []

    def load(model_path, state_path, site):
        asked.append((model_path, state_path, site))
        return load_model_file(model_path)

    monkeypatch.setattr(validation, "load_model_of_site", load)
    validate_site_files(models, ["of-3", "of-5"], [None, 3, 3, 5], [shard], "north", tmp_path / "x.json", DECISION, CPU)
    states = [None, "of-3", "of-3", "of-5"]
    assert asked == [(model, state, "north") for model, state in zip(models, states, strict=True)]


# All sites.


@pytest.fixture
def write_block(tmp_path):
    """``write_block(site, rounds, name, changes)``: what a site wrote; ``changes`` are laid over its last round."""

    def _write_block(site: str, rounds=(3, 4), name="from-001", cases=2, **changes) -> Path:
        block = []
        for number in rounds:
            entries = [
                {"case": f"{site}-{number}-{n}", "site": site, "dice": 0.5, "correct": None} for n in range(cases)
            ]
            block.append({"site": site, "arm": "fedavg", "seed": 2, "round": number, "cases": entries})
        block[-1] |= changes
        path = tmp_path / site / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(block))
        return path

    return _write_block


@pytest.mark.parametrize("sites", [("north", "south"), ("south", "north"), ("north",)])
def test_a_rounds_scores_are_those_of_its_sites_in_their_order(write_block, sites):
    found = read_validations([write_block(site) for site in sites])
    assert [(item["arm"], item["seed"], item["round"]) for item in found] == [("fedavg", 2, 3), ("fedavg", 2, 4)]
    for item in found:
        cases = [f"{site}-{item['round']}-{n}" for site in sites for n in range(2)]
        assert [entry["case"] for entry in item["cases"]] == cases


def test_rounds_follow_each_other_block_by_block(write_block):
    blocks = {"from-001": (1, 4), "from-026": (30,)}
    paths = [write_block(site, rounds, name) for site in ("north", "south") for name, rounds in blocks.items()]
    assert [item["round"] for item in read_validations(paths)] == [1, 4, 30]


def test_rounds_of_several_arms_are_told_apart(write_block):
    paths = [write_block(site, (1,), arm, arm=arm) for arm in ("fedavg", "local") for site in ("north", "south")]
    found = read_validations(paths)
    assert [(item["arm"], item["round"], len(item["cases"])) for item in found] == [("fedavg", 1, 4), ("local", 1, 4)]


def test_a_site_without_validation_cases_adds_none(write_block):
    found = read_validations([write_block("north"), write_block("south", cases=0)])
    assert [[entry["site"] for entry in item["cases"]] for item in found] == [["north", "north"]] * 2


@pytest.mark.parametrize("changes", [{"round": 2}, {"arm": "local"}, {"seed": 0}])
def test_a_round_that_not_all_sites_scored_is_refused(write_block, changes):
    north, south = write_block("north"), write_block("south", **changes)
    message = rf"^{north}: arm fedavg, seed 2, round 4: expected scores of north, south, found those of north; delete"
    with pytest.raises(StudyError, match=message):
        read_validations([north, south])


def test_a_model_of_patches_is_validated_in_windows_of_its_own_overlap(
    tmp_path, shard, spec, write_constant_model, monkeypatch
):
    plans = []
    predict = validation.predict_cases
    monkeypatch.setattr(validation, "predict_cases", lambda *given: plans.append(given[-1]) or predict(*given))
    spec["patch"] = [2, 8, 8]
    write_constant_model(tmp_path / "global.pth", regions=["whole_tumour"])
    files = ([tmp_path / "global.pth"], [], [None], [shard], "north", tmp_path / "validation.json")
    validate_site_files(*files, DECISION | {"overlap": 0.25}, CPU)
    assert [(plan.overlap, list(plan.flips)) for plan in plans] == [(0.25, [])]
    (content,) = json.loads((tmp_path / "validation.json").read_text())
    assert content["cases"][0]["dice"] == pytest.approx(2 / 3)
