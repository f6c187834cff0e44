"""A copy of the workflow in a temporary folder, and running Snakemake there."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
TINY = str(REPOSITORY / "tests" / "e2e" / "tiny.yaml")
_PARTS = ["Snakefile", "config.yaml", "rules", "workflow_scripts", "pkg", "envs", "profiles", "studies"]


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

    def snakemake(self, *arguments: str) -> subprocess.CompletedProcess:
        """Run Snakemake to its end; output and errors come back as one text."""
        environment = {**os.environ, "PYTHONPATH": str(self.folder / "pkg")}
        return subprocess.run(
            [sys.executable, "-m", "snakemake", *arguments],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=540,
            check=False,
        )

    def planned(self, *arguments: str) -> dict[str, int]:
        """How many jobs of each rule a run would start."""
        result = self.snakemake("--dry-run", *arguments)
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
