import itertools
import math

import numpy as np
import pytest
from fedpedbrain.base.files import write_table
from fedpedbrain.evaluation.comparison import compare_arms_files
from fedpedbrain.evaluation.scores import SCORE_COLUMNS
from fedpedbrain.evaluation.tables import (
    CROSS_SITE_COLUMNS,
    DIFFERENCE_COLUMNS,
    GAIN_COLUMNS,
    SITE_COLUMNS,
    SUMMARY_COLUMNS,
    TEST_COLUMNS,
)
from fedpedbrain.reporting.numbers import format_bytes, format_change, format_score
from fedpedbrain.reporting.results import Estimate, Judgement, Measure, Results
from fedpedbrain.reporting.tables.score_tables import headline_table
from fedpedbrain.reporting.tables.statistics_tables import answer_margins
from fedpedbrain.reporting.words import answers, headlines
from study_arms import arm

TABLE_COLUMNS = {
    "summary": SUMMARY_COLUMNS,
    "differences": DIFFERENCE_COLUMNS,
    "tests": TEST_COLUMNS,
    "sites": SITE_COLUMNS,
    "gains": GAIN_COLUMNS,
    "cross_sites": CROSS_SITE_COLUMNS,
}


@pytest.fixture
def study_and_results(write_study):
    synthetic = write_study()
    return synthetic.study, Results.from_files(synthetic.tables)


@pytest.mark.parametrize(
    ("low", "high", "reading"),
    [
        (-0.2, 0.1, "no difference shown"),
        (-0.2, -0.1, "lower"),
        (0.1, 0.2, "higher"),
        (0.0, 0.2, "no difference shown"),
    ],
)
def test_a_difference_is_claimed_only_where_its_interval_excludes_zero(low, high, reading):
    assert Estimate(0.0, low, high, 9, 9).reading == reading


def test_why_there_is_no_interval_is_said():
    few, alike = (Estimate(0.5, math.nan, math.nan, 9, num_patients, metric="dice") for num_patients in (5, 6))
    assert few.reading == few.caveat == "too few patients for an interval"
    assert answers.describe_value(few) == "0.500 (too few patients for an interval)"
    assert alike.reading == alike.caveat == "all patients alike, so no interval"
    same = Estimate(0.0, math.nan, math.nan, 9, 6, metric="accuracy")
    assert (same.short_reading, same.bound) == (
        "the same in all 6 patients",
        "at most 45.9 % of patients could differ",
    )
    assert same.reading == f"{same.short_reading}; {same.bound}"
    assert alike.bound == few.bound == "", "no difference that could be the same"


def test_a_group_of_cases_may_lack_an_interval_for_one_class():
    caveat = "no interval: a class has too few patients, or all are alike"
    assert Estimate(0.5, math.nan, math.nan, 9, 9, metric="auroc").caveat == caveat
    assert Estimate(0.5, math.nan, math.nan, 9, 5, metric="auroc").caveat == "too few patients for an interval"


def test_distances_and_volumes_have_one_digit():
    distance = Estimate(-2.345, -4.0, 0.02, 9, 9, 0.123, "hd95_mm")
    assert (distance.score, distance.change) == ("\u22122.3", "\u22122.3")
    assert (distance.change_interval, distance.seeds) == ("[\u22124.0, 0.0]", "seeds ± 0.1")


def test_a_rule_for_empty_masks_is_named_with_what_it_decided():
    assert Estimate(0.5, 0.4, 0.6, 9, 9, empty_rule="one_or_zero", num_by_rule=2).rule == "one_or_zero: 2 of 9"
    assert Estimate(0.5, 0.4, 0.6, 9, 9, empty_rule="one_or_zero", num_left_out=1).rule == "one_or_zero: 1 left out"
    assert Estimate(0.5, 0.4, 0.6, 9, 9, empty_rule="one_or_zero").rule == ""


def test_numbers_are_written_alike():
    assert [format_score(0.12345), format_score(math.nan)] == ["0.123", "–"]
    assert [format_change(0.05), format_change(-0.05), format_change(-0.0001)] == ["+0.050", "\u22120.050", "0.000"]
    assert [format_bytes(2_850_000), format_bytes(900)] == ["2.85 MB", "900 B"]


