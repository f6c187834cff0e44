"""Writing one case, images and mask, in each form that a cohort may come in."""

from pathlib import Path

import highdicom as hd
import numpy as np
import SimpleITK as sitk
from dicom_files import write_series
from highdicom.seg import SegmentAlgorithmTypeValues, Segmentation, SegmentationTypeValues, SegmentDescription
from PIL import Image
from pydicom import dcmread
from pydicom.sr.codedict import codes

# What a Segmentation takes over from the headers of its source, known or not.
_ASKED_BY_SEGMENTATIONS = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
)


def _upright(image: sitk.Image) -> np.ndarray:
    """Array (D, H, W) of an image, from feet to head, front to back and right to left."""
    return sitk.GetArrayFromImage(sitk.DICOMOrient(image, "LPS"))


def write_nifti(folder: Path, image: sitk.Image, mask: sitk.Image) -> tuple[Path, Path]:
    """Two NIfTI files."""
    folder.mkdir(parents=True)
    for name, item in (("image", image), ("mask", mask)):
        sitk.WriteImage(item, str(folder / f"{name}.nii.gz"))
    return folder / "image.nii.gz", folder / "mask.nii.gz"


def write_dicom(folder: Path, image: sitk.Image, mask: sitk.Image) -> tuple[Path, Path]:
    """A series in mixed order, and the mask as a DICOM Segmentation without its empty slices."""
    labels = sitk.GetArrayFromImage(mask)
    order = np.random.default_rng(0).permutation(len(labels)).tolist()
    paths = write_series(
        folder / "series", sitk.Cast(image, sitk.sitkInt16), order=order, **dict.fromkeys(_ASKED_BY_SEGMENTATIONS, "")
    )
    segment = SegmentDescription(
        segment_number=1,
        segment_label="tumour",
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=codes.SCT.Neoplasm,
        algorithm_type=SegmentAlgorithmTypeValues.MANUAL,
    )
    segmentation = Segmentation(
        source_images=[dcmread(path) for path in paths],
        pixel_array=labels[order].astype(np.uint8),
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=[segment],
        series_instance_uid=hd.UID(),
        series_number=2,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="x",
        manufacturer_model_name="x",
        software_versions="1",
        device_serial_number="1",
        omit_empty_frames=bool(labels.any()),
    )
    segmentation.save_as(folder / "mask.dcm")
    return folder / "series", folder / "mask.dcm"


def write_png(folder: Path, image: sitk.Image, mask: sitk.Image) -> tuple[Path, Path]:
    """The reference project's layout: RGBA, nose to the left, spacing in metadata.txt; the mask in the same way."""
    spacing = " ".join(map(str, sitk.DICOMOrient(image, "LPS").GetSpacing()[::-1]))
    values = _upright(image).astype(float)
    scaled = np.round(255.0 * np.clip(values / values.max(), 0.0, 1.0))
    for name, array in (("image", scaled), ("mask", _upright(mask))):
        (folder / name).mkdir(parents=True)
        (folder / name / "metadata.txt").write_text(f"spacing_mm: {spacing}\n")
        for number, plane in enumerate(np.rot90(array, 1, axes=(1, 2)).astype(np.uint8)):
            Image.fromarray(plane).convert("RGBA").save(folder / name / f"slice_{number:02d}.png")
    return folder / "image", folder / "mask"


def write_npy(folder: Path, image: sitk.Image, mask: sitk.Image) -> tuple[Path, Path]:
    """Arrays (H, W, D) as the reference stores them."""
    folder.mkdir(parents=True)
    for name, item in (("image", image), ("mask", mask)):
        np.save(folder / f"{name}.npy", _upright(item).transpose(1, 2, 0))
    return folder / "image.npy", folder / "mask.npy"


WRITERS = {"nifti": write_nifti, "dicom": write_dicom, "png": write_png, "npy": write_npy}
