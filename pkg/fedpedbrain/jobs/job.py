"""What every job does around its work: a log file, failures that read as one line and are kept, and an end in time."""

import ctypes
import faulthandler
import logging
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fedpedbrain.base.errors import StudyError
from fedpedbrain.base.files import explained_disk
from fedpedbrain.jobs.usage import measure_usage, usage_line

_PR_SET_PDEATHSIG = 1
# In the last line of the log of a job that came to its end.
_DONE = "done, used"
_LIMIT = "FEDPEDBRAIN_JOB_LIMIT_MINUTES"
_FORM = "%(asctime)s %(levelname)s %(name)s: %(message)s"
# Of a log: an error in that form, or the first line that a job leaves which its limit ended.
_REASON = re.compile(r"^\S+ \S+ ERROR \S+: (.+)$|^(Timeout \(.+\)!)$", re.MULTILINE)


def die_with_parent() -> None:
    """Ask Linux to end this process when the one that started it dies (prctl(2)); elsewhere do nothing."""
    if sys.platform != "linux":
        return
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


def limit_jobs(minutes: float | None) -> None:
    """Let every job that is started from here end as failed after so many minutes; None for no limit."""
    os.environ.pop(_LIMIT, None)
    if minutes is not None:
        os.environ[_LIMIT] = str(minutes)


class _LogFile(logging.FileHandler):
    """A log in a file, whose own failure, as on a full disk, hides nothing of what the job says on the terminal."""

    def __init__(self, path: Path, mode: str) -> None:
        super().__init__(path, mode, encoding="utf-8")
        self.setFormatter(logging.Formatter(_FORM))

    def handleError(self, record: logging.LogRecord) -> None:
        """Leave the line out."""

    def close(self) -> None:
        """Close the file, with or without what it had no room for."""
        with suppress(OSError):
            super().close()


def _read_log(path: Path) -> str:
    # A job that was killed may have stopped inside a character.
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def note_failure(path: str | Path, reason: str) -> None:
    """Add to the log of a job, which could not do so itself, why it ended; as far as there is room for it."""
    with suppress(OSError):
        log = _LogFile(Path(path), "a")
        log.emit(logging.LogRecord("fedpedbrain", logging.ERROR, "", 0, reason, None, None))
        log.close()


def failure_reason(path: str | Path) -> str:
    """Why the job of a log failed, in its own words; "" where the log does not tell."""
    found = _REASON.findall(_read_log(Path(path)))
    return "".join(found[-1]) if found else ""


def _keep_failed_log(path: Path) -> None:
    """Add the log of the try before, unless that came to its end, to those of the job's earlier failures."""
    text = _read_log(path)
    if text and _DONE not in text.splitlines()[-1]:
        with open(path.with_name(f"{path.name}.failed"), "a", encoding="utf-8") as file:
            file.write(text)


def _open_log(path: Path) -> _LogFile:
    """Begin a new log."""
    with explained_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _keep_failed_log(path)
        return _LogFile(path, "w")


def _tell(error: StudyError) -> None:
    """Put an error's lines on the terminal."""
    sys.stderr.write("".join(f"ERROR: {line}\n" for line in str(error).splitlines()))


def _name_of_script() -> str:
    """Name of the script that runs, which is its job's; the copy that is run has digits before it."""
    return Path(sys.argv[0]).stem.rpartition(".")[2]


@contextmanager
def job_log(path: str | Path) -> Iterator[None]:
    """Send the block's log lines to a file, last what it used: a record and, in words, CPU time and peak memory.

    A ``StudyError`` becomes its message on the terminal, and exit status 1. A job that takes longer than ``limit_jobs``
    allows leaves in its log where it stood. Logs of tries that failed are kept in ``<path>.failed``.
    """
    started = time.monotonic()
    die_with_parent()
    try:
        handler = _open_log(Path(path))
    except StudyError as error:
        _tell(error)
        sys.exit(1)
    logger = logging.getLogger("fedpedbrain")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    # A library that sets up logging when it is imported, as Opacus does, would send every line to the terminal too.
    logger.propagate = False
    if limit := os.environ.get(_LIMIT):
        # Ends even what hangs in compiled code.
        faulthandler.dump_traceback_later(60 * float(limit), exit=True, file=handler.stream)
    end = "failed after"
    try:
        yield
        logger.info("%s", usage_line(_name_of_script(), measure_usage(started)))
        end = _DONE
    except StudyError as error:
        logger.error("%s", error)
        _tell(error)
        sys.exit(1)
    except KeyboardInterrupt:
        logger.error("interrupted")
        sys.exit(128 + signal.SIGINT)
    except Exception as error:
        logger.exception("unexpected failure: %s: %s", type(error).__name__, error)
        raise
    finally:
        faulthandler.cancel_dump_traceback_later()
        used = measure_usage(started)
        logger.info("%s %.1f s of CPU time, %d MB of memory", end, used.cpu_seconds, used.peak_memory_mb)
        logger.removeHandler(handler)
        logger.propagate = True
        handler.close()
