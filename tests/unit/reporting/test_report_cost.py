import math
import re

import pytest
from fedpedbrain.reporting.pages.report import write_report_files
from fedpedbrain.reporting.tables.cost_tables import energy_wh, format_energy, format_seconds, load_costs, usage_part

COST = {"cpu_seconds": 7200.0, "gpu_seconds": 1800.0}


def text_of_cost(report) -> str:
    html = report.read_text(encoding="utf-8")
    section = html[html.index('<section id="cost"') : html.index('<section id="lineage"')]
    return " ".join(re.sub(r"<[^>]+>", " ", section).split())


def cells_of(table, arm):
    """Texts of an arm's row in the table's first group."""
    (row,) = [row for row in table.groups[0].rows if row[0].text == arm]
    return [cell.text for cell in row[1:]]


@pytest.fixture
def part(write_study):
    """``part(changes, seeds)``: the report's tables of a study whose costs are changed so."""

    def _part(changes=None, **differing):
        synthetic = write_study(**differing)
        costs = [row | (changes or {}) for row in load_costs(synthetic.inputs.costs)]
        return usage_part(costs, synthetic.study, dict.fromkeys(synthetic.arms, ""))

    return _part


def test_energy_is_busy_time_times_assumed_power():
    assert energy_wh(COST, {"cpu_core_watts": 10.0, "gpu_watts": 300.0}) == pytest.approx(20.0 + 150.0)


def test_energy_is_unknown_where_nothing_is_assumed_for_what_was_used():
    assert math.isnan(energy_wh(COST, {"cpu_core_watts": 10.0, "gpu_watts": None}))
    assert energy_wh(COST | {"gpu_seconds": 0.0}, {"cpu_core_watts": 10.0, "gpu_watts": None}) == pytest.approx(20.0)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(3.21, "3.2 s"), (59.99, "1 min 00 s"), (83.4, "1 min 23 s"), (3725, "1 h 02 min"), (360000, "100 h 00 min")],
)
def test_durations_have_two_units(seconds, text):
    assert format_seconds(seconds) == text


def test_energies_have_a_unit_of_their_size():
    assert [format_energy(value) for value in (0.1234, 1500.0, math.nan)] == ["0.123 Wh", "1.5 kWh", "–"]


def test_arms_stand_side_by_side_with_what_all_their_jobs_took(part):
    table = part()["usage_table"]
    # Three rounds of two sites: 6 x 10 s of training and 3 x 1 s of validation, two cores busy.
    assert cells_of(table, "FedAvg") == ["10", "1 min 03 s", "33.0 s", "2 min 06 s", "400 MB", "0.35 Wh"]
    assert cells_of(table, "local-a") == ["7", "33.0 s", "33.0 s", "1 min 06 s", "400 MB", "0.183 Wh"]
    assert "GPU" not in " ".join(table.columns)


def test_several_seeds_give_their_mean(part):
    one, two = (cells_of(part(seeds=seeds)["usage_table"], "FedAvg") for seeds in ((0,), (0, 1)))
    assert one == two


def test_of_several_seeds_a_single_record_that_is_lacking_is_missed(write_study):
    synthetic = write_study(seeds=(0, 1, 2))
    costs = load_costs(synthetic.inputs.costs)
    for row in costs:
        row["num_recorded"] = row["num_jobs"]
    (training,) = [row for row in costs if (row["arm"], row["seed"], row["phase"]) == ("fedavg", 1, "training")]
    training["num_recorded"] -= 1
    table = usage_part(costs, synthetic.study, dict.fromkeys(synthetic.arms, ""))["usage_table"]
    (cell,) = [row[1] for row in table.groups[0].rows if row[0].text == "FedAvg"]
    assert cell.detail == "1 without record in 3 seeds"


def test_a_gpu_has_columns_of_its_own(part):
    found = part({"gpu_seconds": 60.0, "gpus": "H100", "gpu_memory_mb": 900.0})
    assert cells_of(found["usage_table"], "FedAvg")[5:] == ["3 min 00 s", "900 MB", "–"]
    assert any("GPU: H100." in note for note in found["usage_notes"])


def test_the_report_shows_phases_assumption_and_lacking_records(write_study):
    synthetic = write_study()
    for path in synthetic.inputs.figures:
        path.write_bytes(b"")
    write_report_files(synthetic.inputs, synthetic.study)
    text = text_of_cost(synthetic.inputs.report)
    for words in (
        "Training pooled-arm 3",
        "Prediction pooled-arm 1 no record",
        "1 without record",
        "10 W for a busy CPU core",
        "Training, averaging, validation and prediction of each arm",
        "keys of secure sums",
    ):
        assert words in text
    assert "W for a GPU" not in text


def test_nothing_is_said_of_costs_that_nobody_wrote_down(part):
    assert part({"num_recorded": 0})["usage_table"] is None
