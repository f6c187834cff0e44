"""A SLURM of one node on this machine, with a controller, munge, and two GPUs that compute nothing."""

import os
import re
import shutil
import socket
import stat
import subprocess
import tempfile
import time
from pathlib import Path

from fedpedbrain.jobs.job import die_with_parent

# Its default place: a job step of Snakemake starts srun without the variable that could name another one.
CONFIG_FILE = Path("/etc/slurm/slurm.conf")
PARTITION = "main"
NUM_GPUS = 2
_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scancel", "scontrol", "sinfo", "squeue")
_START_SECONDS = 120.0
_POLL_SECONDS = 0.2
# What the node is taken to have, whatever the machine has: jobs use a small part of what they ask for.
_MEMORY_MB = 16000
# Snakemake looks for jobs that have ended more and more seldom, up to 45 s apart. Where it asks this program instead of
# squeue, the answer comes when a job has ended, in time for its limit of 60 s.
_SQUEUE = """\
#!/bin/sh
before=$({squeue} --noheader | wc -l)
tries=0
while [ "$before" -gt 0 ] && [ $tries -lt 150 ] && [ "$({squeue} --noheader | wc -l)" -ge "$before" ]; do
    sleep 0.3
    tries=$((tries + 1))
done
exec {squeue} "$@"
"""
# The device of /dev/null.
_DEVICE = os.makedev(1, 3)

_CONFIG = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=2,batch_sched_delay=0
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
KillWait=2
GresTypes=gpu
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory={memory_mb} Gres=gpu:{num_gpus}
PartitionName={partition} Nodes={host} Default=YES State=UP
"""


def reason_against() -> str | None:
    """Why no SLURM can be started here, if so."""
    missing = [program for program in _PROGRAMS if not shutil.which(program, path=_search_path())]
    if missing:
        return f"Debian's packages slurm-wlm and munge are not installed: no {', '.join(missing)}"
    if os.getuid() != 0:
        return "SLURM's daemons are started by root alone"
    with tempfile.TemporaryDirectory() as folder:
        try:
            _make_device(Path(folder, "device"))
        except PermissionError:
            return "root may not make device files here, as SLURM wants them for its GPUs"
    if CONFIG_FILE.exists() and not _is_of_tests(CONFIG_FILE):
        return f"this machine has a SLURM of its own: {CONFIG_FILE}"
    return None


def _make_device(path: Path) -> None:
    os.mknod(path, stat.S_IFCHR | 0o666, _DEVICE)


def _is_of_tests(path: Path) -> bool:
    """Whether a link leads to a temporary folder: one that a test left behind that was killed."""
    return path.is_symlink() and str(path.readlink()).startswith(tempfile.gettempdir())


def _unlink_config() -> None:
    if _is_of_tests(CONFIG_FILE):
        CONFIG_FILE.unlink()


def _search_path() -> str:
    return os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/usr/bin"])


def _free_ports() -> tuple[int, int]:
    """Two ports that nobody listens at; both are held until both are known, so that they differ."""
    with socket.socket() as first, socket.socket() as second:
        for listener in (first, second):
            listener.bind(("127.0.0.1", 0))
        return first.getsockname()[1], second.getsockname()[1]


class SlurmCluster:
    """Daemons that run from ``with`` to its end and end with this process, whatever ends it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.node = socket.gethostname().split(".")[0]
        self._daemons: list[subprocess.Popen] = []

    def __enter__(self) -> "SlurmCluster":
        try:
            self._write_files()
            config = str(self.folder / CONFIG_FILE.name)
            socket_path = self.folder / "munge.socket"
            places = {"socket": socket_path, "key-file": self.folder / "munge.key"}
            places |= {f"{name}-file": self.folder / f"munge.{name}" for name in ("pid", "log", "seed")}
            options = [f"--{option}={path}" for option, path in places.items()]
            # Forced: the folder is closed to other users, who have no jobs here.
            self._start("munged", "--foreground", "--force", *options)
            self._wait_until(socket_path.exists, "munged makes its socket")
            self._start("slurmctld", "-D", "-f", config)
            self._wait_until(lambda: "UP" in self.ask("scontrol", "ping"), "slurmctld answers")
            self._start("slurmd", "-D", "-f", config, "-N", self.node)
            self._wait_until(lambda: self.node_state() == "idle", "the node is idle")
            # While it names a controller that does not answer, every start of Snakemake on this machine waits for that.
            CONFIG_FILE.parent.mkdir(exist_ok=True)
            _unlink_config()
            CONFIG_FILE.symlink_to(config)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            self._end_jobs()
        finally:
            self._stop()

    def ask(self, *command: str) -> str:
        """Output of one of SLURM's commands."""
        environment = {**os.environ, "SLURM_CONF": str(self.folder / CONFIG_FILE.name)}
        answer = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, timeout=300, check=False)
        return answer.stdout

    def programs(self) -> str:
        """A search path whose squeue answers when a job has ended."""
        squeue = self.folder / "programs" / "squeue"
        if not squeue.exists():
            squeue.parent.mkdir()
            squeue.write_text(_SQUEUE.format(squeue=shutil.which("squeue", path=_search_path())))
            squeue.chmod(0o755)
        return os.pathsep.join([str(squeue.parent), os.environ["PATH"]])

    def node_state(self) -> str:
        """State of the node: idle, mixed, alloc, drained, ..."""
        return self.ask("sinfo", "--noheader", "--format=%t").strip()

    def set_node_state(self, state: str) -> None:
        """Set the node's state: drain or resume."""
        self.ask("scontrol", "update", f"NodeName={self.node}", f"State={state}", "Reason=test")

    def jobs(self) -> list[dict[str, str]]:
        """Every job since the start, in the order of their ids, as ``scontrol show job`` describes it."""
        lines = self.ask("scontrol", "show", "job", "--oneliner").splitlines()
        jobs = [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in lines if line.startswith("JobId=")]
        return sorted(jobs, key=lambda job: int(job["JobId"]))

    def _write_files(self) -> None:
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        for number in range(NUM_GPUS):
            _make_device(self.folder / f"nvidia{number}")
        controller_port, node_port = _free_ports()
        text = _CONFIG.format(
            host=self.node,
            folder=self.folder,
            controller_port=controller_port,
            node_port=node_port,
            memory_mb=_MEMORY_MB,
            num_gpus=NUM_GPUS,
            partition=PARTITION,
        )
        (self.folder / CONFIG_FILE.name).write_text(text)
        devices = f"{self.folder}/nvidia[0-{NUM_GPUS - 1}]"
        (self.folder / "gres.conf").write_text(f"NodeName={self.node} Name=gpu File={devices}\n")

    def _start(self, program: str, *options: str) -> None:
        with (self.folder / f"{program}.out").open("wb") as output:
            daemon = subprocess.Popen(
                [shutil.which(program, path=_search_path()), *options],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        self._daemons.append(daemon)

    def _wait_until(self, condition, what: str) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not condition():
            ended = [daemon.args[0] for daemon in self._daemons if daemon.poll() is not None]
            if ended or time.monotonic() > deadline:
                outputs = "".join(path.read_text(errors="replace") for path in self.folder.glob("*.out"))
                raise RuntimeError(f"waited for: {what}; ended: {ended or 'none'}\n{outputs}")
            time.sleep(_POLL_SECONDS)

    def _end_jobs(self) -> None:
        self.ask("scancel", "--user=root")
        deadline = time.monotonic() + _START_SECONDS
        while self.ask("squeue", "--noheader") and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)

    def _stop(self) -> None:
        _unlink_config()
        for daemon in reversed(self._daemons):
            daemon.terminate()
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
