import math
import warnings
from dataclasses import dataclass, field

import numpy as np
import pytest
from fedpedbrain.cohort import DIAGNOSIS
from fedpedbrain.evaluation import tables as columns_of
from fedpedbrain.evaluation.comparison import compare_arms_files
from fedpedbrain.evaluation.metric_facts import GROUP_METRICS
from fedpedbrain.evaluation.scores import SCORE_COLUMNS
from fedpedbrain.evaluation.tables import POOLED_SCOPE, read_results
from fedpedbrain.files import read_table, write_table
from sklearn.metrics import accuracy_score

CLASSES = ["normal", "dipg", "ependymoma"]
SETTINGS = {"reference_arm": "centralized", "bootstrap_samples": 200, "confidence_level": 0.95, "seed": 0}
SETTINGS |= {
    "reliability_bins": 5,
    "noninferiority_margin": {"dice": 0.05, "hd95_mm": 2.0, "accuracy": None, "balanced_accuracy": 0.9},
}
TABLES = ("summary", "models", "differences", "tests", "confusion", "reliability", "sites", "gains", "cross_sites")


@dataclass
class Scored:
    """One case's scores: a Dice of a region of 10 ml (0 ml for a normal case), and the class it is taken for."""

    case: str
    dice: float | None = None
    predicted: str | None = None
    class_name: str = "dipg"
    site: str = "north"
    split: str = "test"
    patient: str = ""
    target: str = "whole_tumour"
    predicted_ml: float = 5.0
    seed: int = 0
    classes: list[str] = field(default_factory=lambda: CLASSES)
    # Metric to its value and, where the rule for empty masks decided it, the rule's name.
    others: dict[str, tuple[float, str]] = field(default_factory=dict)

    def rows(self, arm: str) -> list[dict]:
        common = {"arm": arm, "seed": self.seed, "case": self.case, "patient": self.patient or self.case}
        common |= {"site": self.site, "split": self.split, "class": self.class_name}
        values = []
        if self.dice is not None:
            true_ml = 0.0 if self.class_name == "normal" else 10.0
            values += [
                (self.target, "dice", self.dice),
                (self.target, "true_volume_ml", true_ml),
                (self.target, "predicted_volume_ml", self.predicted_ml),
            ]
        if self.predicted is not None:
            values += [(name, "probability", 0.6 if name == self.predicted else 0.2) for name in self.classes]
        rows = [common | {"target": target, "metric": metric, "value": value} for target, metric, value in values]
        return rows + [
            common | {"target": self.target, "metric": metric, "value": value, "empty_rule": rule}
            for metric, (value, rule) in self.others.items()
        ]


class Tables:
    """All tables by name, each a list of rows of text."""

    def __init__(self, **tables: list) -> None:
        vars(self).update(tables)

    def one(self, table: str, **wanted: str) -> dict[str, str]:
        (row,) = [row for row in getattr(self, table) if wanted.items() <= row.items()]
        return row

    def value(self, arm: str, metric: str, scope: str = POOLED_SCOPE, **wanted: str) -> float:
        return float(self.one("summary", arm=arm, metric=metric, scope=scope, **wanted)["value"])


@pytest.fixture
def compare(tmp_path):
    """Compare arms by their scored cases; sites stand in the order given."""

    def _compare(
        arms: dict[str, list[Scored]],
        sites=("north", "south", "west"),
        classes=CLASSES,
        normal_class="normal",
        trained_on=None,
    ) -> Tables:
        paths = []
        for arm, cases in arms.items():
            for seed in sorted({case.seed for case in cases}):
                rows = [row for case in cases if case.seed == seed for row in case.rows(arm)]
                paths.append(tmp_path / f"{arm}-{seed}.tsv")
                write_table(paths[-1], SCORE_COLUMNS, rows)
        outputs = {name: tmp_path / f"{name}.tsv" for name in TABLES}
        compare_arms_files(
            paths,
            outputs,
            arms={arm: ["north", "south"] for arm in arms} | (trained_on or {}),
            sites=list(sites),
            classes=classes,
            normal_class=normal_class,
            settings=SETTINGS,
        )
        return Tables(**{name: read_table(path) for name, path in outputs.items()})

    return _compare


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


# Scores of a group of cases.


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


# Sites.


def of_sites(**dice: float) -> list[Scored]:
    """Three cases of each site, all with the site's Dice."""
    return [
        Scored(f"{site}-{n}", value, site=site, split="external" if site == "west" else "test")
        for site, value in dice.items()
        for n in range(3)
    ]


def test_the_gap_is_from_the_worst_to_the_best_training_site(compare):
    tables = compare({"centralized": of_sites(north=0.8, south=0.5, west=0.1)})
    row = tables.one("sites", metric="dice")
    assert [row[key] for key in ("worst_site", "worst", "best_site", "best", "gap")] == [
        *("south", "0.5", "north", "0.8", "0.3"),
    ]


def test_the_worst_site_has_the_largest_error(compare):
    cases = of_sites(north=0.8, south=0.5)
    for case in cases:
        case.others = {"hd95_mm": (30.0 if case.site == "south" else 3.0, "")}
    row = compare({"centralized": cases}).one("sites", metric="hd95_mm")
    assert (row["better"], row["worst_site"], row["best_site"], row["gap"]) == ("lower", "south", "north", "27")


def test_a_site_of_two_patients_is_neither_worst_nor_best(compare):
    cases = [*of_sites(north=0.8, south=0.5), Scored("e", 0.0, site="east"), Scored("f", 0.0, site="east")]
    row = compare({"centralized": cases}, sites=["north", "south", "east"]).one("sites", metric="dice")
    assert (row["worst_site"], row["num_sites"], row["num_too_small"]) == ("south", "2", "1")


def test_a_site_gains_what_an_arm_has_over_its_own_local_arm_there(compare):
    trained_on = {"local-north": ["north"], "local-south": ["south"], "others": ["south", "west"]}
    arms = {
        "centralized": of_sites(north=0.8, south=0.5),
        "local-north": of_sites(north=0.7, south=0.1),
        "local-south": of_sites(north=0.0, south=0.6),
        "others": of_sites(north=0.9, south=0.9),
    }
    tables = compare(arms, trained_on=trained_on)
    gains = {(row["arm"], row["site"]): float(row["gain"]) for row in tables.gains if row["metric"] == "dice"}
    # The arm that did not learn from the north is no way for the north to join.
    assert gains == pytest.approx(
        {("centralized", "north"): 0.1, ("centralized", "south"): -0.1, ("others", "south"): 0.3}
    )


def test_every_arm_at_every_site_says_what_it_was_trained_on(compare):
    trained_on = {
        "centralized": ["east", "north", "south"],
        "local-north": ["north"],
        "loo-north": ["east", "south"],
    }
    tables = compare(
        {arm: of_sites(north=0.8, south=0.5, west=0.2) for arm in trained_on},
        sites=["north", "south", "east", "west"],
        trained_on=trained_on,
    )
    rows = {(row["arm"], row["tested_on"]): row for row in tables.cross_sites if row["metric"] == "dice"}
    assert rows["local-north", "south"]["kind"] == "one site"
    assert rows["local-north", "south"]["is_own_site"] == "0"
    assert rows["local-north", "north"]["is_own_site"] == "1"
    left_out = rows["loo-north", "north"]
    assert (left_out["kind"], left_out["trained_on"], left_out["is_own_site"]) == ("all but one", "east;south", "0")
    assert rows["centralized", "west"]["split"] == "external"
    assert rows["centralized", "west"]["kind"] == "all sites"
    assert rows["centralized", "west"]["value"] == "0.2"
