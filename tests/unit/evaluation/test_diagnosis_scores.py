import pytest
from fedpedbrain.evaluation.tables import POOLED_SCOPE
from scored_cases import Scored


def diagnosed(wrong: str = "", site="north", **fields) -> list[Scored]:
    """Ten cases, five of each of two classes; those named in ``wrong`` are taken for the other one."""
    classes = dict.fromkeys("abcde", "dipg") | dict.fromkeys("fghij", "normal")
    other = {"dipg": "normal", "normal": "dipg"}
    return [
        Scored(case, predicted=other[name] if case in wrong else name, class_name=name, site=site, **fields)
        for case, name in classes.items()
    ]


def test_scores_of_a_group_have_intervals_over_patients(compare):
    tables = compare({"centralized": diagnosed("abf")})
    accuracy, balanced = (
        tables.one("summary", metric=metric, scope=POOLED_SCOPE) for metric in ("accuracy", "balanced_accuracy")
    )
    assert accuracy["value"] == balanced["value"] == "0.7"
    # Classes of one size: the same number, about as sure.
    for end in ("low", "high"):
        assert float(balanced[end]) == pytest.approx(float(accuracy[end]), abs=0.06)
    macro_f1 = tables.one("summary", metric="macro_f1", scope=POOLED_SCOPE)
    assert 0.2 < float(macro_f1["low"]) < float(macro_f1["value"]) < float(macro_f1["high"]) <= 1.0


def test_scores_of_a_class_with_few_patients_have_no_interval(compare):
    more = [Scored("k", predicted="normal"), Scored("l", predicted="dipg")]
    tables = compare({"centralized": [*diagnosed("abf"), *more]})
    dipg, normal = (
        tables.one("summary", target=name, metric="recall", scope=POOLED_SCOPE) for name in ("dipg", "normal")
    )
    assert (dipg["num_patients"], normal["num_patients"]) == ("7", "5")
    assert float(dipg["low"]) < float(dipg["value"]) < float(dipg["high"])
    assert (normal["value"], normal["low"], normal["high"]) == ("0.8", "", "")


def test_a_group_with_a_class_of_one_patient_has_no_interval_of_their_mean(compare):
    # Of three draws one has nobody of the class.
    rare = Scored("r", predicted="dipg", class_name="ependymoma")
    tables = compare({"centralized": [*diagnosed("abf"), rare]})
    balanced = tables.one("summary", metric="balanced_accuracy", scope=POOLED_SCOPE)
    assert (float(balanced["value"]), balanced["low"]) == (pytest.approx(1.4 / 3, abs=1e-6), "")
    assert tables.one("summary", metric="accuracy", scope=POOLED_SCOPE)["low"]


def test_differences_of_scores_of_a_group_are_of_the_same_drawn_patients(compare):
    tables = compare({"centralized": diagnosed("a"), "fedavg": diagnosed("abf"), "same": diagnosed("a")})
    row = tables.one("differences", arm="fedavg", metric="balanced_accuracy", scope=POOLED_SCOPE)
    assert row["difference"] == "-0.2"
    # Two patients of ten differ, in one direction. Of scores drawn apart the upper end would be 0.2 and more.
    assert -0.55 < float(row["low"]) < -0.2 < float(row["high"]) < 0.05
    same = tables.one("differences", arm="same", metric="macro_f1", scope=POOLED_SCOPE)
    assert (same["difference"], same["low"], same["num_patients"]) == ("0", "", "10")
    recall = tables.one("differences", arm="fedavg", target="dipg", metric="recall", scope=POOLED_SCOPE)
    assert (recall["difference"], recall["num_cases"]) == ("-0.2", "5")


def test_scores_of_a_group_are_judged_by_a_margin_and_have_no_test(compare):
    arms = {"centralized": diagnosed("a"), "fedavg": diagnosed("abcfg")}
    row = compare(arms).one("tests", metric="balanced_accuracy", scope=POOLED_SCOPE)
    assert (row["margin"], row["p_value"], row["p_holm"]) == ("0.9", "", "")
    assert row["noninferiority"] == "non-inferior"


def test_a_site_gains_in_scores_of_a_group_too(compare):
    arms = {"centralized": diagnosed("a"), "local-north": diagnosed("abf"), "local-south": diagnosed("abf")}
    trained_on = {"local-north": ["north"], "local-south": ["south"]}
    tables = compare(arms, trained_on=trained_on)
    row = tables.one("gains", arm="centralized", site="north", metric="balanced_accuracy")
    assert row["gain"] == "0.2"
    assert float(row["low"]) < 0.2 < float(row["high"])


def test_draws_of_a_score_that_grows_by_drawing_are_moved_back_to_it(compare):
    # Of ten sure and right cases one is wrong: in most draws the calibration error is another one.
    row = compare({"centralized": diagnosed("a")}).one("summary", metric="calibration_error", scope=POOLED_SCOPE)
    assert 0.0 <= float(row["low"]) < float(row["value"]) < float(row["high"])


# Reliability.


def test_predictions_are_binned_by_the_probability_of_the_most_probable_class(compare):
    tables = compare({"centralized": [Scored("a", predicted="dipg"), Scored("b", predicted="normal")]})
    rows = [row for row in tables.reliability if row["scope"] == POOLED_SCOPE]
    assert [row["num_predictions"] for row in rows] == ["0", "0", "2", "0", "0"]
    keys = ("lowest_probability", "highest_probability", "mean_probability", "accuracy")
    assert [float(rows[2][key]) for key in keys] == [0.4, 0.6, 0.6, 0.5]
    assert tables.value("centralized", "calibration_error") == pytest.approx(0.1)
