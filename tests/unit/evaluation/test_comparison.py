import math
import warnings

import numpy as np
import pytest
from fedpedbrain.base.cases import DIAGNOSIS
from fedpedbrain.base.files import write_table
from fedpedbrain.evaluation import tables as columns_of
from fedpedbrain.evaluation.tables import POOLED_SCOPE, read_results
from fedpedbrain.study.metric_facts import GROUP_METRICS
from scored_cases import CLASSES, Scored
from sklearn.metrics import accuracy_score

# Means.


def test_dice_is_the_mean_of_tumour_cases_alone(compare):
    healthy = Scored("c", 1.0, class_name="normal", predicted_ml=0.0)
    tables = compare({"centralized": [Scored("a", 0.5), Scored("b", 0.7), healthy]})
    assert tables.value("centralized", "dice") == pytest.approx(0.6)
    assert tables.one("summary", metric="dice", scope=POOLED_SCOPE)["num_cases"] == "2"
    assert tables.value("centralized", "dice_all_cases") == pytest.approx(2.2 / 3, abs=1e-6)


def test_empty_in_normal_is_the_part_of_normal_cases_without_a_prediction(compare):
    healthy = [Scored(str(n), 0.0, class_name="normal", predicted_ml=ml) for n, ml in enumerate((0.0, 0.0, 0.0, 2.0))]
    tables = compare({"centralized": [Scored("a", 0.0, predicted_ml=0.0), *healthy]})
    assert tables.value("centralized", "empty_in_normal") == 0.75
    assert tables.one("summary", metric="empty_in_normal", scope=POOLED_SCOPE)["num_cases"] == "4"


def test_accuracy_is_the_part_whose_most_probable_class_is_the_true_one(compare):
    cases = [
        Scored("a", predicted="dipg"),
        Scored("b", predicted="normal"),
        Scored("c", predicted="normal", class_name="normal"),
        Scored("d", predicted="dipg", class_name="ependymoma"),
    ]
    tables = compare({"centralized": cases})
    row = tables.one("summary", metric="accuracy", scope=POOLED_SCOPE)
    assert (row["value"], row["num_cases"], row["target"]) == ("0.5", "4", DIAGNOSIS)


def test_accuracy_agrees_with_scikit_learn(compare):
    drawn = np.random.default_rng(0).choice(CLASSES, (20, 2))
    cases = [Scored(str(n), predicted=predicted, class_name=true) for n, (true, predicted) in enumerate(drawn)]
    expected = accuracy_score(drawn[:, 0], drawn[:, 1])
    assert compare({"centralized": cases}).value("centralized", "accuracy") == pytest.approx(expected)


def test_cases_of_unknown_class_count_for_their_regions_alone(compare):
    cases = [Scored("a", 0.5, "dipg"), Scored("b", 0.9, "dipg", class_name="")]
    tables = compare({"centralized": cases})
    assert tables.value("centralized", "accuracy") == 1.0
    assert tables.one("summary", metric="accuracy", scope=POOLED_SCOPE)["num_cases"] == "1"
    assert tables.value("centralized", "dice") == pytest.approx(0.7)


def test_each_region_has_its_own_rows(compare):
    cases = [Scored("a", 0.5), Scored("a", 0.1, target="core")]
    tables = compare({"centralized": cases})
    assert tables.value("centralized", "dice", target="whole_tumour") == 0.5
    assert tables.value("centralized", "dice", target="core") == 0.1


def test_the_interval_holds_the_mean_and_is_of_patients(compare):
    cases = [Scored(str(n), n / 10) for n in range(10)]
    row = compare({"centralized": cases}).one("summary", metric="dice", scope=POOLED_SCOPE)
    assert 0.0 < float(row["low"]) < 0.45 < float(row["high"]) < 0.9
    visits = [Scored("a-1", 0.2, patient="a"), Scored("a-2", 0.4, patient="a")]
    row = compare({"centralized": visits}).one("summary", metric="dice", scope=POOLED_SCOPE)
    assert row["value"] == "0.3"
    assert row["low"] in ("", "nan")


