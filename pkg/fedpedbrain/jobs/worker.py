"""A process of the run that has imported what its jobs need and forks one child a job, so that a job starts at once.

The process that starts the run announces a worker (``announce_worker``). A job that wants it calls
``fork_from_worker`` as its first act: the first one starts the worker, and each hands over its script, arguments,
folder, environment and standard streams, waits for the child that runs them and ends as it ends. A child that a signal
ends, as the system does where memory runs out, has one successor. Where there is no
worker the call returns and the job runs in its own process, with the same result. The worker ends with the process that
announced it; a child ends with its job or with the worker. It imports and forks, and computes nothing: it has one
thread and never a CUDA context.
"""

import contextlib
import gc
import hashlib
import importlib
import json
import os
import runpy
import secrets
import select
import selectors
import signal
import socket
import struct
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence

from fedpedbrain.jobs.job import die_with_parent, note_failure

_VARIABLE = "FEDPEDBRAIN_WORKER"
_NUMBER = struct.Struct("=i")
_STANDARD_STREAMS = (0, 1, 2)
_START_SECONDS = 10.0
_REQUEST_SECONDS = 5.0
_POLL_SECONDS = 0.01
# Of a wait: a signal that comes just before one begins is seen when it ends.
_ATTENTION_SECONDS = 0.5
# How often a job is begun whose child a signal ends.
_TRIES = 2


def announce_worker(owner_pid: int | None, preload: Sequence[str] = ()) -> None:
    """Offer a worker to the jobs started from here.

    Parameters
    ----------
    owner_pid : process that the worker ends with; None takes an inherited offer back
    preload : modules that the worker imports before its first job
    """
    os.environ.pop(_VARIABLE, None)
    if owner_pid is not None and sys.platform == "linux":
        # The key keeps two runs apart whose process ids are alike, as in two containers on one network.
        offer = {"owner": owner_pid, "preload": list(preload), "key": secrets.token_hex(8)}
        os.environ[_VARIABLE] = json.dumps(offer)


# The job's side.


def fork_from_worker(log_path: str) -> None:
    """Let the run's worker execute this script, and end as it ends; return where there is no worker.

    Parameters
    ----------
    log_path : the job's log, in which is noted what the child cannot say itself: that a signal ended it
    """
    offer = os.environ.get(_VARIABLE)
    if offer is None:
        return
    die_with_parent()
    if _has_ended(json.loads(offer)["owner"]):
        # Before this process could ask to end with it.
        sys.exit("the run that started this job has ended")
    for attempt in range(1, _TRIES + 1):
        try:
            code = _run_in_child(offer)
        except KeyboardInterrupt:
            sys.exit(128 + signal.SIGINT)
        except ConnectionError as error:
            _report(log_path, str(error))
            break
        if code is None:
            return
        if code >= 0:
            sys.exit(code)
        reason = f"the job was ended by signal {signal.Signals(-code).name}" + " (out of memory?)" * (code == -9)
        _report(log_path, reason, "; it is tried once more" * (attempt < _TRIES))
    sys.exit(1)


def _has_ended(pid: int) -> bool:
    """Whether a process is gone, or no more than its exit status is left of it."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([process], [], [], 0)[0])
    finally:
        os.close(process)


def _report(log_path: str, reason: str, outlook: str = "") -> None:
    note_failure(log_path, reason)
    sys.stderr.write(f"ERROR: {reason}{outlook}\n")


def _run_in_child(offer: str) -> int | None:
    """Run this script in a child of the worker; its exit status, negative for a signal, or None without a worker.

    Raises
    ------
    ConnectionError : the worker ended before the child did
    """
    connection = _connect(offer)
    if connection is None:
        return None
    request = {"argv": sys.argv, "folder": os.getcwd(), "environment": dict(os.environ)}
    with connection:
        try:
            body = json.dumps(request).encode()
            socket.send_fds(connection, [_NUMBER.pack(len(body))], _STANDARD_STREAMS)
            connection.sendall(body)
            started = _receive_later(connection, 1)
        except OSError:
            return None
        if not started:
            return None
        status = _receive_later(connection, _NUMBER.size)
    if not status:
        raise ConnectionError("the run's worker ended while this job was running; run again")
    return _NUMBER.unpack(status)[0]


def _address(offer: str) -> str:
    """Name of the worker's socket: an abstract one, which leaves no file behind."""
    key = hashlib.sha256(f"{offer} {sys.executable} {os.getcwd()}".encode()).hexdigest()[:16]
    return f"\0fedpedbrain-{os.getuid()}-{key}"


def _is_same_user(connection: socket.socket) -> bool:
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return struct.unpack("3i", credentials)[1] == os.getuid()


