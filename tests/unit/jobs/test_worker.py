import os
import selectors
import signal
import socket
import subprocess
import sys
import time

import pytest
from fedpedbrain.jobs.job import failure_reason
from fedpedbrain.jobs.worker import Worker, announce_worker

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers need Linux")

PRELUDE = """
import os, sys, time
from fedpedbrain.jobs.worker import fork_from_worker
fork_from_worker(sys.argv[0] + ".log")
"""


@pytest.fixture
def owner(monkeypatch):
    """A process that stands for the run; jobs started here may use its worker, which imports ``colorsys``."""
    monkeypatch.setenv("FEDPEDBRAIN_WORKER", "")
    with subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        announce_worker(process.pid, preload=["colorsys"])
        yield process
        process.kill()


def heed_interruptions() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def start_job(tmp_path):
    """``start_job(code, *arguments)``: a job whose script is ``code``."""
    scripts = iter(range(100))
    started = []

    def _start(code: str, *arguments: str) -> subprocess.Popen:
        script = tmp_path / f"job-{next(scripts)}.py"
        script.write_text(PRELUDE + code)
        command = [sys.executable, str(script), *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        # What a shell starts in the background ignores SIGINT, and so does what that starts.
        started.append(subprocess.Popen(command, preexec_fn=heed_interruptions, **pipes))
        return started[-1]

    yield _start
    for job in started:
        job.kill()
        job.communicate()


def said_by(job: subprocess.Popen) -> tuple[str, str, int]:
    """Output, errors and exit status of a job, waited for."""
    output, errors = job.communicate(timeout=300)
    return output.strip(), errors.strip(), job.returncode


def is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def ends(pid: int) -> bool:
    """Whether a process ends; one that does not is given up."""
    deadline = time.monotonic() + 60
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not is_alive(pid)


def first_line(job: subprocess.Popen) -> str:
    return job.stdout.readline().strip()


def test_a_job_runs_in_a_child_that_has_the_imports(owner, start_job):
    job = start_job("print('colorsys' in sys.modules, os.getpid())")
    output, _, status = said_by(job)
    has_imports, pid = output.split()
    assert (has_imports, status) == ("True", 0)
    assert int(pid) != job.pid


def test_without_an_offer_a_job_runs_in_its_own_process(owner, start_job):
    announce_worker(None)
    job = start_job("print('colorsys' in sys.modules, os.getpid())")
    assert said_by(job) == (f"False {job.pid}", "", 0)


def test_jobs_share_one_worker(owner, start_job):
    jobs = [start_job("print(os.getppid())") for _ in range(6)]
    assert len({said_by(job)[0] for job in jobs}) == 1


def test_a_job_finds_its_arguments_folder_and_environment(owner, start_job, tmp_path, monkeypatch):
    said_by(start_job(""))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLOUR", "green")
    job = start_job("print(sys.argv[1:], os.getcwd(), os.environ['COLOUR'], __name__)", "a", "b c")
    assert said_by(job)[0] == f"['a', 'b c'] {tmp_path} green __main__"


@pytest.mark.parametrize(
    ("code", "errors", "status"),
    [
        ("", "", 0),
        ("sys.exit()", "", 0),
        ("sys.exit(3)", "", 3),
        ("sys.exit('no mask')", "no mask", 1),
    ],
)
def test_a_job_ends_as_its_child_ends(owner, start_job, code, errors, status):
    assert said_by(start_job(code)) == ("", errors, status)


# Killed at its first try, and where there is another argument at its second, too.
KILLED = """
from fedpedbrain.jobs.job import job_log
with job_log(sys.argv[0] + ".log"):
    tries = open(sys.argv[1], "a+")
    tries.seek(0)
    before = tries.read()
    print("x", file=tries, flush=True)
    if not before or sys.argv[2:]:
        os.kill(os.getpid(), 9)
    print("done")
"""
FIRST = "ERROR: the job was ended by signal SIGKILL (out of memory?); it is tried once more"
SECOND = "ERROR: the job was ended by signal SIGKILL (out of memory?)"


def test_a_job_that_a_signal_ends_is_tried_once_more_and_the_reason_is_kept(owner, start_job, tmp_path):
    job = start_job(KILLED, str(tmp_path / "tries"))
    assert said_by(job) == ("done", FIRST, 0)
    (kept,) = tmp_path.glob("*.log.failed")
    assert kept.read_text().endswith("ERROR fedpedbrain: the job was ended by signal SIGKILL (out of memory?)\n")


def test_a_job_that_signals_end_twice_has_failed(owner, start_job, tmp_path):
    job = start_job(KILLED, str(tmp_path / "tries"), "always")
    assert said_by(job) == ("", f"{FIRST}\n{SECOND}", 1)
    (log,) = tmp_path.glob("*.log")
    assert failure_reason(log) == "the job was ended by signal SIGKILL (out of memory?)"
    assert (tmp_path / "tries").read_text() == "x\nx\n"


STUCK = """
from fedpedbrain.jobs.job import job_log, limit_jobs
limit_jobs(0.005)
print(os.getpid(), flush=True)
with job_log(sys.argv[0] + ".log"):
    time.sleep(600)
"""


def test_a_stuck_job_ends_at_its_limit_with_its_child_and_is_not_tried_again(owner, start_job, tmp_path):
    output, _, status = said_by(start_job(STUCK))
    assert status == 1
    assert ends(int(output))
    (log,) = tmp_path.glob("*.log")
    assert failure_reason(log) == "Timeout (0:00:00.300000)!"


def test_an_exception_shows_its_traceback(owner, start_job):
    _, errors, status = said_by(start_job("1 / 0"))
    assert status == 1
    assert errors.startswith("Traceback")
    assert errors.endswith("ZeroDivisionError: division by zero")


def test_a_worker_that_cannot_import_leaves_jobs_to_themselves(owner, start_job):
    announce_worker(owner.pid, preload=["no_such_module"])
    job = start_job("print(os.getpid())")
    assert said_by(job) == (str(job.pid), "", 0)


@pytest.mark.parametrize("is_reaped", [False, True])
def test_a_job_that_begins_when_its_run_has_ended_does_not_run(owner, start_job, is_reaped):
    # Its run was killed while it started: the system cannot end it with a parent that is gone already.
    owner.kill()
    if is_reaped:
        owner.wait()
    output, errors, status = said_by(start_job("print('ran')"))
    assert (output, errors, status) == ("", "the run that started this job has ended", 1)


def test_a_job_that_goes_as_its_child_ends_leaves_the_worker_alone():
    with socket.socket(socket.AF_UNIX) as listener:
        worker = Worker(listener, os.getpid())
        ours, theirs = socket.socketpair()
        child = os.fork()
        if child == 0:
            os._exit(0)
        ended = os.pidfd_open(child)
        worker.connections[child] = ours
        for source in (ended, ours):
            worker.selector.register(source, selectors.EVENT_READ)
        theirs.close()
        worker._reap(child, ended)
        worker._end(child)
        assert not worker.connections
        worker.selector.close()
        os.close(worker.owner)


def test_a_worker_that_has_imported_torch_has_one_thread(owner, start_job):
    announce_worker(owner.pid, preload=["torch"])
    job = start_job("print(len(os.listdir(f'/proc/{os.getppid()}/task')), 'torch' in sys.modules)")
    assert said_by(job)[0] == "1 True"


TRAINING = """
import hashlib, torch
from fedpedbrain.models.networks import build_model
from fedpedbrain.training.optimizers import build_optimizer
torch.set_num_threads(1)
torch.manual_seed(0)
model = build_model("unet", 1, 1, 2, channels=[4, 8], strides=[[1, 2, 2], [2, 2, 2]], pooled_grid=[1, 2, 2])
optimizer = build_optimizer(model.parameters(), {"name": "adamw", "weight_decay": 0.01}, 0.01)
for _ in range(3):
    optimizer.zero_grad()
    logits = model(torch.rand(2, 1, 8, 16, 16))
    (logits.segmentation.square().mean() + logits.classification.square().mean()).backward()
    optimizer.step()
print(hashlib.sha256(b"".join(value.numpy().tobytes() for value in model.state_dict().values())).hexdigest())
"""


def test_training_gives_the_same_bytes_in_a_child_and_in_a_process_of_its_own(owner, start_job):
    announce_worker(owner.pid, preload=["torch"])
    forked = said_by(start_job(TRAINING))
    announce_worker(None)
    plain = said_by(start_job(TRAINING))
    assert forked == plain
    assert len(plain[0]) == 64


def test_a_killed_job_takes_its_child_along(owner, start_job):
    job = start_job("print(os.getpid(), flush=True)\ntime.sleep(600)")
    child = int(first_line(job))
    job.kill()
    assert ends(child)


def test_an_interrupted_job_ends_in_silence_and_takes_its_child_along(owner, start_job):
    job = start_job("print(os.getpid(), flush=True)\ntime.sleep(600)")
    child = int(first_line(job))
    job.send_signal(signal.SIGINT)
    assert said_by(job) == ("", "", 130)
    assert ends(child)


def test_the_worker_and_its_children_end_with_the_run(owner, start_job):
    job = start_job("print(os.getpid(), os.getppid(), flush=True)\ntime.sleep(600)")
    child, worker = map(int, first_line(job).split())
    owner.kill()
    owner.wait()
    assert ends(child)
    assert ends(worker)
    assert said_by(job)[2] == 1


def test_children_end_with_a_killed_worker_and_their_jobs_fail(owner, start_job):
    job = start_job("print(os.getpid(), os.getppid(), flush=True)\ntime.sleep(600)")
    child, worker = map(int, first_line(job).split())
    os.kill(worker, signal.SIGKILL)
    assert ends(child)
    _, errors, status = said_by(job)
    assert status == 1
    assert "the run's worker ended while this job was running" in errors
    # The next job starts another.
    assert int(said_by(start_job("print(os.getppid())"))[0]) not in (worker, os.getpid())
