import imageio_ffmpeg
import numpy as np
import pytest
from fedpedbrain.base.cases import read_cases
from fedpedbrain.base.errors import StudyError
from fedpedbrain.base.files import read_table, write_table
from fedpedbrain.evaluation.case_choice import ChosenCase, choose_cases_files
from fedpedbrain.reporting.pictures.frames import CaseView, FramePainter, Panel, draw_region, line_distance
from fedpedbrain.reporting.pictures.video import VideoStyle, render_videos_files, write_video
from fedpedbrain.reporting.words.case_words import CaseScores, describe_choice
from PIL import Image
from predicted_masks import write_masks

SCORE_COLUMNS = ("arm", "seed", "case", "patient", "site", "split", "class", "target", "metric", "value")


def score_rows(case, class_name, dice, split="test", true_ml=5.0, predicted_ml=4.0):
    common = {
        "arm": "one",
        "seed": "0",
        "case": case,
        "patient": case,
        "site": "a",
        "split": split,
        "class": class_name,
    }
    metrics = {"dice": dice, "true_volume_ml": true_ml, "predicted_volume_ml": predicted_ml}
    rows = [{**common, "target": "whole", "metric": name, "value": str(value)} for name, value in metrics.items()]
    right = 0.6 if class_name == "glioma" else 0.4
    for target, value in (("normal", 1 - right), ("glioma", right)):
        rows.append({**common, "target": target, "metric": "probability", "value": str(value)})
    return rows


def test_the_outline_runs_between_the_voxels():
    mask = np.zeros((8, 8), dtype=np.uint8)
    mask[:, 4:] = 1
    distance = line_distance(mask, (80, 80))
    # Voxel 4 starts at pixel 40 of 80: the line is between pixels 39 and 40.
    assert -1.0 < distance[40, 39] < 0.0 < distance[40, 40] < 1.0
    assert distance[40, 20] < -5.0
    assert distance[40, 60] > 5.0


def test_a_part_of_the_distances_is_that_of_all():
    mask = np.zeros((8, 8), dtype=np.uint8)
    mask[3:5, 2:6] = 1
    box = (slice(20, 60), slice(10, 70))
    # But for the edge, where a gradient has one side alone.
    assert np.allclose(line_distance(mask, (80, 80), box)[1:-1, 1:-1], line_distance(mask, (80, 80))[21:59, 11:69])


def test_a_region_is_outlined_in_its_colour_and_lightly_filled():
    mask = np.zeros((8, 8), dtype=np.uint8)
    mask[2:6, 2:6] = 1
    picture = np.full((80, 80, 3), 100, dtype=np.uint8)
    draw_region(picture, mask, np.array([200.0, 0.0, 0.0], dtype=np.float32), 2.0, 0.2)
    # The line is between pixels 19 and 20; inside a fifth of the way from the grey to the colour.
    assert picture[40, 20].tolist() == pytest.approx([200, 0, 0], abs=2)
    assert picture[40, 40].tolist() == [120, 80, 80]
    assert (picture[:12] == 100).all()
    assert (picture[:, 68:] == 100).all()


@pytest.fixture
def rendered(shard, tmp_path):
    masks = np.zeros((3, 1, 6, 16, 16), dtype=np.uint8)
    masks[:, 0, 2, 5:9, 5:9] = 1
    write_masks(tmp_path / "masks.npy", masks)
    rows = [*score_rows("c1", "glioma", 0.5), *score_rows("c3", "glioma", 0.7)]
    write_table(tmp_path / "scores.tsv", SCORE_COLUMNS, [*rows, *score_rows("c4", "normal", 0.0, true_ml=0.0)])

    def render(**changes):
        settings = {"colours": {"one": "#0072B2"}, "regions": ["whole"], "classes": ["normal", "glioma"]}
        style = VideoStyle(**(settings | {"frames_per_second": 5, "panel_pixels": 97, "geometry": "grid"} | changes))
        paths = [tmp_path / "masks.npy"], [tmp_path / "scores.tsv"]
        choice = tmp_path / "cases.tsv"
        choose_cases_files(paths[1][0], [shard], choice, style.classes, 2, "grid")
        render_videos_files(choice, [shard], *paths, tmp_path / "videos", style)
        return tmp_path / "videos"

    return render


def test_a_video_has_a_frame_a_slice_and_plays_in_browsers(rendered):
    folder = rendered()
    path = folder / "c4.mp4"
    num_frames, seconds = imageio_ffmpeg.count_frames_and_secs(str(path))
    facts = next(imageio_ffmpeg.read_frames(str(path)))
    assert num_frames == 6
    assert seconds == pytest.approx(6 / 5, abs=0.05)
    assert facts["codec"] == "h264"
    assert facts["pix_fmt"].startswith("yuv420p")
    assert all(size % 2 == 0 for size in facts["source_size"])
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat"), "the index goes before the frames"


