"""What a run came to, in sentences of the report."""

from collections.abc import Mapping
from typing import Any

from fedpedbrain.jobs.course.critical_path import OTHER, WAITING
from fedpedbrain.reporting.numbers import count_noun, format_names
from fedpedbrain.reporting.tables.cost_tables import format_seconds

# Part of the run that a remedy has to save to be named first.
_WORTHWHILE = 0.25


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
        "The critical path goes from the job that ended last back to the first, each time to the job that the next one "
        "waited for: the one that made the last of its files or, where these were there already, the one that gave it "
        f"room on its machine. It has {count_noun(summary['num_path_jobs'], 'job')}: {shares}."
    ]
    if count := summary["num_room_jobs"]:
        lines.append(f"{count} of its {count_noun(summary['num_path_jobs'], 'job')} waited for room.")
    if seconds[WAITING] > whole / 2:
        return [*lines, "Most of it is waiting for jobs to start: fewer and longer jobs would shorten the run."]
    return lines + _describe_remedies(summary, whole, next(kind for kind in parts if kind != WAITING))


def _describe_remedies(summary: Mapping[str, Any], whole: float, largest: str) -> list[str]:
    """What would shorten a run whose path is mostly work, of which ``largest`` is the largest part."""
    chain = format_seconds(summary["chain_seconds"])
    saved = whole - summary["path_seconds"][WAITING] - summary["chain_seconds"]
    lines = []
    if saved > _WORTHWHILE * whole:
        lines.append(
            "More cores or GPUs would shorten the run, at most to "
            f"{chain}: so long takes the longest chain of jobs that need each other's files."
        )
        if summary["num_path_arms"] > 1:
            lines.append(f"So would fewer arms: {summary['num_path_arms']} of them have jobs on the path.")
    else:
        lines.append(
            "More cores or GPUs would do little: the longest chain of jobs that need each other's files alone takes "
            f"{chain}."
        )
    longest = summary["longest_path_job"]
    if longest["seconds"] > _WORTHWHILE * whole:
        share = _percent(longest["seconds"] / whole)
        lines.append(f"One job is {share} of the path, {longest['job']}: if it were shorter, the run would be.")
    else:
        name = "shorter jobs" if largest == OTHER else f"shorter {largest} jobs"
        lines.append(f"{name.capitalize()} would shorten it: they are the largest part of the path.")
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
        "Waiting is the time between two jobs of the path, while the later one starts or waits for its GPU. Every job "
        "is shown as it ran last: what failed, was killed or was made again since left nothing here. What ended after "
        "this was put together is not in it: the report, and figures that were drawn meanwhile."
    )
    return lines
