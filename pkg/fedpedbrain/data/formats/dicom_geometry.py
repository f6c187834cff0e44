"""Where the slices of a DICOM series lie (PS3.3 C.7.6.2.1.1): one stack of equal, even, parallel planes, or none."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from fedpedbrain.base.errors import StudyError
from fedpedbrain.data.formats.dicom_headers import Instance, Series
from fedpedbrain.data.formats.scan import check_num_voxels

# Two direction cosines, and two pixel spacings (relative), that differ by less are one.
_SAME_DIRECTION = 1e-3
_SAME_SPACING = 1e-3
# Slices shifted sideways by up to this part of a pixel over the whole stack stand one above the other.
_LARGEST_SHIFT = 0.5
_MOST_FRAMES = 1 << 14


@dataclass(frozen=True)
class Frame:
    """One image of a file: its number in it (from 0), and where it lies.

    Attributes
    ----------
    position : centre of the first pixel, LPS, mm
    directions : of a row and of a column, LPS, unit length (2, 3)
    spacing : distance between the centres of columns and of rows, mm
    slope, intercept : from stored values to the modality's
    """

    path: Path
    number: int
    size: tuple[int, int]
    position: np.ndarray
    directions: np.ndarray
    spacing: tuple[float, float]
    slope: float
    intercept: float

    @property
    def normal(self) -> np.ndarray:
        """The direction that slices are stacked along."""
        return np.cross(*self.directions)


@dataclass(frozen=True)
class Stack:
    """The frames of a series in the order of their places along the normal.

    Attributes
    ----------
    spacing, direction, origin : as SimpleITK's
    """

    frames: tuple[Frame, ...]
    spacing: tuple[float, float, float]
    notes: tuple[str, ...]

    @property
    def origin(self) -> tuple[float, ...]:
        """Centre of the first voxel, LPS, mm."""
        return tuple(self.frames[0].position.tolist())

    @property
    def direction(self) -> tuple[float, ...]:
        """Direction cosines, axes in columns, row by row."""
        first = self.frames[0]
        return tuple(np.column_stack([*first.directions, first.normal]).ravel().tolist())


class _Functional:
    """The attributes of one frame: its own functional groups, then the shared ones, then the file's header."""

    def __init__(self, instance: Instance, number: int) -> None:
        header = instance.header
        own = header.get("PerFrameFunctionalGroupsSequence") or []
        shared = header.get("SharedFunctionalGroupsSequence") or []
        self._groups = [*own[number : number + 1], *shared[:1]]
        self._header = header

    def get(self, group: str, keyword: str) -> object:
        """Value of an attribute, None where it is nowhere or empty."""
        for functional in self._groups:
            items = functional.get(group) or [Dataset()]
            if items[0].get(keyword) is not None:
                return items[0].get(keyword)
        return self._header.get(keyword)


def _numbers(instance: Instance, keyword: str, value: object, count: int) -> np.ndarray:
    try:
        numbers = np.array(value, dtype=np.float64).reshape(-1)
    except (TypeError, ValueError):
        numbers = np.empty(0)
    if value is None or numbers.size != count or not np.isfinite(numbers).all():
        raise StudyError(
            f"{instance.path}: DICOM {keyword} is missing or not {count} number(s), so nobody knows where its voxels "
            "lie; export the series again with it, or leave the file out"
        )
    return numbers


def _directions(instance: Instance, value: object) -> np.ndarray:
    directions = _numbers(instance, "ImageOrientationPatient", value, 6).reshape(2, 3)
    lengths = np.linalg.norm(directions, axis=1)
    if abs(lengths - 1.0).max() > 0.01 or abs(directions[0] @ directions[1]) > 0.01:
        raise StudyError(
            f"{instance.path}: DICOM ImageOrientationPatient is no pair of perpendicular unit vectors; export the "
            "series again"
        )
    return directions * (1.0 / lengths)[:, None]


