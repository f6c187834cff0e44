import imageio_ffmpeg
import numpy as np
import pytest
from fedpedbrain.errors import StudyError
from fedpedbrain.files import read_table, write_table
from fedpedbrain.reporting.frames import CaseView, FramePainter, Panel, line_distance
from fedpedbrain.reporting.video import choose_cases, poster_slice, render_videos_files
from PIL import Image

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


def names_of(scores, classes, num_cases):
    return [chosen.case for chosen in choose_cases(scores, classes, num_cases, "one")]


def test_chosen_cases_are_the_medians_of_the_classes_in_turn():
    scores = [
        row
        for case, kind, dice in [("a", "p", 0.1), ("b", "p", 0.5), ("c", "p", 0.9), ("d", "q", 0.3)]
        for row in score_rows(case, kind, dice)
    ]
    assert names_of(scores, ["p", "q"], 2) == ["b", "d"]


def test_after_the_medians_come_their_neighbours():
    scores = [row for case, dice in [("a", 0.1), ("b", 0.5), ("c", 0.9)] for row in score_rows(case, "p", dice)]
    assert names_of(scores, ["p", "absent"], 9) == ["b", "a", "c"]


def test_external_cases_are_not_chosen_while_there_are_test_cases():
    scores = [*score_rows("a", "p", 0.1), *score_rows("b", "p", 0.2, split="external")]
    assert names_of(scores, ["p"], 5) == ["a"]


def test_without_classes_cases_go_from_the_worst_to_the_best():
    scores = [row for number in range(5) for row in score_rows(f"c{number}", "", 0.2 * number)]
    assert names_of(scores, [], 3) == ["c0", "c2", "c4"]
    assert names_of(scores, [], 1) == ["c2"]
    assert names_of(scores, [], 9) == ["c0", "c1", "c2", "c3", "c4"]


def test_the_outline_runs_between_the_voxels():
    mask = np.zeros((8, 8), dtype=np.uint8)
    mask[:, 4:] = 1
    distance = line_distance(mask, (80, 80))
    # Voxel 4 starts at pixel 40 of 80: the line is between pixels 39 and 40.
    assert distance[40, 39] < 1.0
    assert distance[40, 40] < 1.0
    assert distance[40, [20, 60]].min() > 5.0


def test_the_poster_shows_the_largest_outline_or_the_middle():
    masks = np.zeros((1, 6, 4, 4), dtype=np.uint8)
    assert poster_slice(masks) == 3
    masks[0, 1, :2], masks[0, 4] = 1, 1
    assert poster_slice(masks) == 4


@pytest.fixture
def rendered(shard, tmp_path):
    masks = np.zeros((3, 1, 6, 16, 16), dtype=np.uint8)
    masks[:, 0, 2, 5:9, 5:9] = 1
    np.save(tmp_path / "masks.npy", masks)
    rows = [*score_rows("c1", "glioma", 0.5), *score_rows("c3", "glioma", 0.7)]
    write_table(tmp_path / "scores.tsv", SCORE_COLUMNS, [*rows, *score_rows("c4", "normal", 0.0, true_ml=0.0)])

    def render(**changes):
        settings = {
            "arms": ["one"],
            "study_arms": ["one", "two"],
            "regions": ["whole"],
            "classes": ["normal", "glioma"],
        }
        settings |= {"configured_colours": {}, "num_cases": 2, "frames_per_second": 5, "panel_pixels": 97}
        settings |= {"masks_paths": [tmp_path / "masks.npy"], "scores_paths": [tmp_path / "scores.tsv"], **changes}
        render_videos_files(shard_folders=[shard], videos_folder=tmp_path / "videos", **settings)
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
    assert [row["case"] for row in rows] == ["c4", "c1"]
    assert rows[1]["reason"] == "Median of the 2 test cases of class glioma under one"
    assert rows[1]["results"] == "one: Dice 0.500, glioma 60 % (correct)"
    assert rows[0]["results"] == "one: 4.0 ml outlined, none is there, normal 60 % (correct)"


def test_a_study_without_regions_has_videos_too(rendered, tmp_path):
    rows = [row for row in read_table(tmp_path / "scores.tsv") if row["metric"] == "probability"]
    write_table(tmp_path / "scores.tsv", SCORE_COLUMNS, rows)
    np.save(tmp_path / "masks.npy", np.zeros((3, 0, 6, 16, 16), dtype=np.uint8))
    assert len(read_table(rendered(regions=[]) / "videos.tsv")) == 2


def test_masks_of_other_cases_are_refused(rendered, tmp_path):
    np.save(tmp_path / "masks.npy", np.zeros((2, 1, 6, 16, 16), dtype=np.uint8))
    with pytest.raises(StudyError, match="expected a mask for each of the 3 held-out cases, found 2"):
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
