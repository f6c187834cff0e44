"""What every arm took of time, memory and energy, as tables of the report."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedpedbrain.base.files import read_table
from fedpedbrain.jobs.course.cost import PHASES
from fedpedbrain.reporting.figures.style import readable, sentence_case
from fedpedbrain.reporting.numbers import NO_VALUE, format_names
from fedpedbrain.reporting.tables.tables import Cell, Group, Table

_SUMS = ("num_jobs", "num_recorded", "wall_seconds", "parallel_seconds", "cpu_seconds", "gpu_seconds")
_LARGEST = ("peak_memory_mb", "gpu_memory_mb")
_SECONDS_AN_HOUR = 3600.0

Row = dict[str, Any]


def load_costs(paths: Sequence[str | Path]) -> list[Row]:
    """Rows of the costs of all arms and seeds, with numbers as numbers."""
    return [
        row | {name: float(row[name]) for name in (*_SUMS, *_LARGEST)} | {"seed": int(row["seed"])}
        for path in paths
        for row in read_table(path)
    ]


def mean_over_seeds(rows: Sequence[Row]) -> Row:
    """Cost of an arm: what its phases take together, as a mean over its seeds; memory is the largest of all.

    Returns
    -------
    the columns of ``rows`` that hold numbers, ``num_seeds``, and ``num_lacking``: jobs of all seeds without a record
    """
    num_seeds = len({row["seed"] for row in rows})
    means = {name: sum(row[name] for row in rows) / num_seeds for name in _SUMS}
    lacking = round(sum(row["num_jobs"] - row["num_recorded"] for row in rows))
    largest = {name: max(row[name] for row in rows) for name in _LARGEST}
    return means | largest | {"num_seeds": num_seeds, "num_lacking": lacking}


def energy_wh(cost: Row, power: Mapping[str, float | None]) -> float:
    """Estimate of the energy in watt-hours: busy time times assumed power, of CPU cores and GPUs.

    Without the idle share of a machine, its memory and its cooling (Lannelongue et al., 2021, have terms for these).
    nan where no power is assumed for something that was used.
    """
    parts = [(cost["cpu_seconds"], power["cpu_core_watts"]), (cost["gpu_seconds"], power["gpu_watts"])]
    used = [(seconds, watts) for seconds, watts in parts if seconds]
    if any(watts is None for _, watts in used):
        return math.nan
    return sum(seconds * watts for seconds, watts in used) / _SECONDS_AN_HOUR


def format_seconds(seconds: float) -> str:
    """A duration in its two largest units."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def format_energy(watt_hours: float) -> str:
    """Watt-hours, or kilowatt-hours where there are many; a dash for no estimate."""
    if math.isnan(watt_hours):
        return NO_VALUE
    return f"{watt_hours / 1000:.3g} kWh" if watt_hours >= 1000 else f"{watt_hours:.3g} Wh"


def _cells(cost: Row, has_gpu: bool, power: Mapping[str, float | None]) -> list[Cell]:
    lacking = f"{cost['num_lacking']} without record" if cost["num_lacking"] else ""
    if lacking and cost["num_seeds"] > 1:
        lacking += f" in {cost['num_seeds']} seeds"
    if not cost["num_recorded"]:
        return [Cell(f"{cost['num_jobs']:g}", "no record"), *[Cell(NO_VALUE)] * (7 if has_gpu else 5)]
    gpu = [Cell(format_seconds(cost["gpu_seconds"])), Cell(f"{cost['gpu_memory_mb']:.0f} MB")] if has_gpu else []
    return [
        Cell(f"{cost['num_jobs']:g}", lacking),
        Cell(format_seconds(cost["wall_seconds"])),
        Cell(format_seconds(cost["parallel_seconds"])),
        Cell(format_seconds(cost["cpu_seconds"])),
        Cell(f"{cost['peak_memory_mb']:.0f} MB"),
        *gpu,
        Cell(format_energy(energy_wh(cost, power))),
    ]


def usage_part(costs: Sequence[Row], study: Mapping[str, Any], colours: Mapping[str, str]) -> dict[str, Any]:
    """Tables by arm and by phase, and how to read them; None where no job has left a record."""
    if not any(row["num_recorded"] for row in costs):
        return {"usage_table": None}
    power = study["config"]["reporting"]["power"]
    has_gpu = any(row["gpu_seconds"] for row in costs)
    columns = ["Jobs", "One job after the other", "All sites at once", "CPU time", "Memory of a job"]
    columns += [*(["With a GPU", "Memory of the GPU"] if has_gpu else []), "Energy (estimate)"]
    arms = [arm["name"] for arm in study["arms"]]
    rows_of = {arm: [row for row in costs if row["arm"] == arm] for arm in arms}
    by_arm = [
        [Cell(readable(arm), colour=colours[arm]), *_cells(mean_over_seeds(rows_of[arm]), has_gpu, power)]
        for arm in arms
    ]
    by_phase = [
        Group(
            sentence_case(phase),
            [
                [Cell(readable(arm), colour=colours[arm]), *_cells(mean_over_seeds(rows), has_gpu, power)]
                for arm in arms
                if (rows := [row for row in rows_of[arm] if row["phase"] == phase])
            ],
        )
        for phase in PHASES
    ]
    seeds = ", mean over seeds" if len(study["seeds"]) > 1 else ""
    caption = f"{sentence_case(format_names(PHASES))} of each arm{seeds}"
    return {
        "usage_table": Table(caption, ["Arm", *columns], [Group("", by_arm)]),
        "phase_table": Table(f"The same by phase{seeds}", ["Arm", *columns], by_phase),
        "usage_notes": describe_usage(costs, power),
    }


def describe_usage(costs: Sequence[Row], power: Mapping[str, float | None]) -> list[str]:
    """How to read the tables: what was measured, and what an estimate assumes."""
    gpus = sorted({name for row in costs for name in row["gpus"].split("; ") if name})
    on = f" GPU: {format_names(gpus)}." if gpus else " No job had a GPU."
    watts = [
        f"{power[key]:g} W for {what}"
        for key, what in (("cpu_core_watts", "a busy CPU core"), ("gpu_watts", "a GPU that a job holds"))
        if power[key] is not None
    ]
    lines = [
        "Each job measures itself: its time includes waiting for cores that other jobs of the machine kept busy, but "
        f"not for a GPU that another held; its memory includes libraries that it shares with others.{on}",
        "“All sites at once” counts the slowest site of each round, as where every site has a machine of its own.",
        "A job that was run again, or resumed, counts once, with its last run; attempts that failed or were killed do "
        "not count.",
        "Not part of it is what all arms have alike (preparing the cohort, choosing the best round, scoring, "
        "reporting) and, though only some arms have it: choosing the model that a phase starts from, keys of secure "
        "sums, comparing updates, accounting for privacy, making models of single sites, explaining cases. Each "
        "such job's own log has its time.",
    ]
    if watts:
        lines.append(
            f"Energy was not measured: it is busy time times {format_names(watts)} (the config's assumption), without "
            "idle machines, memory and cooling."
        )
    return lines
