"""What every job does around its work: a log file, failures that read as one line, and not outliving its parent."""

import ctypes
import logging
import os
import resource
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedpedbrain.errors import StudyError

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Ask Linux to end this process when the one that started it dies (prctl(2)); elsewhere do nothing."""
    if sys.platform != "linux":
        return
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


def peak_memory_mb() -> int:
    """Largest resident memory of this process so far; Linux counts from the start of its program (proc(5), VmHWM)."""
    try:
        status = Path("/proc/self/status").read_text()
    except FileNotFoundError:
        # Elsewhere: bytes on macOS, where there is no /proc.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 20
    return int(status.split("VmHWM:")[1].split()[0]) >> 10


@contextmanager
def job_log(path: str | Path) -> Iterator[None]:
    """Send the block's log lines to a file, CPU time and peak memory of the process last.

    A ``StudyError`` becomes its message on the terminal, and exit status 1.
    """
    die_with_parent()
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, mode="w")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("fedpedbrain")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    # A library that sets up logging when it is imported, as Opacus does, would send every line to the terminal too.
    logger.propagate = False
    try:
        yield
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
        logger.info("used %.1f s of CPU time, %d MB of memory", time.process_time(), peak_memory_mb())
        logger.removeHandler(handler)
        logger.propagate = True
        handler.close()