def test_several_seeds_are_averaged_a_case_first(compare):
    cases = [Scored("a", 0.4), Scored("b", 0.8), Scored("a", 0.6, seed=1), Scored("b", 1.0, seed=1)]
    row = compare({"centralized": cases}).one("summary", metric="dice", scope=POOLED_SCOPE)
    assert row["num_cases"] == "2"
    assert float(row["value"]) == pytest.approx(0.7)
    # Seeds' own means 0.6 and 0.8.
    assert float(row["seed_sd"]) == pytest.approx(math.sqrt(0.02), abs=1e-6)
    assert row["num_patients"] == "2"


def test_too_few_patients_have_no_interval_and_are_counted(compare):
    cases = [Scored(f"{patient}-{visit}", 0.5, patient=patient) for patient in "abcde" for visit in "12"]
    tables = compare({"centralized": cases, "fedavg": cases})
    for table in ("summary", "differences"):
        few = tables.one(table, metric="dice", scope=POOLED_SCOPE, arm="fedavg")
        assert (few["num_cases"], few["num_patients"], few["low"], few["high"]) == ("10", "5", "", "")
    one_more = [*cases, Scored("f", 0.5)]
    enough = compare({"centralized": one_more}).one("summary", metric="dice", scope=POOLED_SCOPE)
    assert (enough["num_patients"], enough["low"], enough["high"]) == ("6", "", "")
    unlike = compare({"centralized": [*cases, Scored("f", 0.7)]}).one("summary", metric="dice", scope=POOLED_SCOPE)
    assert 0.5 <= float(unlike["low"]) < float(unlike["high"]) <= 0.7


def test_one_seed_has_no_spread(compare):
    row = compare({"centralized": [Scored("a", 0.4), Scored("b", 0.8)]}).one(
        "summary", metric="dice", scope=POOLED_SCOPE
    )
    assert row["seed_sd"] in ("", "nan")


# Scopes.


def test_test_patients_are_pooled_and_external_ones_stand_apart(compare):
    cases = [
        Scored("w", 0.1, "dipg", site="west", split="external"),
        Scored("s", 0.8, "dipg", site="south"),
        Scored("n", 0.4, "dipg", site="north"),
    ]
    tables = compare({"centralized": cases})
    dice = [row for row in tables.summary if row["metric"] == "dice"]
    assert [(row["scope"], row["split"], row["num_cases"], row["value"]) for row in dice] == [
        (POOLED_SCOPE, "test", "2", "0.6"),
        ("north", "test", "1", "0.4"),
        ("south", "test", "1", "0.8"),
        ("west", "external", "1", "0.1"),
    ]


def test_sites_and_arms_stand_in_the_order_of_the_config(compare):
    cases = [Scored("a", 0.4, "dipg", site="south"), Scored("b", 0.8, "dipg", site="north")]
    arms = dict.fromkeys(("zeta", "centralized", "alpha"), cases)
    tables = compare(arms, sites=["south", "north"])
    for metric in ("dice", "accuracy", "macro_f1"):
        rows = [row for row in tables.summary if row["metric"] == metric]
        assert list(dict.fromkeys(row["arm"] for row in rows)) == list(arms), metric
        assert list(dict.fromkeys(row["scope"] for row in rows)) == [POOLED_SCOPE, "south", "north"], metric
    assert list(dict.fromkeys(row["arm"] for row in tables.differences)) == ["zeta", "alpha"]
    assert list(dict.fromkeys(row["arm"] for row in tables.confusion)) == list(arms)


@pytest.mark.parametrize("name", ["06", "1e3", "NA", "nan", "true"])
def test_names_that_look_like_something_else_stay_names(compare, name):
    cases = [
        Scored("06", 0.4, name, class_name=name, site=name, patient="007", target=name, classes=["normal", name]),
        Scored("6", 0.8, name, class_name=name, site=name, patient="7", target=name, classes=["normal", name]),
    ]
    tables = compare({name: cases, "centralized": cases}, sites=[name], classes=["normal", name])
    assert tables.value(name, "dice", scope=name, target=name) == pytest.approx(0.6)
    assert tables.one("summary", arm=name, scope=name, metric="accuracy")["num_cases"] == "2"
    assert tables.one("differences", arm=name, scope=name, metric="dice")["difference"] == "0"
    assert tables.one("confusion", arm=name, true_class=name, predicted_class=name)["num_cases"] == "2"


