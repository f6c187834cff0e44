"""A copy of the workflow in a temporary folder, and running Snakemake there."""

import contextlib
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from multiprocessing.reduction import DupFd
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
TINY = str(REPOSITORY / "tests" / "e2e" / "tiny.yaml")
_PARTS = ["Snakefile", "config.yaml", "rules", "workflow_scripts", "pkg", "envs", "profiles", "studies"]

# Runs without jobs fork from a process that has imported what takes longest to import.
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["snakemake.cli", "snakemake.dag", "pandas"])

# After which a job that goes on without its run is given up; on a busy machine its end takes a while.
_ORPHAN_SECONDS = 60.0


def _run_snakemake(folder: Path, arguments: tuple[str, ...], variables: dict[str, str], output: "DupFd") -> None:
    """Be ``snakemake`` in a folder, with the package that lies there; its output goes into a file."""
    from snakemake.cli import main

    descriptor = output.detach()
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.chdir(folder)
    sys.path.insert(0, str(folder / "pkg"))
    # Those that the first of these runs had are still there.
    os.environ.clear()
    os.environ.update(variables, PYTHONPATH=str(folder / "pkg"))
    sys.argv = ["snakemake"]
    main(list(arguments))


class Workspace:
    """The workflow's files in ``folder``, whose own copy of the package is the one that runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for part in _PARTS:
            source = REPOSITORY / part
            if source.is_dir():
                shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
            else:
                shutil.copy(source, folder / part)

    def copy(self, folder: Path) -> "Workspace":
        """A copy in another folder that is not there yet: results, file dates and Snakemake's records included."""
        copy = object.__new__(Workspace)
        copy.folder = folder
        shutil.copytree(self.folder, folder, symlinks=True)
        return copy

    def snakemake(self, *arguments: str) -> subprocess.CompletedProcess:
        """Run Snakemake to its end; output and errors come back as one text."""
        run = self.start(*arguments)
        try:
            output, _ = run.communicate(timeout=3600)
        except subprocess.TimeoutExpired:
            self.kill(run)
            raise
        return subprocess.CompletedProcess(run.args, run.returncode, output)

    def start(self, *arguments: str) -> subprocess.Popen:
        """Start Snakemake as the leader of a process group of its own, its output and errors as one text in a pipe."""
        return subprocess.Popen(
            [sys.executable, "-m", "snakemake", *arguments],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(self.folder / "pkg")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def kill(self, run: subprocess.Popen, whole_group: bool = True) -> None:
        """Kill a run at once, with the jobs that are in its process group or alone."""
        (os.killpg if whole_group else os.kill)(run.pid, signal.SIGKILL)
        run.wait()
        run.stdout.close()

    def orphans(self) -> list[str]:
        """Command lines of a killed run's processes that do not end with it."""
        deadline = time.monotonic() + _ORPHAN_SECONDS
        while (found := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.02)
        return found

    def processes(self) -> list[str]:
        """Command lines of the processes that work in this folder."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            # A process may end while it is looked at.
            with contextlib.suppress(OSError):
                if (process / "cwd").resolve(strict=True).is_relative_to(self.folder):
                    found.append((process / "cmdline").read_text().replace("\0", " "))
        return found

    def without_jobs(self, *arguments: str) -> subprocess.CompletedProcess:
        """As ``snakemake``, 1.4 s faster, for what starts no job: a dry run, a refusal, ``--touch``."""
        with tempfile.TemporaryFile("w+") as output:
            details = (self.folder, arguments, dict(os.environ), DupFd(output.fileno()))
            run = _FORKS.Process(target=_run_snakemake, args=details)
            run.start()
            run.join()
            output.seek(0)
            return subprocess.CompletedProcess(arguments, run.exitcode, output.read())

    def planned(self, *arguments: str) -> dict[str, int]:
        """How many jobs of each rule a run would start."""
        result = self.without_jobs("--dry-run", *arguments)
        assert result.returncode == 0, result.stdout
        rows = re.search(r"Job stats:\n.*\n[- ]+\n((?:.+\n)+?)total", result.stdout)
        pairs = [line.split() for line in rows.group(1).splitlines()] if rows else []
        return {name: int(count) for name, count in pairs}

    def edit(self, path: str, old: str, new: str) -> None:
        """Replace text in one of the workspace's files."""
        file = self.folder / path
        text = file.read_text()
        assert old in text, f"{path} no longer holds {old!r}"
        file.write_text(text.replace(old, new, 1))
