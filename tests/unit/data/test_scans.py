from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from fedpedbrain.base.cases import HELD_OUT, TRAIN, Shard, read_cases, write_cases
from fedpedbrain.base.errors import StudyError
from fedpedbrain.data.formats.volumes import Volume
from fedpedbrain.data.grid.intensity import FOREGROUND
from fedpedbrain.data.grid.scan_dataset import ScanDataset
from fedpedbrain.data.scans import outline_on_scan, to_picture
from scanned_heads import MADE_SCANS

HELD_OUT_SCANS = list(MADE_SCANS.values())


def test_scans_of_held_out_cases_alone_are_laid_out_with_their_axes_turned(scanned_site):
    dataset = ScanDataset([scanned_site], HELD_OUT)
    cases = read_cases(scanned_site.cases)
    assert [case.split for case in cases] == ["train", "test", "external", "test"]
    assert [case.case for case in dataset.cases] == [case.case for case in cases[1:]]
    for row, scan in enumerate(HELD_OUT_SCANS):
        assert dataset.grid_shape(row) == dataset.image(row).shape[1:] == scan.size
        assert dataset.spacing_mm(row) == pytest.approx(scan.spacing[::-1], rel=1e-6)
        assert (dataset.image(row).dtype, dataset.image(row).shape[0]) == (np.uint8, 1)


def test_a_mask_is_that_which_the_site_drew_voxel_by_voxel(scanned_site):
    dataset = ScanDataset([scanned_site], HELD_OUT)
    for row, scan in enumerate(HELD_OUT_SCANS):
        labels = scan.labels(row)
        np.testing.assert_array_equal(dataset.mask(row), [labels > 0, labels == 2])


def test_a_picture_is_the_scan_and_not_what_a_grid_shows_of_it(scanned_site):
    dataset = ScanDataset([scanned_site], HELD_OUT)
    for row, scan in enumerate(HELD_OUT_SCANS):
        head, picture = scan.head(), dataset.image(row)[0]
        assert not picture[head == 0].any()
        # Brighter is brighter, up to the percentile that is white.
        order = np.argsort(head, axis=None, kind="stable")
        assert (np.diff(picture.ravel()[order].astype(int)) >= 0).all()
        assert picture.max() == 255


def test_a_case_without_a_mask_has_no_outline():
    assert outline_on_scan(Volume((HELD_OUT_SCANS[0].stored(HELD_OUT_SCANS[0].head()),), None)) is None


def test_what_headers_differ_by_in_rounding_moves_no_outline():
    scan = HELD_OUT_SCANS[0]
    image, mask = scan.stored(scan.head()), scan.stored(scan.labels(0))
    mask.SetOrigin([place + 0.04 for place in mask.GetOrigin()])
    found = outline_on_scan(Volume((image,), mask))
    assert found.GetOrigin() == image.GetOrigin()
    np.testing.assert_array_equal(sitk.GetArrayFromImage(found), scan.labels(0))
    assert mask.GetOrigin() != image.GetOrigin()


def test_an_image_about_zero_is_shown_from_its_air_on():
    scan = HELD_OUT_SCANS[0]
    shifted = scan.stored((scan.head() - 1000).astype(np.int16))
    np.testing.assert_array_equal(to_picture(shifted, FOREGROUND), to_picture(scan.stored(scan.head()), FOREGROUND))


@pytest.mark.parametrize(("file", "read"), [("scan_images.npy", "image"), ("scan_masks.npy", "mask")])
def test_a_scan_that_was_changed_is_refused(scanned_site, file, read):
    array = np.load(scanned_site.folder / file)
    array[0] ^= 255
    np.save(scanned_site.folder / file, array)
    name = ScanDataset([scanned_site], HELD_OUT).cases[0].case
    words = rf"{file}: case {name}: expected SHA-256 \w+, found \w+; delete .+{file} and run again"
    with pytest.raises(StudyError, match=words):
        getattr(ScanDataset([scanned_site], HELD_OUT), read)(0)


def test_rows_follow_the_order_of_the_sites_and_cases(scanned_site, tmp_path):
    cases = read_cases(scanned_site.cases)
    # Another split leaves less held out; what was laid out stays where it is.
    write_cases(tmp_path / "cases.tsv", [cases[0], replace(cases[1], split=TRAIN), *cases[2:]])
    dataset = ScanDataset([Shard(scanned_site.folder, tmp_path / "cases.tsv"), scanned_site], HELD_OUT)
    assert [case.case for case in dataset.cases] == [case.case for case in [*cases[2:], *cases[1:]]]
    np.testing.assert_array_equal(dataset.mask(0), dataset.mask(3))