# Differences.


def test_differences_are_paired_case_by_case(compare):
    scores = {"a": 0.2, "b": 0.6, "c": 0.4, "d": 0.1, "e": 0.8, "f": 0.5}
    tables = compare(
        {
            "centralized": [Scored(case, dice) for case, dice in scores.items()],
            "fedavg": [Scored(case, dice + 0.1) for case, dice in reversed(scores.items())],
        }
    )
    row = tables.one("differences", metric="dice", scope=POOLED_SCOPE)
    assert (row["arm"], row["reference"], row["num_cases"]) == ("fedavg", "centralized", "6")
    # The same in every case: no spread can be read from it.
    assert float(row["difference"]) == pytest.approx(0.1)
    assert (row["low"], row["high"]) == ("", "")


def test_a_difference_is_the_arm_less_the_reference(compare):
    tables = compare(
        {"centralized": [Scored("a", 0.9), Scored("b", 0.9)], "fedavg": [Scored("a", 0.5), Scored("b", 0.8)]}
    )
    row = tables.one("differences", metric="dice", scope=POOLED_SCOPE)
    assert float(row["difference"]) == pytest.approx(-0.25)


def test_the_reference_is_not_compared_with_itself(compare):
    cases = [Scored("a", 0.5, "dipg"), Scored("b", 0.5, "dipg")]
    tables = compare({"centralized": cases, "fedavg": cases, "local": cases})
    assert {row["arm"] for row in tables.differences} == {"fedavg", "local"}
    metrics = {row["metric"] for row in tables.differences if row["target"] not in CLASSES}
    assert metrics == {"dice", "dice_all_cases", "accuracy", *GROUP_METRICS} - {"precision", "recall", "f1"}


def test_seeds_are_averaged_before_the_difference(compare):
    reference = [Scored("a", 0.4), Scored("a", 0.6, seed=1)]
    other = [Scored("a", 0.9), Scored("a", 0.5, seed=1)]
    row = compare({"centralized": reference, "fedavg": other}).one("differences", metric="dice", scope=POOLED_SCOPE)
    assert row["num_cases"] == "1"
    assert float(row["difference"]) == pytest.approx(0.2)


def test_text_is_read_as_text_and_missing_numbers_as_missing(tmp_path):
    path = tmp_path / "table.tsv"
    words = ["NA", "None", "null", "nan", "", "007"]
    lows = ["", "nan", *"1234"]
    rows = [{"arm": word, "site": word, "num_cases": 3, "low": low} for word, low in zip(words, lows, strict=True)]
    write_table(path, ["arm", "site", "num_cases", "low"], rows)
    table = read_results(path)
    assert table["arm"].tolist() == table["site"].tolist() == words
    assert table["num_cases"].tolist() == [3] * 6
    assert table["low"].isna().tolist() == [True, True, False, False, False, False]
    assert table["low"].sum() == 10


# Confusions.


def test_confusions_are_counted_by_arm_and_split(compare):
    cases = [
        Scored("a", predicted="dipg"),
        Scored("b", predicted="dipg"),
        Scored("c", predicted="normal"),
        Scored("d", predicted="normal", class_name="normal"),
        Scored("w", predicted="dipg", class_name="ependymoma", site="west", split="external"),
    ]
    tables = compare({"centralized": cases})
    counts = {
        (row["split"], row["true_class"], row["predicted_class"]): row["num_cases"]
        for row in tables.confusion
        if row["num_cases"] != "0"
    }
    assert counts == {
        ("test", "dipg", "dipg"): "2",
        ("test", "dipg", "normal"): "1",
        ("test", "normal", "normal"): "1",
        ("external", "ependymoma", "dipg"): "1",
    }
    # Every pair of classes stands there, in the order of the config.
    test_rows = [(row["true_class"], row["predicted_class"]) for row in tables.confusion if row["split"] == "test"]
    assert test_rows == [(true, predicted) for true in CLASSES for predicted in CLASSES]


