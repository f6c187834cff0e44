from dataclasses import replace

import numpy as np
import pytest
from fedpedbrain.reporting.pages import pages
from fedpedbrain.reporting.pictures import quality_pictures
from fedpedbrain.reporting.pictures.quality_pictures import (
    cut_planes,
    describe_case,
    draw_planes,
    largest_slices,
    plane_sizes,
    plot_quality_files,
    spread_rows,
)
from PIL import Image

SHAPE = (4, 8, 8)


def test_few_cases_are_all_shown_and_many_evenly_from_first_to_last():
    assert spread_rows(3, 24) == [0, 1, 2]
    assert spread_rows(9, 3) == [0, 4, 8]
    assert spread_rows(1, 24) == [0]


def test_planes_go_through_the_largest_outline_of_all_regions():
    masks = np.zeros((2, *SHAPE), np.uint8)
    masks[0, 1, 2:5, 6] = 1
    masks[1, 3, 2, 1:6] = 1
    assert largest_slices(masks) == (3, 2, 6)


@pytest.mark.parametrize("num_regions", [0, 2])
def test_planes_go_through_the_middle_where_nothing_is_outlined(num_regions):
    assert largest_slices(np.zeros((num_regions, *SHAPE), np.uint8)) == (2, 4, 4)


def test_the_front_and_the_head_are_up():
    volume = np.zeros(SHAPE, np.uint8)
    # Top of the head, front, patient's left.
    volume[3, 0, 7] = 255
    axial, coronal, sagittal = cut_planes(volume, (3, 0, 7))
    assert axial[0, 7] == coronal[0, 7] == sagittal[0, 0] == 255
    assert (axial.shape, coronal.shape, sagittal.shape) == ((8, 8), (4, 8), (4, 8))


def test_all_planes_have_one_scale_in_mm():
    # 100 mm from feet to head, 200 mm from front to back, 160 mm from side to side.
    assert plane_sizes((10, 40, 80), (10.0, 5.0, 2.0), 128) == [(128, 102), (64, 102), (64, 128)]


def test_what_is_outlined_is_drawn_and_nothing_else():
    image = np.full(SHAPE, 100, np.uint8)
    masks = np.zeros((1, *SHAPE), np.uint8)
    plain = np.asarray(draw_planes(image, masks, (2.0, 1.0, 1.0), True))
    assert (plain[..., 0] == plain[..., 2]).mean() > 0.99
    masks[0, 1:3, 2:6, 2:6] = 1
    outlined = np.asarray(draw_planes(image, masks, (2.0, 1.0, 1.0), True)).astype(int)
    orange = outlined[..., 0] - outlined[..., 2] > 100
    # In each of the three planes.
    assert all(part.any() for part in np.array_split(orange, 3, axis=1))


def test_right_is_named_only_where_somebody_knows_it():
    image, masks = np.zeros(SHAPE, np.uint8), np.zeros((1, *SHAPE), np.uint8)
    known, unknown = (np.asarray(draw_planes(image, masks, (2.0, 1.0, 1.0), known)) for known in (True, False))
    assert set(np.unique(unknown)) == {0, 255}
    letter = np.argwhere((known != unknown).any(axis=2))
    # At the left edge, halfway up.
    assert letter[:, 1].max() < 16
    assert abs(letter[:, 0].mean() - 64) < 8


@pytest.mark.parametrize(
    ("orientations", "words"),
    [
        (("axial LPS", "axial LPS"), "R is the patient's right."),
        (("axial LPS", ""), "Where no R stands, nobody knows which side is right."),
    ],
)
def test_the_heading_says_where_right_is_known(tmp_path, monkeypatch, make_case, write_shard, orientations, words):
    written = []
    monkeypatch.setattr(quality_pictures, "write_line", lambda draw, place, text, *args, **kwargs: written.append(text))
    cases = [replace(make_case(name), orientation=word) for name, word in zip("ab", orientations, strict=True)]
    plot_quality_files(write_shard(tmp_path / "north", cases), tmp_path / "north.png", "north", [])
    assert written[1].endswith(words)


def test_the_words_name_the_case_and_both_spacings(make_case):
    case = replace(make_case("sub-01", class_name="pilocytic_astrocytoma"), spacing_mm=(4.0, 0.859375, 0.859375))
    name, spacings = describe_case(case)
    assert name.split("  ·  ") == ["sub-01", "pilocytic astrocytoma", "train"]
    assert spacings == "Scan 4 x 0.859 x 0.859 mm, grid 5 x 10 x 10 mm"


@pytest.mark.parametrize("num_cases", [1, 30])
@pytest.mark.parametrize("regions", [[], ["whole_tumour"], ["whole_tumour", "core"]])
def test_a_site_of_any_size_and_any_regions_has_a_picture(tmp_path, make_case, write_shard, num_cases, regions):
    cases = [make_case(f"sub-{number:02d}", class_name="") for number in range(num_cases)]
    masks = np.zeros((num_cases, len(regions), *SHAPE), np.uint8)
    masks[:, :, 1:3, 2:6, 2:6] = 1
    shard = write_shard(tmp_path / "north", cases, masks=masks)
    paths = [tmp_path / "first.png", tmp_path / "second.png"]
    for path in paths:
        plot_quality_files(shard, path, "north", regions)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    width, height = Image.open(paths[0]).size
    # 24 cases at most, three a row.
    assert height < 1600
    assert width < 1300


def test_a_picture_too_large_for_the_report_keeps_no_later_one_out(tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "_MOST_PICTURE_BYTES", 100)
    for name, size in (("north", 60), ("south", 80), ("west", 40)):
        (tmp_path / f"{name}.png").write_bytes(bytes(size))
    entries = pages.load_pictures([tmp_path / f"{name}.png" for name in ("north", "south", "west")])
    assert [(entry["site"], bool(entry["uri"])) for entry in entries] == [
        ("north", True),
        ("south", False),
        ("west", True),
    ]


def test_cases_of_their_own_size_have_a_picture(tmp_path, make_case, write_shard):
    sizes = [(2, 9, 5), (4, 8, 8), (1, 3, 12)]
    images = [np.random.default_rng(0).normal(size=(2, *size)).astype(np.float16) for size in sizes]
    masks = [(image[:1] > 1.0).astype(np.uint8) for image in images]
    shard = write_shard(tmp_path / "north", [make_case(name) for name in "abc"], images, masks)
    plot_quality_files(shard, tmp_path / "north.png", "north", ["whole_tumour"])
    assert len(Image.open(tmp_path / "north.png").convert("L").getcolors()) > 50
