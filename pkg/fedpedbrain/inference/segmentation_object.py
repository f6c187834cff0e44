"""DICOM Segmentation of a predicted DICOM scan (DICOM PS3.3 A.51), which viewers lay over the source images."""

import warnings
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
from pydicom.sr.codedict import codes
from pydicom.valuerep import DS

from fedpedbrain.base.errors import StudyError
from fedpedbrain.base.files import replacing
from fedpedbrain.base.lineage import IMPORTED
from fedpedbrain.data.formats.scan import Scan

_SOFTWARE = "fedpedbrain"
# Beyond what scanners number their own series with.
_SERIES_NUMBER = 9000
# A value of VR LO may not be longer (DICOM PS3.5 6.2).
_LONGEST_LO = 64
# All that an object has to say of its patient and study, be it that nothing is known (PS3.3 C.7.1.1, C.7.2.1, type 2).
_OF_PATIENT_AND_STUDY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
)
# What the source is; beside all these, only groups that describe the image.
_OF_SOURCE = ("SOPClassUID", "SOPInstanceUID", "ImageType", "Modality", "Manufacturer", "ManufacturerModelName")
# UTF-8 (PS3.3 C.12.1.1.2).
_ANY_LETTERS = "ISO_IR 192"
_IMAGE_GROUPS = {0x0018, 0x0020, 0x0028, 0x5200}


def write_segmentation_object(
    path: str | Path, scan: Scan, regions: Mapping[str, np.ndarray], model: Mapping[str, Any]
) -> None:
    """Write the regions as binary segments, each named as its region, that refer to the source images by UID.

    The object belongs to the patient and the study of its source, whose modules it has to carry: it identifies the
    patient as much as the source images do.

    Parameters
    ----------
    scan : a DICOM scan
    regions : bool (slices, rows, columns) each, in the layout of the scan's array
    model : ``name`` and ``sha256`` of the model file, and its ``lineage``

    Raises
    ------
    StudyError : the source's headers do not say what an object needs
    """
    try:
        with warnings.catch_warnings():
            # Some quote the patient's name.
            warnings.simplefilter("ignore")
            sources, order = _read_sources(scan)
            pixels = np.stack([region[order] for region in regions.values()], axis=-1).astype(np.uint8)
            segmentation = _build(sources, pixels, list(regions), model)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        # highdicom and pydicom say so in several kinds; some messages print whole headers, which name the patient.
        raise StudyError(f"the headers do not say all that it needs ({type(error).__name__})") from None
    with replacing(path) as temporary:
        segmentation.save_as(temporary)


def _build(
    sources: Sequence[pydicom.Dataset], pixels: np.ndarray, regions: Sequence[str], model: Mapping[str, Any]
) -> hd.seg.Segmentation:
    """The object of ``pixels``, uint8 (frames, rows, columns, regions)."""
    name, lineage = f"{_SOFTWARE} {model['name']}"[:_LONGEST_LO], model["lineage"]
    # Nobody here knows of an imported model what it was trained as.
    named = ("source", "parent_sha256") if lineage["kind"] == IMPORTED else ("arm", "seed", "round")
    algorithm = hd.AlgorithmIdentificationSequence(
        name=name,
        family=codes.DCM.ArtificialIntelligence,
        version=model["sha256"],
        parameters={name: str(lineage[name]) for name in named},
    )
    segments = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=region[:_LONGEST_LO],
            segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
            segmented_property_type=codes.SCT.Neoplasm,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
        )
        for number, region in enumerate(regions, start=1)
    ]
    return hd.seg.Segmentation(
        source_images=sources,
        pixel_array=pixels,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=segments,
        series_instance_uid=hd.UID(),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer=_SOFTWARE,
        manufacturer_model_name=name,
        software_versions=version(_SOFTWARE),
        device_serial_number=model["sha256"],
        series_description=f"{name}: {', '.join(regions)}"[:_LONGEST_LO],
        content_description="Automatic segmentation, not for clinical use",
        content_label="SEGMENTATION",
        # A segment without a voxel is a finding, too, and an object needs a frame.
        omit_empty_frames=bool(pixels.any()),
    )


def _read_sources(scan: Scan) -> tuple[list[pydicom.Dataset], Sequence[int]]:
    """Headers of the source images, and the slices of the scan in the order of their frames."""
    headers = [_without_details(pydicom.dcmread(path, stop_before_pixels=True)) for path in scan.files]
    if not scan.frame_numbers:
        for header in headers:
            _state_slices(header, scan)
        return headers, range(len(headers))
    if len(headers) > 1 or sorted(scan.frame_numbers) != list(range(int(headers[0].NumberOfFrames))):
        raise StudyError("the scan is not all frames of one file; export it as a series of its own")
    (shared,), frames = headers[0].SharedFunctionalGroupsSequence, headers[0].PerFrameFunctionalGroupsSequence
    for keyword in ("PixelMeasuresSequence", "PlaneOrientationSequence"):
        # What is the same of all frames may be said of each, where it is not looked for.
        if keyword not in shared:
            shared[keyword] = frames[0][keyword]
    _state_slices(shared.PixelMeasuresSequence[0], scan)
    return headers, np.argsort(scan.frame_numbers)


def _state_slices(measures: pydicom.Dataset, scan: Scan) -> None:
    """State the distance of slices that their positions give: some scanners write the gap between them instead."""
    measures.SpacingBetweenSlices = DS(scan.image.GetSpacing()[2], auto_format=True)
    if not measures.get("SliceThickness"):
        measures.SliceThickness = measures.SpacingBetweenSlices


def _without_details(header: pydicom.Dataset) -> pydicom.Dataset:
    """Take everything about patient, study and institution away that an object of the same study can do without.

    What it cannot do without and is not there stays empty. Text in declared letters, whose names may be spelled or
    combined in ways that highdicom does not know, becomes UTF-8.
    """
    has_letters = bool(header.get("SpecificCharacterSet"))
    # Text is decoded here, by the letters that the source declares.
    for element in list(header):
        if element.tag.group not in _IMAGE_GROUPS and element.keyword not in (*_OF_PATIENT_AND_STUDY, *_OF_SOURCE):
            del header[element.tag]
    if has_letters:
        header.SpecificCharacterSet = _ANY_LETTERS
    for keyword in _OF_PATIENT_AND_STUDY:
        if keyword not in header:
            setattr(header, keyword, "")
    return header