def test_macro_f1_is_in_the_summary(compare):
    cases = [
        Scored("a", predicted="dipg"),
        Scored("b", predicted="normal"),
        Scored("c", predicted="normal", class_name="normal"),
    ]
    tables = compare({"centralized": cases})
    # 2/3 for each of the two classes that occur.
    assert tables.value("centralized", "macro_f1", target=DIAGNOSIS) == pytest.approx(2 / 3, abs=1e-6)
    assert tables.one("summary", metric="macro_f1", scope=POOLED_SCOPE)["num_cases"] == "3"


# Studies of one task.


def test_a_study_without_classes_has_dice_alone(compare):
    cases = [Scored("a", 0.5, class_name=""), Scored("b", 0.7, class_name="")]
    tables = compare({"centralized": cases, "fedavg": cases}, classes=[], normal_class=None)
    assert {row["metric"] for row in tables.summary} == {"dice", "dice_all_cases"}
    assert tables.value("fedavg", "dice") == pytest.approx(0.6)
    assert {row["metric"] for row in tables.differences} == {"dice", "dice_all_cases"}
    assert tables.confusion == []


def test_a_study_without_regions_has_accuracy_alone(compare):
    cases = [Scored("a", predicted="dipg"), Scored("b", predicted="normal")]
    tables = compare({"centralized": cases, "fedavg": cases})
    of_diagnosis = {row["metric"] for row in tables.summary if row["target"] == DIAGNOSIS}
    assert of_diagnosis == {"accuracy", "macro_f1", "balanced_accuracy", "auroc", "calibration_error"}
    assert {row["target"] for row in tables.summary} == {DIAGNOSIS, *CLASSES}
    assert tables.value("fedavg", "accuracy") == 0.5
    of_diagnosis = {row["metric"] for row in tables.differences if row["target"] == DIAGNOSIS}
    assert of_diagnosis == {"accuracy", "macro_f1", "balanced_accuracy", "auroc", "calibration_error"}


@pytest.mark.parametrize(
    "cases",
    [
        [Scored("a", 0.5, "dipg"), Scored("b", 0.7, "dipg")],
        [Scored("a", 0.5, class_name=""), Scored("b", 0.7, class_name="")],
        [Scored("a", predicted="dipg"), Scored("b", predicted="dipg")],
    ],
    ids=["both tasks", "no classes", "no regions"],
)
def test_tables_are_made_without_a_warning_and_keep_their_columns(compare, tmp_path, cases):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compare({"centralized": cases, "fedavg": cases}, classes=CLASSES if cases[0].predicted else [])
    expected = {
        "summary": columns_of.SUMMARY_COLUMNS,
        "differences": columns_of.DIFFERENCE_COLUMNS,
        "tests": columns_of.TEST_COLUMNS,
        "confusion": columns_of.CONFUSION_COLUMNS,
        "reliability": columns_of.RELIABILITY_COLUMNS,
        "sites": columns_of.SITE_COLUMNS,
        "gains": columns_of.GAIN_COLUMNS,
        "cross_sites": columns_of.CROSS_SITE_COLUMNS,
    }
    for name, columns in expected.items():
        assert (tmp_path / f"{name}.tsv").read_text().splitlines()[0].split("\t") == list(columns)


# Empty masks.


