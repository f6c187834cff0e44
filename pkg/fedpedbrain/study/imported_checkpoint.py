"""Which checkpoint made elsewhere becomes a model file, as the command line names it.

Read while the job graph is built: standard library alone.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from fedpedbrain.base.downloads import is_address
from fedpedbrain.base.errors import StudyError


@dataclass(frozen=True)
class ImportedCheckpoint:
    """A checkpoint that becomes a model file.

    Attributes
    ----------
    source : path of the checkpoint, or an address that it is fetched from
    sha256 : digest that it must have, None for any
    """

    source: str
    sha256: str | None

    @property
    def path(self) -> str | None:
        """Its file, absolute; None where it has to be fetched."""
        return None if is_address(self.source) else str(Path(self.source).absolute())

    @property
    def fetch_settings(self) -> dict[str, str | None]:
        """Where it is fetched from, and its digest: arguments of ``download``."""
        return {"source": self.source, "sha256": self.sha256}

    @property
    def origin(self) -> str:
        """What the lineage keeps of it: an address without its query, which may hold a secret, or a file's name."""
        if self.path is not None:
            return Path(self.path).name
        parts = urlsplit(self.source)
        # A hub's address has its revision behind an @, one of the web may have a password before it.
        place = parts.netloc if parts.scheme == "hf" else parts.netloc.rpartition("@")[2]
        return f"{parts.scheme}://{place}{parts.path}"

    @property
    def plain_name(self) -> str:
        """The name of its file as a word that can stand in a path and in a rule."""
        words = re.sub(r"[^A-Za-z0-9_-]+", "_", Path(self.origin).stem).strip("_-")
        return words or "checkpoint"

    def check_file(self, key: str) -> None:
        """Refuse a file that is not there; a ``StudyError`` names the key and the path."""
        if self.path is not None and not Path(self.path).is_file():
            raise StudyError(f"{key}: no file {self.path}; correct the path")
