"""Servers on the loopback interface: any HTTP handler, and as much of a Hugging Face hub as fetching one file needs."""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote

_ADDRESS = re.compile(r"/((?:datasets/|spaces/)?[^/]+/[^/]+)/resolve/([^/]+)/(.+)")


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Answer requests with ``handler`` for as long as the block lasts; yields the server's address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Hub:
    """What a hub holds, and what it was asked.

    Attributes
    ----------
    files : content by (repository, revision, path); a repository that is no model begins with ``datasets/`` or
        ``spaces/``
    gated : repositories that want ``token``
    cuts : numbers of bytes after which the connection breaks, one a download, first to come first
    requests : (method, path) of every request
    """

    token = "hf_of_the_tests"

    def __init__(self) -> None:
        self.files: dict[tuple[str, str, str], bytes] = {}
        self.gated: set[str] = set()
        self.cuts: list[int] = []
        self.requests: list[tuple[str, str]] = []

    def add(self, repository: str, path: str, content: bytes, revision: str = "main") -> None:
        """Put a file into a repository."""
        self.files[repository, revision, path] = content

    def environment(self, url: str, folder: Path) -> dict[str, str]:
        """Variables that send the Hugging Face client to this hub at ``url``, its cache below ``folder``."""
        return {
            "HF_ENDPOINT": url,
            "HF_HOME": str(folder),
            "HF_TOKEN": "",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }

    def find(self, path: str, authorization: str | None) -> tuple[int, str | bytes]:
        """Status and content that the hub has for a path, or status and error code that it refuses with."""
        address = _ADDRESS.fullmatch(path)
        repository, revision, file = map(unquote, address.groups()) if address else ("", "", "")
        is_known = authorization == f"Bearer {self.token}"
        if repository in self.gated and not is_known:
            return (403 if authorization else 401), "GatedRepo"
        if repository not in {known for known, _, _ in self.files}:
            return (404 if is_known else 401), "RepoNotFound"
        if (repository, revision) not in {(known, at) for known, at, _ in self.files}:
            return 404, "RevisionNotFound"
        if (repository, revision, file) not in self.files:
            return 404, "EntryNotFound"
        return 200, self.files[repository, revision, file]

    @contextmanager
    def serve(self) -> Iterator[str]:
        """Be a hub for as long as the block lasts; yields its address."""
        with serving(type("HubHandler", (_HubHandler,), {"hub": self})) as url:
            yield url


class _HubHandler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, *arguments) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        """What the client asks first: is it there, how large, which version."""
        self._answer()

    def do_GET(self) -> None:
        """The file, from the byte on that the client asks for."""
        content = self._answer()
        if content is not None:
            self.wfile.write(content[: self.hub.cuts.pop(0)] if self.hub.cuts else content)

    def _answer(self) -> bytes | None:
        self.hub.requests.append((self.command, self.path))
        status, found = self.hub.find(self.path, self.headers.get("Authorization"))
        if isinstance(found, str):
            self.send_response(status)
            self.send_header("X-Error-Code", found)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").split("-")[0])
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(found) - 1}/{len(found)}")
        self.send_header("Content-Length", str(len(found) - start))
        self.send_header("ETag", f'"{hashlib.sha256(found).hexdigest()}"')
        self.send_header("X-Repo-Commit", hashlib.sha1(self.path.encode() + found).hexdigest())
        self.end_headers()
        return found[start:]
