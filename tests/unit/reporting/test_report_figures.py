import math

import numpy as np
import pandas as pd
import pytest
from fedpedbrain.evaluation.tables import read_results
from fedpedbrain.reporting.figures.agreement_figures import draw_reliability, draw_volumes, held_out_volumes
from fedpedbrain.reporting.figures.comparison_figures import comparison_groups, draw_classes, draw_comparison
from fedpedbrain.reporting.figures.convergence_figure import draw_convergence
from fedpedbrain.reporting.figures.count_figures import draw_cohort, draw_confusion
from fedpedbrain.reporting.figures.site_figures import draw_cross_sites
from fedpedbrain.reporting.figures.style import FAINT, arm_styles
from fedpedbrain.reporting.figures.update_figures import draw_updates
from fedpedbrain.reporting.tables.site_updates import Update
from matplotlib.colors import to_rgba
from PIL import Image


def texts_of(figure) -> list[str]:
    texts = [text.get_text() for text in figure.texts]
    for axes in figure.axes:
        labels = [*axes.get_xticklabels(), *axes.get_yticklabels(), *axes.texts, axes.title, axes._left_title]
        texts += [label.get_text() for label in labels]
    return texts


def read_summary(synthetic) -> pd.DataFrame:
    return read_results(synthetic.tables["summary"])


def draw_comparison_of(synthetic):
    styles = arm_styles(synthetic.arms, {}, synthetic.local_sites)
    return draw_comparison(read_summary(synthetic), styles, synthetic.local_sites, "tumour")


def test_equal_input_gives_equal_bytes(write_study):
    synthetic = write_study()
    synthetic.draw_figures()
    first = [path.read_bytes() for path in synthetic.inputs.figures]
    synthetic.draw_figures()
    assert [path.read_bytes() for path in synthetic.inputs.figures] == first


@pytest.mark.parametrize(
    "differing",
    [{"classes": ()}, {"regions": ()}, {"external": (), "seeds": (0, 1)}, {"regions": ("one", "two")}],
    ids=str,
)
def test_every_kind_of_study_has_its_figures(write_study, differing):
    synthetic = write_study(**differing)
    synthetic.draw_figures()
    for path in synthetic.inputs.figures:
        with Image.open(path) as picture:
            assert min(picture.size) > 20


def test_a_panel_stands_for_each_region_and_the_diagnosis(write_study):
    assert len(draw_comparison_of(write_study(regions=("one", "two"))).axes) == 3
    assert len(draw_comparison_of(write_study(classes=())).axes) == 1


def test_external_sites_are_labelled_so(write_study):
    texts = texts_of(draw_comparison_of(write_study()))
    assert "x\nexternal, never trained on\nn = 12" in texts
    assert "All test patients\nn = 12" in texts


def test_a_site_of_too_few_patients_is_said_to_have_no_interval(write_study):
    figure = draw_comparison_of(write_study())
    texts = texts_of(figure)
    assert "a\nn = 12, too few patients" in texts
    assert "b\nn = 12" in texts
    assert figure.axes[0].get_xlabel().endswith("(none for fewer than 6 patients)")


def test_arms_and_sites_that_pandas_takes_for_nothing_are_drawn(write_study):
    names = ("NA", "null")
    first, second, *others = write_study().study["arms"]
    arms = (first | {"name": names[0]}, second | {"name": names[1]}, *others)
    synthetic = write_study(arms=arms, external=names, regions=names)
    synthetic.draw_figures()
    history = pd.concat(map(read_results, synthetic.inputs.histories))
    assert set(history["arm"]) == set(synthetic.arms) >= set(names)
    texts = texts_of(draw_comparison_of(synthetic))
    assert all(f"{name}\nexternal, never trained on\nn = 12" in texts for name in names)


def test_a_site_shows_its_own_local_arm_only(write_study):
    synthetic = write_study()
    groups = comparison_groups(read_summary(synthetic), synthetic.local_sites)
    assert groups["a", "test"] == ["pooled-arm", "local-a", "fedavg"]
    assert groups["x", "external"] == synthetic.arms