def test_values_by_the_rule_for_empty_masks_are_named_and_counted(compare):
    missed = {"hd95_mm": (99.0, "diagonal_or_left_out"), "lesion_precision": (math.nan, "left_out_without_lesion")}
    cases = [
        Scored("a", 0.8, others={"hd95_mm": (3.0, ""), "lesion_precision": (0.5, "")}),
        Scored("b", 0.0, predicted_ml=0.0, others=missed),
    ]
    tables = compare({"centralized": cases, "fedavg": cases[:1] + cases[1:]})
    hd95 = tables.one("summary", arm="fedavg", metric="hd95_mm", scope=POOLED_SCOPE)
    counts = ("num_cases", "num_by_rule", "num_left_out")
    assert (float(hd95["value"]), hd95["empty_rule"]) == (51.0, "diagonal_or_left_out")
    assert [hd95[key] for key in counts] == ["2", "1", "0"]
    precision = tables.one("summary", arm="fedavg", metric="lesion_precision", scope=POOLED_SCOPE)
    assert precision["value"] == "0.5"
    assert [precision[key] for key in counts] == ["1", "0", "1"]
    paired = tables.one("differences", metric="lesion_precision", scope=POOLED_SCOPE)
    assert [paired[key] for key in counts] == ["1", "0", "1"]


def test_a_case_that_one_arm_leaves_out_is_in_no_pair(compare):
    left_out = {"lesion_precision": (math.nan, "left_out_without_lesion")}
    found = {"lesion_precision": (1.0, "")}
    reference = [Scored("a", 0.8, others={"lesion_precision": (0.0, "")}), Scored("b", 0.8, others=found)]
    tables = compare({"centralized": reference, "fedavg": [Scored("a", 0.8, others=left_out), reference[1]]})
    row = tables.one("differences", metric="lesion_precision", scope=POOLED_SCOPE)
    assert (row["difference"], row["num_cases"], row["num_left_out"]) == ("0", "1", "1")


def test_surface_metrics_are_of_tumour_cases_alone(compare):
    normal = Scored("n", 0.0, class_name="normal", others={"hd95_mm": (99.0, "diagonal_or_left_out")})
    tables = compare({"centralized": [normal, Scored("a", 0.8, others={"hd95_mm": (3.0, "")})]})
    assert tables.value("centralized", "hd95_mm") == 3.0


# Seeds.


def test_the_spread_over_seeds_of_a_difference_is_that_of_the_seeds_own_differences(compare):
    reference = [Scored(case, 0.4 + 0.1 * seed, seed=seed) for seed in (0, 1) for case in "ab"]
    other = [Scored(case, 0.5 + 0.3 * seed, seed=seed) for seed in (0, 1) for case in "ab"]
    # 0.1 with one seed, 0.3 with the other.
    row = compare({"centralized": reference, "fedavg": other}).one("differences", metric="dice", scope=POOLED_SCOPE)
    assert float(row["difference"]) == pytest.approx(0.2)
    assert float(row["seed_sd"]) == pytest.approx(math.sqrt(0.02), abs=1e-6)


def test_scores_of_a_group_are_means_over_seeds(compare):
    right = [Scored("a", predicted="dipg"), Scored("b", predicted="normal", class_name="normal")]
    wrong = [Scored("a", predicted="normal", seed=1), Scored("b", predicted="dipg", class_name="normal", seed=1)]
    row = compare({"centralized": right + wrong}).one("summary", metric="macro_f1", scope=POOLED_SCOPE)
    # One seed has 1, the other 0.
    assert float(row["value"]) == 0.5
    assert float(row["seed_sd"]) == pytest.approx(math.sqrt(0.5), abs=1e-6)


def test_every_model_has_the_scores_of_its_own_seed(compare):
    cases = [Scored("a", 0.4, predicted="dipg"), Scored("a", 0.6, predicted="normal", seed=1)]
    tables = compare({"centralized": cases})
    for seed, dice, accuracy in (("0", "0.4", "1"), ("1", "0.6", "0")):
        of_seed = {"seed": seed, "scope": POOLED_SCOPE, "target": DIAGNOSIS}
        assert tables.one("models", **(of_seed | {"target": "whole_tumour", "metric": "dice"}))["value"] == dice
        for metric in ("accuracy", "auroc"):
            row = tables.one("models", **of_seed, metric=metric)
            assert row["num_cases"] == "1"
        assert tables.one("models", **of_seed, metric="accuracy")["value"] == accuracy


