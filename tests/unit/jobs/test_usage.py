import json
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch
from fedpedbrain.jobs import devices
from fedpedbrain.jobs.usage import Usage, measure_usage, read_usage_line, usage_line

# Works for a while and holds 64 MB, then says what it used.
WORK = """
import time
from fedpedbrain.jobs.usage import measure_usage
started = time.monotonic()
held = bytearray(64 << 20)
held[::4096] = b"x" * len(held[::4096])
while time.process_time() < 0.3:
    pass
used = measure_usage(started)
passed = time.monotonic() - started
print(used.wall_seconds, passed, used.cpu_seconds, time.process_time(), used.peak_memory_mb, repr(used.gpu))
"""


def test_a_process_knows_what_it_used():
    printed = subprocess.run([sys.executable, "-c", WORK], capture_output=True, text=True, check=True).stdout.split()
    wall, passed, cpu, cpu_later, memory = map(float, printed[:5])
    # Seconds are rounded to the nearest thousandth.
    assert 0 < wall <= passed + 0.0005
    assert 0.3 <= cpu <= cpu_later + 0.0005
    # Pages of the interpreter's files may count as well; in kB or bytes it would be a thousand times as much.
    assert 64 < memory < 6400
    assert printed[5] == "''"


@pytest.fixture
def second_gpu(monkeypatch):
    """A machine that claims that this process computes on the second of its two GPUs."""
    fakes = {
        "is_initialized": lambda: True,
        "device_count": lambda: 2,
        "max_memory_reserved": lambda device: device << 30,
        "max_memory_allocated": lambda device: 5 << 20,
        "get_device_name": lambda device: f"GPU {device}",
        "get_device_properties": lambda device: SimpleNamespace(uuid=f"uuid-{device}"),
    }
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    monkeypatch.setattr(devices, "gpu_waits", [])


def test_a_gpu_counts_where_it_was_computed_on(monkeypatch, second_gpu):
    used = measure_usage(time.monotonic() - 2.0)
    assert (used.gpu, used.gpu_memory_mb, used.gpu_id) == ("GPU 1", 5, "uuid-1")
    assert used.gpu_seconds == used.wall_seconds >= 2.0
    # Another job's device is not this one's, though this one has looked for it.
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: 0)
    assert measure_usage(time.monotonic()).gpu == ""


class Clock:
    """Stands for ``time.monotonic``; time passes when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds


def test_waiting_for_a_gpu_is_neither_work_nor_holding_it(monkeypatch, second_gpu):
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    monkeypatch.setattr(devices, "visible_gpu_ids", lambda: ["0", "1"])
    monkeypatch.setattr(devices, "lock_free_gpu", lambda gpu_ids, folder: clock.wait(30.0) or "1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    # Of a block before this one.
    devices.gpu_waits.append((clock.now - 60.0, clock.now - 50.0))
    started = clock.now
    clock.wait(2.0)
    devices.take_device(1, torch.get_num_threads())
    clock.wait(5.0)
    used = measure_usage(started)
    assert (used.wall_seconds, used.gpu_seconds) == (7.0, 5.0)


def test_a_record_says_when_the_job_ran_and_where():
    before = time.time()
    used = measure_usage(time.monotonic() - 2.0)
    assert before - 0.001 <= used.ended <= time.time() + 0.001
    assert used.wall_seconds >= 2.0
    assert used.ended - used.started == pytest.approx(used.wall_seconds, abs=0.002)
    assert used.host


def test_a_log_gives_its_record_back_and_one_without_none(tmp_path):
    used = Usage(2.5, 4.0, 300, "GPU", 120, 1.5, 1000.0, 1002.5, "node", "uuid")
    path = tmp_path / "job.log"
    path.write_text(f"INFO: first\nINFO: {usage_line('train_site', used)}\nINFO: done\n")
    assert read_usage_line(path) == ("train_site", used)
    # A job that was killed may have stopped inside a character.
    path.write_bytes("INFO: first\nERROR: no room for Hôpital".encode()[:-7])
    assert read_usage_line(path) is None
    assert read_usage_line(tmp_path / "none.log") is None
    path.write_text(usage_line("train_site", used)[:-9])
    assert read_usage_line(path) is None


def test_a_record_of_an_earlier_version_is_read_without_its_times(tmp_path):
    record = {"job": "train_site", "wall_seconds": 2.5, "cpu_seconds": 4.0, "peak_memory_mb": 300}
    later = usage_line("train_site", Usage(2.5, 4.0, 300))
    line = later[: later.index("{")] + json.dumps(record | {"of a later version": 1})
    (tmp_path / "job.log").write_text(f"INFO: {line}\n")
    assert read_usage_line(tmp_path / "job.log") == ("train_site", Usage(2.5, 4.0, 300))