def test_the_selected_round_is_marked_at_its_score(write_study):
    synthetic = write_study(classes=())
    history = pd.concat(map(read_results, synthetic.inputs.histories))
    (axes,) = draw_convergence(history, arm_styles(synthetic.arms, {}, {}), [], "tumour").axes
    marks = [line.get_xydata().tolist() for line in axes.lines if line.get_marker() == "o"]
    assert marks[0] == [[3.0, pytest.approx(0.6)]]


@pytest.mark.parametrize("num_arms", [1, 9], ids=["one panel", "a panel an arm"])
def test_a_curve_goes_over_rounds_that_were_not_validated(num_arms):
    arms = [f"arm-{number}" for number in range(num_arms)]
    rounds = {"seed": 0, "round": [1, 2, 3, 4], "dice": [0.2, None, 0.4, None], "accuracy": None, "selected": 0}
    history = pd.concat(pd.DataFrame({"arm": arm, **rounds, "uploaded_bytes": 10**6}) for arm in arms)
    figure = draw_convergence(history, arm_styles(arms, {}, {}), [], "tumour")
    curves = [line.get_xydata().tolist() for line in figure.axes[0].lines if line.get_marker() != "o"]
    assert len(curves) == (1 if num_arms == 1 else num_arms + 1)
    assert all(curve == [[1.0, 0.2], [3.0, 0.4]] for curve in curves)


def test_a_history_without_scores_says_so():
    history = pd.DataFrame(
        {"arm": ["one"], "seed": [0], "round": [1], "dice": [None], "accuracy": [None], "selected": [1]}
    )
    figure = draw_convergence(history, arm_styles(["one"], {}, {}), [], "tumour")
    assert any("no curve" in text for text in texts_of(figure))


def test_a_confusion_matrix_shows_counts_and_their_part_of_the_true_class():
    columns = ["arm", "split", "true_class", "predicted_class", "num_cases"]
    rows = [
        ("one", "test", "p", "p", 3),
        ("one", "test", "p", "q", 1),
        ("one", "test", "q", "p", 0),
        ("one", "test", "q", "q", 0),
    ]
    figure = draw_confusion(pd.DataFrame(rows, columns=columns), "Blues", ["one", "absent"])
    parts = figure.axes[0].images[0].get_array()
    assert parts[0].tolist() == [0.75, 0.25]
    assert parts.mask[1].all(), "a class without cases has no colour"
    assert [text.get_text() for text in figure.axes[0].texts] == ["3", "1"]


def test_a_study_without_classes_has_a_figure_that_says_so():
    empty = pd.DataFrame(columns=["arm", "split", "true_class", "predicted_class", "num_cases"])
    assert any("no diagnosis to confuse" in text for text in texts_of(draw_confusion(empty, "Blues", ["one"])))


def test_a_study_of_local_arms_shows_their_matrices():
    columns = ["arm", "split", "true_class", "predicted_class", "num_cases"]
    rows = [(name, "test", true, "p", 1) for name in ("local-a", "local-b") for true in "pq"]
    rows += [(name, "test", true, "q", 1) for name in ("local-a", "local-b") for true in "pq"]
    texts = texts_of(draw_confusion(pd.DataFrame(rows, columns=columns), "Blues", []))
    assert {"local-a", "local-b"} <= set(texts)


def test_the_cohort_of_a_study_without_classes_shows_splits_alone():
    site = {"site": "a", "role": "training", "classes": {"unknown": 4}, "splits": {"train": 3, "test": 1}}
    assert len(draw_cohort([site]).axes) == 1


def test_scores_stand_over_the_bytes_that_all_sites_have_sent(write_study):
    synthetic = write_study(classes=())
    history = pd.concat(map(read_results, synthetic.inputs.histories))
    by_round, by_bytes = draw_convergence(history, arm_styles(synthetic.arms, {}, {}), ["fedavg"], "tumour").axes
    curves = [line for line in by_bytes.lines if line.get_marker() != "o"]
    # Two updates of 1.5 MB in rounds 1 and 3, one in round 2.
    assert [curve.get_xdata().tolist() for curve in curves] == [[3.0, 4.5, 7.5]]
    assert by_bytes.get_ylim() == by_round.get_ylim()