def test_models_of_one_seed_are_the_summary(compare):
    tables = compare({"centralized": [Scored(name, 0.1 * n, predicted="dipg") for n, name in enumerate("abcdefg")]})
    same = ("arm", "scope", "target", "metric", "num_cases", "value", "low", "high")
    assert [[row[key] for key in same] for row in tables.models] == [
        [row[key] for key in same] for row in tables.summary
    ]


# Tests and margins.


def better_by(step: float, number: int) -> tuple[list[Scored], list[Scored]]:
    """A reference and an arm that is better in every case, by other amounts."""
    base = [Scored(f"{n:02d}", 0.3) for n in range(number)]
    return base, [Scored(f"{n:02d}", 0.3 + step * (1 + n / 100)) for n in range(number)]


def test_a_difference_in_every_patient_is_found(compare):
    base, better = better_by(0.1, 10)
    row = compare({"centralized": base, "fedavg": better}).one("tests", metric="dice", scope=POOLED_SCOPE)
    assert float(row["p_value"]) == pytest.approx(2 / 2**10, rel=1e-5)
    assert (row["p_holm"], row["num_arms"], row["noninferiority"]) == (row["p_value"], "1", "non-inferior")
    assert row["margin"] == "0.05"


def test_p_values_are_corrected_over_the_arms_of_a_measure(compare):
    base, better = better_by(0.1, 10)
    tables = compare({"centralized": base, "one": better, "two": base, "three": better})
    rows = {arm: tables.one("tests", arm=arm, metric="dice", scope=POOLED_SCOPE) for arm in ("one", "two", "three")}
    assert [float(row["p_holm"]) for row in rows.values()] == pytest.approx([3 / 2**9, 1.0, 3 / 2**9], abs=1e-6)


def test_patients_too_few_for_a_corrected_test_have_none(compare):
    base, better = better_by(0.1, 7)
    # 2 / 2^7 is 1.6 %, four times that is more than 5 %.
    one = compare({"centralized": base, "fedavg": better}).one("tests", metric="dice", scope=POOLED_SCOPE)
    assert float(one["p_holm"]) == pytest.approx(2 / 2**7)
    four = compare({"centralized": base} | dict.fromkeys("abcd", better))
    row = four.one("tests", arm="a", metric="dice", scope=POOLED_SCOPE)
    assert (row["p_value"], row["p_holm"], row["num_patients"]) == ("", "", "7")


def test_cases_of_a_patient_are_one_difference_of_the_test(compare):
    base, better = better_by(0.1, 12)
    for number, (one, other) in enumerate(zip(base, better, strict=True)):
        one.patient = other.patient = f"p{number // 2}"
    row = compare({"centralized": base, "fedavg": better}).one("tests", metric="dice", scope=POOLED_SCOPE)
    assert (row["num_patients"], float(row["p_value"])) == ("6", 2 / 2**6)


def test_a_metric_of_which_less_is_better_is_judged_the_other_way(compare):
    base = [Scored(f"{n}", 0.5, others={"hd95_mm": (5.0, "")}) for n in range(10)]
    worse = [Scored(f"{n}", 0.5, others={"hd95_mm": (9.0 + n / 10, "")}) for n in range(10)]
    tables = compare({"centralized": base, "fedavg": worse})
    assert tables.one("tests", metric="hd95_mm", scope=POOLED_SCOPE)["noninferiority"] == "inferior"
    swapped = compare({"centralized": worse, "fedavg": base})
    assert swapped.one("tests", metric="hd95_mm", scope=POOLED_SCOPE)["noninferiority"] == "non-inferior"


def test_without_a_margin_or_an_interval_nothing_is_said_of_it(compare):
    base, better = better_by(0.1, 5)
    tables = compare({"centralized": base, "fedavg": better})
    assert tables.one("tests", metric="dice", scope=POOLED_SCOPE)["noninferiority"] == ""
    assert tables.one("tests", metric="dice_all_cases", scope=POOLED_SCOPE)["margin"] == ""
