"""What an arm costs: time, memory and GPU of its jobs, added up by phase."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedpedbrain.files import write_table
from fedpedbrain.usage import Usage, read_usages

# Where a phase's jobs leave their records, from the folder of what they make; in the order of an arm's phases.
_RECORDS = {
    "training": "../usage/train-{stem}.json",
    "averaging": "usage/aggregate.json",
    "validation": "usage/validate.json",
    "prediction": "usage.json",
}
PHASES = tuple(_RECORDS)
COST_COLUMNS = ("arm", "seed", "phase", "num_jobs", "num_recorded", "wall_seconds", "parallel_seconds", "cpu_seconds")
COST_COLUMNS += ("gpu_seconds", "peak_memory_mb", "gpu_memory_mb", "gpus")


def add_up(records: Sequence[tuple[Mapping[str, str], Usage]], is_chain: bool = False) -> dict[str, Any]:
    """Cost of one phase of an arm.

    Parameters
    ----------
    records : labels and usage of its jobs; those of one round can run at once, where every site has a machine
    is_chain : those of one round wait for each other all the same

    Returns
    -------
    ``wall_seconds`` one job after the other, ``parallel_seconds`` the longest job of each round, ``cpu_seconds``,
    ``gpu_seconds``, the largest ``peak_memory_mb`` and ``gpu_memory_mb`` of a job, and the names of its ``gpus``
    """
    longest: dict[str, float] = defaultdict(float)
    for labels, usage in records:
        number = labels.get("round", "")
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


def find_records(phase: str, products: Sequence[str | Path]) -> list[Path]:
    """Records of the jobs that made these files, but for those that are gone."""
    paths = [Path(product).parent / _RECORDS[phase].format(stem=Path(product).stem) for product in products]
    return [path for path in paths if path.exists()]


def measure_cost_files(
    products: Mapping[str, Sequence[str | Path]],
    cost_path: str | Path,
    arm: str,
    seed: int,
    is_chain: bool,
) -> None:
    """Write the cost of an arm, a row a phase.

    Parameters
    ----------
    products : phase to a file of each of its jobs, beside which that left its record
    is_chain : the model goes from site to site within a round
    """
    rows = []
    for phase in PHASES:
        usages = read_usages(find_records(phase, products[phase]))
        counts = {"num_jobs": len(products[phase]), "num_recorded": len(usages)}
        rows.append({"arm": arm, "seed": seed, "phase": phase} | counts | add_up(usages, is_chain))
    write_table(cost_path, COST_COLUMNS, rows)
