"""The page of a new scan and its pictures, from predictions written here."""

import re
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import SimpleITK as sitk
from fedpedbrain.base.files import write_json
from fedpedbrain.reporting.pages.scan_page import check_rows, overlap_rows, verdict, warnings, write_scan_page_files
from fedpedbrain.reporting.pictures.scan_video import (
    build_scan_view,
    load_model_views,
    overview_slices,
    render_scan_files,
    to_grey,
    upright,
)

SHAPE = (6, 20, 16)


def make_check(name: str, is_raised: bool | None, finding: str = "found") -> dict:
    return {"name": name, "is_raised": is_raised, "value": 1.0, "unit": "", "rule": "the rule", "finding": finding}


def make_result(name: str, **changes) -> dict:
    lineage = {"arm": name, "seed": 0, "round": 3, "site": "", "num_cases": 12, "parent_sha256": "p" * 64}
    lineage |= {"settings_digest": "d" * 64, "updates": [{"site": "north", "sha256": "u" * 64, "weight": 1.0}]}
    scan = {"paths": ["/in/a.nii.gz"], "channels": ["T2w"], "form": "nifti", "size": [16, 20, 6]}
    return {
        "scan": scan | {"spacing_mm": [2.0, 1.0, 5.0], "is_orientation_known": True, "notes": []},
        "labels": {"whole_tumour": 1},
        "region_masks": {"whole_tumour": "region-whole_tumour.nii.gz"},
        "volumes_ml": {"whole_tumour": 0.12},
        "probabilities": {"normal": 0.2, "dipg": 0.8},
        "predicted_class": "dipg",
        "checks": [make_check("clipped", False), make_check("intensity", None, "not checked: no file")],
        "decision": {"threshold": 0.5, "smallest_region_ml": 1.0, "empty_class": "normal"},
        "model": {"name": name, "path": "/r/best.pth", "sha256": "5" * 64, "lineage": lineage, "origin": ""},
    } | changes


def box(first: int, last: int) -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8)
    mask[first:last, 4:8, 4:7] = 1
    return mask


@pytest.fixture
def write_prediction(tmp_path, write_volume):
    """``write_prediction(name, masks, **result)``: a model's folder of results; one mask is the whole tumour's."""

    def _write(name: str, masks: np.ndarray | dict[str, np.ndarray], /, **changes) -> Path:
        masks = masks if isinstance(masks, dict) else {"whole_tumour": masks}
        for region, mask in masks.items():
            write_volume(tmp_path / name / f"{region}.nii.gz", mask, (2.0, 1.0, 5.0))
        changes["region_masks"] = {region: f"{region}.nii.gz" for region in masks}
        write_json(tmp_path / name / "prediction.json", make_result(name, **changes))
        return tmp_path / name

    return _write


@pytest.fixture
def views(write_prediction):
    folders = [write_prediction("centralized", box(2, 4)), write_prediction("fedavg", box(3, 5))]
    return load_model_views(folders, {"fedavg": "#D55E00"})


@pytest.fixture
def image(write_volume, tmp_path) -> sitk.Image:
    ramp = np.linspace(0, 1000, np.prod(SHAPE)).reshape(SHAPE).astype(np.int16)
    return sitk.ReadImage(str(write_volume(tmp_path / "scan.nii.gz", ramp, (2.0, 1.0, 5.0))))


# Pictures.


def test_an_image_stands_upright_whatever_its_orientation(image):
    turned = sitk.DICOMOrient(image, "SRA")
    assert (upright(turned) == upright(image)).all()


def test_grey_reaches_from_black_to_white_and_no_further():
    grey = to_grey(np.arange(1001.0).reshape(7, 11, 13))
    assert (grey.min(), grey.max()) == (0, 255)
    assert to_grey(np.full((2, 3, 3), 7.0)).max() == 0


def test_every_model_has_a_panel_beside_the_image_in_its_arms_colour(image, views):
    view = build_scan_view("child", image, views)
    assert [panel.title for panel in view.panels] == ["Image", "centralized", "FedAvg"]
    assert view.panels[2].colour == "#D55E00"
    assert view.panels[1].lines == ("0.1 ml outlined", "dipg 80 %")
    assert view.image.shape == SHAPE
    # 20 voxels of 1 mm over 16 of 2 mm.
    assert view.aspect == pytest.approx(20 / 32)


def test_the_bar_marks_what_any_model_outlines(image, views):
    marked = build_scan_view("child", image, views).marked
    assert np.flatnonzero(marked.any(axis=(0, 2, 3))).tolist() == [2, 3, 4]


def test_models_with_other_regions_stand_side_by_side(image, write_prediction):
    both = {"core": box(3, 4), "whole_tumour": box(2, 4)}
    folders = [
        write_prediction("one", box(2, 4)),
        write_prediction("two", both, volumes_ml=dict.fromkeys(both, 0.1)),
        write_prediction("none", {}, volumes_ml={}),
    ]
    view = build_scan_view("child", image, load_model_views(folders, {}))
    assert view.marked.shape == (2, *SHAPE)
    assert view.panels[3].masks is None
    assert view.panels[2].lines[:2] == ("core 0.1 ml", "whole tumour 0.1 ml")
    assert "whole tumour, core" in view.caption
    # In the order of the caption, each region with all that it shares with the other; one model has no core.
    assert [[int(mask.sum()) for mask in view.panels[number].masks] for number in (1, 2)] == [[24, 0], [24, 12]]


