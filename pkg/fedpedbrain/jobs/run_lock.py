"""One run at a time in a folder. The lock is the operating system's, so it ends with its run however that ends."""

import fcntl
import json
import os
import socket
from datetime import datetime
from pathlib import Path

from fedpedbrain.base.errors import StudyError
from fedpedbrain.base.files import explained_disk

# Of the process: open as long as it lives, and closed in every program that it starts.
_held: list[int] = []
_MOST_BYTES = 1000


def take_run_lock(path: str | Path) -> None:
    """Hold a folder's lock until this process ends (flock(2)); the file says who holds it.

    Raises
    ------
    StudyError : another run holds it, the file system has no locks, or the disk is full
    """
    with explained_disk(path):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = _describe_holder(os.pread(file, _MOST_BYTES, 0))
        os.close(file)
        raise StudyError(f"{holder} works in this folder; wait until it ends, or stop it") from None
    except OSError as error:
        os.close(file)
        raise StudyError(
            f"{path}: this file system has no locks ({error.strerror}), so two runs could work in one folder "
            "at once; put the folder elsewhere"
        ) from None
    holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": datetime.now().isoformat(" ", "seconds")}
    with explained_disk(path):
        os.ftruncate(file, 0)
        os.pwrite(file, json.dumps(holder).encode(), 0)
    _held.append(file)


def _describe_holder(content: bytes) -> str:
    """Who holds the lock, as far as its file tells yet."""
    try:
        holder = json.loads(content)
        return f"another run (process {holder['pid']} on {holder['host']}, since {holder['since']})"
    except (ValueError, TypeError, KeyError):
        return "another run"
