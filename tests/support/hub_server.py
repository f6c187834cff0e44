"""Servers on the loopback interface: any HTTP handler, and as much of a Hugging Face hub as fetching files needs."""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs, quote, unquote

_ADDRESS = re.compile(r"/((?:datasets/|spaces/)?[^/]+/[^/]+)/resolve/([^/]+)/(.+)")
_LISTING = re.compile(r"/api/(models/|datasets/|spaces/)([^/]+/[^/]+)/paths-info/([^/]+)")
_STORE = "/store/"


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
    stored : SHA-256 that the hub says of files that it keeps in a store of its own, by the same keys; it sends clients
        there, to another host name
    gated : repositories that want ``token``
    cuts : numbers of bytes after which the connection breaks, one a download, first to come first
    requests : (method, path) of every request for a file or a listing; clients ask for other things, too
    ranges : parts of files that were asked for
    tokens_at_store : authorizations that the store was sent, which it is not to have
    """

    token = "hf_of_the_tests"

    def __init__(self) -> None:
        self.files: dict[tuple[str, str, str], bytes] = {}
        self.stored: dict[tuple[str, str, str], str] = {}
        self.gated: set[str] = set()
        self.cuts: list[int] = []
        self.requests: list[tuple[str, str]] = []
        self.ranges: list[str] = []
        self.tokens_at_store: list[str] = []

    def add(self, repository: str, path: str, content: bytes, revision: str = "main") -> None:
        """Put a file into a repository."""
        self.files[repository, revision, path] = content

    def store(self, repository: str, path: str, content: bytes, revision: str = "main", sha256: str = "") -> None:
        """Put a large file into a repository, which the hub may believe to have another digest than it has."""
        self.add(repository, path, content, revision)
        self.stored[repository, revision, path] = sha256 or hashlib.sha256(content).hexdigest()

    def environment(self, url: str, folder: Path) -> dict[str, str]:
        """Variables that send the Hugging Face client to this hub at ``url``, its cache below ``folder``."""
        return {
            "HF_ENDPOINT": url,
            "HF_HOME": str(folder),
            "HF_TOKEN": "",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
        }

    def refusal(self, repository: str, revision: str, authorization: str | None) -> tuple[int, str] | None:
        """Status and error code that the hub refuses a repository's revision with; None where it does not."""
        is_known = authorization == f"Bearer {self.token}"
        if repository in self.gated and not is_known:
            return (403 if authorization else 401), "GatedRepo"
        if repository not in {known for known, _, _ in self.files}:
            return (404 if is_known else 401), "RepoNotFound"
        if (repository, revision) not in {(known, at) for known, at, _ in self.files}:
            return 404, "RevisionNotFound"
        return None

    def find(self, path: str, authorization: str | None) -> tuple[int, str | bytes]:
        """Status and content that the hub has for a path, or status and error code that it refuses with."""
        if path.startswith(_STORE):
            self.tokens_at_store += [authorization] if authorization else []
            return 200, self.files[tuple(map(unquote, path.removeprefix(_STORE).split("/")))]
        address = _ADDRESS.fullmatch(path)
        repository, revision, file = map(unquote, address.groups()) if address else ("", "", "")
        refusal = self.refusal(repository, revision, authorization)
        if refusal is None and (repository, revision, file) not in self.files:
            refusal = 404, "EntryNotFound"
        return refusal or (200, self.files[repository, revision, file])

    def redirect(self, path: str, port: int) -> dict[str, str] | None:
        """Headers of the answer that sends a client to the store; None of a file that the hub itself has."""
        address = _ADDRESS.fullmatch(path)
        key = tuple(map(unquote, address.groups())) if address else ()
        if key not in self.stored:
            return None
        place = "/".join(quote(part, safe="") for part in key)
        return {
            "Location": f"http://localhost:{port}{_STORE}{place}",
            "X-Linked-Size": str(len(self.files[key])),
            "X-Linked-ETag": f'"{self.stored[key]}"',
        }

    def describe(self, repository: str, revision: str, paths: list[str]) -> list[dict]:
        """What the hub says of the files that it has among these."""
        found = []
        for path in paths:
            key = (repository, revision, path)
            if key in self.files:
                size = len(self.files[key])
                entry = {"type": "file", "path": path, "size": size, "oid": hashlib.sha1(path.encode()).hexdigest()}
                if key in self.stored:
                    entry["lfs"] = {"oid": self.stored[key], "size": size, "pointerSize": 134}
                found.append(entry)
        return found

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

    def do_POST(self) -> None:
        """Which of these files there are."""
        self.hub.requests.append((self.command, self.path))
        paths = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())["paths"]
        kind, name, revision = map(unquote, _LISTING.fullmatch(self.path).groups())
        repository = kind.replace("models/", "") + name
        refusal = self.hub.refusal(repository, revision, self.headers.get("Authorization"))
        if refusal is not None:
            return self._refuse(*refusal)
        answer = json.dumps(self.hub.describe(repository, revision, paths)).encode()
        self._send_headers(200, {"Content-Type": "application/json", "Content-Length": str(len(answer))})
        self.wfile.write(answer)

    def _send_headers(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _refuse(self, status: int, code: str) -> None:
        self._send_headers(status, {"X-Error-Code": code, "Content-Length": "0"})

    def _answer(self) -> bytes | None:
        if _ADDRESS.fullmatch(self.path) or self.path.startswith(_STORE):
            self.hub.requests.append((self.command, self.path))
        status, found = self.hub.find(self.path, self.headers.get("Authorization"))
        if isinstance(found, str):
            return self._refuse(status, found)
        commit = {"X-Repo-Commit": hashlib.sha1(self.path.encode() + found).hexdigest()}
        redirect = self.hub.redirect(self.path, self.server.server_port)
        if redirect is not None:
            return self._send_headers(302, {**redirect, **commit, "Content-Length": "0"})
        if "Range" in self.headers:
            self.hub.ranges.append(self.headers["Range"])
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").split("-")[0])
        headers = {"Content-Range": f"bytes {start}-{len(found) - 1}/{len(found)}"} if start else {}
        headers |= {"Content-Length": str(len(found) - start), "ETag": f'"{hashlib.sha256(found).hexdigest()}"'}
        self._send_headers(206 if start else 200, headers | commit)
        return found[start:]
