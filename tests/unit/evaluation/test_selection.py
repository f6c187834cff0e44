import json
import math

import pytest
from fedpedbrain.base.files import read_table, sha256_of_file
from fedpedbrain.evaluation.selection import (
    HISTORY_COLUMNS,
    build_history,
    mean_of_known,
    select_model_files,
    selection_score,
)
from fedpedbrain.federated.site_metrics import SiteMetrics, write_round_metrics
from round_metrics import make_metrics

# Numbers of a round.


def entry(site: str = "north", dice: float | None = None, correct: bool | None = None) -> dict:
    return {"case": "a", "site": site, "dice": dice, "correct": correct}


def test_means_leave_out_what_is_not_known():
    entries = [entry(dice=0.4), entry(dice=0.8), entry(correct=True)]
    assert mean_of_known(entries, "dice") == pytest.approx(0.6)
    assert mean_of_known(entries, "correct") == 1.0
    assert math.isnan(mean_of_known([entry(), entry()], "dice"))


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([entry(dice=0.5, correct=True), entry(correct=False)], 0.5),
        ([entry(dice=0.2, correct=True)], 0.6),
        ([entry(dice=0.2)], 0.2),
        ([entry(correct=True), entry(correct=False)], 0.5),
    ],
    ids=["both", "both again", "dice alone", "accuracy alone"],
)
def test_the_selection_score_is_the_mean_of_the_tasks_there_are(entries, expected):
    assert selection_score(entries) == pytest.approx(expected)


@pytest.mark.parametrize("entries", [[], [entry()]], ids=["nobody", "nothing known"])
def test_the_selection_score_of_nothing_is_unknown(entries):
    assert math.isnan(selection_score(entries))


def validation(round_number: int, *entries: dict) -> dict:
    return {"arm": "fedavg", "seed": 2, "round": round_number, "cases": list(entries)}


def metrics(round_number: int, num_cases: int, last_loss: float, update_bytes: int = 100) -> SiteMetrics:
    losses = (9.0, last_loss)
    return make_metrics("north", round_number, num_cases, epoch_losses=losses, update_bytes=update_bytes)


def test_history_has_one_row_a_round_in_order():
    validations = [validation(2, entry(dice=0.6, correct=True)), validation(1, entry(dice=0.2, correct=False))]
    trained = [metrics(1, 3, 1.0), metrics(2, 1, 0.5), metrics(1, 1, 2.0), metrics(2, 1, 0.7, 50)]
    first, second = build_history(validations, trained, ["north"])
    assert set(first) == set(HISTORY_COLUMNS)
    assert (first["arm"], first["seed"], first["round"]) == ("fedavg", 2, 1)
    # Three cases at 1 and one at 2.
    assert first["training_loss"] == pytest.approx(1.25)
    assert (first["dice"], first["accuracy"], first["selection_score"]) == (0.2, 0.0, 0.1)
    assert (first["uploaded_bytes"], first["selected"]) == (200, 0)
    assert (second["round"], second["uploaded_bytes"], second["selected"]) == (2, 150, 1)
    assert second["selection_score"] == pytest.approx(0.8)


def rows_of(*scores: float | None, site: str = "north") -> list[dict]:
    validations = [validation(number, entry(site, dice=score)) for number, score in enumerate(scores, start=1)]
    return build_history(validations, [metrics(n, 1, 1.0) for n in range(1, len(scores) + 1)], ["north"])


def selected_rounds(rows: list[dict]) -> list[int]:
    return [row["round"] for row in rows if row["selected"]]


@pytest.mark.parametrize(
    ("scores", "expected"),
    [((0.1, 0.5, 0.3), 2), ((0.5, 0.5, 0.1), 1), ((None, 0.2, 0.1), 2), ((0.1,), 1)],
    ids=["best", "earliest of equal ones", "unknown ones left out", "only one"],
)
def test_the_earliest_best_round_is_selected(scores, expected):
    assert selected_rounds(rows_of(*scores)) == [expected]


def test_without_any_score_the_last_round_is_selected():
    assert selected_rounds(rows_of(None, None, None)) == [3]


