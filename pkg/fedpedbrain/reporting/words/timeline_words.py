"""What a run came to, in sentences of the report."""

from collections.abc import Mapping
from typing import Any

from fedpedbrain.jobs.course.critical_path import WAITING
from fedpedbrain.reporting.results import count_noun, format_names
from fedpedbrain.reporting.tables.cost_tables import format_seconds


def timeline_part(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Sentences on a run, see ``summarize_timeline``; None where no job has left a record of when it ran."""
    if not summary["num_jobs"]:
        return {"run": None}
    return {"run": {"busy": describe_devices(summary), "path": describe_path(summary), "notes": describe_run(summary)}}


def _percent(part: float) -> str:
    return f"{100 * part:.0f} %"


def describe_devices(summary: Mapping[str, Any]) -> list[str]:
    """How long the run took, and how much of its devices was busy."""
    wall = summary["wall_seconds"]
    lines = [f"{count_noun(summary['num_jobs'], 'job')} in {format_seconds(wall)}."]
    if gpu := summary["gpu"]:
        lines.append(
            f"{count_noun(gpu['num_devices'], 'GPU')} had a job in {_percent(gpu['busy_share'])} of the time, from the "
            "first job that had one to the last."
        )
    if cpu := summary["cpu"]:
        lines.append(
            f"On the CPU at most {count_noun(cpu['num_devices'], 'job')} ran at once, and of that room "
            f"{_percent(cpu['busy_share'])} was taken."
        )
    lines.append(
        f"On average {summary['mean_cores']:.1f} cores computed; for {format_seconds(summary['idle_seconds'])} "
        f"({_percent(summary['idle_seconds'] / wall)}) no job was at work."
    )
    return lines


def describe_path(summary: Mapping[str, Any]) -> list[str]:
    """What the critical path is made of, largest part first, and what would shorten the run."""
    seconds = summary["path_seconds"]
    whole = sum(seconds.values())
    parts = sorted((kind for kind in seconds if seconds[kind]), key=lambda kind: -seconds[kind])
    shares = format_names([f"{_percent(seconds[kind] / whole)} {kind}" for kind in parts])
    lines = [
        "The critical path goes from the job that ended last back to the first, each time to the job that ended last "
        f"of those that the next one waited for: {count_noun(summary['num_path_jobs'], 'job')}, {shares}."
    ]
    if seconds[WAITING] > whole / 2:
        lines.append("Most of it is waiting: for room beside other jobs or, where jobs are short, for their start.")
    else:
        lines.append("Faster jobs on this path would shorten the run; more cores or GPUs would do little.")
    return lines


def describe_run(summary: Mapping[str, Any]) -> list[str]:
    """What the picture does not show."""
    lines = []
    if pauses := summary["pauses"]:
        together = format_seconds(sum(pause["seconds"] for pause in pauses))
        lines.append(
            f"The run was made in {len(pauses) + 1} pieces: {count_noun(len(pauses), 'pause')} in which nothing ran, "
            f"{together} together, cut out (dashed lines) and in none of these numbers."
        )
    lines.append(
        "Waiting is for room beside other jobs and for each job's start. Every job is shown as it ran last: what "
        "failed, was killed or was made again since left nothing here. What ended after this was "
        "put together is not in it: the report, and figures that were drawn meanwhile."
    )
    return lines
