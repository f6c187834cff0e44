"""Reading one image from whatever form it is kept in."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fedpedbrain.base.errors import StudyError
from fedpedbrain.base.files import files_below
from fedpedbrain.base.image_files import is_dicom
from fedpedbrain.data.formats.dicom import read_dicom
from fedpedbrain.data.formats.nifti import read_nifti
from fedpedbrain.data.formats.nifti_headers import is_nifti
from fedpedbrain.data.formats.npy import read_npy
from fedpedbrain.data.formats.png import is_picture, is_slice_folder, read_picture, read_png
from fedpedbrain.data.formats.scan import Scan

# From the word of a form to what reads it: a path and the form's block of the config's ``formats``.
READERS: dict[str, Callable[[Path, Mapping[str, Any]], Scan]] = {
    "nifti": read_nifti,
    "dicom": read_dicom,
    "png": read_png,
    "picture": read_picture,
    "npy": read_npy,
}


_ARRAY_SUFFIXES = (".npy", ".npz")


def format_of(path: Path) -> str:
    """The form of the image at a path, by its name and, of a folder or DICOM, by what the files hold."""
    if is_nifti(path):
        return "nifti"
    if not path.exists():
        raise StudyError(f"{path}: no such file or folder; correct the path")
    if path.is_dir():
        return _form_of_folder(path)
    if is_picture(path):
        return "picture"
    if path.suffix in _ARRAY_SUFFIXES:
        return "npy"
    if is_dicom(path):
        return "dicom"
    raise StudyError(f"{path}: not a form of image that is known; expected one of {', '.join(READERS)}")


def _form_of_folder(folder: Path) -> str:
    """The form of the one image that a folder holds: slices as pictures, or a DICOM series."""
    found: dict[str, Path] = {}
    for file in files_below(folder):
        # Other pictures, such as a thumbnail, may lie beside a series.
        if is_picture(file):
            if is_slice_folder(file.parent):
                found.setdefault(f"slices in {file.parent}", file)
        elif is_nifti(file) or file.suffix in _ARRAY_SUFFIXES:
            found[str(file)] = file
        elif "dicom" not in found and is_dicom(file):
            found["dicom"] = file
    names = ", ".join(str(file.relative_to(folder)) for file in list(found.values())[:3])
    if len(found) > 1:
        raise StudyError(f"{folder}: holds several images ({names}); name one of them")
    if "dicom" in found:
        return "dicom"
    if is_slice_folder(folder):
        return "png"
    raise StudyError(
        f"{folder}: holds no DICOM series and no slice_NN.png{f', but {names}: name that file' if found else ''}"
    )


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
