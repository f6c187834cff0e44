"""Which device a job computes on."""

import ctypes
import fcntl
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

import torch

from fedpedbrain.base.errors import StudyError

_POLL_SECONDS = 0.2
# Parameters of mallopt(3), and a size beyond any tensor of a study.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_BYTES = 1 << 30
# Locks last as long as their files stay open: until the process ends.
_held_locks: list[IO] = []
# When this process began to wait for a GPU and when it had it, by time.monotonic().
gpu_waits: list[tuple[float, float]] = []


def visible_gpu_ids() -> list[str]:
    """Ids of the GPUs this process may use, in the order of ``CUDA_VISIBLE_DEVICES``, or all."""
    declared = os.environ.get("CUDA_VISIBLE_DEVICES")
    if declared is not None:
        return [item.strip() for item in declared.split(",") if item.strip()]
    return [str(index) for index in range(torch.cuda.device_count())]


def lock_folder() -> Path:
    """Where the lock files of this user's GPUs are, of each SLURM job its own: in every one, ids may count from 0."""
    name = "-".join(filter(None, ["fedpedbrain-gpus", str(os.getuid()), os.environ.get("SLURM_JOB_ID")]))
    return Path(tempfile.gettempdir()) / name


def lock_free_gpu(gpu_ids: list[str], folder: Path) -> str:
    """Wait for a GPU that no other job holds and hold it until this process ends."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise StudyError(f"{folder}: expected a folder of your own, found another user's; set TMPDIR to another place")
    files = {gpu_id: open(folder / f"{gpu_id}.lock", "a") for gpu_id in gpu_ids}  # noqa: SIM115 held until exit
    while True:
        for gpu_id, file in files.items():
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            _held_locks.append(file)
            return gpu_id
        time.sleep(_POLL_SECONDS)


def keep_freed_memory() -> None:
    """Have glibc keep the memory of freed tensors for the next step rather than give it back to the kernel each time.

    Saves the page faults of every step on the CPU (mallopt(3)); does nothing elsewhere.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
            mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def take_device(num_gpus: int, num_threads: int) -> torch.device:
    """Choose the job's device: a free GPU if the scheduler granted one and there is one, else the CPU.

    Where SLURM has given this job one GPU, that one is taken without a lock; jobs that share an allocation of several
    choose among them. How long that took is in ``gpu_waits``.
    """
    torch.set_num_threads(num_threads)
    if num_gpus < 1 or not torch.cuda.is_available():
        keep_freed_memory()
        return torch.device("cpu")
    begun, index = time.monotonic(), 0
    if "SLURM_JOB_ID" not in os.environ or torch.cuda.device_count() > 1:
        gpu_ids = visible_gpu_ids()
        index = gpu_ids.index(lock_free_gpu(gpu_ids, lock_folder()))
    gpu_waits.append((begun, time.monotonic()))
    return torch.device("cuda", index)
