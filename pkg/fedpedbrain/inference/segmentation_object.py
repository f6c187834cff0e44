"""DICOM Segmentation of a predicted DICOM scan (DICOM PS3.3 A.51), which viewers lay over the source images."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
from pydicom.sr.codedict import codes
from pydicom.valuerep import DS

from fedpedbrain.data.formats.scan import Scan
from fedpedbrain.errors import StudyError
from fedpedbrain.files import replacing

_SOFTWARE = "fedpedbrain"
# Beyond what scanners number their own series with.
_SERIES_NUMBER = 9000
# A value of VR LO may not be longer (DICOM PS3.5 6.2).
_LONGEST_LO = 64
# All that an object needs to belong to its patient and study (PS3.3 C.7.1.1 and C.7.2.1, types 1 and 2), and what its
# source is; beside these, only groups that describe the image.
_KEPT = {
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName"),
    *("SOPClassUID", "SOPInstanceUID", "ImageType", "Modality", "Manufacturer", "ManufacturerModelName"),
}
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
    """
    sources, order = _read_sources(scan)
    lineage = model["lineage"]
    algorithm = hd.AlgorithmIdentificationSequence(
        name=f"{_SOFTWARE} {model['name']}"[:_LONGEST_LO],
        family=codes.DCM.ArtificialIntelligence,
        version=model["sha256"],
        parameters={"arm": lineage["arm"], "seed": str(lineage["seed"]), "round": str(lineage["round"])},
    )
    segments = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=name[:_LONGEST_LO],
            segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
            segmented_property_type=codes.SCT.Neoplasm,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
        )
        for number, name in enumerate(regions, start=1)
    ]
    pixels = np.stack([region[order] for region in regions.values()], axis=-1).astype(np.uint8)
    segmentation = hd.seg.Segmentation(
        source_images=sources,
        pixel_array=pixels,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=segments,
        series_instance_uid=hd.UID(),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer=_SOFTWARE,
        manufacturer_model_name=f"{_SOFTWARE} {model['name']}"[:_LONGEST_LO],
        software_versions=version(_SOFTWARE),
        device_serial_number=model["sha256"],
        series_description=f"{_SOFTWARE} {model['name']}: {', '.join(regions)}"[:_LONGEST_LO],
        content_description="Automatic segmentation, not for clinical use",
        content_label="SEGMENTATION",
        # A segment without a voxel is a finding, too, and an object needs a frame.
        omit_empty_frames=bool(pixels.any()),
    )
    with replacing(path) as temporary:
        segmentation.save_as(temporary)


def _read_sources(scan: Scan) -> tuple[list[pydicom.Dataset], Sequence[int]]:
    """Headers of the source images, and the slices of the scan in the order of their frames."""
    headers = [_without_details(pydicom.dcmread(path, stop_before_pixels=True)) for path in scan.files]
    if not scan.frame_numbers:
        for header in headers:
            # As the positions give it: some scanners write the gap between slices for their distance.
            header.SpacingBetweenSlices = DS(scan.image.GetSpacing()[2], auto_format=True)
        return headers, range(len(headers))
    if len(headers) > 1 or sorted(scan.frame_numbers) != list(range(int(headers[0].NumberOfFrames))):
        raise StudyError(
            f"{scan.files[0]}: frames of several stacks or files cannot be referred to by one segmentation; export "
            "the stack alone"
        )
    return headers, np.argsort(scan.frame_numbers)


def _without_details(header: pydicom.Dataset) -> pydicom.Dataset:
    """Take everything about patient, study and institution away that an object of the same study can do without."""
    for element in list(header):
        if element.tag.group not in _IMAGE_GROUPS and element.keyword not in _KEPT:
            del header[element.tag]
    return header
