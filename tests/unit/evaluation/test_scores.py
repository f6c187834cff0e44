import math

import numpy as np
import pytest
from fedpedbrain.base.cases import Shard
from fedpedbrain.base.files import read_table, write_table
from fedpedbrain.evaluation import mask_pair
from fedpedbrain.evaluation.mask_pair import MaskPair
from fedpedbrain.evaluation.scores import SCORE_COLUMNS, region_scores, score_predictions_files
from fedpedbrain.study.metric_facts import EMPTY_RULES, METRICS, REGION_METRICS
from predicted_masks import write_masks

SETTINGS = {"surface_tolerance_mm": 5.0, "lesion_overlap": 0.1}
VOLUMES = ("true_volume_ml", "predicted_volume_ml")


def scores(predicted, truth, spacing_mm=(5.0, 10.0, 10.0)) -> tuple[dict[str, float], dict[str, str]]:
    """Value and rule of every metric, as dicts."""
    rows = list(region_scores(MaskPair(predicted.astype(bool), truth.astype(bool), spacing_mm, **SETTINGS)))
    return {metric: value for metric, value, _ in rows}, {metric: rule for metric, _, rule in rows if rule}


def test_scores_of_one_region():
    truth, predicted = np.zeros((2, 2, 2), np.uint8), np.zeros((2, 2, 2), np.uint8)
    truth[0] = 1
    predicted[0, 0] = 1
    found, rules = scores(predicted, truth)
    # 4 and 2 voxels of 0.5 ml, 2 of them in common; the other 2 lie 10 mm off.
    assert found == {
        "dice": pytest.approx(2 / 3),
        "surface_dice": pytest.approx(4 / 6),
        "hd95_mm": pytest.approx(10.0),
        "volume_error_ml": 1.0,
        "relative_volume_error": 0.5,
        "volume_bias_ml": -1.0,
        "lesion_sensitivity": 1.0,
        "lesion_precision": 1.0,
        "true_volume_ml": 2.0,
        "predicted_volume_ml": 1.0,
    }
    assert rules == {}


EMPTY, FULL = np.zeros((2, 3, 4), np.uint8), np.ones((2, 3, 4), np.uint8)
# 12 ml; corners are 5, 20 and 30 mm apart.
DIAGONAL_MM = math.hypot(5.0, 20.0, 30.0)
OVERLAP, DISTANCE, LESION = "one_or_zero", "diagonal_or_left_out", "left_out_without_lesion"


@pytest.mark.parametrize(
    ("predicted", "truth", "expected", "rules"),
    [
        (
            EMPTY,
            EMPTY,
            [1.0, 1.0, math.nan, 0.0, math.nan, 0.0, math.nan, math.nan],
            [OVERLAP, OVERLAP, DISTANCE, "", "left_out_without_truth", "", LESION, LESION],
        ),
        (
            EMPTY,
            FULL,
            [0.0, 0.0, DIAGONAL_MM, 12.0, 1.0, -12.0, 0.0, math.nan],
            [OVERLAP, OVERLAP, DISTANCE, "", "", "", "", LESION],
        ),
        (
            FULL,
            EMPTY,
            [0.0, 0.0, DIAGONAL_MM, 12.0, math.nan, 12.0, math.nan, 0.0],
            [OVERLAP, OVERLAP, DISTANCE, "", "left_out_without_truth", "", LESION, ""],
        ),
    ],
    ids=["both empty", "empty prediction", "empty truth"],
)
def test_empty_masks_follow_the_declared_rule_and_name_it(predicted, truth, expected, rules):
    found, named = scores(predicted, truth)
    np.testing.assert_allclose([found[metric] for metric in REGION_METRICS], expected)
    assert [named.get(metric, "") for metric in REGION_METRICS] == rules


def test_every_rule_that_a_metric_names_is_declared():
    assert {facts.empty_rule for facts in METRICS.values()} == {"", *EMPTY_RULES}


def test_surfaces_and_lesions_of_a_pair_of_masks_are_measured_once(monkeypatch):
    calls = []
    for name in ("surface_distances", "count_lesions"):
        measure = getattr(mask_pair, name)
        monkeypatch.setattr(
            mask_pair, name, lambda *masks, name=name, measure=measure: calls.append(name) or measure(*masks)
        )
    scores(FULL, FULL)
    # Lesions of the truth, and those of the prediction.
    assert sorted(calls) == ["count_lesions", "count_lesions", "surface_distances"]


