"""What every job does around its work: a log file, failures that read as one line, and not outliving its parent."""

import ctypes
import logging
import os
import resource
import signal
import sys
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
        used = resource.getrusage(resource.RUSAGE_SELF)
        logger.info("used %.1f s of CPU time, %d MB of memory", used.ru_utime + used.ru_stime, used.ru_maxrss // 1024)
        logger.removeHandler(handler)
        handler.close()
