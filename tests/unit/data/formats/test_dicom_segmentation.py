"""DICOM Segmentation objects as masks; that a cohort's come back as they were is tested where its forms are."""

import numpy as np
import pytest
import SimpleITK as sitk
from cohort_files import write_dicom
from dicom_files import sample_image
from fedpedbrain.data.formats.dicom_segmentation import read_segmentation
from pydicom import dcmread


@pytest.mark.parametrize("number", [255, 257])
def test_a_segments_number_is_its_label_however_large(tmp_path, number):
    image = sample_image()
    mask = sitk.Cast(image > 700, sitk.sitkUInt8)
    _, path = write_dicom(tmp_path / "case", image, mask)
    dataset = dcmread(path)
    dataset.SegmentSequence[0].SegmentNumber = number
    for groups in (*dataset.SharedFunctionalGroupsSequence, *dataset.PerFrameFunctionalGroupsSequence):
        for segment in groups.get("SegmentIdentificationSequence", []):
            segment.ReferencedSegmentNumber = number
    dataset.save_as(path)
    found = read_segmentation(path, image)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(found), sitk.GetArrayFromImage(mask).astype(int) * number)