def test_the_heat_map_frames_the_sites_that_an_arm_learnt_from(write_study):
    synthetic = write_study(classes=())
    figure = draw_cross_sites(read_results(synthetic.tables["cross_sites"]), synthetic.arms, "tumour")
    axes = figure.axes[0]
    values = axes.images[0].get_array()
    # Rows are the arms in their order, columns a, b and the external site.
    assert values[1].tolist() == pytest.approx([0.701, 0.751, 0.701])
    frames = {(patch.get_y() + 0.4, patch.get_x() + 0.43) for patch in axes.patches}
    assert frames == {(0, 0), (0, 1), (1, 0), (2, 1), (3, 0), (3, 1)}
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b", "x\n(external)"]


def test_reliability_shows_what_was_right_at_which_probability(write_study):
    synthetic = write_study()
    styles = arm_styles(synthetic.arms, {}, {})
    figure = draw_reliability(read_results(synthetic.tables["reliability"]), styles)
    assert len(figure.axes) == len(synthetic.arms)
    # A bin without predictions has no point.
    assert figure.axes[0].collections[0].get_offsets().tolist() == [[0.9, 0.75]]


def test_volumes_have_their_mean_difference_and_limits_from_test_cases_alone(write_study):
    synthetic = write_study(seeds=(0, 1))
    volumes = held_out_volumes(pd.concat(map(read_results, synthetic.scores)))
    styles = arm_styles(synthetic.arms, {}, {})
    axes = draw_volumes(volumes, {"fedavg": styles["fedavg"]}).axes[0]
    tested, external = (points.get_offsets().tolist() for points in axes.collections)
    assert (tested, external) == ([[9.5, -1.0], [21.5, 3.0]], [[32.5, 5.0]])
    # Differences -1 and 3: mean 1, standard deviation the root of 8.
    heights = sorted(line.get_ydata()[0] for line in axes.lines)
    assert heights == pytest.approx([1 - 1.96 * 8**0.5, 0.0, 1.0, 1 + 1.96 * 8**0.5])


def scores_of_classes(*rows: tuple) -> pd.DataFrame:
    """Rows of arm, class, metric, value, low and high, of 7 patients each."""
    table = pd.DataFrame(rows, columns=["arm", "target", "metric", "value", "low", "high"])
    return table.assign(scope="all test patients", split="test", num_cases=8, num_patients=7)


def test_every_class_has_its_scores_with_intervals():
    rows = [("one", "p", "recall", 0.8, 0.6, 0.9), ("two", "p", "recall", 0.7, 0.5, 0.8)]
    rows += [("one", "q", "recall", 0.4, 0.1, 0.6), ("one", "p", "auroc", 0.95, 0.9, 1.0)]
    rows += [("absent", "p", "recall", 0.0, 0.0, 0.1)]
    figure = draw_classes(scores_of_classes(*rows), arm_styles(["one", "two"], {}, {}), ["p", "q", "r"])
    precision, recall, _, auroc = figure.axes
    assert [axes.get_title() for axes in figure.axes] == ["Precision", "Recall", "F1", "AUROC"]
    drawn = [line.get_xdata().tolist() for line in recall.lines]
    assert drawn == [[0.6, 0.9], [0.8], [0.5, 0.8], [0.7], [0.1, 0.6], [0.4]]
    assert [line.get_xdata().tolist() for line in auroc.lines] == [[0.9, 1.0], [0.95]]
    assert [label.get_text() for label in precision.get_yticklabels()] == ["p\nn = 0", "q\nn = 0"]
    # The second class stands below both arms of the first.
    assert recall.lines[4].get_ydata()[0] > recall.lines[2].get_ydata()[0] > recall.lines[0].get_ydata()[0]


def test_a_study_without_classes_has_a_figure_of_classes_that_says_so(write_study):
    figure = draw_classes(read_summary(write_study(classes=())), arm_styles(["fedavg"], {}, {}), [])
    assert any("no diagnosis to score" in text for text in texts_of(figure))


def updates_of(*rows: tuple) -> list[Update]:
    """Rows of arm, seed, round, site, length and cosine; without a length the site sent nothing."""
    return [
        Update(arm, seed, number, site, norm is None, 0.5, norm or math.nan, cosine)
        for arm, seed, number, site, norm, cosine in rows
    ]


