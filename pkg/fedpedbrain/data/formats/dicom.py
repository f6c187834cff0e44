"""DICOM series and multi-frame files (https://www.dicomstandard.org), from a folder or by one of their files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from fedpedbrain.base.errors import StudyError
from fedpedbrain.data.formats.dicom_geometry import stack_series
from fedpedbrain.data.formats.dicom_headers import Series, find_series
from fedpedbrain.data.formats.dicom_pixels import read_values
from fedpedbrain.data.formats.scan import Scan

_MOST_NAMED = 6


def read_dicom(path: Path, settings: Mapping[str, Any]) -> Scan:
    """Read the one series of a folder, or the series that a file is of, from the file's folder.

    Localizers and series of one slice are passed over where another series is there.

    Parameters
    ----------
    settings : the block ``formats.dicom`` of the config
    """
    if path.is_dir():
        found = find_series(path)
        series, notes = _the_one_series(path, found)
    else:
        found = [item for item in find_series(path.parent) if path in [instance.path for instance in item.instances]]
        series, notes = _the_one_series(path, found)
    return read_series(series, settings, notes)


def _the_one_series(path: Path, found: Sequence[Series]) -> tuple[Series, list[str]]:
    """The series to read, and notes on those passed over."""
    if not found:
        raise StudyError(f"{path}: no DICOM image; expected a series of slices or a multi-frame file")
    localizers = [series for series in found if series.is_localizer]
    single = [series for series in found if series.num_slices == 1 and not series.is_localizer]
    volumes = [series for series in found if series not in [*localizers, *single]]
    if len(found) == 1 or len(volumes) == 1:
        passed_over = {"localizer(s)": localizers, "series of one slice": single} if volumes else {}
        notes = [f"{len(items)} {what} passed over" for what, items in passed_over.items() if items]
        return (volumes or found)[0], notes
    named = [f"{series.name} ({series.facts})" for series in (volumes or found)]
    more = f" and {len(named) - _MOST_NAMED} more" if len(named) > _MOST_NAMED else ""
    raise StudyError(
        f"{path}: {len(named)} series where one is needed: {'; '.join(named[:_MOST_NAMED])}{more}; give the path of "
        "any one file of the series that is meant"
    )


def read_series(series: Series, settings: Mapping[str, Any], notes: Sequence[str] = ()) -> Scan:
    """Read a series as one volume in the scanner's geometry; ``notes`` are kept before its own.

    Raises
    ------
    StudyError : the series makes up no volume, or its values cannot be read
    """
    folder = series.instances[0].path.parent
    name = f"{folder}: series {series.name}"
    if series.is_localizer:
        raise StudyError(f"{name}: a localizer, taken to plan other series; give the path of another series")
    if any(instance.header.get("ModalityLUTSequence") for instance in series.instances):
        raise StudyError(
            f"{name}: its values are to go through a table (DICOM ModalityLUTSequence), which is not done here; export "
            "the series with the table applied"
        )
    stack = stack_series(series, name, settings["spacing_tolerance"])
    image = sitk.GetImageFromArray(read_values(stack.frames))
    image.SetOrigin(stack.origin)
    image.SetSpacing(stack.spacing)
    image.SetDirection(stack.direction)
    if any(instance.header.get("LossyImageCompression") == "01" for instance in series.instances):
        notes = [*notes, "the images were compressed with loss"]
    files = tuple(dict.fromkeys(frame.path for frame in stack.frames))
    numbers = tuple(frame.number for frame in stack.frames) if len(files) < len(stack.frames) else ()
    return Scan(image, "dicom", files, notes=(*notes, *stack.notes), frame_numbers=numbers)
