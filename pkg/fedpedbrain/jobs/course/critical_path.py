"""The critical path of a run: the chain of jobs that decided when it ended.

From the job that ended last back to the first one, each step goes to the job that the next one waited for. That is
the job that made the last of its files. Where all its files were there earlier, it waited for room, and the step goes
to the job that gave it room on its machine. What lies between two steps is waiting.
"""

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Job:
    """A job that ran to its end.

    Attributes
    ----------
    name : where its log is, which no other job's is
    rule : what it did
    arm, seed : of which arm and seed, "" for a job of all
    round : 0 for a job of all rounds
    started, ended : seconds
    busy_from : when it had its GPU; ``started`` where it needed none
    cpu_seconds : of all its threads
    host : machine
    gpu_id : its GPU, "" for none
    """

    name: str
    rule: str
    arm: str
    seed: str
    round: int
    started: float
    ended: float
    busy_from: float
    cpu_seconds: float
    host: str = ""
    gpu_id: str = ""


# Name of a job to the names of the jobs that made its inputs; a job whose records are lost is not in it.
Makers = Mapping[str, Collection[str]]

# What a job waited for: the last of its files, or room beside other jobs; the first job of a run for neither.
FILES, ROOM, NOTHING = "files", "room", "nothing"
# A job that has all it needs starts within this time.
_START_SECONDS = 1.0


@dataclass(frozen=True)
class Step:
    """A job of the critical path, and what it waited for: ``FILES``, ``ROOM`` or ``NOTHING``."""

    job: Job
    waited_for: str


_KIND_OF = {
    "train_site": "training",
    "aggregate_round": "averaging",
    "validate_site": "validation",
    "predict_cases": "prediction",
}
# First folders of the logs of jobs that make the cohort.
_COHORT_LOGS = ("downloads/", "cohort/")
# In the order in which a study does them; what is none of these is small and of many kinds.
OTHER, WAITING = "other", "waiting"
KINDS = ("cohort", "training", "averaging", "validation", "prediction", OTHER)


def kind_of_job(job: Job) -> str:
    """What kind of work a job does, one of ``KINDS``."""
    return "cohort" if job.name.startswith(_COHORT_LOGS) else _KIND_OF.get(job.rule, OTHER)


class _Ends:
    """Jobs in the order in which they ended."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._jobs = sorted(jobs, key=lambda job: (job.ended, job.started))
        self._times = [job.ended for job in self._jobs]

    def last_between(self, after: float, until: float) -> list[Job]:
        """Jobs that ended later than ``after`` and not later than ``until``, the last and those just before it."""
        stop = bisect_right(self._times, until)
        if not stop:
            return []
        start = bisect_right(self._times, max(after, self._times[stop - 1] - _START_SECONDS))
        return self._jobs[start:stop]


def _makers_of(job: Job, by_name: Mapping[str, Job], makers: Makers) -> list[Job]:
    """Jobs that made a job's inputs, except those that ran again since: it did not wait for them."""
    found = (by_name[name] for name in makers.get(job.name, ()) if name in by_name)
    return [maker for maker in found if maker.ended <= job.started]


def critical_path(
    jobs: Sequence[Job], makers: Makers, devices: Sequence[str], begun: Sequence[float] = (0.0,)
) -> list[Step]:
    """The critical path, its first job first.

    A job that started later than its last input was ready, by more than a job takes to start, waited for room. The job
    that ended last on its machine before it started gave it room: of several that ended at about the same time, the one
    in whose place it ran. Nobody gave it room where nothing ended meanwhile; it then waited for its input.

    Parameters
    ----------
    jobs : whatever ran, in any order; jobs that another one waited for may be missing
    makers : see ``Makers``; a job without known inputs waited for room since the run began
    devices : the place of each job, see ``assign_devices``
    begun : when the run began, and when it began again after each pause; no job waits for room across a pause
    """
    by_name = {job.name: job for job in jobs}
    device_of = {job.name: device for job, device in zip(jobs, devices, strict=True)}
    of_host: dict[str, list[Job]] = defaultdict(list)
    for job in jobs:
        of_host[job.host].append(job)
    ends_of = {host: _Ends(of_host[host]) for host in of_host}
    all_ends = _Ends(jobs)

    def before(job: Job) -> tuple[Job | None, str]:
        made = max(_makers_of(job, by_name, makers), key=lambda maker: maker.ended, default=None)
        since = max((time for time in begun if time <= job.started), default=0.0)
        ready = max(since, made.ended if made else since)
        if job.started - ready > _START_SECONDS:
            ended = ends_of[job.host].last_between(ready, job.started)
            if freed := [other for other in ended if other.started < job.started]:
                return max(freed, key=lambda other: (device_of[other.name] == device_of[job.name], other.ended)), ROOM
        if made and made.ended > since:
            return made, FILES
        # The first of the run, or of what is left of it after a pause.
        earlier = all_ends.last_between(-math.inf, since)
        return (earlier[-1] if earlier else None), NOTHING

    steps: list[Step] = []
    job = max(jobs, key=lambda job: job.ended, default=None)
    while job is not None:
        previous, waited_for = before(job)
        steps.append(Step(job, waited_for))
        job = previous
    return steps[::-1]


def seconds_on_path(path: Sequence[Step], begun: float = 0.0) -> dict[str, float]:
    """Seconds of the path by kind of work, and of the waiting between its jobs and before the first.

    Parameters
    ----------
    path : see ``critical_path``
    begun : when the run began
    """
    seconds = dict.fromkeys((*KINDS, WAITING), 0.0)
    for job in (step.job for step in path):
        seconds[WAITING] += job.busy_from - begun
        seconds[kind_of_job(job)] += job.ended - job.busy_from
        begun = job.ended
    return seconds


def longest_chain(jobs: Sequence[Job], makers: Makers) -> float:
    """Seconds of the longest chain of jobs that need each other's files: more room makes no run shorter."""
    by_name = {job.name: job for job in jobs}
    seconds: dict[str, float] = {}
    for job in sorted(jobs, key=lambda job: (job.started, job.ended)):
        behind = (seconds.get(maker.name, 0.0) for maker in _makers_of(job, by_name, makers))
        seconds[job.name] = job.ended - job.busy_from + max(behind, default=0.0)
    return max(seconds.values(), default=0.0)