def test_the_headline_gives_reading_and_numbers(study_and_results):
    study, results = study_and_results
    (headline,) = headlines.headlines(results, study)
    assert headline.opening == "FedAvg against pooled-arm."
    verdict = headline.verdicts[0]
    assert verdict.subject == "Tumour Dice (whole tumour)"
    assert verdict.reading == "lower by 0.300, inferior, worse by more than the margin of 0.05"
    assert verdict.numbers == "[\u22120.450, \u22120.150], n = 12"


def test_it_is_said_where_an_arm_differs_and_how_it_is_where_nobody_trained(study_and_results):
    study, results = study_and_results
    trained, external = headlines.places(results, study)
    lower = "−0.300 [−0.450, −0.150], n = 12"
    assert "Tumour Dice (whole tumour): too few patients for an interval at a (n = " in trained
    assert f"; lower at b ({lower})." in trained
    assert external.startswith("At sites where nobody trained, FedAvg against pooled-arm. Tumour Dice")
    assert f"lower at x ({lower}, FedAvg 0." in external


def judged(noninferiority):
    return Judgement(0.5, 0.5, 1, 22, 0.05, noninferiority)


@pytest.mark.parametrize(
    ("ends", "noninferiority", "reading"),
    [
        # An interval that includes 0 shows no difference; that it is small, it shows only within the margin.
        ((-0.142, 0.097), "not shown", "non-inferiority not shown"),
        ((-0.018, 0.016), "non-inferior", "non-inferior"),
        ((-0.052, -0.010), "not shown", "lower, non-inferiority not shown"),
        ((-0.300, -0.100), "inferior", "lower, inferior"),
        ((-0.142, 0.097), "", "no difference shown"),
    ],
)
def test_at_a_site_the_margin_is_read_before_a_difference_that_was_not_shown(ends, noninferiority, reading):
    difference = Estimate(sum(ends) / 2, *ends, 22, 22, metric="dice")
    assert headlines.place_reading(difference, judged(noninferiority)) == reading


def test_at_a_site_without_tests_the_interval_is_read():
    assert headlines.place_reading(Estimate(0.1, 0.05, 0.2, 22, 22, metric="dice"), None) == "higher"


def test_a_measure_is_put_beside_the_reference(study_and_results):
    study, results = study_and_results
    text = answers.find_all(results, study)[0].text
    assert "FedAvg reaches 0.501 [0.461, 0.541], 63 % of pooled-arm" in text
    assert "reaches 0.601 to 0.701" in text


def test_a_site_is_compared_with_its_own_local_arm(study_and_results):
    study, results = study_and_results
    gains = answers.site_gains(results, study, "fedavg", answers.headline_measures(study)[0])
    # fedavg is arm 3 of the list, local-a arm 1, local-b arm 2; each step costs 0.1.
    assert {site: gain.value for site, gain in gains.items()} == {"a": pytest.approx(-0.2), "b": pytest.approx(-0.1)}
    assert (
        "FedAvg is ahead of a site's own local arm at 0 of 2 sites; the difference goes from −0.200 [−0.250, −0.150] "
        "(at a, n = 12) to −0.100 [−0.150, −0.050] (at b, n = 12). Intervals show a gain nowhere and a loss at a and b."
    ) in answers.find_gains(results, study).text


@pytest.mark.parametrize("name", ["NA", "None", "null", "nan"])
def test_names_that_pandas_takes_for_nothing_stay_names(tmp_path, name):
    keys = {"arm": name, "reference": name, "scope": name, "split": "test", "target": name, "metric": "dice"}
    numbers = {"num_cases": 9, "num_patients": 9, "num_arms": 1, "value": 0.5, "difference": 0.1}
    for table, columns in TABLE_COLUMNS.items():
        rows = [keys | numbers] if table in ("summary", "differences", "tests") else []
        filled = [{column: row.get(column, "") for column in columns} for row in rows]
        write_table(tmp_path / f"{table}.tsv", columns, filled)
    results = Results.from_files({table: tmp_path / f"{table}.tsv" for table in TABLE_COLUMNS})
    measure = Measure(name, "dice", "")
    assert results.test_sites == [name]
    assert results.value(name, measure, name).value == 0.5
    assert results.difference(name, measure, name).value == 0.1
    assert results.judgement(name, measure, name).num_arms == 1


