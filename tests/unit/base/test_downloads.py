import errno
import hashlib
import shutil
import socket
from http.server import BaseHTTPRequestHandler

import pytest
from fedpedbrain.base.downloads import HubFile, cache_hub_file, download, find_hub_files, is_address
from fedpedbrain.base.errors import StudyError
from hub_server import Hub, serving

CONTENT = bytes(range(256)) * 40
SHA256 = hashlib.sha256(CONTENT).hexdigest()
WHOLE = f"HTTP/1.0 200 OK\r\nContent-Length: {len(CONTENT)}\r\n\r\n".encode() + CONTENT
ANSWERS = {
    "/whole.pth": WHOLE,
    "/unmeasured.pth": b"HTTP/1.0 200 OK\r\n\r\n" + CONTENT,
    "/missing.pth": b"HTTP/1.0 404 Not Found\r\nContent-Length: 7\r\n\r\nnothing",
    "/closed.pth": b"HTTP/1.0 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
    "/truncated.pth": WHOLE[:-100],
    "/truncated-chunk.pth": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nhalf of it",
    "/no-http.pth": b"SSH-2.0-OpenSSH_9.6\r\n",
    "/silent.pth": b"",
}


class RawHandler(BaseHTTPRequestHandler):
    """Answers a path with the bytes that ``ANSWERS`` has for it."""

    def log_message(self, *arguments) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self.wfile.write(ANSWERS[self.path])


@pytest.fixture(autouse=True)
def without_proxy(monkeypatch):
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1,localhost")


@pytest.fixture(scope="module")
def server():
    """Address of a server that gives ``ANSWERS``."""
    with serving(RawHandler) as url:
        yield url


