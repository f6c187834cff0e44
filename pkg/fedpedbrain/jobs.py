"""What every job does around its work: a log file, failures that read as one line and are kept, and an end in time."""

import ctypes
import faulthandler
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from fedpedbrain.errors import StudyError
from fedpedbrain.usage import measure_usage, write_usage

_PR_SET_PDEATHSIG = 1
# In the last line of the log of a job that came to its end.
_DONE = "done, used"
_LIMIT = "FEDPEDBRAIN_JOB_LIMIT_MINUTES"


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


def _keep_failed_log(path: Path) -> None:
    """Add the log of the try before, unless that came to its end, to those of the job's earlier failures."""
    # A job that was killed may have stopped inside a character.
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    if text and _DONE not in text.splitlines()[-1]:
        with open(path.with_name(f"{path.name}.failed"), "a", encoding="utf-8") as file:
            file.write(text)


def _open_log(path: Path) -> logging.FileHandler:
    """Begin a new log."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _keep_failed_log(path)
    handler = logging.FileHandler(path, mode="w", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    return handler


@contextmanager
def job_log(
    path: str | Path, usage_path: str | Path | None = None, labels: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Send the block's log lines to a file, CPU time and peak memory of the process last.

    A ``StudyError`` becomes its message on the terminal, and exit status 1. A job that takes longer than ``limit_jobs``
    allows leaves in its log where it stood. Logs of tries that failed are kept in ``<path>.failed``.

    Parameters
    ----------
    usage_path : where a block that comes to its end leaves a record of what it used
    labels : whose record that is, see ``write_usage``
    """
    started = time.monotonic()
    die_with_parent()
    handler = _open_log(Path(path))
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
        if usage_path is not None:
            write_usage(usage_path, measure_usage(started), labels or {})
        end = _DONE
    except StudyError as error:
        logger.error("%s", error)
        sys.stderr.write("".join(f"ERROR: {line}\n" for line in str(error).splitlines()))
        sys.exit(1)
    except KeyboardInterrupt:
        logger.error("interrupted")
        sys.exit(128 + signal.SIGINT)
    except Exception:
        logger.exception("unexpected failure")
        raise
    finally:
        faulthandler.cancel_dump_traceback_later()
        used = measure_usage(started)
        logger.info("%s %.1f s of CPU time, %d MB of memory", end, used.cpu_seconds, used.peak_memory_mb)
        logger.removeHandler(handler)
        logger.propagate = True
        handler.close()
