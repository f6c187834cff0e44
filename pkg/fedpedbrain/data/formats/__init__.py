"""Reading one image from whatever form it is kept in: one function a form, all giving a ``Scan``."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fedpedbrain.data.formats.dicom import read_dicom
from fedpedbrain.data.formats.dicom_headers import files_below, is_dicom
from fedpedbrain.data.formats.nifti import read_nifti
from fedpedbrain.data.formats.scan import Scan
from fedpedbrain.errors import StudyError

# From the word of a form to what reads it: a path and the form's block of the config's ``formats``.
READERS: dict[str, Callable[[Path, Mapping[str, Any]], Scan]] = {
    "nifti": read_nifti,
    "dicom": read_dicom,
}


def format_of(path: Path) -> str:
    """The form of the image at a path, by its name and, of DICOM, by what the file or the files of the folder hold."""
    if path.name.endswith((".nii", ".nii.gz")):
        return "nifti"
    if not path.exists():
        raise StudyError(f"{path}: no such file or folder; correct the path")
    if any(map(is_dicom, files_below(path) if path.is_dir() else [path])):
        return "dicom"
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
