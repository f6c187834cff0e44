"""What an arm costs: time, memory and GPU of its jobs, added up by phase."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedpedbrain.base.files import write_table
from fedpedbrain.jobs.usage import Usage, read_usage_line

PHASES = ("training", "averaging", "validation", "prediction")
# A validation is named after the first round of its block.
_ROUND = re.compile(r"/(?:round|from)-(\d+)(?:/|\.log$)")
COST_COLUMNS = ("arm", "seed", "phase", "num_jobs", "num_recorded", "wall_seconds", "parallel_seconds", "cpu_seconds")
COST_COLUMNS += ("gpu_seconds", "peak_memory_mb", "gpu_memory_mb", "gpus")


def add_up(records: Sequence[tuple[int, Usage]], is_chain: bool = False) -> dict[str, Any]:
    """Cost of one phase of an arm.

    Parameters
    ----------
    records : round, or first round of a block of rounds, and usage of its jobs; those of one round can run at once,
        where every site has a machine
    is_chain : those of one round wait for each other all the same

    Returns
    -------
    ``wall_seconds`` one job after the other, ``parallel_seconds`` the longest job of each round or block,
    ``cpu_seconds``, ``gpu_seconds``, the largest ``peak_memory_mb`` and ``gpu_memory_mb`` of a job, and the names of
    its ``gpus``
    """
    longest: dict[int, float] = defaultdict(float)
    for number, usage in records:
        together = sum if is_chain else max
        longest[number] = together((longest[number], usage.wall_seconds))
    usages = [usage for _, usage in records]
    return {
        "wall_seconds": round(sum(usage.wall_seconds for usage in usages), 3),
        "parallel_seconds": round(sum(longest.values()), 3),
        "cpu_seconds": round(sum(usage.cpu_seconds for usage in usages), 3),
        "gpu_seconds": round(sum(usage.gpu_seconds for usage in usages), 3),
        "peak_memory_mb": max((usage.peak_memory_mb for usage in usages), default=0),
        "gpu_memory_mb": max((usage.gpu_memory_mb for usage in usages), default=0),
        "gpus": "; ".join(sorted({usage.gpu for usage in usages if usage.gpu})),
    }


def read_usages(logs: Sequence[str | Path]) -> list[tuple[int, Usage]]:
    """Round, 0 for none, and usage of the jobs that left these logs, but for those that are gone."""
    found = ((str(path), read_usage_line(path)) for path in logs)
    return [(_round_of(path), record[1]) for path, record in found if record is not None]


def _round_of(path: str) -> int:
    found = _ROUND.search(path)
    return int(found[1]) if found else 0


def measure_cost_files(
    logs: Mapping[str, Sequence[str | Path]], cost_path: str | Path, arm: str, seed: int, is_chain: bool
) -> None:
    """Write the cost of an arm, a row a phase.

    Parameters
    ----------
    logs : phase to the log of each of its jobs
    is_chain : the model goes from site to site within a round
    """
    rows = []
    for phase in PHASES:
        usages = read_usages(logs[phase])
        counts = {"num_jobs": len(logs[phase]), "num_recorded": len(usages)}
        rows.append({"arm": arm, "seed": seed, "phase": phase} | counts | add_up(usages, is_chain))
    write_table(cost_path, COST_COLUMNS, rows)
