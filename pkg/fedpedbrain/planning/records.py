"""Records of how each file was made, kept with the results: where one is lost, nothing is taken for right.

The program that runs the workflow writes a record a file, below a folder of its own and named after the file's path
(``record_name``), and marks files that are being made. A file without a record counts as up to date to it, whatever the
settings. So its folder leads to one that lies with the results, and a file whose record is gone all the same is either
made anew or, where that would train again what may be right, left to the user to decide.
"""

import json
import os
import shutil
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

# The settings of a job whose record is lost: never those of a job.
UNKNOWN = "how this file was made is not known: its record is lost"
# A record that settings are compared with has this form at least.
_RECORD = {"record_format_version": 6, "params": [UNKNOWN]}
_PARTS = ("metadata", "incomplete")
# Of results: no output of any job lies there.
_WITHOUT_RECORDS = ("logs", "records")
_LONGEST_NAME = 254


def keep_records(folder: Path, kept: Path) -> None:
    """Let the records of ``folder`` lie in ``kept``, and those that are in ``folder`` itself move there."""
    for part in _PARTS:
        records, own = kept / part, folder / part
        records.mkdir(parents=True, exist_ok=True)
        if own.is_symlink():
            continue
        if own.is_dir():
            # What the program wrote last counts.
            shutil.copytree(own, records, dirs_exist_ok=True)
            shutil.rmtree(own)
        folder.mkdir(exist_ok=True)
        own.symlink_to(os.path.relpath(records, folder), target_is_directory=True)


def record_name(path: str) -> str:
    """Where the record of a file lies below the folder of records: its path as base64, long ones in parts."""
    name = urlsafe_b64encode(path.encode()).decode()
    parts = [name[start : start + _LONGEST_NAME] for start in range(0, len(name), _LONGEST_NAME)]
    return "/".join([*(f"@{part}" for part in parts[:-1]), parts[-1]])


def recorded_path(name: str) -> str:
    """Path of the file that a record is of, see ``record_name``."""
    return urlsafe_b64decode(name.replace("/", "").replace("@", "")).decode()


def _names(folder: Path) -> set[str]:
    """Names of the records in a folder; an empty one is what a power cut leaves of a record."""
    waiting, names = [""], set()
    while waiting:
        below = waiting.pop()
        for entry in os.scandir(folder / below):
            if entry.is_dir():
                waiting.append(f"{below}{entry.name}/")
            elif entry.stat().st_size > 0:
                names.add(f"{below}{entry.name}")
    return names


@dataclass(frozen=True)
class FileRecord:
    """How a file was made.

    Attributes
    ----------
    path : of the file, which may be gone since: the records of temporary files stay
    log : path of the log of the job that made it, which no other job's is
    inputs : paths of what that job read
    """

    path: str
    log: str
    inputs: tuple[str, ...]


def read_records(kept: Path) -> Iterator[FileRecord]:
    """Read all records in ``kept`` that name a log. A torn record, as a power cut leaves it, is left out."""
    metadata = kept / "metadata"
    for name in sorted(_names(metadata)) if metadata.is_dir() else ():
        try:
            record = json.loads((metadata / name).read_bytes())
        except (FileNotFoundError, ValueError):
            continue
        if record.get("log"):
            yield FileRecord(recorded_path(name), record["log"][0], tuple(record.get("input") or ()))


def files_without_record(results: Path, kept: Path) -> list[str]:
    """Files below ``results`` that a job made and no record speaks of, nor of a folder that they lie in.

    Files that are being made are none of them. Paths begin with the name of ``results``.
    """
    known = _names(kept / "metadata") | _names(kept / "incomplete")
    found = []
    for folder, folders, files in os.walk(results):
        if folder == str(results):
            folders[:] = [name for name in folders if name not in _WITHOUT_RECORDS]
        folders[:] = [name for name in folders if record_name(f"{folder}/{name}") not in known]
        found += [path for name in files if record_name(path := f"{folder}/{name}") not in known]
    return sorted(found)


def complete_records(outputs: Iterable[str], kept: Path) -> None:
    """Give every output of a job that has no record that of another one, or else one that calls for the job.

    A job that is running writes its records itself.
    """
    names = [record_name(output) for output in outputs]
    if any((kept / "incomplete" / name).exists() for name in names):
        return
    paths = [kept / "metadata" / name for name in names]
    present = [path for path in paths if path.exists() and path.stat().st_size > 0]
    content = present[0].read_bytes() if present else json.dumps(_RECORD).encode()
    for path in set(paths) - set(present):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
