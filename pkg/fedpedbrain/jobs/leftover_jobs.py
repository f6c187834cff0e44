"""Jobs that an earlier run has left with SLURM: they outlive it, and write the files that the next one writes."""

import os
import re
import subprocess
from pathlib import Path

from fedpedbrain.base.errors import StudyError

# A run's jobs carry its id for a name.
_RUN_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ANSWER_SECONDS = 60


def refuse_leftover_jobs(folder: str | Path) -> None:
    """Refuse to run in a folder in which jobs of an earlier run of this user wait or work.

    Raises
    ------
    StudyError : there are such jobs; the message has the command that cancels them
    """
    command = ["squeue", "--me", "--noheader", "--format=%i %j %Z"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=_ANSWER_SECONDS, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        # Who cannot ask SLURM cannot submit either, and is told so then.
        return
    rows = [line.split(maxsplit=2) for line in answer.splitlines()]
    ids = [row[0] for row in rows if len(row) == 3 and _RUN_ID.fullmatch(row[1]) and _is_same(row[2], folder)]
    if ids:
        raise StudyError(
            f"{len(ids)} SLURM job(s) of an earlier run still wait or work in this folder; cancel them and run again: "
            f"scancel {' '.join(ids)}"
        )


def _is_same(path: str, folder: str | Path) -> bool:
    return os.path.realpath(path) == os.path.realpath(folder)