def _connect(offer: str) -> socket.socket | None:
    """Connect to the worker, starting it if need be; None if there is none."""
    deadline = time.monotonic() + _START_SECONDS
    process = None
    while time.monotonic() < deadline:
        # Looked at first: whoever holds the address by the time our own attempt has ended can be connected to.
        has_ended = process is not None and process.poll() is not None
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(_address(offer))
        except OSError:
            connection.close()
        else:
            return connection if _is_same_user(connection) else None
        if has_ended:
            return None
        process = process or _start_worker(offer)
        time.sleep(_POLL_SECONDS)
    return None


def _start_worker(offer: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", __name__, _address(offer)[1:], offer],
        # Threads that a library starts on import would not live on in a child.
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _receive_later(connection: socket.socket, size: int) -> bytes:
    """As ``_receive``, of what may be long in coming: meanwhile an interruption is noticed, whenever it comes."""
    while not select.select([connection], [], [], _ATTENTION_SECONDS)[0]:
        pass
    return _receive(connection, size)


def _receive(connection: socket.socket, size: int) -> bytes:
    """Exactly ``size`` bytes, or none if the other side is gone."""
    received = b""
    while len(received) < size:
        with contextlib.suppress(ConnectionResetError):
            if part := connection.recv(size - len(received)):
                received += part
                continue
        return b""
    return received


# The worker's side.


class Worker:
    """Forks a child for every connection, tells it how the child ended, and ends a child whose connection closes."""

    def __init__(self, listener: socket.socket, owner_pid: int) -> None:
        self.listener = listener
        self.connections: dict[int, socket.socket] = {}
        self.selector = selectors.DefaultSelector()
        self.owner = os.pidfd_open(owner_pid)
        self.selector.register(self.owner, selectors.EVENT_READ)
        self.selector.register(listener, selectors.EVENT_READ, self._fork)

    def serve(self) -> None:
        """Serve until the owner ends; then end what still runs."""
        while True:
            for key, _ in self.selector.select():
                if key.fd == self.owner:
                    for child in self.connections:
                        _kill(child)
                    return
                key.data()

    def _fork(self) -> None:
        streams: list[int] = []
        try:
            connection, _ = self.listener.accept()
        except OSError:
            # The job on the other side is gone already.
            return
        try:
            if not _is_same_user(connection):
                raise PermissionError("only the jobs of the worker's own user are run")
            connection.settimeout(_REQUEST_SECONDS)
            size, streams, _, _ = socket.recv_fds(connection, _NUMBER.size, len(_STANDARD_STREAMS))
            request = json.loads(_receive(connection, _NUMBER.unpack(size)[0]))
            child = os.fork()
            if child == 0:
                _run_job(request, streams)
        except (OSError, ValueError, struct.error):
            # The job runs itself.
            connection.close()
            return
        finally:
            for stream in streams:
                os.close(stream)
        with contextlib.suppress(PermissionError, ProcessLookupError):
            os.setpgid(child, child)
        self.connections[child] = connection
        ended = os.pidfd_open(child)
        self.selector.register(ended, selectors.EVENT_READ, lambda: self._reap(child, ended))
        self.selector.register(connection, selectors.EVENT_READ, lambda: self._end(child))
        # Where this fails the connection reads as closed, which ends the child.
        with contextlib.suppress(OSError):
            connection.sendall(b"\1")

    def _reap(self, child: int, ended: int) -> None:
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        self.selector.unregister(ended)
        os.close(ended)
        connection = self.connections.pop(child)
        with contextlib.suppress(KeyError):
            self.selector.unregister(connection)
        with contextlib.suppress(OSError), connection:
            connection.sendall(_NUMBER.pack(code))

    def _end(self, child: int) -> None:
        """The job is gone, so its work ends too, unless it has ended by itself in the same moment."""
        if child in self.connections:
            self.selector.unregister(self.connections[child])
            _kill(child)


def _kill(child: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)


def _run_job(request: dict, streams: Sequence[int]) -> None:
    """Become the job that a request describes; does not return."""
    code = 1
    try:
        os.setpgid(0, 0)
        die_with_parent()
        for stream, standard in zip(streams, _STANDARD_STREAMS, strict=True):
            os.dup2(stream, standard)
        os.closerange(len(_STANDARD_STREAMS), os.sysconf("SC_OPEN_MAX"))
        code = _run_script(request)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _run_script(request: dict) -> int:
    """Run a script as ``python script`` would; returns its exit status."""
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    del os.environ[_VARIABLE]
    sys.argv = request["argv"]
    sys.path[0] = os.path.dirname(os.path.abspath(sys.argv[0]))
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        sys.stderr.write(f"{end.code}\n")
        return 1
    return 0


def main(name: str, offer: str) -> None:
    """Be the worker of an offer, unless there is one already."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(f"\0{name}")
    except OSError:
        return
    # Jobs may connect from here on; they wait until the imports are done.
    listener.listen(socket.SOMAXCONN)
    settings = json.loads(offer)
    worker = Worker(listener, settings["owner"])
    for module in settings["preload"]:
        importlib.import_module(module)
    # Nothing of what is imported is garbage: children need not look at it, and share it.
    gc.freeze()
    worker.serve()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
