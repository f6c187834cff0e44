"""The choice of component filters on validation patients."""

import json

import numpy as np
import pytest
import torch
from fedpedbrain.base.errors import StudyError
from fedpedbrain.evaluation.filters import ValidatedCase, choose_filters_files, try_filters
from fedpedbrain.models.components import ComponentFilter
from fedpedbrain.models.files import ModelSpec
from fedpedbrain.models.prediction import PredictionPlan

ALL, LARGE, LARGEST = ComponentFilter(), ComponentFilter(3.0), ComponentFilter(0.0, True)


def one_row(found, truth) -> ValidatedCase:
    """A case of one region and one row of voxels of 1 ml, each written as a text of digits."""
    parts = (np.array([digit == "1" for digit in text]).reshape(1, 1, 1, -1) for text in (found, truth))
    return ValidatedCase(*parts, 1.0)


NOISY = one_row("1110010", "1110000")
# What two parts of the tumour look like: the filters leave one of them out.
IN_PARTS = one_row("1110011", "1110011")


def test_a_filter_that_takes_noise_away_is_chosen():
    found = try_filters([NOISY], ["tumour"], [ALL, LARGE], 0.0)["tumour"]
    assert [item["dice"] for item in found["tried"]] == [pytest.approx(6 / 7), 1.0]
    assert found["chosen"] == {"smallest_component_ml": 3.0, "largest_only": False}
    assert found["num_cases"] == 1


def test_a_filter_that_takes_parts_of_the_tumour_away_is_not_chosen():
    found = try_filters([NOISY, IN_PARTS, IN_PARTS], ["tumour"], [ALL, LARGEST], 0.0)["tumour"]
    assert [item["dice"] for item in found["tried"]] == pytest.approx([(6 / 7 + 2) / 3, (1 + 0.75 + 0.75) / 3])
    assert found["chosen"] == ALL.settings


def test_of_filters_that_score_alike_the_first_is_chosen():
    assert try_filters([NOISY], ["tumour"], [LARGEST, LARGE], 0.0)["tumour"]["chosen"] == LARGEST.settings


def test_cases_without_an_outline_choose_nothing():
    healthy = one_row("0000010", "0000000")
    found = try_filters([healthy], ["tumour"], [ALL, LARGE], 0.0)["tumour"]
    assert (found["num_cases"], found["chosen"]) == (0, ALL.settings)
    assert [item["dice"] for item in found["tried"]] == [None, None]


def test_a_region_that_is_too_small_after_its_filter_is_left_out():
    found = try_filters([NOISY], ["tumour"], [ALL, LARGE], 4.0)["tumour"]
    assert [item["dice"] for item in found["tried"]] == [pytest.approx(6 / 7), 0.0]


def choose(path, shards, tmp_path, spec, **changes):
    expected = {name: getattr(ModelSpec(**spec), name) for name in ("channels", "regions", "classes", "preprocessing")}
    choose_filters_files(
        model_paths=[path],
        personal_paths={},
        shards=shards,
        filters_path=tmp_path / "filters.json",
        tried=[ALL.settings, LARGE.settings],
        decision={"threshold": 0.5, "smallest_region_ml": 0.0},
        expected=expected | changes,
        plan=PredictionPlan(),
        device=torch.device("cpu"),
    )
    return json.loads((tmp_path / "filters.json").read_text())


def test_validation_cases_alone_choose(tmp_path, spec, make_case, write_shard, write_constant_model):
    cases = [make_case(name, split=split) for name, split in [("a", "validation"), ("b", "test"), ("c", "train")]]
    shard = write_shard(tmp_path / "north", cases, masks=np.ones((3, 1, 4, 8, 8), np.uint8))
    path = write_constant_model(tmp_path / "best.pth", regions=["whole_tumour"])
    found = choose(path, [shard], tmp_path, spec)
    assert found["whole_tumour"]["num_cases"] == 1
    assert [item["dice"] for item in found["whole_tumour"]["tried"]] == [1.0, 1.0]
    assert found["whole_tumour"]["chosen"] == ALL.settings


def test_a_model_of_another_study_chooses_nothing(tmp_path, spec, make_case, write_shard, write_constant_model):
    shard = write_shard(tmp_path / "north", [make_case("a", split="validation")])
    path = write_constant_model(tmp_path / "best.pth", regions=["whole_tumour"])
    with pytest.raises(StudyError, match="cannot be scored beside the arms: expected regions"):
        choose(path, [shard], tmp_path, spec, regions=["core"])
