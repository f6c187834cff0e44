import math
import warnings
from dataclasses import dataclass, field

import pytest
from fedpedbrain.evaluation.comparison import (
    CONFUSION_COLUMNS,
    DIAGNOSIS,
    DIFFERENCE_COLUMNS,
    POOLED_SCOPE,
    SUMMARY_COLUMNS,
    compare_arms_files,
    read_results,
)
from fedpedbrain.evaluation.scores import SCORE_COLUMNS
from fedpedbrain.files import read_table, write_table

CLASSES = ["normal", "dipg", "ependymoma"]
SETTINGS = {"reference_arm": "centralized", "bootstrap_samples": 200, "confidence_level": 0.95, "seed": 0}


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
        return [common | {"target": target, "metric": metric, "value": value} for target, metric, value in values]


class Tables:
    """The three tables, each a list of rows of text."""

    def __init__(self, summary: list, differences: list, confusion: list) -> None:
        self.summary, self.differences, self.confusion = summary, differences, confusion

    def one(self, table: str, **wanted: str) -> dict[str, str]:
        (row,) = [row for row in getattr(self, table) if wanted.items() <= row.items()]
        return row

    def value(self, arm: str, metric: str, scope: str = POOLED_SCOPE, **wanted: str) -> float:
        return float(self.one("summary", arm=arm, metric=metric, scope=scope, **wanted)["value"])


@pytest.fixture
def compare(tmp_path):
    """Compare arms by their scored cases; sites stand in the order given."""

    def _compare(
        arms: dict[str, list[Scored]], sites=("north", "south", "west"), classes=CLASSES, normal_class="normal"
    ) -> Tables:
        paths = []
        for arm, cases in arms.items():
            for seed in sorted({case.seed for case in cases}):
                rows = [row for case in cases if case.seed == seed for row in case.rows(arm)]
                paths.append(tmp_path / f"{arm}-{seed}.tsv")
                write_table(paths[-1], SCORE_COLUMNS, rows)
        outputs = [tmp_path / f"{name}.tsv" for name in ("summary", "differences", "confusion")]
        compare_arms_files(
            paths,
            *outputs,
            arms=list(arms),
            sites=list(sites),
            classes=classes,
            normal_class=normal_class,
            settings=SETTINGS,
        )
        return Tables(*map(read_table, outputs))

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
    assert (enough["num_patients"], enough["low"], enough["high"]) == ("6", "0.5", "0.5")


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
    # The same in every case: nothing is uncertain.
    assert [float(row[key]) for key in ("difference", "low", "high")] == pytest.approx([0.1] * 3)


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
    assert {row["metric"] for row in tables.differences} == {"dice", "dice_all_cases", "accuracy"}


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
    assert {row["metric"] for row in tables.summary} == {"accuracy", "macro_f1"}
    assert tables.value("fedavg", "accuracy") == 0.5
    assert {row["metric"] for row in tables.differences} == {"accuracy"}


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
    for name, columns in (
        ("summary", SUMMARY_COLUMNS),
        ("differences", DIFFERENCE_COLUMNS),
        ("confusion", CONFUSION_COLUMNS),
    ):
        assert (tmp_path / f"{name}.tsv").read_text().splitlines()[0].split("\t") == list(columns)