def test_lesions_that_are_missed_and_invented_count():
    truth, predicted = np.zeros((2, 1, 1, 9), np.uint8)
    truth[..., [0, 4, 8]] = 1
    predicted[..., [0, 2]] = 1
    found, _ = scores(predicted, truth)
    assert found["lesion_sensitivity"] == pytest.approx(1 / 3)
    assert found["lesion_precision"] == 1 / 2


@pytest.fixture
def make_shards(tmp_path, make_case, write_shard):
    """``make_shards(num_regions)``: two sites of which two cases are held out; their first region is everywhere."""

    def _make_shards(num_regions: int) -> list[Shard]:
        truth = np.zeros((2, num_regions, 4, 8, 8), np.uint8)
        truth[:, :1] = 1
        north = [make_case("learnt"), make_case("tested", split="test", patient="p1")]
        west = [make_case("foreign", "west", "external", class_name=""), make_case("learnt too", "west")]
        return [write_shard(tmp_path / "north", north, masks=truth), write_shard(tmp_path / "west", west, masks=truth)]

    return _make_shards


@pytest.fixture
def score(tmp_path, make_shards):
    """Score predictions: everything for the tested case, nothing for the foreign one."""

    def _score(regions: list[str], probabilities: list[dict]) -> list[dict[str, str]]:
        masks = np.zeros((2, len(regions), 4, 8, 8), np.uint8)
        masks[0] = 1
        write_masks(tmp_path / "masks.npy", masks)
        write_table(tmp_path / "probabilities.tsv", ["case", "class", "probability"], probabilities)
        inputs = ({"grid": tmp_path / "masks.npy"}, tmp_path / "probabilities.tsv", make_shards(len(regions)))
        score_predictions_files(*inputs, tmp_path / "scores.tsv", "fedavg", 3, regions, SETTINGS)
        return read_table(tmp_path / "scores.tsv")

    return _score


def test_every_held_out_case_has_a_row_a_region_and_metric(score):
    rows = score(["whole", "core"], [])
    assert tuple(rows[0]) == SCORE_COLUMNS
    found = {(row["case"], row["target"], row["metric"]): float(row["value"]) for row in rows}
    assert len(found) == len(rows) == 2 * 2 * len([*REGION_METRICS, *VOLUMES])
    # A grid of 256 voxels of 0.5 ml; the core is never there.
    assert {key: value for key, value in found.items() if key[2] in ("dice", *VOLUMES)} == {
        ("tested", "whole", "dice"): 1.0,
        ("tested", "whole", "true_volume_ml"): 128.0,
        ("tested", "whole", "predicted_volume_ml"): 128.0,
        ("tested", "core", "dice"): 0.0,
        ("tested", "core", "true_volume_ml"): 0.0,
        ("tested", "core", "predicted_volume_ml"): 128.0,
        ("foreign", "whole", "dice"): 0.0,
        ("foreign", "whole", "true_volume_ml"): 128.0,
        ("foreign", "whole", "predicted_volume_ml"): 0.0,
        ("foreign", "core", "dice"): 1.0,
        ("foreign", "core", "true_volume_ml"): 0.0,
        ("foreign", "core", "predicted_volume_ml"): 0.0,
    }
    decided = {(row["case"], row["target"]) for row in rows if row["empty_rule"]}
    assert decided == {("tested", "core"), ("foreign", "whole"), ("foreign", "core")}


def test_a_row_names_arm_seed_case_patient_site_split_and_class(score):
    first, last = score(["whole", "core"], [])[0], score(["whole", "core"], [])[-1]
    keys = ("arm", "seed", "case", "patient", "site", "split", "class")
    assert tuple(first[key] for key in keys) == ("fedavg", "3", "tested", "p1", "north", "test", "dipg")
    assert tuple(last[key] for key in keys) == ("fedavg", "3", "foreign", "foreign", "west", "external", "")


def test_probabilities_keep_every_digit(score):
    probabilities = [{"case": "foreign", "class": "dipg", "probability": 0.1234567890123456}]
    rows = [row for row in score(["whole", "core"], probabilities) if row["metric"] == "probability"]
    assert [(row["case"], row["site"], row["target"], float(row["value"])) for row in rows] == [
        ("foreign", "west", "dipg", 0.1234567890123456)
    ]


def test_a_study_without_regions_has_probabilities_alone(score):
    rows = score([], [{"case": "tested", "class": "dipg", "probability": 1.0}])
    assert [row["metric"] for row in rows] == ["probability"]