def _frame(instance: Instance, number: int) -> Frame:
    functional, header = _Functional(instance, number), instance.header
    position = functional.get("PlanePositionSequence", "ImagePositionPatient")
    directions = functional.get("PlaneOrientationSequence", "ImageOrientationPatient")
    row_mm, column_mm = _numbers(instance, "PixelSpacing", functional.get("PixelMeasuresSequence", "PixelSpacing"), 2)
    if min(row_mm, column_mm) <= 0.0:
        raise StudyError(f"{instance.path}: DICOM PixelSpacing is {row_mm:g} x {column_mm:g} mm; expected more than 0")
    slope, intercept = (
        functional.get("PixelValueTransformationSequence", keyword) for keyword in ("RescaleSlope", "RescaleIntercept")
    )
    return Frame(
        path=instance.path,
        number=number,
        size=(int(header.Columns), int(header.Rows)),
        position=_numbers(instance, "ImagePositionPatient", position, 3),
        directions=_directions(instance, directions),
        spacing=(float(column_mm), float(row_mm)),
        slope=1.0 if slope is None else float(_numbers(instance, "RescaleSlope", slope, 1)[0]),
        intercept=0.0 if intercept is None else float(_numbers(instance, "RescaleIntercept", intercept, 1)[0]),
    )


def _frames_of(instance: Instance) -> list[Frame]:
    """All images of a file; those of a file without functional groups follow each other along the normal."""
    header, count = instance.header, instance.num_frames
    check_num_voxels(instance.path, (header.Rows, header.Columns, count))
    if count > _MOST_FRAMES:
        raise StudyError(f"{instance.path}: the header promises {count} frames, more than any scan; export it again")
    own = header.get("PerFrameFunctionalGroupsSequence")
    if own and len(own) != count:
        raise StudyError(
            f"{instance.path}: {count} frames, but {len(own)} descriptions of frames; export the series again"
        )
    frames = [_frame(instance, number) for number in range(count)]
    if own or count == 1:
        return frames
    distance = float(_numbers(instance, "SpacingBetweenSlices", header.get("SpacingBetweenSlices"), 1)[0])
    return [
        Frame(**(vars(frame) | {"position": frame.position + number * distance * frame.normal}))
        for number, frame in enumerate(frames)
    ]


def _check_alike(name: str, frames: Sequence[Frame]) -> None:
    """Refuse frames of several sizes, orientations or pixel spacings."""
    sizes = Counter(frame.size for frame in frames)
    if len(sizes) > 1:
        found = ", ".join(f"{count} of {width} x {height}" for (width, height), count in sizes.most_common(4))
        raise StudyError(f"{name}: slices of several sizes ({found}); keep those of one size")
    first = frames[0]
    others = sum(abs(frame.directions - first.directions).max() > _SAME_DIRECTION for frame in frames)
    if others:
        raise StudyError(
            f"{name}: {others} of {len(frames)} slices are oriented otherwise than the first, as in a localizer; give "
            "a series of parallel slices"
        )
    if not all(np.allclose(frame.spacing, first.spacing, rtol=_SAME_SPACING) for frame in frames):
        raise StudyError(f"{name}: slices of several pixel spacings; keep those of one spacing")


def _check_places(name: str, places: np.ndarray, series: Series) -> None:
    """Refuse places (mm along the normal, ascending) that occur more than once."""
    occupied = 1 + int((np.diff(places) > 0.01).sum())
    if occupied == len(places):
        return
    echoes = sorted({str(instance.header.get("EchoTime")) for instance in series.instances} - {"None"})
    what = f"; echo times {', '.join(echoes[:4])} ms" if len(echoes) > 1 else ""
    raise StudyError(
        f"{name}: {len(places)} slices at {occupied} positions: {len(places) - occupied} position(s) are taken twice"
        f"{what}; split the series into its volumes, or remove the copies"
    )


