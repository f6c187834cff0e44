import numpy as np
import pytest
from fedpedbrain.base.files import write_table
from fedpedbrain.evaluation.case_choice import (
    choose_cases,
    choose_cases_files,
    largest_slice,
    read_choice,
    spread_order,
)


def score_rows(case, class_name, dice, probability=0.5, split="test", true_ml=5.0):
    common = {"case": case, "split": split, "class": class_name}
    metrics = {"dice": dice, "true_volume_ml": true_ml}
    rows = [{**common, "target": "whole", "metric": name, "value": str(value)} for name, value in metrics.items()]
    return [*rows, {**common, "target": class_name, "metric": "probability", "value": str(probability)}]


def scores_of(**dice_of_class):
    """Cases p0, p1, ... of class p with these Dice scores, and so on."""
    return [
        row
        for name, values in dice_of_class.items()
        for number, dice in enumerate(values)
        for row in score_rows(f"{name}{number}", name, dice)
    ]


def places(scores, classes, num_cases):
    return [(chosen.case, chosen.place) for chosen in choose_cases(scores, classes, num_cases)]


def test_few_cases_show_every_class_and_every_place():
    values = [0.1, 0.2, 0.3, 0.4, 0.5]
    scores = scores_of(p=values, q=values, r=values, s=values)
    chosen = places(scores, ["p", "q", "r", "s"], 4)
    assert chosen == [("p2", "median"), ("q0", "worst"), ("r4", "best"), ("s2", "median")]


def test_every_class_shows_its_median_worst_and_best_before_any_other():
    scores = scores_of(p=[0.1, 0.5, 0.6, 0.9], q=[0.3, 0.4, 0.8])
    chosen = places(scores, ["p", "q"], 6)
    assert set(chosen) == {(f"p{n}", word) for n, word in ((0, "worst"), (1, "median"), (3, "best"))} | {
        (f"q{n}", word) for n, word in ((0, "worst"), (1, "median"), (2, "best"))
    }
    assert places(scores, ["p", "q"], 9)[6:] == [("p2", "between")]


def test_small_groups_have_no_place_twice():
    assert places(scores_of(p=[0.7, 0.2]), ["p"], 9) == [("p1", "worst"), ("p0", "best")]
    assert places(scores_of(p=[0.7]), ["p", "absent"], 9) == [("p0", "only")]


def test_where_dice_is_equal_the_probability_of_the_true_class_decides():
    scores = [row for case, sure in (("a", 0.9), ("b", 0.2)) for row in score_rows(case, "p", 1.0, sure, true_ml=0.0)]
    assert places(scores, ["p"], 2) == [("b", "worst"), ("a", "best")]


def test_without_regions_the_probability_of_the_true_class_decides():
    scores = [score_rows(f"c{n}", "p", 0.0, sure)[-1] for n, sure in enumerate((0.5, 0.9, 0.1))]
    assert places(scores, ["p"], 3) == [("c0", "median"), ("c2", "worst"), ("c1", "best")]


def test_external_cases_are_chosen_where_there_is_no_test_case():
    external = score_rows("b", "p", 0.2, split="external")
    assert places([*score_rows("a", "p", 0.1), *external], ["p"], 5) == [("a", "only")]
    assert [(chosen.case, chosen.split) for chosen in choose_cases(external, ["p"], 5)] == [("b", "external")]


def test_cases_without_a_diagnosis_come_last_or_are_all():
    unknown = [row for number in range(3) for row in score_rows(f"u{number}", "", 0.1 * number)]
    assert places([*unknown, *scores_of(p=[0.5])], ["p"], 2) == [("p0", "only"), ("u0", "worst")]
    assert [case for case, _ in places(unknown, [], 3)] == ["u1", "u0", "u2"]


@pytest.mark.parametrize(
    ("num_cases", "order"),
    [(0, []), (1, [0]), (2, [0, 1]), (3, [1, 0, 2]), (9, [4, 0, 8, 2, 6, 1, 3, 5, 7])],
)
def test_after_median_worst_and_best_the_widest_gap_is_halved(num_cases, order):
    assert spread_order(num_cases) == order


def test_the_slice_that_stands_for_a_case_has_the_largest_region_or_is_in_the_middle():
    masks = np.zeros((1, 6, 4, 4), dtype=np.uint8)
    assert largest_slice(masks) == 3
    masks[0, 1, :2], masks[0, 4] = 1, 1
    assert largest_slice(masks) == 4


def test_the_choice_is_read_as_it_was_written(tmp_path, make_case, write_shard):
    masks = np.zeros((2, 1, 4, 8, 8), np.uint8)
    masks[1, 0, 1, 2:5] = 1
    shard = write_shard(tmp_path / "north", [make_case("a"), make_case("b", split="test")], masks=masks)
    rows = score_rows("b", "dipg", 0.5)
    write_table(tmp_path / "scores.tsv", tuple(rows[0]), rows)
    choose_cases_files(tmp_path / "scores.tsv", [shard], tmp_path / "cases.tsv", ["dipg"], 3, "grid")
    (chosen,) = read_choice(tmp_path / "cases.tsv")
    assert (chosen.case, chosen.class_name, chosen.place, chosen.slice_index) == ("b", "dipg", "only", 1)
