import contextlib
import os
import select
import signal
import subprocess
import sys

import pytest
import torch
from fedpedbrain.base.errors import StudyError
from fedpedbrain.jobs import devices
from fedpedbrain.jobs.devices import lock_folder, lock_free_gpu, take_device, visible_gpu_ids

HOLDER = """
import sys
from pathlib import Path
from fedpedbrain.jobs.devices import lock_free_gpu
print(lock_free_gpu(["0", "1"], Path(sys.argv[1])), flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _fresh_locks(monkeypatch, tmp_path):
    """Locks of this test alone, in its own folder, and no scheduler around."""
    monkeypatch.setattr(devices, "_held_locks", [])
    monkeypatch.setattr(devices, "gpu_waits", [])
    monkeypatch.setattr(devices, "lock_folder", lambda: tmp_path / "locks")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    num_threads = torch.get_num_threads()
    yield
    torch.set_num_threads(num_threads)


@pytest.fixture
def two_gpus(monkeypatch):
    """A machine that claims to have two GPUs."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_no_gpu_granted_means_the_cpu(two_gpus):
    assert take_device(0, 1) == torch.device("cpu")


def test_a_granted_gpu_that_is_not_there_means_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert take_device(1, 1) == torch.device("cpu")


def test_a_job_computes_with_its_number_of_threads():
    take_device(0, 2)
    assert torch.get_num_threads() == 2
    take_device(0, 1)
    assert torch.get_num_threads() == 1


def test_jobs_take_different_gpus(two_gpus):
    assert [take_device(1, 1), take_device(1, 1)] == [torch.device("cuda", 0), torch.device("cuda", 1)]


def test_gpus_are_taken_in_the_order_of_cuda_visible_devices(monkeypatch, two_gpus):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, 1")
    assert visible_gpu_ids() == ["3", "1"]
    lock_free_gpu(["3"], devices.lock_folder())
    # GPU 1 is the second of the visible ones, so that PyTorch calls it cuda:1.
    assert take_device(1, 1) == torch.device("cuda", 1)


def test_without_cuda_visible_devices_all_gpus_are_visible(two_gpus):
    assert visible_gpu_ids() == ["0", "1"]


def test_an_empty_cuda_visible_devices_hides_every_gpu(monkeypatch, two_gpus):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible_gpu_ids() == []


def test_a_job_waits_until_a_gpu_is_free(monkeypatch, tmp_path):
    lock_free_gpu(["0", "1"], tmp_path)
    lock_free_gpu(["0", "1"], tmp_path)
    waits = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            devices._held_locks[1].close()

    monkeypatch.setattr(devices.time, "sleep", wait)
    assert lock_free_gpu(["0", "1"], tmp_path) == "1"
    assert len(waits) == 3


def test_another_process_takes_another_gpu_and_leaves_it_by_its_death(tmp_path):
    assert lock_free_gpu(["0", "1"], tmp_path) == "0"
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "1\n"
        holder.kill()
    assert lock_free_gpu(["0", "1"], tmp_path) == "1"


@pytest.fixture
def hold_gpu(tmp_path):
    """``hold_gpu()``: a job that takes a GPU; its process, and the pipe by which it says which one."""
    started = []

    def _hold() -> tuple[int, int]:
        says, own = os.pipe()
        job = os.fork()
        if job == 0:
            os.write(own, lock_free_gpu(visible_gpu_ids(), tmp_path).encode())
            signal.pause()
        os.close(own)
        started.append((job, says))
        return job, says

    yield _hold
    for job, says in started:
        os.close(says)
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(job, signal.SIGKILL)
            os.waitpid(job, 0)


def test_four_jobs_take_four_gpus_and_a_fifth_waits_for_one_of_them(monkeypatch, hold_gpu):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    job_of = {os.read(says, 1): job for job, says in (hold_gpu() for _ in range(4))}
    assert sorted(job_of) == [b"0", b"1", b"2", b"3"]
    _, fifth = hold_gpu()
    assert select.select([fifth], [], [], 2 * devices._POLL_SECONDS)[0] == []
    os.kill(job_of[b"2"], signal.SIGKILL)
    assert os.read(fifth, 1) == b"2"


def test_under_slurm_the_scheduler_has_chosen(monkeypatch, two_gpus):
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert [take_device(1, 1), take_device(1, 1)] == [torch.device("cuda", 0)] * 2
    assert not devices.lock_folder().exists()


def test_jobs_that_share_an_allocation_take_different_gpus(monkeypatch, two_gpus):
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    assert [take_device(1, 1), take_device(1, 1)] == [torch.device("cuda", 0), torch.device("cuda", 1)]


def test_jobs_of_two_allocations_do_not_wait_for_each_others_ids(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    first = lock_folder()
    monkeypatch.setenv("SLURM_JOB_ID", "78")
    assert lock_folder() != first


def test_locks_in_another_users_folder_are_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(devices.os, "getuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(StudyError, match="expected a folder of your own, found another user's"):
        lock_free_gpu(["0"], tmp_path)
