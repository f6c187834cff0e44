"""When every job of a run ran, and where: what its cores and GPUs did, from what the jobs left in their logs."""

import heapq
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from fedpedbrain.base.files import write_json, write_table
from fedpedbrain.jobs.course.critical_path import (
    ROOM,
    Job,
    Makers,
    Step,
    critical_path,
    kind_of_job,
    longest_chain,
    seconds_on_path,
)
from fedpedbrain.jobs.usage import read_usage_line
from fedpedbrain.planning.records import FileRecord, read_records

# A time in which nothing runs is a pause of a run, as between two starts of it, where it is as long as this and as this
# part of the time in which something runs; shorter ones are the run's own.
_PAUSE_SECONDS, _PAUSE_SHARE = 60.0, 0.05
JOB_COLUMNS = ("job", "rule", "kind", "arm", "seed", "round", "device", "started", "busy_from", "ended", "cpu_seconds")
JOB_COLUMNS += ("on_critical_path",)
# A validation is named after the first round of its block.
_OWNER = re.compile(r"([^/]+)/seed-(\d+)/(?:(?:round-|validation/[^/]+/from-)(\d+)(?:/|$))?")
_SEED = re.compile(r"/seed-(\d+)$")


def _name_of_log(path: str | Path, logs: str | Path) -> str:
    return PurePath(path).relative_to(logs).with_suffix("").as_posix()


def read_makers(records: Iterable[FileRecord], logs: str | Path) -> dict[str, set[str]]:
    """For the name of each job the names of the jobs that made its inputs, as far as records tell.

    Parameters
    ----------
    records : of how each file was made
    logs : folder of all logs
    """
    made_by, inputs_of = {}, defaultdict(set)
    for record in records:
        name = _name_of_log(record.log, logs)
        made_by[record.path] = name
        inputs_of[name].update(record.inputs)
    return {name: {made_by[path] for path in inputs if path in made_by} for name, inputs in inputs_of.items()}


def read_jobs(
    logs: str | Path,
    requests: str | Path,
    arms: Collection[str],
    seeds: Collection[int],
    last_round: int,
    left_out: Collection[str] = (),
) -> list[Job]:
    """Jobs of a study that came to their end, each as its log has it: of a job that ran again, the last time.

    Parameters
    ----------
    logs : folder of all logs, which may hold more, as of arms that the study no longer has
    requests : folder below it of what was asked for beside the study, as predictions of new scans
    arms, seeds, last_round : what belongs to the study
    left_out : names of other jobs that do not
    """
    jobs = []
    for path in sorted(Path(logs).rglob("*.log")):
        name = _name_of_log(path, logs)
        if path.is_relative_to(requests) or name in left_out:
            continue
        owner = _OWNER.search(name)
        arm, seed, number = owner.groups() if owner else ("", "", None)
        if arm and not (arm in arms and int(seed) in seeds and int(number or 0) <= last_round):
            continue
        record = read_usage_line(path)
        if record is None or not record[1].started:
            continue
        rule, usage = record
        if start := _SEED.search(name):
            seed = start[1]
        busy_from = usage.ended - usage.gpu_seconds if usage.gpu else usage.started
        times = (usage.started, usage.ended, max(usage.started, busy_from), usage.cpu_seconds)
        jobs.append(Job(name, rule, arm, seed, int(number or 0), *times, usage.host, usage.gpu_id))
    return jobs


def cut_pauses(jobs: Sequence[Job]) -> tuple[list[Job], list[tuple[float, float]]]:
    """Move jobs so that the first starts at 0 and no pause is left.

    Returns
    -------
    jobs in the order of their starts, and where each pause was cut out and how many seconds it had
    """
    ordered = sorted(jobs, key=lambda job: (job.started, job.ended))
    if not ordered:
        return [], []
    # For each job until when something ran before it.
    ends = np.maximum.accumulate([ordered[0].started, *(job.ended for job in ordered)])
    gaps = [max(0.0, job.started - end) for job, end in zip(ordered, ends[:-1], strict=True)]
    busy = ends[-1] - ordered[0].started - sum(gaps)
    shortest = max(_PAUSE_SECONDS, _PAUSE_SHARE * busy)
    moved, pauses, shift = [], [], ordered[0].started
    for job, gap, end in zip(ordered, gaps, ends[:-1], strict=True):
        if gap >= shortest:
            pauses.append((float(end - shift), gap))
            shift += gap
        times = {name: getattr(job, name) - shift for name in ("started", "ended", "busy_from")}
        moved.append(replace(job, **times))
    return moved, pauses


def assign_devices(jobs: Sequence[Job]) -> list[str]:
    """Where each job ran, in the order of ``jobs``: a GPU, or the first slot on its machine's CPU that was free.

    A slot is a place for one job at a time, of however many threads: there are as many as jobs that ran at once there.
    """
    hosts = sorted({job.host for job in jobs})
    gpus = sorted({(job.host, job.gpu_id) for job in jobs if job.gpu_id})
    of_host = {host: f" of node {number}" if len(hosts) > 1 else "" for number, host in enumerate(hosts, start=1)}
    free: dict[str, list[int]] = defaultdict(list)
    taken: dict[str, list[tuple[float, int]]] = defaultdict(list)
    devices = [""] * len(jobs)
    for place, job in sorted(enumerate(jobs), key=lambda item: item[1].started):
        if job.gpu_id:
            same_host = [gpu for gpu in gpus if gpu[0] == job.host]
            devices[place] = f"GPU {same_host.index((job.host, job.gpu_id)) + 1}{of_host[job.host]}"
            continue
        slots, ends = free[job.host], taken[job.host]
        while ends and ends[0][0] <= job.started:
            heapq.heappush(slots, heapq.heappop(ends)[1])
        slot = heapq.heappop(slots) if slots else len(ends) + 1
        heapq.heappush(ends, (job.ended, slot))
        devices[place] = f"CPU {slot}{of_host[job.host]}"
    return devices


