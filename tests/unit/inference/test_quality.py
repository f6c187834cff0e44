import numpy as np
import pytest
import SimpleITK as sitk
from fedpedbrain.data.checks.training_intensities import summarize_intensities
from fedpedbrain.data.formats.scan import Scan
from fedpedbrain.data.grid.intensity import FOREGROUND
from fedpedbrain.inference.quality import (
    check_clipped,
    check_empty,
    check_intensity,
    check_orientation,
    check_probability,
    touched_sides,
)
from scipy.spatial.transform import Rotation


def test_no_region_is_flagged():
    check = check_empty({"core": 0.0, "whole_tumour": 0.0}, "dipg", "normal")
    assert check.is_raised
    assert (check.value, check.finding) == (0.0, "no region was found")


def test_one_region_of_two_is_not_empty():
    check = check_empty({"core": 0.0, "whole_tumour": 2.5}, "dipg", "normal")
    assert not check.is_raised
    assert "2.5 ml" in check.finding


def test_an_empty_mask_says_that_the_class_has_none():
    assert "most probable class is normal" in check_empty({"core": 0.0}, "normal", "normal").finding
    assert "normal" not in check_empty({"core": 0.0}, "normal", None).finding
    assert check_empty({"core": 0.0}, None, None).finding == "no region was found"


@pytest.mark.parametrize(
    ("place", "sides"),
    [
        ((0, 2, 2), ["feet"]),
        ((4, 2, 2), ["head"]),
        ((2, 0, 2), ["front"]),
        ((2, 4, 2), ["back"]),
        ((2, 2, 0), ["right"]),
        ((2, 2, 4), ["left"]),
        ((4, 0, 2), ["head", "front"]),
        ((2, 2, 2), []),
    ],
)
def test_sides_are_named_as_the_patient_has_them(place, sides):
    region = np.zeros((5, 5, 5), dtype=bool)
    region[place] = True
    assert touched_sides(region) == sides


@pytest.mark.parametrize(("in_scan", "on_grid", "value"), [(2, 2, 0), (0, 2, 1), (2, 0, 1), (0, 0, 1), (0, 4, 2)])
def test_a_region_at_the_edge_of_the_scan_or_of_the_grid_is_clipped(in_scan, on_grid, value):
    regions = []
    for plane in (in_scan, on_grid):
        region = np.zeros((5, 5, 5), dtype=bool)
        region[plane, 2, 2] = True
        regions.append({"core": np.zeros((5, 5, 5), dtype=bool), "whole_tumour": region})
    check = check_clipped(*regions)
    assert (check.value, check.is_raised) == (value, value > 0)
    assert ("whole_tumour touches the edge of the scan: feet" in check.finding) == (in_scan == 0)
    assert ("whole_tumour touches the edge of the network's view: feet" in check.finding) == (on_grid == 0)
    assert "core" not in check.finding


HEAD = ("head", (70.0, 450.0))


def head(angles=(0.0, 0.0, 0.0), spacing=(10.0, 10.0, 10.0), **scan) -> Scan:
    image = sitk.Image([20, 22, 18], sitk.sitkUInt8)
    image.SetSpacing(spacing)
    image.SetDirection(Rotation.from_euler("xyz", angles, degrees=True).as_matrix().ravel().tolist())
    return Scan(image, scan.pop("form", "nifti"), (), **scan)


def test_an_upright_head_has_a_sure_orientation():
    assert not check_orientation(head(), *HEAD).is_raised
    assert not check_orientation(head((30.0, 0.0, 0.0)), *HEAD).is_raised


def test_axes_between_two_of_the_patients_are_flagged():
    check = check_orientation(head((40.0, 0.0, 0.0)), *HEAD)
    assert check.is_raised
    assert "40 degrees off" in check.finding


def test_a_form_without_geometry_is_flagged():
    check = check_orientation(head(form="npy", is_orientation_known=False), *HEAD)
    assert check.is_raised
    assert "npy carries no orientation" in check.finding


