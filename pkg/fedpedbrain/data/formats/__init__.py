"""Reading one image from whatever form it is kept in: one function a form, all giving a ``Scan``."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fedpedbrain.data.formats.nifti import read_nifti
from fedpedbrain.data.formats.scan import Scan
from fedpedbrain.errors import StudyError

# From the word of a form to what reads it: a path and the form's block of the config's ``formats``.
READERS: dict[str, Callable[[Path, Mapping[str, Any]], Scan]] = {"nifti": read_nifti}


def format_of(path: Path) -> str:
    """The form of the image at a path, by its name and, of a folder, by what lies in it."""
    if path.name.endswith((".nii", ".nii.gz")):
        return "nifti"
    raise StudyError(f"{path}: not a form of image that is known; expected one of {', '.join(READERS)}")


def read_scan(path: str | Path, formats: Mapping[str, Any]) -> Scan:
    """Read one image, checked.

    Parameters
    ----------
    path : a file or a folder
    formats : the ``formats`` block of the config: what is assumed of forms that carry no geometry

    Raises
    ------
    StudyError : names the path, what is wrong with it and what to do
    """
    path = Path(path)
    form = format_of(path)
    return READERS[form](path, formats.get(form, {}))
