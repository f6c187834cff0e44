import math

import pytest
from fedpedbrain.evaluation.tables import DIFFERENCE_COLUMNS, SUMMARY_COLUMNS
from fedpedbrain.files import write_table
from fedpedbrain.reporting import answers
from fedpedbrain.reporting.results import Estimate, Measure, Results, format_bytes, format_change, format_score


@pytest.fixture
def study_and_results(write_study):
    synthetic = write_study()
    return synthetic.study, Results.from_files(synthetic.inputs.summary, synthetic.inputs.differences)


@pytest.mark.parametrize(
    ("low", "high", "reading"),
    [
        (-0.2, 0.1, "no difference shown"),
        (-0.2, -0.1, "lower"),
        (0.1, 0.2, "higher"),
        (0.0, 0.2, "no difference shown"),
        (math.nan, math.nan, "no interval"),
    ],
)
def test_a_difference_is_claimed_only_where_its_interval_excludes_zero(low, high, reading):
    assert Estimate(0.0, low, high, 9, 9).reading == reading


def test_patients_too_few_for_an_interval_are_said_to_be():
    few, enough = (Estimate(0.5, math.nan, math.nan, 9, num_patients) for num_patients in (5, 6))
    assert few.reading == few.caveat == "too few patients for an interval"
    assert answers.describe_value(few) == "0.500 (too few patients for an interval)"
    assert (enough.reading, enough.caveat, answers.describe_value(enough)) == ("no interval", "", "0.500")


def test_numbers_are_written_alike():
    assert [format_score(0.12345), format_score(math.nan)] == ["0.123", "–"]
    assert [format_change(0.05), format_change(-0.05), format_change(-0.0001)] == ["+0.050", "\u22120.050", "0.000"]
    assert [format_bytes(2_850_000), format_bytes(900)] == ["2.85 MB", "900 B"]


def test_the_headline_gives_reading_and_numbers(study_and_results):
    study, results = study_and_results
    (headline,) = answers.headlines(results, study)
    assert headline.opening == "FedAvg against pooled-arm."
    verdict = headline.verdicts[0]
    assert (verdict.subject, verdict.reading) == ("Tumour Dice (whole tumour)", "lower by 0.300")
    assert verdict.numbers == "[\u22120.450, \u22120.150]"


def test_a_measure_is_put_beside_the_reference(study_and_results):
    study, results = study_and_results
    text = answers.find_all(results, study)[0].text
    assert "FedAvg reaches 0.501 [0.461, 0.541], 63 % of pooled-arm" in text
    assert "reaches 0.601 to 0.701" in text


def test_a_site_is_compared_with_its_own_local_arm(study_and_results):
    study, results = study_and_results
    gains = answers.site_gains(results, study, "fedavg", answers.headline_measures(["whole_tumour"], [])[0])
    # fedavg is arm 3 of the list, local-a arm 1, local-b arm 2; each step costs 0.1.
    assert gains == {"a": pytest.approx(-0.2), "b": pytest.approx(-0.1)}
    assert (
        "ahead of the site's own local arm at 0 of 2 sites; the difference goes from −0.200 at a to −0.100 at b."
        in answers.find_gains(results, study).text
    )


@pytest.mark.parametrize("name", ["NA", "None", "null", "nan"])
def test_names_that_pandas_takes_for_nothing_stay_names(tmp_path, name):
    keys = {"arm": name, "reference": name, "scope": name, "split": "test", "target": name, "metric": "dice"}
    numbers = {"num_cases": 9, "num_patients": 9, "value": 0.5, "difference": 0.1, "low": "", "high": ""}
    row = keys | numbers | {"seed_sd": ""}
    paths = []
    for table, columns in (("summary", SUMMARY_COLUMNS), ("differences", DIFFERENCE_COLUMNS)):
        paths.append(tmp_path / f"{table}.tsv")
        write_table(paths[-1], columns, [{column: row.get(column, "") for column in columns}])
    results = Results.from_files(*paths)
    measure = Measure(name, "dice", "")
    assert results.test_sites == [name]
    assert results.value(name, measure, name).value == 0.5
    assert results.difference(name, measure, name).value == 0.1


def test_local_arms_are_main_arms_where_there_are_no_others(write_study):
    arms = write_study().study["arms"]
    study = {"arms": arms[1:3], "reference_arm": "local-a"}
    assert answers.main_arms(study) == ["local-a", "local-b"]
    assert answers.local_arms(study) == {}
