import numpy as np
import pytest
from fedpedbrain.evaluation.scores import SCORE_COLUMNS, region_scores, score_predictions_files
from fedpedbrain.files import read_table, write_table


def test_scores_of_one_region():
    truth, predicted = np.zeros((2, 2, 2), np.uint8), np.zeros((2, 2, 2), np.uint8)
    truth[0] = 1
    predicted[0, 0] = 1
    # 4 and 2 voxels of 0.5 ml, 2 of them in common.
    assert dict(region_scores(predicted, truth, 0.5)) == {
        "dice": pytest.approx(2 / 3),
        "true_volume_ml": 2.0,
        "predicted_volume_ml": 1.0,
    }


@pytest.fixture
def shards(tmp_path, make_case, write_shard):
    """Two sites of which two cases are held out."""
    truth = np.zeros((2, 2, 4, 8, 8), np.uint8)
    truth[:, 0] = 1
    north = [make_case("learnt"), make_case("tested", split="test", patient="p1")]
    west = [make_case("foreign", "west", "external", class_name=""), make_case("learnt too", "west")]
    return [write_shard(tmp_path / "north", north, masks=truth), write_shard(tmp_path / "west", west, masks=truth)]


@pytest.fixture
def score(tmp_path, shards):
    """Score predictions: everything for the tested case, nothing for the foreign one."""

    def _score(regions: list[str], probabilities: list[dict]) -> list[dict[str, str]]:
        masks = np.zeros((2, len(regions), 4, 8, 8), np.uint8)
        masks[0] = 1
        np.save(tmp_path / "masks.npy", masks)
        write_table(tmp_path / "probabilities.tsv", ["case", "class", "probability"], probabilities)
        inputs = (tmp_path / "masks.npy", tmp_path / "probabilities.tsv", shards)
        score_predictions_files(*inputs, tmp_path / "scores.tsv", "fedavg", 3, regions)
        return read_table(tmp_path / "scores.tsv")

    return _score


def test_every_held_out_case_has_three_rows_a_region(score):
    rows = score(["whole", "core"], [])
    assert tuple(rows[0]) == SCORE_COLUMNS
    found = {(row["case"], row["target"], row["metric"]): float(row["value"]) for row in rows}
    # A grid of 256 voxels of 0.5 ml; the core is never there.
    assert found == {
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
