"""Progress a person can follow: one line a job, in the words of the study, with how far the whole run is.

Snakemake finds this package by its name; ``profiles/default`` switches it on with ``logger: [study]``.
"""

import errno
import logging
import os
import sys
import time
import traceback

from fedpedbrain.base.files import full_disk
from fedpedbrain.jobs.job import failure_reason
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

# Lines of Snakemake without an event that a user should see in a real run.
_KEPT = (
    "Nothing to be done",
    "Unlocking",
    "up to ",
    "Will exit after finishing",
    "Terminating processes on user request",
)
# Of a failed job Snakemake also reports the command it ran; the job's own message and log say more.
_COMMAND_FAILURES = ("CalledProcessError", "RuleException")
# What Snakemake says at the end of a run in which jobs failed, the second also of one that was stopped.
_LAST_WORDS = "Exiting because a job execution failed"
_VERDICT = "At least one job did not complete successfully"
# By which the clocks of the disk and of this machine may differ.
_CLOCK_SECONDS = 2.0
_NO_ROOM = f"[Errno {errno.ENOSPC}]"


class LogHandler(LogHandlerBase):
    """Writes to the terminal; dry runs look as Snakemake's own."""

    def __post_init__(self) -> None:
        """Start at nothing done."""
        self._num_done = 0
        self._num_jobs = 0
        # When each job was announced, and how.
        self._begun: dict[int, float] = {}
        self._messages: dict[int, str] = {}
        self._failures: dict[int, str] = {}
        self._said: set[str] = set()
        # Snakemake's own log on a full disk would answer every line with a traceback.
        logging.raiseExceptions = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write what the record means for a reader, if anything."""
        try:
            text = self._planned_line(record) if self.common_settings.dryrun else self._line_of(record)
            if text:
                sys.stderr.write(text + "\n")
                sys.stderr.flush()
        except Exception:
            traceback.print_exc()

    def _planned_line(self, record: logging.LogRecord) -> str | None:
        # Jobs run scripts: Snakemake would say of each that it has no command.
        has_no_command = getattr(record, "event", None) == LogEvent.SHELLCMD and record.shellcmd is None
        return None if has_no_command else self.format(record)

    def _line_of(self, record: logging.LogRecord) -> str | None:
        handlers = {
            LogEvent.RUN_INFO: self._run_line,
            LogEvent.PROGRESS: self._count_done,
            LogEvent.JOB_INFO: self._job_line,
            LogEvent.JOB_FINISHED: self._forget_failure,
            LogEvent.JOB_ERROR: self._failure_line,
            LogEvent.ERROR: self._error_line,
        }
        event = getattr(record, "event", None)
        if event in handlers:
            return handlers[event](record)
        is_news = record.levelno >= logging.WARNING or str(record.msg).startswith(_KEPT)
        if event is not None or not is_news or str(record.msg).startswith(_LAST_WORDS):
            return None
        return self._once(self.format(record))

    def _once(self, text: str) -> str | None:
        # Snakemake says how it ends again with each job that does.
        is_new = text not in self._said
        self._said.add(text)
        return text if is_new else None

    def _run_line(self, record: logging.LogRecord) -> str:
        self._num_jobs = record.stats["total"]
        return f"{self._num_jobs} steps to do"

    def _count_done(self, record: logging.LogRecord) -> str | None:
        self._num_done, self._num_jobs = record.done, record.total
        return self._progress_line("done") if record.done == record.total else None

    def _job_line(self, record: logging.LogRecord) -> str | None:
        self._begun[record.jobid] = time.time()
        # A rule without a message is a target: it only gathers files.
        if not record.rule_msg:
            return None
        self._messages[record.jobid] = record.rule_msg
        return self._progress_line(record.rule_msg)

    def _progress_line(self, text: str) -> str:
        percent = 100 * self._num_done // max(self._num_jobs, 1)
        return f"{time.strftime('%H:%M:%S')}  {percent:3d} %  {text}"

    def _failure_line(self, record: logging.LogRecord) -> str:
        what = self._messages.get(record.jobid, record.rule_name)
        logs = ", ".join(record.log) or "none"
        begun = self._begun.get(record.jobid, 0.0)
        # A job that could not even begin its log has left that of an earlier run.
        own = [log for log in record.log[:1] if os.path.exists(log) and os.path.getmtime(log) > begun - _CLOCK_SECONDS]
        reason = "".join(map(failure_reason, own))
        self._failures[record.jobid] = f"  {what}: {reason}{'; ' * bool(reason)}log: {logs}"
        return f"FAILED: {what} (log: {logs})"

    def _forget_failure(self, record: logging.LogRecord) -> None:
        # It was tried again.
        self._failures.pop(record.job_id, None)

    def _summary(self) -> str:
        failed = ", these failed" if self._failures else ""
        head = f"{self._num_done} of {self._num_jobs} steps are done{failed}; run again to go on from here"
        return "\n".join([head + ":" * bool(failed), *self._failures.values()])

    def _error_line(self, record: logging.LogRecord) -> str | None:
        text = self.format(record)
        if _NO_ROOM in text:
            return f"ERROR: {full_disk(os.path.abspath('.snakemake'))}"
        if _VERDICT in text:
            return self._summary()
        return None if record.exception in _COMMAND_FAILURES else text

    @property
    def writes_to_stream(self) -> bool:
        """It is the terminal's handler."""
        return True

    @property
    def writes_to_file(self) -> bool:
        """It keeps no file; Snakemake's own log does."""
        return False

    @property
    def has_filter(self) -> bool:
        """It chooses by itself what to show."""
        return True

    @property
    def has_formatter(self) -> bool:
        """Whatever it passes on looks as Snakemake's own."""
        return False

    @property
    def needs_rulegraph(self) -> bool:
        """It shows no graph."""
        return False
