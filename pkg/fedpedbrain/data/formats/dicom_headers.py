"""DICOM headers (PS3.3, PS3.10): which files of a folder belong to one series.

Of a file, only tags that are named are read, so that nothing that identifies a patient is in memory unasked.
"""

import hashlib
import warnings
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import UID, MediaStorageDirectoryStorage

from fedpedbrain.base.errors import StudyError
from fedpedbrain.base.files import files_below
from fedpedbrain.base.image_files import is_dicom

# Warnings about values would quote them.
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE

_WHOLE_NUMBERS = (
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "NumberOfFrames",
)
PIXEL_TAGS = (*_WHOLE_NUMBERS, "PhotometricInterpretation")
_GEOMETRY_TAGS = (
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SpacingBetweenSlices",
    "RescaleSlope",
    "RescaleIntercept",
    "ModalityLUTSequence",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)
_SERIES_TAGS = (
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    "ImageType",
    "LossyImageCompression",
    "EchoTime",
)
# Objects that have rows and columns but are no scan.
_NO_SCANS = ("SEG", "RTDOSE", "PR", "RWV")
_LOCALIZER_WORDS = ("LOCALIZER", "SCOUT")


@dataclass(frozen=True)
class Instance:
    """One DICOM file: its path and those of its tags that were asked for."""

    path: Path
    header: Dataset

    @property
    def num_frames(self) -> int:
        """Number of images in the file."""
        return int(self.header.get("NumberOfFrames") or 1)


@dataclass(frozen=True)
class Series:
    """The files of one SeriesInstanceUID.

    Attributes
    ----------
    uid : SeriesInstanceUID; identifies the examination, so it is shown as ``name`` alone
    instances : its files by path; their order says nothing about their place
    num_copies : files left out since an instance of the same SOPInstanceUID and position is there already
    """

    uid: str
    instances: tuple[Instance, ...]
    num_copies: int = 0

    @property
    def name(self) -> str:
        """Eight digits of the UID's SHA-256."""
        return hashlib.sha256(self.uid.encode()).hexdigest()[:8]

    @property
    def num_slices(self) -> int:
        """Number of images in all files."""
        return sum(instance.num_frames for instance in self.instances)

    @property
    def is_localizer(self) -> bool:
        """Whether it says of itself that it was taken to plan others."""
        words = {str(word).upper() for instance in self.instances for word in instance.header.get("ImageType") or ()}
        return not words.isdisjoint(_LOCALIZER_WORDS)

    @property
    def facts(self) -> str:
        """What tells the series from others, without anything that identifies a patient."""
        header = self.instances[0].header
        kind = "localizer, " if self.is_localizer else ""
        return (
            f"{self.num_slices} slices of {header.Columns} x {header.Rows}, {kind}{header.get('Modality') or 'no'} "
            f"modality, {self.instances[0].path.name}"
        )


def read_tags(path: Path, tags: Iterable[str]) -> FileDataset:
    """Read these tags of a DICOM file and no other; a ``StudyError`` names a file that is damaged before its end."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            tags = list(tags)
            dataset = pydicom.dcmread(path, stop_before_pixels="PixelData" not in tags, force=True, specific_tags=tags)
            # Values are decoded when they are first asked for; what is wrong with them is to be said here.
            deque(dataset.iterall(), maxlen=0)
        except PermissionError:
            raise StudyError(f"{path}: may not be read; give this user the right to read it") from None
        # What a damaged file makes pydicom raise is no closed list.
        except Exception:
            raise StudyError(f"{path}: not a readable DICOM file; it may be truncated, copy it again") from None
    if any("end of file" in str(warning.message).lower() for warning in caught):
        raise StudyError(f"{path}: the file ends before its data do; it is truncated, copy it again")
    for keyword in _WHOLE_NUMBERS:
        # pydicom gives the text itself where it should be a number and is none.
        value = dataset.get(keyword)
        if value not in (None, "") and not (isinstance(value, int) and value >= 0):
            raise StudyError(f"{path}: DICOM {keyword} is no whole number; export the series again, or remove the file")
    return dataset


def _is_image(path: Path, header: FileDataset) -> bool:
    """Whether a file holds images of a scan; refused where it ends before that can be told."""
    if header.get("Rows") and header.get("Columns"):
        return header.get("Modality") not in _NO_SCANS
    if header.file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
        return False
    kind = header.get("SOPClassUID")
    # Every object says what it is and which series it belongs to, in this order, before anything of an image.
    if not kind or not header.get("SeriesInstanceUID") or "Image Storage" in UID(kind).name:
        raise StudyError(
            f"{path}: a DICOM file without rows and columns of an image, and not said to be anything else; it is "
            "truncated, copy it again, or remove it"
        )
    return False


def _without_copies(instances: Iterable[Instance]) -> list[Instance]:
    """Leave out files that are there twice; anonymised ones may all have one UID, so the position counts too."""
    distinct: dict[tuple[str, str], Instance] = {}
    for instance in instances:
        header = instance.header
        place = str(header.get("ImagePositionPatient"))
        known = header.get("SOPInstanceUID") and header.get("ImagePositionPatient")
        distinct.setdefault((str(header.SOPInstanceUID), place) if known else (str(instance.path), ""), instance)
    return list(distinct.values())


def find_series(folder: str | Path, tags: Iterable[str] = ()) -> list[Series]:
    """Find the image series in a folder and all folders in it, whatever the files are called.

    Files that are no DICOM, DICOMDIR and objects that are no images are passed over. What may be a slice and cannot be
    read is refused, since a volume without it would look whole where it is the first or the last one.

    Parameters
    ----------
    tags : keywords of tags that are read besides those that order and read the images

    Returns
    -------
    ordered by the path of their first file

    Raises
    ------
    StudyError : a file or folder that cannot be read, an empty file, a DICOM file that is truncated
    """
    wanted = (*PIXEL_TAGS, *_GEOMETRY_TAGS, *_SERIES_TAGS, *tags)
    found: dict[str, list[Instance]] = {}
    for path in filter(is_dicom, files_below(Path(folder))):
        header = read_tags(path, wanted)
        if _is_image(path, header):
            found.setdefault(str(header.get("SeriesInstanceUID") or ""), []).append(Instance(path, header))
    series = []
    for uid, instances in found.items():
        distinct = _without_copies(instances)
        series.append(Series(uid, tuple(distinct), len(instances) - len(distinct)))
    return series
