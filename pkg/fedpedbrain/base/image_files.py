"""Which files the path of an image stands for; standard library only, since the job graph is built from it."""

from pathlib import Path

from fedpedbrain.base.errors import StudyError
from fedpedbrain.base.files import files_below

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")
# DICOM PS3.10, 7.1.
_PREAMBLE_BYTES = 128
_MAGIC = b"DICM"
# Files of before DICOM had a preamble begin with an element of group 8 in little endian.
_FIRST_GROUP = b"\x08\x00"


def is_dicom(path: Path) -> bool:
    """Whether a file looks like DICOM, whatever its name.

    Raises
    ------
    StudyError : the file cannot be opened, or ends before that can be told: it may be a slice
    """
    try:
        with open(path, "rb") as file:
            start = file.read(_PREAMBLE_BYTES + len(_MAGIC))
    except OSError as error:
        raise StudyError(
            f"{path}: not readable ({error.strerror}); mend the link or the right to read it, or remove the file"
        ) from None
    preamble, magic = start[:_PREAMBLE_BYTES], start[_PREAMBLE_BYTES:]
    if len(magic) < len(_MAGIC) and _MAGIC.startswith(magic) and not preamble.strip(b"\0"):
        raise StudyError(f"{path}: empty, or ends before it says what it is; copy it again, or remove it")
    return magic == _MAGIC or (start[:2] == _FIRST_GROUP and start[3:4] == b"\x00")


def files_of_image(path: Path) -> list[Path]:
    """Every file that an image is read from: all in a folder, and of a DICOM file those of its folder, too.

    Which of these are of one series, only their headers say.

    Raises
    ------
    StudyError : a file or folder that cannot be read
    """
    if path.is_dir():
        return list(files_below(path))
    return [file for file in files_below(path.parent) if is_dicom(file)] if is_dicom(path) else [path]
