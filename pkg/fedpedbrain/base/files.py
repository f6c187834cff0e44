"""Writing files so that a reader never meets half of one: JSON, and tab-separated tables without pandas."""

import csv
import errno
import hashlib
import json
import math
import mmap
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fedpedbrain.base.errors import StudyError

# Bytes: large, so that a thread that hashes beside another seldom has to ask for the interpreter.
_HASHED_AT_ONCE = 1 << 24

# With less left, a disk is taken for full, whatever the library that wrote there says.
_FULL_BYTES = 1 << 16

# How a file is named that ``replacing`` has not finished.
_UNFINISHED, _UNFINISHED_NAME = ".unfinished-{process}.{name}", re.compile(r"\.unfinished-\d+\..+")
# What file systems without it answer to the wish that a folder's names be on the disk.
_NOT_FOR_FOLDERS = {errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.EACCES, errno.EIO}


def full_disk(path: str | Path, needed_bytes: int = 0) -> StudyError:
    """What to tell of a file that its disk has no room for.

    Parameters
    ----------
    needed_bytes : what is known to be needed; 0 where nothing is
    """
    needed = f"{needed_bytes / 1e3:,.0f} kB or more needed, " if needed_bytes else ""
    free = shutil.disk_usage(Path(path).parent).free / 1e3
    return StudyError(f"{path}: no space left on the disk ({needed}{free:,.0f} kB free); make room and run again")


@contextmanager
def explained_disk(path: str | Path) -> Iterator[None]:
    """Raise a ``StudyError`` where the block fails because the disk, or the user's quota on it, is full."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EDQUOT:
            raise StudyError(f"{path}: your quota on this disk is used up; make room and run again") from None
        if error.errno == errno.ENOSPC:
            raise full_disk(path) from None
        raise


def _check_room(path: Path, temporary: Path) -> None:
    if shutil.disk_usage(path.parent).free < _FULL_BYTES:
        needed = _FULL_BYTES + (temporary.stat().st_size if temporary.exists() else 0)
        temporary.unlink(missing_ok=True)
        raise full_disk(path, needed)


def write_out(path: str | Path) -> None:
    """Have the disk hold a file's bytes, or a folder's names, before going on: what it does not, a power cut takes."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_out_names(folder: Path) -> None:
    try:
        write_out(folder)
    except OSError as error:
        if error.errno not in _NOT_FOR_FOLDERS:
            raise


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary name beside ``path`` that becomes ``path`` if the block ends without an error.

    Whatever happens, there is the old file or all of the new one, after a power cut, too.

    Raises
    ------
    StudyError : the disk is full, whether or not the library that wrote there said so
    """
    path = Path(path)
    temporary = path.with_name(_UNFINISHED.format(process=os.getpid(), name=path.name))
    with explained_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            # ITK's NIfTI writer leaves half a file on a full disk and raises nothing.
            _check_room(path, temporary)
            write_out(temporary)
            os.replace(temporary, path)
            _write_out_names(path.parent)
        except (OSError, RuntimeError):
            _check_room(path, temporary)
            raise
        finally:
            temporary.unlink(missing_ok=True)


def remove_unfinished(folder: str | Path) -> None:
    """Delete what killed writers left of their files in a folder and those in it, where nobody is writing any more.

    Raises
    ------
    StudyError : names what may not be deleted
    """
    for path in files_below(folder):
        if _UNFINISHED_NAME.fullmatch(path.name):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise StudyError(
                    f"{path}: left by a killed job, may not be deleted ({error.strerror}); do so"
                ) from None


def sha256_of_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes, as hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if not size:
            # Nothing cannot be mapped.
            return digest.hexdigest()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content, memoryview(content) as view:
            for start in range(0, size, _HASHED_AT_ONCE):
                digest.update(view[start : start + _HASHED_AT_ONCE])
                if hasattr(mmap, "MADV_DONTNEED"):
                    # Else all of the file would count as this process's memory.
                    content.madvise(mmap.MADV_DONTNEED, start, min(_HASHED_AT_ONCE, size - start))
    return digest.hexdigest()


def check_sha256(path: str | Path, sha256: str | None, name: str) -> None:
    """Refuse a file, spoken of as ``name``, whose digest is another than expected."""
    if sha256 is None:
        return
    found = sha256_of_file(path)
    if found != sha256.lower():
        raise StudyError(
            f"{name}: expected SHA-256 {sha256}, found {found}; check the file, or the digest in the config"
        )


def _refuse_folder(error: OSError) -> None:
    raise StudyError(
        f"{error.filename}: a folder that cannot be read ({error.strerror}); correct it or its permissions"
    )


def files_below(folder: str | Path) -> Iterator[Path]:
    """Every file in a folder and the folders in it, by name; a ``StudyError`` names a folder that cannot be read."""
    for parent, folders, names in os.walk(folder, onerror=_refuse_folder):
        folders.sort()
        yield from (Path(parent, name) for name in sorted(names))


def check_inside(path: str | Path, root: str | Path) -> None:
    """Refuse a path that leads out of a folder through a symbolic link: what a cohort is made of lies in its folder."""
    if not Path(path).resolve().is_relative_to(Path(root).resolve()):
        raise StudyError(f"{path}: a link that leads out of {root}; copy the file there, or give the folder it is in")


def _places_without_number(values: Any, place: str = "") -> Iterator[str]:
    """Where NaN or an infinite number stands in nested plain values, as ``cases.0.dice``."""
    if isinstance(values, Mapping | list | tuple):
        items = values.items() if isinstance(values, Mapping) else enumerate(values)
        for key, item in items:
            yield from _places_without_number(item, f"{place}.{key}" if place else str(key))
    elif isinstance(values, float) and not math.isfinite(values):
        yield f"{place} is {values}"


def write_json(path: str | Path, values: Mapping[str, Any] | Sequence[Any]) -> None:
    """Write plain values as JSON; NaN and infinite numbers, which JSON has no word for, are refused by their place."""
    wrong = next(_places_without_number(values), None)
    if wrong is not None:
        raise StudyError(f"{path}: {wrong}, expected a finite number; find in this job's log what led to it")
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(values, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def write_table(
    path: str | Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]], quoting: int = csv.QUOTE_MINIMAL
) -> None:
    """Write rows as tab-separated text; floats keep every digit, so that equal results give equal bytes.

    Parameters
    ----------
    quoting : as ``read_table``'s
    """
    quote = None if quoting == csv.QUOTE_NONE else '"'
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(
            file, fieldnames=columns, delimiter="\t", lineterminator="\n", quoting=quoting, quotechar=quote
        )
        writer.writeheader()
        writer.writerows(rows)


def read_table(path: str | Path, quoting: int = csv.QUOTE_MINIMAL) -> list[dict[str, str]]:
    """Read tab-separated text into one dict a row, every value a string.

    Parameters
    ----------
    quoting : whether quotation marks frame cells, as in tables that ``write_table`` wrote, or (``csv.QUOTE_NONE``)
        are letters like any other
    """
    with open(path, newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=quoting))