def test_a_video_without_known_sides_says_so_and_names_none(image, write_prediction):
    known = make_result("a")["scan"] | {"is_orientation_known": False}
    (view,) = load_model_views([write_prediction("a", box(2, 4), scan=known)], {})
    shown = build_scan_view("child", image, [view])
    assert "orientation as the config assumes" in shown.caption
    assert not shown.are_sides_known


@pytest.mark.parametrize(
    ("outlined", "depth", "slices"),
    [
        ((10, 40), 64, [10, 14, 19, 23, 27, 31, 36, 40]),
        ((1, 4), 20, [0, 1, 2, 3, 4, 5, 6, 7]),
        ((18, 19), 20, [12, 13, 14, 15, 16, 17, 18, 19]),
        ((3, 4), 5, [0, 1, 2, 3, 4]),
        (None, 64, [6, 13, 21, 28, 35, 42, 50, 57]),
    ],
)
def test_the_overview_shows_what_is_outlined_or_all_of_the_scan(outlined, depth, slices):
    marked = np.zeros((1, depth, 2, 2), np.uint8)
    if outlined:
        marked[:, outlined[0] : outlined[1] + 1] = 1
    assert overview_slices(marked, 8) == slices


# Words.


def test_the_verdict_has_class_and_volumes(views):
    assert verdict(views[0]) == "dipg (80 %), 0.1 ml of whole tumour"


def test_raised_checks_become_warnings(write_prediction):
    checks = [make_check("clipped", True), make_check("empty", False), make_check("intensity", None)]
    (view,) = load_model_views([write_prediction("a", box(2, 4), checks=checks)], {})
    assert warnings(view) == ["an outline is cut off at an edge"]


def test_checks_stand_once_for_all_models_that_they_hold_for_and_raised_ones_first(write_prediction):
    first = [make_check("orientation", False), make_check("clipped", True, "at the feet")]
    second = [make_check("orientation", False), make_check("clipped", False, "at no edge")]
    folders = [write_prediction(name, box(2, 4), checks=checks) for name, checks in (("a", first), ("b", second))]
    rows = check_rows(load_model_views(folders, {}))
    found = [(row["title"], row["state"], [model.name for model in row["models"]]) for row in rows]
    assert found == [
        ("Clipped outline", "flagged", ["a"]),
        ("Orientation", "passed", ["a", "b"]),
        ("Clipped outline", "passed", ["b"]),
    ]


def test_models_are_compared_by_dice(views):
    # Two slices each, of which one is shared.
    assert overlap_rows(views) == [("centralized", "fedavg", "whole_tumour", 0.5)]


def test_equal_regions_are_equal_whatever_other_regions_lie_within_them(write_prediction):
    folders = [
        write_prediction("one", {"whole_tumour": box(1, 5)}),
        write_prediction("two", {"whole_tumour": box(1, 5), "core": box(2, 4)}),
    ]
    assert overlap_rows(load_model_views(folders, {})) == [("one", "two", "whole_tumour", 1.0)]


def test_two_empty_outlines_are_not_compared(write_prediction):
    folders = [write_prediction(name, box(0, 0)) for name in ("a", "b")]
    assert overlap_rows(load_model_views(folders, {})) == []


# Files.


@pytest.fixture
def scan_page(tmp_path, image, write_prediction) -> Path:
    """The page of a scan that two models have predicted."""
    checks = [make_check("clipped", True, "at the feet <here>")]
    folders = [
        write_prediction("centralized", box(2, 4), checks=checks),
        write_prediction("fedavg", box(3, 5), predicted_class=None, probabilities={}),
    ]
    pictures = [tmp_path / name for name in ("slices.mp4", "slices.jpg", "overview.jpg")]
    render_scan_files("child", tmp_path / "scan.nii.gz", folders, *pictures, {}, {}, 6, 96)
    assert len(list(iio.imiter(pictures[0]))) == SHAPE[0]
    write_scan_page_files("child", folders, *pictures, tmp_path / "scan.html", {})
    return tmp_path / "scan.html"


def test_the_page_holds_everything_it_shows(scan_page):
    page = scan_page.read_text()
    assert all(link.startswith(("data:", "#")) for link in re.findall(r"(?:src|href|poster)=\"([^\"]+)", page))
    for text in ("Not a medical device", "0.1 ml of whole tumour", "At the feet &lt;here&gt;", "5" * 64, "north 1.000"):
        assert text in page
    assert "Dice coefficient of 0.500" in page


def test_an_imported_model_is_said_to_be_one(tmp_path, image, write_prediction):
    model = make_result("theirs")["model"] | {"origin": "imported from ckpt.pth, SHA-256 66; how is not known"}
    folders = [write_prediction("theirs", box(2, 4), model=model)]
    pictures = [tmp_path / name for name in ("slices.mp4", "slices.jpg", "overview.jpg")]
    render_scan_files("child", tmp_path / "scan.nii.gz", folders, *pictures, {}, {}, 6, 96)
    write_scan_page_files("child", folders, *pictures, tmp_path / "scan.html", {})
    page = (tmp_path / "scan.html").read_text()
    assert "Imported from ckpt.pth, SHA-256 66; how is not known." in page
    assert "Trained as" not in page
    assert "Started from" not in page


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_slider_goes_through_the_slices_and_nothing_bars_anybody(tab, scan_page, scheme):
    tab.show(scheme=scheme)
    tab.open(scan_page)
    assert tab.evaluate("document.querySelector('.slice').textContent") == f"{SHAPE[0]} slices"
    tab.evaluate("document.querySelector('.slice input').focus()")
    tab.press("End")
    assert tab.evaluate("document.querySelector('.slice').textContent") == f"Slice {SHAPE[0]} of {SHAPE[0]}"
    assert tab.barriers == []
    assert tab.complaints == []
