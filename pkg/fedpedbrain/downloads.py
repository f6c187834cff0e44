"""Fetching one file from an address."""

import http.client
import re
import shutil
import urllib.error
import urllib.request
from pathlib import Path

from fedpedbrain.errors import StudyError
from fedpedbrain.files import replacing, sha256_of_file

# As the Hugging Face client writes it: hf://[datasets/|spaces/]owner/name[@revision]/path/in/repository
HUGGING_FACE_ADDRESS = re.compile(
    r"hf://(?P<kind>datasets/|spaces/)?(?P<repository>(?!datasets/|spaces/)[^/@]+/[^/@]+)(?:@(?P<revision>[^/]+))?/(?P<file>.+)"
)
_TIMEOUT_SECONDS = 60.0


def is_address(source: str) -> bool:
    """Whether a source has to be fetched, rather than being a file's path."""
    return source.startswith(("https://", "http://", "hf://"))


def _reason_of(error: Exception) -> str:
    """One line of what libraries say in several, or in none."""
    return (str(getattr(error, "reason", error)).splitlines() or [type(error).__name__])[0]


def _fetch_url(source: str, target: Path) -> None:
    try:
        with urllib.request.urlopen(source, timeout=_TIMEOUT_SECONDS) as answer, open(target, "wb") as file:
            shutil.copyfileobj(answer, file)
            expected = int(answer.headers.get("Content-Length") or file.tell())
            if file.tell() != expected:
                raise StudyError(f"{source}: expected {expected} bytes, got {file.tell()}; run again")
    except urllib.error.HTTPError as error:
        raise StudyError(f"{source}: the server answered {error.code} {error.reason}; check the address") from None
    except (OSError, http.client.HTTPException) as error:
        raise StudyError(f"{source}: not reachable ({_reason_of(error)}); check the address and the network") from None


def _fetch_from_hugging_face(source: str, target: Path) -> None:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        RemoteEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    form = "expected hf://owner/name/file or hf://datasets/owner/name@revision/file"
    address = HUGGING_FACE_ADDRESS.fullmatch(source)
    if address is None:
        raise StudyError(f"{source}: {form}")
    kind = (address["kind"] or "models/").rstrip("s/")
    try:
        path = hf_hub_download(address["repository"], address["file"], repo_type=kind, revision=address["revision"])
    except GatedRepoError:
        raise StudyError(f"{source}: access is gated; accept its terms on the hub and set HF_TOKEN") from None
    except RepositoryNotFoundError:
        raise StudyError(
            f"{source}: no {kind} repository {address['repository']!r} that this token may read; check its name, or "
            "set HF_TOKEN"
        ) from None
    except RevisionNotFoundError:
        raise StudyError(f"{source}: the repository has no revision {address['revision']!r}; check its name") from None
    except RemoteEntryNotFoundError:
        raise StudyError(f"{source}: the repository holds no file {address['file']!r}; check its path") from None
    except HFValidationError as error:
        raise StudyError(f"{source}: {form} ({error})") from None
    except Exception as error:
        # The client passes on what its HTTP library raises, too.
        raise StudyError(f"{source}: not fetched ({_reason_of(error)}); run again to resume") from None
    shutil.copyfile(path, target)


def download(source: str, path: str | Path, sha256: str | None = None) -> None:
    """Fetch a file; ``path`` exists afterwards only if it is whole and has the digest.

    Parameters
    ----------
    source : an http(s) address, or hf://[datasets/]owner/name[@revision]/file. The Hugging Face client resumes what was
        interrupted, shares its cache and reads ``HF_TOKEN`` and ``HF_ENDPOINT``
    sha256 : digest that the file must have; None for any

    Raises
    ------
    StudyError
        If the file cannot be had, or has another digest.
    """
    with replacing(path) as temporary:
        (_fetch_from_hugging_face if source.startswith("hf://") else _fetch_url)(source, temporary)
        check_sha256(temporary, sha256, name=source)


def check_sha256(path: str | Path, sha256: str | None, name: str) -> None:
    """Refuse a file, spoken of as ``name``, whose digest is another than expected."""
    if sha256 is None:
        return
    found = sha256_of_file(path)
    if found != sha256.lower():
        raise StudyError(
            f"{name}: expected SHA-256 {sha256}, found {found}; check the file, or the digest in the config"
        )
