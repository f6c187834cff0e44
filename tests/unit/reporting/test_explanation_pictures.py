import numpy as np
import pytest
from fedpedbrain.base.files import read_table, write_table
from fedpedbrain.evaluation.case_choice import CHOICE_COLUMNS
from fedpedbrain.evaluation.scores import SCORE_COLUMNS
from fedpedbrain.reporting.pictures.explanation_pictures import overlay_map, plot_explanations_files
from PIL import Image


@pytest.fixture
def plot(shard, tmp_path):
    """``plot(regions, num_saliencies)`` draws case c3 of the shard for two arms; returns the folder of the picture."""

    def _plot(regions=("whole",), num_saliencies=1):
        chosen = ("c3", "glioma", "test", "best", 2, 2, 2)
        write_table(tmp_path / "cases.tsv", CHOICE_COLUMNS, [dict(zip(CHOICE_COLUMNS, chosen, strict=True))])
        values = {"dice": 0.7, "true_volume_ml": 5.0, "predicted_volume_ml": 4.0}
        targets = [(region, metric, value) for region in regions for metric, value in values.items()]
        targets += [("glioma", "probability", 0.8)] * num_saliencies
        rows = [("one", "0", "c3", "c3", "a", "test", "glioma", *target, "") for target in targets]
        write_table(
            tmp_path / "scores.tsv", SCORE_COLUMNS, [dict(zip(SCORE_COLUMNS, row, strict=True)) for row in rows]
        )
        ramp = np.linspace(0.0, 1.0, 256, dtype=np.float16).reshape(16, 16)
        arrays = {"regions_0": 0.5 * np.stack([ramp] * len(regions)) if regions else np.zeros((0, 16, 16))}
        arrays["saliency_0"] = np.stack([ramp] * num_saliencies) if num_saliencies else np.zeros((0, 16, 16))
        arrays["saliency_cells"] = np.array([3, 2, 2] if num_saliencies else [], dtype=np.int64)
        np.savez(tmp_path / "a.npz", cases=["c3"], predicted_classes=["glioma" if num_saliencies else ""], **arrays)
        paths = ([tmp_path / "a.npz"] * 2, [tmp_path / "scores.tsv"] * 2)
        folder = tmp_path / f"pictures-{len(regions)}-{num_saliencies}"
        plot_explanations_files(tmp_path / "cases.tsv", [shard], *paths, folder, ["one", "fedavg"], regions, 40, "grid")
        return folder

    return _plot


def test_a_picture_says_in_words_what_it_shows(plot):
    (row,) = read_table(plot() / "explanations.tsv")
    assert (row["case"], row["file"]) == ("c3", "c3.jpg")
    seen = "probability of whole up to 0.50, evidence for glioma"
    assert row["saliency_cells"] == "3 x 2 x 2"
    assert row["text"] == f"Case c3, slice 3 of 6. one: {seen}. FedAvg: {seen}"


def test_a_picture_has_a_column_for_each_overlay(plot):
    widths = {}
    for regions, num_saliencies in ((("whole",), 0), ((), 1), (("whole", "core"), 1)):
        with Image.open(plot(regions, num_saliencies) / "c3.jpg") as picture:
            widths[len(regions), num_saliencies] = picture.size[0]
            colours = np.asarray(picture, dtype=int)
        # Neither grey nor white: an overlay.
        assert np.ptp(colours, axis=2).max() > 80
    assert widths[1, 0] == widths[0, 1] < widths[2, 1]


def test_an_overlay_leaves_the_image_free_where_nothing_is():
    opacity = overlay_map("viridis")([0.0, 0.15, 0.5, 1.0])[:, 3]
    assert opacity.tolist() == pytest.approx([0.0, 0.375, 0.75, 0.75], abs=0.01)
