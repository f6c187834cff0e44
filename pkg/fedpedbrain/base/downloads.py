"""Fetching files from an address, or from a Hugging Face hub into its client's cache."""

import http.client
import re
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fedpedbrain.base.errors import StudyError
from fedpedbrain.base.files import check_sha256, explained_disk, replacing, sha256_of_file

# As the Hugging Face client writes it: hf://[datasets/|spaces/]owner/name[@revision]/path/in/repository
HUGGING_FACE_ADDRESS = re.compile(
    r"hf://(?P<kind>datasets/|spaces/)?(?P<repository>(?!datasets/|spaces/)[^/@]+/[^/@]+)(?:@(?P<revision>[^/]+))?/(?P<file>.+)"
)
_ADDRESS_FORM = "expected hf://owner/name/file or hf://datasets/owner/name@revision/file"
_TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True)
class HubFile:
    """What a hub says of a file before it is fetched.

    Attributes
    ----------
    size : bytes
    sha256 : None of a small file that the hub keeps in git itself
    """

    size: int
    sha256: str | None


def is_address(source: str) -> bool:
    """Whether a source has to be fetched, rather than being a file's path."""
    return source.startswith(("https://", "http://", "hf://"))


def _reason_of(error: Exception) -> str:
    """One line of what libraries say in several, or in none."""
    return (str(getattr(error, "reason", error)).splitlines() or [type(error).__name__])[0]


def _fetch_url(source: str, target: Path) -> None:
    try:
        with (
            explained_disk(target),
            urllib.request.urlopen(source, timeout=_TIMEOUT_SECONDS) as answer,
            open(target, "wb") as file,
        ):
            shutil.copyfileobj(answer, file)
            expected = int(answer.headers.get("Content-Length") or file.tell())
            if file.tell() != expected:
                raise StudyError(f"{source}: expected {expected} bytes, got {file.tell()}; run again")
    except urllib.error.HTTPError as error:
        raise StudyError(f"{source}: the server answered {error.code} {error.reason}; check the address") from None
    except (OSError, http.client.HTTPException) as error:
        raise StudyError(f"{source}: not reachable ({_reason_of(error)}); check the address and the network") from None


def _parse_address(source: str) -> re.Match[str]:
    address = HUGGING_FACE_ADDRESS.fullmatch(source)
    if address is None:
        raise StudyError(f"{source}: {_ADDRESS_FORM}")
    return address


def _kind_of(address: re.Match[str]) -> str:
    return (address["kind"] or "models/").rstrip("s/")


@contextmanager
def _hub_refusals(source: str, address: re.Match[str]) -> Iterator[None]:
    """Say in one line what the hub's client raises."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        RemoteEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except GatedRepoError:
        raise StudyError(f"{source}: access is gated; accept its terms on the hub and set HF_TOKEN") from None
    except RepositoryNotFoundError:
        raise StudyError(
            f"{source}: no {_kind_of(address)} repository {address['repository']!r} that this token may read; check "
            "its name, or set HF_TOKEN"
        ) from None
    except RevisionNotFoundError:
        raise StudyError(f"{source}: the repository has no revision {address['revision']!r}; check its name") from None
    except RemoteEntryNotFoundError:
        raise StudyError(f"{source}: the repository holds no file {address['file']!r}; check its path") from None
    except HFValidationError as error:
        raise StudyError(f"{source}: {_ADDRESS_FORM} ({error})") from None
    except Exception as error:
        # The client passes on what its HTTP library raises, too.
        raise StudyError(f"{source}: not fetched ({_reason_of(error)}); run again") from None


def find_hub_files(repository: str, names: Sequence[str]) -> dict[str, HubFile]:
    """Which of these files a hub has, without fetching them.

    Parameters
    ----------
    repository : hf://[datasets/]owner/name[@revision]

    Raises
    ------
    StudyError
        If the hub, the repository or the revision is not there, or wants a token that is not given.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    address = _parse_address(f"{repository}/{names[0]}")
    with _hub_refusals(repository, address):
        found = HfApi().get_paths_info(
            address["repository"], list(names), repo_type=_kind_of(address), revision=address["revision"]
        )
    files = [entry for entry in found if isinstance(entry, RepoFile)]
    return {file.path: HubFile(file.size, file.lfs.sha256 if file.lfs else None) for file in files}


def cache_hub_file(source: str, sha256: str | None = None) -> Path:
    """Fetch a hub's file into the client's cache, which all runs share, and say where it is.

    The client goes on where a connection broke, a few times; files that came whole are not fetched again. It reads
    ``HF_HOME``, ``HF_TOKEN`` and ``HF_ENDPOINT``. A cached file with another digest than expected is fetched once more.

    Parameters
    ----------
    source : hf://[datasets/]owner/name[@revision]/file
    sha256 : digest that the file must have; None for any

    Raises
    ------
    StudyError
        If the file cannot be had, or has another digest.
    """
    from huggingface_hub import hf_hub_download

    address = _parse_address(source)
    place = {"repo_type": _kind_of(address), "revision": address["revision"]}
    with _hub_refusals(source, address):
        path = hf_hub_download(address["repository"], address["file"], **place)
        if sha256 is None or sha256_of_file(path) == sha256.lower():
            return Path(path)
        path = hf_hub_download(address["repository"], address["file"], **place, force_download=True)
    check_sha256(path, sha256, name=source)
    return Path(path)


def _fetch_from_hub(source: str, target: Path) -> None:
    shutil.copyfile(cache_hub_file(source), target)


def download(source: str, path: str | Path, sha256: str | None = None) -> None:
    """Fetch a file; ``path`` exists afterwards only if it is whole and has the digest.

    Parameters
    ----------
    source : an http(s) address, or hf://[datasets/]owner/name[@revision]/file, see ``cache_hub_file``
    sha256 : digest that the file must have; None for any

    Raises
    ------
    StudyError
        If the file cannot be had, or has another digest.
    """
    with replacing(path) as temporary:
        (_fetch_from_hub if source.startswith("hf://") else _fetch_url)(source, temporary)
        check_sha256(temporary, sha256, name=source)