def mean_busy(
    starts: Sequence[float], ends: Sequence[float], weights: Sequence[float], edges: Sequence[float]
) -> np.ndarray:
    """How much was busy at once, as a mean over each bin of time.

    Parameters
    ----------
    starts, ends : of n intervals
    weights : what each keeps busy while it lasts
    edges : k + 1 ascending times

    Returns
    -------
    float64 (k,)
    """
    times = np.concatenate([starts, ends]).astype(float)
    changes = np.concatenate([weights, np.negative(weights)]).astype(float)
    order = np.argsort(times, kind="stable")
    times, busy = times[order], np.cumsum(changes[order])
    # What has been done by each time: straight between starts and ends.
    done = np.concatenate([[0.0], np.cumsum(busy[:-1] * np.diff(times))])
    return np.diff(np.interp(edges, times, done)) / np.diff(edges)


def summarize_timeline(
    jobs: Sequence[Job], pauses: Sequence[tuple[float, float]], path: Sequence[Step], makers: Makers
) -> dict[str, Any]:
    """What a run came to.

    Parameters
    ----------
    jobs, pauses : see ``cut_pauses``
    path, makers : see ``critical_path``

    Returns
    -------
    ``num_jobs``, ``wall_seconds`` without ``pauses``, ``idle_seconds`` in which no job was at work; of ``cpu`` and
    ``gpu``, each None where no job used it, ``num_devices`` (slots, GPUs) and the ``busy_share`` of their time, of GPUs
    from the first job on one to the last; ``mean_cores`` that computed. Of the critical path: ``path_seconds`` by kind
    of work and waiting, ``num_path_jobs``, ``num_path_arms``, ``num_room_jobs`` that waited for room, and the name and
    seconds of the ``longest_path_job``. ``chain_seconds`` : see ``longest_chain``
    """
    wall = max((job.ended for job in jobs), default=0.0)
    longest = max((step.job for step in path), key=lambda job: job.ended - job.busy_from, default=None)
    ran, end = 0.0, 0.0
    for job in jobs:
        ran += max(0.0, job.ended - max(job.started, end))
        end = max(end, job.ended)
    on_gpu, on_cpu = ([job for job in jobs if bool(job.gpu_id) is has_gpu] for has_gpu in (True, False))
    whole = max((job.ended for job in on_gpu), default=0.0) - min((job.busy_from for job in on_gpu), default=0.0)
    return {
        "num_jobs": len(jobs),
        "wall_seconds": round(wall, 3),
        "pauses": [{"at": round(at, 3), "seconds": round(seconds, 3)} for at, seconds in pauses],
        "idle_seconds": round(wall - ran, 3),
        "cpu": _describe_devices(on_cpu, wall),
        "gpu": _describe_devices(on_gpu, whole),
        "mean_cores": round(sum(job.cpu_seconds for job in jobs) / wall, 3) if wall else 0.0,
        "path_seconds": {kind: round(seconds, 3) for kind, seconds in seconds_on_path(path).items()},
        "num_path_jobs": len(path),
        "num_path_arms": len({step.job.arm for step in path if step.job.arm}),
        "num_room_jobs": sum(step.waited_for == ROOM for step in path),
        "longest_path_job": longest and {"job": longest.name, "seconds": round(longest.ended - longest.busy_from, 3)},
        "chain_seconds": round(longest_chain(jobs, makers), 3),
    }


def _describe_devices(jobs: Sequence[Job], seconds: float) -> dict[str, Any] | None:
    """Number of the devices of these jobs, and how much of so many seconds they were busy."""
    if not jobs or seconds <= 0:
        return None
    num_devices = len(set(assign_devices(jobs)))
    busy = sum(job.ended - job.busy_from for job in jobs)
    return {"num_devices": num_devices, "busy_share": round(busy / (num_devices * seconds), 4)}


def measure_timeline_files(
    logs: str | Path,
    requests: str | Path,
    records: str | Path,
    jobs_path: str | Path,
    summary_path: str | Path,
    arms: Collection[str],
    seeds: Collection[int],
    last_round: int,
) -> None:
    """Write a row a job, times in seconds from the first job's start without pauses, and what the run came to.

    Parameters
    ----------
    logs, requests, arms, seeds, last_round : see ``read_jobs``
    records : folder of records of how each file was made
    """
    known = [record for record in read_records(Path(records)) if PurePath(record.log).is_relative_to(logs)]
    # What read an earlier one of these two files tells of the run, and is no part of it.
    told = {str(jobs_path), str(summary_path)}
    tells = {_name_of_log(record.log, logs) for record in known if told.intersection(record.inputs)}
    jobs, pauses = cut_pauses(read_jobs(logs, requests, arms, seeds, last_round, tells))
    devices, makers = assign_devices(jobs), read_makers(known, logs)
    path = critical_path(jobs, makers, devices, begun=[0.0, *(at for at, _ in pauses)])
    on_path = {step.job.name for step in path}
    rows = [
        {
            "job": job.name,
            "rule": job.rule,
            "kind": kind_of_job(job),
            "arm": job.arm,
            "seed": job.seed,
            "round": job.round or "",
            "device": device,
            "started": round(job.started, 3),
            "busy_from": round(job.busy_from, 3),
            "ended": round(job.ended, 3),
            "cpu_seconds": job.cpu_seconds,
            "on_critical_path": int(job.name in on_path),
        }
        for job, device in zip(jobs, devices, strict=True)
    ]
    write_table(jobs_path, JOB_COLUMNS, rows)
    write_json(summary_path, summarize_timeline(jobs, pauses, path, makers))
