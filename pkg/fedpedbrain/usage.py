"""What a job used of time, memory and GPU, as a record that outlives it.

Each job measures itself: whoever watches from outside sees the waiting process of a forked job, and no GPU.
"""

import json
import resource
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from fedpedbrain.files import write_json


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
    """

    wall_seconds: float
    cpu_seconds: float
    peak_memory_mb: int
    gpu: str = ""
    gpu_memory_mb: int = 0
    gpu_seconds: float = 0.0


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
    torch, devices = sys.modules.get("torch"), sys.modules.get("fedpedbrain.devices")
    gpu, gpu_memory_mb = "", 0
    if torch is not None and torch.cuda.is_initialized():
        device = max(range(torch.cuda.device_count()), key=torch.cuda.max_memory_reserved)
        if torch.cuda.max_memory_reserved(device):
            gpu, gpu_memory_mb = torch.cuda.get_device_name(device), torch.cuda.max_memory_allocated(device) >> 20
    now = time.monotonic()
    waits = [wait for wait in (devices.gpu_waits if devices else []) if wait[0] >= started]
    held_since = max((end for _, end in waits), default=started)
    return Usage(
        wall_seconds=round(now - started - sum(end - begun for begun, end in waits), 3),
        cpu_seconds=round(time.process_time(), 3),
        peak_memory_mb=peak_memory_mb(),
        gpu=gpu,
        gpu_memory_mb=gpu_memory_mb,
        gpu_seconds=round(now - held_since, 3) if gpu else 0.0,
    )


def write_usage(path: str | Path, usage: Usage, labels: Mapping[str, str]) -> None:
    """Write a record; ``labels`` say whose it is: arm, seed, round, site."""
    write_json(path, {**labels, **asdict(usage)})


def read_usages(paths: Iterable[str | Path]) -> list[tuple[dict[str, str], Usage]]:
    """Labels and usage of every record."""
    records = []
    for path in paths:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
        usage = Usage(**{field.name: values.pop(field.name) for field in fields(Usage)})
        records.append((values, usage))
    return records