def test_local_arms_are_main_arms_where_there_are_no_others(write_study):
    arms = write_study().study["arms"]
    study = {"arms": arms[1:3], "candidates": [], "reference_arm": "local-a"}
    assert answers.main_arms(study) == ["local-a", "local-b"]
    assert answers.local_arms(study) == {}


# A study of three seeds, from its scores to its answer.


@pytest.fixture
def answers_of(tmp_path):
    """``answers_of(shifts, margins)``: headlines of 18 patients at four sites, the arms' Dice shifted by so much."""

    def build(shifts: dict[str, float], margins: dict[str, float | None]):
        generator = np.random.default_rng(0)
        sites = list("aaaaaabbbbbccccddd")
        hardness = generator.beta(2.0, 6.0, len(sites))
        study = {
            "candidates": [],
            "reference_arm": "centralized",
            "regions": ["whole_lesion"],
            "classes": [],
            "seeds": [0, 1, 2],
        }
        study["anatomy"] = {"organ": "head", "finding": "tumour"}
        study["arms"] = [arm("centralized", {"pooled": ["a", "b", "c", "d"]})]
        study["arms"] += [arm(name, {site: [site] for site in "abcd"}) for name in shifts]
        study["config"] = {"evaluation": {"noninferiority_margin": margins}}
        paths = []
        for (name, shift), seed in itertools.product({"centralized": 0.0, **shifts}.items(), study["seeds"]):
            noise = 0.02 * generator.standard_normal(len(sites))
            rows = []
            for number, (site, dice) in enumerate(zip(sites, 0.9 - hardness + shift + noise, strict=True)):
                common = {"arm": name, "seed": seed, "case": f"c{number}", "patient": f"c{number}", "site": site}
                common |= {"split": "test", "class": "", "target": "whole_lesion"}
                values = {"dice": dice, "true_volume_ml": 20.0, "predicted_volume_ml": 19.0}
                rows += [common | {"metric": metric, "value": value} for metric, value in values.items()]
            paths.append(tmp_path / f"{name}-{seed}.tsv")
            write_table(paths[-1], SCORE_COLUMNS, rows)
        tables = {table: tmp_path / f"{table}.tsv" for table in (*TABLE_COLUMNS, "models", "confusion", "reliability")}
        settings = {"reference_arm": "centralized", "noninferiority_margin": margins, "reliability_bins": 10}
        settings |= {"bootstrap_samples": 500, "confidence_level": 0.95, "seed": 0}
        arms = {item["name"]: item["sites"] for item in study["arms"]}
        compare_arms_files(paths, tables, arms, list("abcd"), [], None, settings)
        return study, Results.from_files(tables)

    return build


def test_a_study_of_several_seeds_answers_at_its_margin_on_the_first_screen(answers_of):
    expected = {
        "close": (-0.01, "non-inferior at the margin of 0.05"),
        "between": (-0.05, "not shown to be non-inferior at the margin of 0.05"),
        "far": (-0.2, "inferior, worse by more than the margin of 0.05"),
    }
    study, results = answers_of({name: shift for name, (shift, _) in expected.items()}, {"dice": 0.05, "accuracy": 0.1})
    (line,) = answer_margins(results, study)
    for headline, (name, (_, answer)) in zip(headlines.headlines(results, study), expected.items(), strict=True):
        assert headline.opening == f"{name} against centralized."
        assert headline.verdicts[0].reading.split(", ", 1)[-1] == answer
        assert f"{name} is {answer}" in line
    # The spread over seeds stands beside the interval over patients, not in it.
    (group,) = headline_table(results, study, dict.fromkeys(["centralized", *expected], "#000000"))
    assert group.margin_place == pytest.approx(50.0 - 50.0 * 0.05 / group.limit)
    first, second, *_ = group.rows
    assert "seeds ± 0.00" in first.score.detail
    assert "seeds ± 0.0" in second.difference.detail


def test_without_a_margin_the_answer_is_what_the_interval_shows(answers_of):
    study, results = answers_of({"fedavg": -0.2}, {"dice": None})
    (headline,) = headlines.headlines(results, study)
    assert headline.verdicts[0].reading.startswith("lower by 0.")
    assert "margin" not in headline.verdicts[0].reading
    (line,) = answer_margins(results, study)
    assert line.endswith("the config sets no margin, so nothing is said of it.")