def test_panels_have_the_proportions_of_the_patient(rendered):
    # A slice of 30 mm by 20 mm, three panels, gaps of 6 pixels.
    with Image.open(rendered(panel_pixels=120) / "c4.jpg") as poster:
        assert poster.size[0] == 3 * (80 + 6) + 6


def test_the_list_says_why_a_case_was_chosen_and_what_was_predicted(rendered):
    rows = read_table(rendered() / "videos.tsv")
    assert {(row["num_slices"], row["frames_per_second"], row["are_sides_known"]) for row in rows} == {("6", "5", "0")}
    # The largest outline, counted from 1.
    assert "3" in {row["poster_slice"] for row in rows}
    assert [row["case"] for row in rows] == ["c4", "c3"]
    assert rows[1]["reason"] == "Best of the 2 test cases of class glioma under one"
    assert rows[1]["results"] == "true: 5.0 ml; one: Dice 0.700, 4.0 ml, glioma 60 % (correct), normal 40 %"
    assert rows[0]["results"] == ("true: none; one: 4.0 ml outlined, none is there, normal 60 % (correct), glioma 40 %")


@pytest.mark.parametrize(
    ("chosen", "has_classes", "reason"),
    [
        (("dipg", "test", "worst", 1, 9), True, "Worst of the 9 test cases of class dipg under FedAvg"),
        (("", "external", "median", 2, 3), True, "Median of the 3 external cases without a diagnosis under FedAvg"),
        (("", "test", "between", 2, 9), False, "Rank 2 of the 9 test cases from worst to best under FedAvg"),
        (("dipg", "test", "only", 1, 1), True, "The only test case of class dipg"),
    ],
)
def test_the_reason_says_which_of_how_many_a_case_is(chosen, has_classes, reason):
    assert describe_choice(ChosenCase("c1", *chosen), "fedavg", has_classes) == reason


def test_the_three_most_probable_classes_are_named(shard):
    case = read_cases(shard.cases)[0]
    common = {"seed": "0", "case": "c1", "metric": "probability"}
    chances = {"normal": 0.004, "glioma": 0.2, "dipg": 0.7, "ependymoma": 0.056, "other": 0.04}
    scores = CaseScores([common | {"target": name, "value": str(value)} for name, value in chances.items()])
    assert scores.lines(case, []) == ("dipg 70 % (wrong)", "glioma 20 %", "ependymoma 6 %")


def test_equal_input_gives_equal_videos(rendered):
    first, again = ((rendered() / "c4.mp4").read_bytes() for _ in range(2))
    assert first == again


def test_no_slice_is_more_than_seven_from_one_that_can_be_jumped_to(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (17, 16, 16), dtype=np.uint8)
    view = CaseView(image, np.zeros((0, *image.shape), np.uint8), [Panel("Image")], "", 1.0)
    write_video(FramePainter(view, 64), tmp_path / "a.mp4", 5)
    # The atom that lists the key frames: eight bytes of version and number, then four bytes a frame.
    content = (tmp_path / "a.mp4").read_bytes()
    start = content.index(b"stss") + 4
    number = int.from_bytes(content[start + 4 : start + 8], "big")
    frames = [int.from_bytes(content[start + 8 + 4 * k : start + 12 + 4 * k], "big") for k in range(number)]
    assert frames[0] == 1
    assert max(np.diff([*frames, 18])) <= 8


def test_a_study_without_regions_has_videos_too(rendered, tmp_path):
    rows = [row for row in read_table(tmp_path / "scores.tsv") if row["metric"] == "probability"]
    write_table(tmp_path / "scores.tsv", SCORE_COLUMNS, rows)
    write_masks(tmp_path / "masks.npy", np.zeros((3, 0, 6, 16, 16), dtype=np.uint8))
    assert len(read_table(rendered(regions=[]) / "videos.tsv")) == 2


def test_masks_of_other_cases_are_refused(rendered, tmp_path):
    write_masks(tmp_path / "masks.npy", np.zeros((2, 1, 6, 16, 16), dtype=np.uint8))
    with pytest.raises(StudyError, match=r"masks\.npy: expected 576 numbers of 3 arrays, found 384; delete it and run"):
        rendered()


def test_sides_are_named_where_they_are_known_even_on_a_single_slice():
    image = np.zeros((1, 16, 16), np.uint8)
    views = [
        CaseView(image, image[None][:0], [Panel("Image")], "", 1.0, are_sides_known=known) for known in (True, False)
    ]
    named, silent = (FramePainter(view, 97).paint(0).astype(int) for view in views)
    changed = np.flatnonzero((named != silent).any(axis=(0, 2)))
    # A letter at each side, and nothing in between.
    assert changed.size
    assert np.diff(changed).max() > 60
    assert not (silent > named).any()