def test_a_round_that_was_not_validated_has_its_losses_and_cannot_be_chosen():
    validations = [validation(number, entry(dice=score)) for number, score in ((1, 0.3), (3, 0.1))]
    rows = build_history(validations, [metrics(number, 1, 1.0 / number) for number in (1, 2, 3)], ["north"])
    assert [row["round"] for row in rows] == [1, 2, 3]
    assert rows[1]["training_loss"] == 0.5
    assert math.isnan(rows[1]["dice"])
    assert selected_rounds(rows) == [1]
    unknown = [validation(number, entry()) for number in (1, 3)]
    rows = build_history(unknown, [metrics(number, 1, 1.0) for number in (1, 2, 3, 4)], ["north"])
    assert selected_rounds(rows) == [3], "the last that was validated"


def test_an_arm_is_selected_on_its_own_sites_alone():
    validations = [
        validation(1, entry("north", dice=0.9), entry("south", dice=0.1)),
        validation(2, entry("north", dice=0.8), entry("south", dice=0.9)),
    ]
    trained = [metrics(1, 1, 1.0), metrics(2, 1, 1.0)]
    rows = build_history(validations, trained, ["north"])
    assert selected_rounds(rows) == [1]
    assert [row["selection_score"] for row in rows] == [0.9, 0.8]
    # The table compares the arms on everybody.
    assert [row["dice"] for row in rows] == pytest.approx([0.5, 0.85])
    assert selected_rounds(build_history(validations, trained, ["north", "south"])) == [2]


def test_an_arm_whose_sites_have_no_validation_patient_takes_its_last_round():
    rows = rows_of(0.9, 0.1, site="south")
    assert selected_rounds(rows) == [2]
    assert all(math.isnan(row["selection_score"]) for row in rows)


# Files.


@pytest.fixture
def select(tmp_path, write_constant_model):
    """Select among three rounds with these scores; returns the folder."""

    def _select(scores: tuple[float | None, ...]):
        paths = {"model": [], "validation": [], "metrics": []}
        for number, score in enumerate(scores, start=1):
            models = tmp_path / f"global-{number}.pth"
            paths["model"].append(write_constant_model(models, round_number=number))
            for kind in ("validation", "metrics"):
                paths[kind].append(tmp_path / f"{kind}-{number}.json")
            block = [validation(number, entry(dice=score)) | {"site": "north"}]
            paths["validation"][-1].write_text(json.dumps(block))
            write_round_metrics(paths["metrics"][-1], [metrics(number, 4, 1.0 / number)])
        outputs = [tmp_path / name for name in ("best.pth", "history.tsv", "selection.json")]
        select_model_files(paths["model"], paths["validation"], paths["metrics"], ["north"], *outputs)
        return tmp_path

    return _select


def test_the_best_rounds_model_is_copied(select):
    folder = select((0.1, 0.7, 0.3))
    assert (folder / "best.pth").read_bytes() == (folder / "global-2.pth").read_bytes()
    assert (folder / "best.pth").read_bytes() != (folder / "global-1.pth").read_bytes()


def test_the_selection_says_what_the_best_model_is(select):
    folder = select((0.1, 0.7, 0.3))
    selection = json.loads((folder / "selection.json").read_text())
    assert (selection["arm"], selection["seed"], selection["round"], selection["num_rounds"]) == ("fedavg", 2, 2, 3)
    assert selection["dice"] == selection["selection_score"] == 0.7
    assert selection["sha256"] == sha256_of_file(folder / "global-2.pth")
    assert selection["num_validated"] == 3
    assert selection["model_bytes"] == (folder / "best.pth").stat().st_size
    assert selection["lineage"]["round"] == 2


def test_the_history_is_a_table_of_all_rounds(select):
    rows = read_table(select((0.1, 0.7, 0.3)) / "history.tsv")
    assert tuple(rows[0]) == HISTORY_COLUMNS
    assert [(row["round"], row["dice"], row["selected"]) for row in rows] == [
        ("1", "0.1", "0"),
        ("2", "0.7", "1"),
        ("3", "0.3", "0"),
    ]
    assert {row["accuracy"] for row in rows} == {"nan"}


def test_the_selection_is_json_that_every_reader_takes(select):
    def refuse(constant: str):
        raise AssertionError(f"{constant} is no JSON")

    folder = select((None, None))
    json.loads((folder / "selection.json").read_text(), parse_constant=refuse)