@pytest.mark.parametrize("spacing", [(10.0, 10.0, 1.0), (30.0, 10.0, 10.0)])
def test_a_field_of_view_that_is_no_heads_is_flagged(spacing):
    check = check_orientation(head(spacing=spacing), *HEAD)
    assert check.is_raised
    assert "is not that of a head" in check.finding


def test_another_organ_has_another_size_and_name():
    small = head(spacing=(3.0, 3.0, 3.0))
    assert not check_orientation(small, "aorta", (50.0, 450.0)).is_raised
    check = check_orientation(small, "aorta", (60.0, 450.0))
    assert "a field of view of 60 x 66 x 54 mm is not that of an aorta" in check.finding
    assert "not from 60 to 450 mm" in check.rule
    assert "the aorta's intensities" in check_intensity(np.zeros((1, 2, 3, 3), np.uint8), None, 1.0, "aorta").rule


def reference(quantile: float, largest: float) -> dict:
    known = {"quantiles": [quantile] * 20, "largest_distance": largest}
    return {"foreground": FOREGROUND, "num_cases": 2, "channels": {"T2w": known}}


@pytest.mark.parametrize(("quantile", "value"), [(100.0, 0.0), (85.0, 1.5), (84.0, 1.6), (116.0, 1.6)])
def test_intensities_are_flagged_beyond_so_many_times_the_furthest_training_case(quantile, value):
    images = np.full((1, 2, 3, 3), 100, dtype=np.uint8)
    check = check_intensity(images, reference(quantile, 10.0), 1.5, "head")
    assert check.value == pytest.approx(value)
    assert check.is_raised == (value > 1.5)
    assert "the furthest training case 10.0" in check.finding


@pytest.mark.parametrize(
    ("tolerance", "limit", "raised"), [(1.0, "1 grey", [False, True]), (2.0, "2 grey", [False, False])]
)
def test_training_cases_that_are_all_alike_leave_room_for_one_grey_level(tolerance, limit, raised):
    images = np.full((1, 2, 3, 3), 100, dtype=np.uint8)
    checks = [check_intensity(images, reference(quantile, 0.0), tolerance, "head") for quantile in (99.0, 98.0)]
    assert [check.is_raised for check in checks] == raised
    assert f"or than {limit} levels where that is more" in checks[0].rule


def test_a_scan_of_half_precision_is_compared_by_its_grey_levels():
    images = np.random.default_rng(0).gamma(2.0, 1.0, (1, 4, 8, 8)).astype(np.float16)
    known = summarize_intensities([images], ["T2w"], FOREGROUND)
    assert check_intensity(images, known, 1.5, "head").value == 0.0


def test_the_channel_that_lies_furthest_away_decides():
    images = np.full((2, 2, 3, 3), 100, dtype=np.uint8)
    known = {"T1w": reference(100.0, 10.0)["channels"]["T2w"], "T2w": reference(50.0, 10.0)["channels"]["T2w"]}
    assert check_intensity(images, reference(0.0, 0.0) | {"channels": known}, 1.5, "head").value == pytest.approx(5.0)


def test_without_training_intensities_nothing_is_claimed():
    images = np.full((2, 2, 3, 3), 100, dtype=np.uint8)
    assert check_intensity(images, None, 1.5, "head").is_raised is None
    check = check_intensity(images, reference(100.0, 10.0), 1.5, "head")
    assert check.is_raised is None
    assert "other channels (T2w)" in check.finding


def test_a_class_of_too_low_a_probability_is_flagged():
    probabilities = {"normal": 0.3, "dipg": 0.45, "ependymoma": 0.25}
    check = check_probability(probabilities, 0.5)
    assert check.is_raised
    assert (check.value, check.finding) == (0.45, "dipg has 45.0 %")
    assert not check_probability(probabilities, 0.45).is_raised