@pytest.fixture
def closed_port() -> int:
    """A port that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def assert_refused(tmp_path, source: str, *words: str, sha256: str | None = None) -> None:
    """Refused in one line that names the source and has these words; nothing is written."""
    target = tmp_path / "target"
    with pytest.raises(StudyError) as refusal:
        download(source, target / "weights.pth", sha256)
    message = str(refusal.value)
    assert message.startswith(f"{source}: ")
    assert len(message.splitlines()) == 1
    for word in words:
        assert word in message
    assert list(target.iterdir()) == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("https://example.org/a.pth", True),
        ("http://127.0.0.1:8000/a.pth", True),
        ("hf://owner/name/a.pth", True),
        ("weights/a.pth", False),
        ("/data/https/a.pth", False),
    ],
)
def test_addresses_are_told_from_paths(source, expected):
    assert is_address(source) is expected


# Any server.


@pytest.mark.parametrize("name", ["whole.pth", "unmeasured.pth"])
@pytest.mark.parametrize("sha256", [None, SHA256, SHA256.upper()], ids=["any", "digest", "digest in capitals"])
def test_a_file_arrives_whole(server, tmp_path, name, sha256):
    download(f"{server}/{name}", tmp_path / "deep" / "weights.pth", sha256)
    assert (tmp_path / "deep" / "weights.pth").read_bytes() == CONTENT
    assert len(list((tmp_path / "deep").iterdir())) == 1


@pytest.mark.parametrize(("name", "words"), [("missing.pth", "404 Not Found"), ("closed.pth", "403 Forbidden")])
def test_a_servers_refusal_is_told(server, tmp_path, name, words):
    assert_refused(tmp_path, f"{server}/{name}", words)


def test_a_truncated_file_is_refused_with_both_sizes(server, tmp_path):
    assert_refused(tmp_path, f"{server}/truncated.pth", f"expected {len(CONTENT)} bytes", f"got {len(CONTENT) - 100}")


@pytest.mark.parametrize("name", ["truncated-chunk.pth", "no-http.pth", "silent.pth"])
def test_a_broken_answer_is_refused(server, tmp_path, name):
    assert_refused(tmp_path, f"{server}/{name}", "check the address and the network")


def test_a_full_disk_is_not_taken_for_a_server_out_of_reach(server, tmp_path, monkeypatch):
    def refuse(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", refuse)
    with pytest.raises(StudyError, match=r"weights\.pth: no space left on the disk \(.*; make room and run again"):
        download(f"{server}/whole.pth", tmp_path / "weights.pth", None)


def test_a_server_that_is_not_there_is_named(tmp_path, closed_port):
    assert_refused(tmp_path, f"http://127.0.0.1:{closed_port}/weights.pth", "not reachable", "refused")


def test_an_address_that_is_none_is_refused(tmp_path):
    assert_refused(tmp_path, "http://127.0.0.1:port/weights.pth", "check the address")


def test_another_digest_is_refused_with_both_and_leaves_nothing_behind(server, tmp_path):
    assert_refused(tmp_path, f"{server}/whole.pth", "a" * 64, SHA256, sha256="a" * 64)


@pytest.mark.parametrize("name", ["missing.pth", "truncated.pth", "whole.pth"])
def test_a_failed_download_leaves_an_earlier_file_as_it_was(server, tmp_path, name):
    (tmp_path / "weights.pth").write_bytes(b"earlier")
    with pytest.raises(StudyError):
        download(f"{server}/{name}", tmp_path / "weights.pth", "a" * 64)
    assert [path.name for path in tmp_path.iterdir()] == ["weights.pth"]
    assert (tmp_path / "weights.pth").read_bytes() == b"earlier"


# A Hugging Face hub.


@pytest.fixture
def hub(use_hub):
    """A hub with a model, a data set and one more data set that wants a token."""
    hub = Hub()
    hub.add("clinic/model", "weights.pth", CONTENT)
    hub.add("clinic/model", "weights.pth", b"of another revision", revision="v2")
    hub.add("datasets/clinic/checkpoints", "best/weights.pth", CONTENT)
    hub.add("datasets/clinic/gated", "weights.pth", CONTENT)
    hub.gated.add("datasets/clinic/gated")
    with hub.serve() as url:
        use_hub(hub, url)
        yield hub


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("hf://clinic/model/weights.pth", CONTENT),
        ("hf://clinic/model@v2/weights.pth", b"of another revision"),
        ("hf://datasets/clinic/checkpoints/best/weights.pth", CONTENT),
        ("hf://datasets/clinic/checkpoints@main/best/weights.pth", CONTENT),
    ],
)
def test_a_file_of_a_hub_arrives_whole(hub, tmp_path, source, expected):
    download(source, tmp_path / "weights.pth", hashlib.sha256(expected).hexdigest())
    assert (tmp_path / "weights.pth").read_bytes() == expected


def test_a_file_that_the_hubs_cache_has_is_not_sent_again(hub, tmp_path):
    for name in ("first.pth", "second.pth"):
        download("hf://clinic/model/weights.pth", tmp_path / name)
    assert (tmp_path / "second.pth").read_bytes() == CONTENT
    assert [method for method, _ in hub.requests].count("GET") == 1


def test_an_interrupted_file_of_a_hub_is_fetched_all_the_same(hub, tmp_path):
    hub.cuts += [4000, 5000]
    download("hf://clinic/model/weights.pth", tmp_path / "weights.pth", SHA256)
    assert [method for method, _ in hub.requests].count("GET") == 3


def test_a_hub_that_breaks_off_again_and_again_is_refused(hub, tmp_path):
    hub.cuts += [4000] + [0] * 20
    assert_refused(tmp_path, "hf://clinic/model/weights.pth", "not fetched", "run again")


def test_a_token_opens_a_gated_repository(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", hub.token)
    download("hf://datasets/clinic/gated/weights.pth", tmp_path / "weights.pth", SHA256)
    assert (tmp_path / "weights.pth").read_bytes() == CONTENT


@pytest.mark.parametrize("token", ["", "hf_of_somebody_else"], ids=["no token", "another's token"])
def test_a_gated_repository_is_refused_with_what_opens_it(hub, tmp_path, monkeypatch, token):
    monkeypatch.setenv("HF_TOKEN", token)
    assert_refused(tmp_path, "hf://datasets/clinic/gated/weights.pth", "gated", "accept its terms", "HF_TOKEN")


@pytest.mark.parametrize("token", ["", Hub.token], ids=["no token", "token"])
def test_an_unknown_repository_is_refused_by_its_name(hub, tmp_path, monkeypatch, token):
    monkeypatch.setenv("HF_TOKEN", token)
    assert_refused(tmp_path, "hf://datasets/clinic/model/weights.pth", "no dataset repository 'clinic/model'")


def test_an_unknown_file_of_a_repository_is_refused_by_its_path(hub, tmp_path):
    assert_refused(tmp_path, "hf://clinic/model/deep/other.pth", "no file 'deep/other.pth'")


def test_an_unknown_revision_is_refused_by_its_name(hub, tmp_path):
    assert_refused(tmp_path, "hf://clinic/model@v3/weights.pth", "no revision 'v3'")


def test_another_digest_of_a_hubs_file_is_refused(hub, tmp_path):
    assert_refused(tmp_path, "hf://clinic/model/weights.pth", "expected SHA-256", SHA256, sha256="0" * 64)


@pytest.mark.parametrize(
    "source",
    ["hf://weights.pth", "hf://owner/name", "hf://datasets/owner/name", "hf://ow ner/name/a.pth", "hf://o/n@/a.pth"],
)
def test_an_address_that_is_none_of_a_hub_is_refused_with_its_form(hub, tmp_path, source):
    assert_refused(tmp_path, source, "expected hf://owner/name/file")
    assert hub.requests == []


def test_a_hub_that_is_not_there_is_no_missing_file(use_hub, tmp_path, closed_port):
    use_hub(Hub(), f"http://127.0.0.1:{closed_port}")
    assert_refused(tmp_path, "hf://clinic/model/weights.pth", "not fetched", "check your connection")


# Large files, which a hub keeps in a store elsewhere.

STORED = "hf://datasets/clinic/volumes@v1"


@pytest.fixture
def store(hub):
    """The hub with a data set of two large files and a small one."""
    hub.store("datasets/clinic/volumes", "a.npy", CONTENT, revision="v1")
    hub.store("datasets/clinic/volumes", "b.npy", b"b", revision="v1")
    hub.add("datasets/clinic/volumes", "README.md", b"read me", revision="v1")
    return hub


def test_a_hub_says_which_files_it_has_and_sends_none(store):
    found = find_hub_files(STORED, ["a.npy", "README.md", "c.npy"])
    assert found == {"a.npy": HubFile(len(CONTENT), SHA256), "README.md": HubFile(7, None)}
    assert [method for method, _ in store.requests] == ["POST"]


def test_a_file_of_the_store_is_cached_and_the_store_gets_no_token(store, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", store.token)
    store.gated.add("datasets/clinic/volumes")
    path = cache_hub_file(f"{STORED}/a.npy", SHA256)
    assert path.read_bytes() == CONTENT
    assert cache_hub_file(f"{STORED}/a.npy", SHA256) == path
    assert [path.split("/")[1] for method, path in store.requests if method == "GET"] == ["store"]
    assert store.tokens_at_store == []


def test_an_interrupted_file_of_the_store_goes_on_where_it_broke(store, monkeypatch):
    # What the client writes at once; a connection that breaks earlier leaves nothing to go on from.
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)
    store.cuts += [4000, 2500]
    assert cache_hub_file(f"{STORED}/a.npy", SHA256).read_bytes() == CONTENT
    assert store.ranges == ["bytes=4000-", "bytes=6000-"]


def test_after_a_store_that_broke_off_again_and_again_another_run_fetches_the_file(store):
    store.cuts += [4000] + [0] * 20
    with pytest.raises(StudyError, match="not fetched"):
        cache_hub_file(f"{STORED}/a.npy", SHA256)
    store.cuts.clear()
    assert cache_hub_file(f"{STORED}/a.npy", SHA256).read_bytes() == CONTENT


def test_a_cached_file_that_was_damaged_is_fetched_anew(store):
    path = cache_hub_file(f"{STORED}/a.npy")
    path.resolve().write_bytes(CONTENT[::-1])
    assert cache_hub_file(f"{STORED}/a.npy", SHA256).read_bytes() == CONTENT


def test_a_file_of_another_digest_than_the_hub_says_is_refused(store):
    store.store("datasets/clinic/volumes", "a.npy", CONTENT, revision="v1", sha256="0" * 64)
    (file,) = find_hub_files(STORED, ["a.npy"]).values()
    with pytest.raises(StudyError, match=rf"^{STORED}/a\.npy: expected SHA-256 {'0' * 64}, found {SHA256}"):
        cache_hub_file(f"{STORED}/a.npy", file.sha256)


@pytest.mark.parametrize(
    ("repository", "words"),
    [
        ("hf://datasets/clinic/gated@main", "access is gated; accept its terms on the hub and set HF_TOKEN"),
        ("hf://datasets/clinic/none@v1", "no dataset repository 'clinic/none' that this token may read"),
        ("hf://datasets/clinic/volumes@v2", "the repository has no revision 'v2'"),
        ("hf://clinic", "expected hf://"),
    ],
)
def test_a_listing_that_is_refused_says_why(store, repository, words):
    with pytest.raises(StudyError, match=rf"^{repository}.*{words}") as refusal:
        find_hub_files(repository, ["a.npy"])
    assert len(str(refusal.value).splitlines()) == 1
