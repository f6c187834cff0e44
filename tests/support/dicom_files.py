"""Writing images as DICOM, as scanners do and as they should not; every patient is made up."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

# What must never come out again.
IDENTIFYING = {
    "PatientName": "Doe^Erika",
    "PatientID": "HOSP-4711",
    "PatientBirthDate": "20110203",
    "AccessionNumber": "ACC-0815",
    "InstitutionName": "Sample Clinic",
    "ReferringPhysicianName": "House^Gregory",
    "StudyDescription": "Erika Doe follow-up",
    "PatientAddress": "1 Example Road",
    "StudyDate": "20190607",
    "OperatorsName": "Smith^Anna",
    "StationName": "MR-ROOM-7",
    "DeviceSerialNumber": "SN-998877",
}
ACQUISITION = {
    "SeriesDescription": "AX T2 FSE",
    "Manufacturer": "Example Systems",
    "MagneticFieldStrength": "1.5",
    "EchoTime": "99",
    "RepetitionTime": "4500",
    "FlipAngle": "160",
    "SliceThickness": "4",
}


def sample_image(size=(7, 6, 5), spacing=(0.8, 0.9, 4.0), degrees=0.0, dtype=np.int16) -> sitk.Image:
    """An oblique image (turned about the x axis) without two voxels alike, some of them below 0."""
    array = np.arange(np.prod(size)).reshape(size[::-1]) * 7 - (20 if np.issubdtype(dtype, np.signedinteger) else 0)
    image = sitk.GetImageFromArray(array.astype(dtype))
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    image.SetSpacing(spacing)
    image.SetOrigin((-30.0, 20.0, -10.0))
    image.SetDirection([1.0, 0.0, 0.0, 0.0, cos, -sin, 0.0, sin, cos])
    return image


def _header(series_uid: str, sop_class: str, tags: Mapping[str, object]) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = sop_class, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", Dataset(), file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, meta.MediaStorageSOPInstanceUID
    dataset.SeriesInstanceUID, dataset.StudyInstanceUID = series_uid, generate_uid(entropy_srcs=["study"])
    dataset.FrameOfReferenceUID = generate_uid(entropy_srcs=["frame"])
    dataset.Modality, dataset.ImageType = "MR", ["ORIGINAL", "PRIMARY", "OTHER"]
    for keyword, value in (IDENTIFYING | ACQUISITION | dict(tags)).items():
        if value is not None:
            setattr(dataset, keyword, value)
    return dataset


def _set_pixels(dataset: Dataset, array: np.ndarray) -> None:
    """Stored values (rows, columns) or (frames, rows, columns), integers of 8 or 16 bits."""
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = (
        1,
        dataset.get("PhotometricInterpretation", "MONOCHROME2"),
    )
    dataset.Rows, dataset.Columns = array.shape[-2:]
    dataset.BitsAllocated = dataset.BitsStored = 8 * array.dtype.itemsize
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(np.issubdtype(array.dtype, np.signedinteger))
    dataset.PixelData = array.tobytes() + b"\0" * (array.nbytes % 2)
    dataset["PixelData"].VR = "OW" if array.dtype.itemsize == 2 else "OB"


def _numbers(values: Iterable[float]) -> list[str]:
    return [f"{value:.10g}"[:16] for value in values]


def write_series(
    folder: Path,
    image: sitk.Image,
    *,
    series: str = "series",
    order: Iterable[int] | None = None,
    keep: Iterable[int] | None = None,
    slope: float = 1.0,
    intercept: float = 0.0,
    shift_mm: tuple[float, float, float] = (0.0, 0.0, 0.0),
    transfer_syntax: str | None = None,
    **tags: object,
) -> list[Path]:
    """Write an image as one DICOM file a slice.

    Parameters
    ----------
    image : stored values, int16, uint16 or uint8
    series : from which the SeriesInstanceUID follows
    order : which slice stands in the first file, the second, ...: names and instance numbers follow it, places do not
    keep : numbers of the slices that are written, one of them perhaps twice; all of them without
    slope, intercept : written as the rescale
    shift_mm : added to a slice's position for each slice before it: (0, 1, 0) tilts the gantry, along the normal it
        changes the spacing
    transfer_syntax : what the pixels are compressed with
    tags : by keyword, over those that every file has; None leaves one out

    Returns
    -------
    the files in the order that they were written
    """
    folder.mkdir(parents=True, exist_ok=True)
    array, axes = sitk.GetArrayFromImage(image), np.array(image.GetDirection()).reshape(3, 3)
    uid, paths = generate_uid(entropy_srcs=[series]), []
    numbers = list(range(len(array)) if order is None else order)
    for number, index in enumerate(numbers if keep is None else keep, start=1):
        dataset = _header(uid, MRImageStorage, {})
        position = np.array(image.TransformIndexToPhysicalPoint((0, 0, int(index)))) + index * np.array(shift_mm)
        dataset.ImagePositionPatient = _numbers(position)
        dataset.ImageOrientationPatient = _numbers([*axes[:, 0], *axes[:, 1]])
        dataset.PixelSpacing = _numbers([image.GetSpacing()[1], image.GetSpacing()[0]])
        dataset.InstanceNumber = number
        dataset.RescaleSlope, dataset.RescaleIntercept = str(slope), str(intercept)
        _set_pixels(dataset, array[index])
        for keyword, value in tags.items():
            if value is None:
                delattr(dataset, keyword)
            else:
                setattr(dataset, keyword, value)
        if transfer_syntax is not None:
            dataset.compress(transfer_syntax, generate_instance_uid=False)
        paths.append(folder / f"{series}-{number:04d}")
        dataset.save_as(paths[-1], enforce_file_format=True)
    return paths


def write_enhanced(
    path: Path, image: sitk.Image, *, order: Iterable[int] | None = None, slopes: Iterable[float] | None = None
) -> Path:
    """Write an image as one enhanced MR file: orientation and spacing shared, position and rescale a frame.

    Parameters
    ----------
    order : which slice is the first frame, the second, ...
    slopes : rescale slope of each slice of the image
    """
    array, axes = sitk.GetArrayFromImage(image), np.array(image.GetDirection()).reshape(3, 3)
    order, slopes = list(order or range(len(array))), list(slopes or [1.0] * len(array))
    dataset = _header(generate_uid(entropy_srcs=[path.name]), EnhancedMRImageStorage, {})
    orientation, measures, shared = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = _numbers([*axes[:, 0], *axes[:, 1]])
    measures.PixelSpacing = _numbers([image.GetSpacing()[1], image.GetSpacing()[0]])
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = Sequence([orientation]), Sequence([measures])
    dataset.SharedFunctionalGroupsSequence = Sequence([shared])
    frames = []
    for index in order:
        place, transformation, frame = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = _numbers(image.TransformIndexToPhysicalPoint((0, 0, int(index))))
        transformation.RescaleSlope, transformation.RescaleIntercept = str(slopes[index]), "0"
        transformation.RescaleType = "US"
        frame.PlanePositionSequence = Sequence([place])
        frame.PixelValueTransformationSequence = Sequence([transformation])
        frames.append(frame)
    dataset.PerFrameFunctionalGroupsSequence = Sequence(frames)
    dataset.NumberOfFrames = len(frames)
    _set_pixels(dataset, array[order])
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path
