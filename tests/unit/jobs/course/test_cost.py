import pytest
from fedpedbrain.base.files import read_table
from fedpedbrain.jobs.course.cost import PHASES, add_up, measure_cost_files
from fedpedbrain.jobs.usage import Usage, usage_line

# Two rounds of two sites; one job had a GPU.
RECORDS = [
    (1, Usage(10.0, 8.0, 300)),
    (1, Usage(4.0, 3.0, 500)),
    (2, Usage(1.0, 1.0, 200)),
    (2, Usage(6.0, 2.0, 100, "H100", 900, 5.0)),
]


def test_a_phase_costs_what_its_jobs_take_together():
    cost = add_up(RECORDS)
    assert (cost["wall_seconds"], cost["cpu_seconds"], cost["gpu_seconds"]) == (21.0, 14.0, 5.0)
    assert (cost["peak_memory_mb"], cost["gpu_memory_mb"], cost["gpus"]) == (500, 900, "H100")


def test_all_sites_at_once_take_as_long_as_the_slowest_of_each_round():
    assert add_up(RECORDS)["parallel_seconds"] == 10.0 + 6.0


def test_sites_that_wait_for_each_other_gain_nothing_by_machines_of_their_own():
    assert add_up(RECORDS, is_chain=True)["parallel_seconds"] == 21.0


def test_the_table_has_a_row_a_phase_and_says_how_many_jobs_left_no_record(tmp_path):
    training = [tmp_path / f"round-{number:03d}/train-{site}.log" for number in (1, 2) for site in ("north", "east")]
    for path, (_, usage) in zip(training[:3], RECORDS[:3], strict=True):
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"INFO: {usage_line('train_site', usage)}\n")
    averaging = [tmp_path / f"round-{number:03d}/aggregate.log" for number in (1, 2)]
    averaging[0].write_text("ERROR: too few sites\n")
    logs = {phase: [] for phase in PHASES} | {"training": training, "averaging": averaging}
    measure_cost_files(logs, tmp_path / "cost.tsv", "fedavg", 1, False)
    rows = read_table(tmp_path / "cost.tsv")
    assert [row["phase"] for row in rows] == list(PHASES)
    assert (rows[0]["arm"], rows[0]["seed"], rows[0]["num_jobs"], rows[0]["num_recorded"]) == ("fedavg", "1", "4", "3")
    assert float(rows[0]["wall_seconds"]) == pytest.approx(15.0)
    # The slower site of the first round, and the one that is known of the second.
    assert float(rows[0]["parallel_seconds"]) == pytest.approx(10.0 + 1.0)
    assert (rows[1]["num_jobs"], rows[1]["num_recorded"], rows[1]["wall_seconds"]) == ("2", "0", "0")


def test_of_a_block_of_rounds_the_slowest_site_counts(tmp_path):
    validation = [tmp_path / f"validation/{site}/from-{n:03d}.log" for n in (1, 26) for site in ("north", "east")]
    for path, (_, usage) in zip(validation, RECORDS, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"INFO: {usage_line('validate_site', usage)}\n")
    logs = {phase: [] for phase in PHASES} | {"validation": validation}
    measure_cost_files(logs, tmp_path / "cost.tsv", "fedavg", 1, False)
    (row,) = [row for row in read_table(tmp_path / "cost.tsv") if row["phase"] == "validation"]
    assert (row["num_jobs"], float(row["parallel_seconds"])) == ("4", 10.0 + 6.0)