def _check_distances(name: str, places: np.ndarray, tolerance: float) -> float:
    """Distance between slices, mm; refuses gaps and uneven steps (beyond ``tolerance``, a part of the distance)."""
    steps = np.diff(places)
    # The lower middle one: of three slices with a gap, the step that is none.
    usual = float(np.sort(steps)[(len(steps) - 1) // 2])
    gaps = np.flatnonzero(steps > 1.5 * usual)
    missing = np.rint(steps[gaps] / usual) - 1
    if gaps.size and np.allclose(steps[gaps], (missing + 1) * usual, atol=max(tolerance, 0.1) * usual):
        raise StudyError(
            f"{name}: {int(missing.sum())} slice(s) missing: after slice {gaps[0] + 1} of {len(places)} the next is "
            f"{steps[gaps[0]]:.2f} mm away, elsewhere {usual:.2f} mm; copy the whole series again"
        )
    mean = float(places[-1] - places[0]) / len(steps)
    if abs(steps - mean).max() > tolerance * mean:
        raise StudyError(
            f"{name}: slices lie {steps.min():.2f} to {steps.max():.2f} mm apart, expected one distance; resample the "
            "series to even slices, or raise formats.dicom.spacing_tolerance"
        )
    return mean


def _check_upright(name: str, frames: Sequence[Frame], places: np.ndarray) -> None:
    """Refuse slices that do not stand one above the other: a tilted gantry, or a table that moved."""
    first = frames[0]
    away = np.array([frame.position - first.position for frame in frames])
    sideways = np.linalg.norm(away - np.outer(places - places[0], first.normal), axis=1)
    if sideways.max() > _LARGEST_SHIFT * min(first.spacing):
        degrees = np.degrees(np.arctan2(sideways[-1], places[-1] - places[0]))
        raise StudyError(
            f"{name}: slices are shifted sideways by up to {sideways.max():.2f} mm, {degrees:.1f} degrees from their "
            "normal (a tilted gantry); resample the series to a rectangular grid, as dcm2niix does, and give that file"
        )


def stack_series(series: Series, name: str, tolerance: float) -> Stack:
    """Order the slices of a series by their places along the normal and check that they make up a volume.

    Parameters
    ----------
    name : what messages call the series
    tolerance : how far the distance of two slices may differ from the mean one, as a part of it

    Raises
    ------
    StudyError : a position that is missing or taken twice, slices of several sizes or orientations, a tilted stack
    """
    frames = [frame for instance in series.instances for frame in _frames_of(instance)]
    _check_alike(name, frames)
    if len(frames) == 1:
        raise StudyError(f"{name}: one slice; expected a volume of two slices or more")
    places = np.array([frame.position @ frames[0].normal for frame in frames])
    order = np.argsort(places, kind="stable")
    frames, places = [frames[index] for index in order], places[order]
    _check_places(name, places, series)
    distance = _check_distances(name, places, tolerance)
    _check_upright(name, frames, places)
    # Along the line of centres, as SimpleITK has it; what the sideways check leaves makes no difference that counts.
    distance_of_centres = float(np.linalg.norm(frames[-1].position - frames[0].position)) / (len(frames) - 1)
    return Stack(tuple(frames), (*frames[0].spacing, distance_of_centres), tuple(_notes(series, places, distance)))


def _notes(series: Series, places: np.ndarray, distance: float) -> list[str]:
    notes = []
    worst = float(abs(np.diff(places) - distance).max())
    if worst > _SAME_SPACING * distance:
        notes.append(f"slices lie {distance:.2f} mm apart on average, single ones up to {worst:.2f} mm more or less")
    if any(item.num_frames > 1 and "PerFrameFunctionalGroupsSequence" not in item.header for item in series.instances):
        notes.append("frames carry no position of their own: taken to follow each other along the normal")
    if series.num_copies:
        notes.append(f"{series.num_copies} file(s) are copies of others and were left out")
    return notes