def test_updates_are_maps_of_length_and_cosine_by_site_and_round():
    updates = updates_of(
        *(("one", 0, 1, "a", 2.0, 0.5), ("one", 1, 1, "a", 4.0, 0.7), ("one", 0, 1, "b", 2.0, -0.5)),
        *(("one", 0, 2, "a", 1.0, math.nan), ("one", 0, 2, "b", None, math.nan), ("two", 0, 1, "a", 1.0, 0.1)),
    )
    maps = {axes.get_title(): axes for axes in draw_updates(updates, ["two", "one"]).axes[:4]}
    assert list(maps) == ["two: length", "two: direction", "one: length", "one: direction"]
    lengths, cosines = (maps[f"one: {word}"].images[0] for word in ("length", "direction"))
    # Means over seeds; a site that sent nothing and a cosine to nobody are left grey.
    assert lengths.get_array().filled(-9.0).tolist() == [[3.0, 1.0], [2.0, -9.0]]
    assert cosines.get_array().filled(-9.0).tolist() == [[0.6, -9.0], [-0.5, -9.0]]
    assert tuple(lengths.cmap(np.ma.masked)) == to_rgba(FAINT)
    # White at 0, and a grey that is no cosine's where there is none.
    assert min(cosines.cmap(cosines.norm(0.0))[:3]) > 0.95
    assert cosines.cmap(np.ma.masked)[:3] != pytest.approx(cosines.cmap(cosines.norm(0.0))[:3], abs=0.2)
    marks = {word: maps[f"one: {word}"].lines[0].get_xydata().tolist() for word in ("length", "direction")}
    assert marks == {"length": [], "direction": [[1.0, 1.0]]}


def test_an_update_that_is_much_longer_is_marked_where_lengths_are_shown():
    rows = [("one", 0, number, site, 1.0, 0.5) for number in (1, 2) for site in "abc"]
    rows[4] = ("one", 0, 2, "b", 9.0, 0.5)
    length, direction = draw_updates(updates_of(*rows), ["one"]).axes[:2]
    assert length.lines[0].get_xydata().tolist() == [[2.0, 1.0]]
    assert direction.lines[0].get_xydata().tolist() == []


def test_sixteen_sites_and_five_arms_have_a_map_each():
    rows = [(f"arm-{n}", 0, r, f"S{s:02d}", 1.0 + s, 0.3) for n in range(5) for r in (1, 2) for s in range(16)]
    figure = draw_updates(updates_of(*rows), [f"arm-{n}" for n in range(5)])
    assert [len(axes.get_yticks()) for axes in figure.axes[:10]] == [16] * 10
    # Room for a line of text a site.
    assert figure.get_figheight() / (5 * 16) > 7.5 / 72


def test_a_study_without_exchange_has_a_figure_of_updates_that_says_so():
    assert any("updates that can be compared" in text for text in texts_of(draw_updates([], ["one"])))


def test_parts_of_one_grey_differ_by_their_hatching():
    classes = dict.fromkeys(["a", "b", "c"], 4)
    site = {"site": "s", "role": "training", "classes": classes, "splits": {"train": 8, "test": 3, "external": 1}}
    by_class, by_split = draw_cohort([site]).axes
    hatches = [[bars.patches[0].get_hatch() or "" for bars in axes.containers] for axes in (by_class, by_split)]
    assert hatches == [["", "////", ""], ["", "", "////"]]


@pytest.mark.parametrize("finding", ["tumour", "lesion"])
def test_figures_name_the_finding_of_the_study(write_study, finding):
    synthetic = write_study()
    styles = arm_styles(synthetic.arms, {}, synthetic.local_sites)
    history = pd.concat(map(read_results, synthetic.inputs.histories))
    figures = (
        draw_convergence(history, styles, ["fedavg"], finding),
        draw_comparison(read_summary(synthetic), styles, synthetic.local_sites, finding),
        draw_cross_sites(read_results(synthetic.tables["cross_sites"]), synthetic.arms, finding),
    )
    dice = [next(title for title in titles_of(figure) if "Dice" in title) for figure in figures]
    upper = finding.capitalize()
    assert dice == [f"Dice of {finding} cases", f"{upper} Dice: whole tumour", f"{upper} Dice: whole tumour"]


def titles_of(figure):
    return [axes.get_title() or axes.get_title(loc="left") for axes in figure.axes]
