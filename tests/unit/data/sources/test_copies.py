import shutil
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from fedpedbrain.data.sources.copies import describe_copies, voxel_digests
from fedpedbrain.data.sources.source import open_source


@pytest.fixture
def copies(source_settings):
    return lambda: describe_copies(open_source(source_settings).find_cases())


@pytest.mark.parametrize("copied", ["file", "voxels"])
def test_one_scan_under_the_names_of_two_patients_is_found(bids, copies, write_volume, copied):
    original, copy = bids.image("sub-01"), bids.image("sub-03")
    if copied == "file":
        shutil.copy(original, copy)
    else:
        write_volume(copy, sitk.GetArrayFromImage(sitk.ReadImage(str(original))), spacing=(2.0, 2.0, 4.000001))
        assert copy.read_bytes() != original.read_bytes()
    assert copies() == [
        "site south: an image of case sub-03 is, voxel by voxel, one of case sub-01 of another patient (site north); "
        "remove one, or name both as one patient"
    ]


def test_a_patient_may_have_one_scan_twice_and_blank_channels_are_no_copies(
    bids, copies, source_settings, write_volume
):
    bids.add("sub-05", "north", "dipg", session="ses-a")
    bids.add("sub-05", "north", "dipg", session="ses-b")
    shutil.copy(bids.image("sub-05", "ses-a"), bids.image("sub-05", "ses-b"))
    for subject in ("sub-01", "sub-03"):
        write_volume(bids.image(subject), np.zeros(bids.shape, np.int16))
    assert copies() == []
    digests = {case.case: case.voxel_sha256 for case in open_source(source_settings).find_cases()}
    assert digests["sub-05_ses-a"] == digests["sub-05_ses-b"] != ()
    assert digests["sub-01"] == ()


def test_a_case_is_named_once_however_many_images_it_shares(make_case):
    first, second = make_case("a"), make_case("b")
    shared = {"voxel_sha256": ("1", "2")}
    assert len(describe_copies([replace(first, **shared), replace(second, **shared)])) == 1


def test_digests_tell_shapes_and_voxels_apart_but_not_data_types():
    voxels = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    images = [voxels, voxels.astype(np.float64), voxels.reshape(4, 3, 2), voxels[::-1].copy()]
    same, as_float, reshaped, mirrored = voxel_digests(map(sitk.GetImageFromArray, images))
    assert same == as_float
    assert len({same, reshaped, mirrored}) == 3
