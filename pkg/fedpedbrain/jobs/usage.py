"""What a job used of time, memory and GPU, when and where, as a line of its log.

Each job measures itself: whoever watches from outside sees the waiting process of a forked job, and no GPU.
"""

import json
import platform
import resource
import sys
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path

# What the line of a log begins with that holds a record.
_LINE = "record of the job: "


@dataclass(frozen=True)
class Usage:
    """What one job used.

    Attributes
    ----------
    wall_seconds : from the job's first own line to its end, but for the wait for a GPU that another job held
    cpu_seconds : of all threads of the process
    peak_memory_mb : largest resident memory, libraries that it shares with other jobs included
    gpu : name of the GPU it computed on, "" for none
    gpu_memory_mb : largest memory of tensors on the GPU
    gpu_seconds : wall time with a GPU taken: nobody else computes on it meanwhile
    started, ended : of the job's own lines, in seconds since 1970 (UTC); 0 in records of earlier versions
    host : name of the machine
    gpu_id : the GPU's own number (UUID), which no other has
    """

    wall_seconds: float
    cpu_seconds: float
    peak_memory_mb: int
    gpu: str = ""
    gpu_memory_mb: int = 0
    gpu_seconds: float = 0.0
    started: float = 0.0
    ended: float = 0.0
    host: str = ""
    gpu_id: str = ""


def peak_memory_mb() -> int:
    """Largest resident memory of this process so far; Linux counts from the start of its program (proc(5), VmHWM)."""
    try:
        status = Path("/proc/self/status").read_text()
    except FileNotFoundError:
        # Elsewhere: bytes on macOS, where there is no /proc.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 20
    return int(status.split("VmHWM:")[1].split()[0]) >> 10


def measure_usage(started: float) -> Usage:
    """What this process has used so far; ``started`` is ``time.monotonic()`` at its first own line."""
    # Only who has imported these can have computed on a GPU, or waited for one.
    torch, devices = sys.modules.get("torch"), sys.modules.get("fedpedbrain.jobs.devices")
    gpu, gpu_memory_mb, gpu_id = "", 0, ""
    if torch is not None and torch.cuda.is_initialized():
        device = max(range(torch.cuda.device_count()), key=torch.cuda.max_memory_reserved)
        if torch.cuda.max_memory_reserved(device):
            gpu, gpu_memory_mb = torch.cuda.get_device_name(device), torch.cuda.max_memory_allocated(device) >> 20
            # Indices count from 0 in every SLURM job; not every build of PyTorch knows the number.
            gpu_id = str(getattr(torch.cuda.get_device_properties(device), "uuid", device))
    now, ended = time.monotonic(), time.time()
    waits = [wait for wait in (devices.gpu_waits if devices else []) if wait[0] >= started]
    held_since = max((end for _, end in waits), default=started)
    return Usage(
        wall_seconds=round(now - started - sum(end - begun for begun, end in waits), 3),
        cpu_seconds=round(time.process_time(), 3),
        peak_memory_mb=peak_memory_mb(),
        gpu=gpu,
        gpu_memory_mb=gpu_memory_mb,
        gpu_seconds=round(now - held_since, 3) if gpu else 0.0,
        started=round(ended - (now - started), 3),
        ended=round(ended, 3),
        host=platform.node(),
        gpu_id=gpu_id,
    )


def usage_line(job: str, usage: Usage) -> str:
    """A record as a line of the job's log: every job has one there."""
    return _LINE + json.dumps({"job": job, **asdict(usage)})


def read_usage_line(path: str | Path) -> tuple[str, Usage] | None:
    """Name and usage of the job whose log this is; None where there is none, or not all of it: the job was killed."""
    try:
        # A job that was killed may have stopped inside a character.
        log = Path(path).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    _, found, rest = log.rpartition(_LINE)
    if not found:
        return None
    try:
        values = json.loads(rest.partition("\n")[0])
    except ValueError:
        return None
    # What a record of an earlier version has not is its default.
    known = {field.name: values[field.name] for field in fields(Usage) if field.name in values}
    return values["job"], Usage(**known)
