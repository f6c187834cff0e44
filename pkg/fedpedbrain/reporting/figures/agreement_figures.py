"""Figures of agreement: probabilities with how often they are right, and predicted with true volumes."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fedpedbrain.base.cases import EXTERNAL, TEST
from fedpedbrain.evaluation.tables import POOLED_SCOPE, read_results
from fedpedbrain.reporting.figures.style import (
    INK,
    MUTED,
    ArmStyle,
    FigureStyle,
    apply_style,
    chosen_styles,
    label_lowest,
    message_figure,
    new_figure,
    readable,
    save_figure,
)

_PANELS_PER_ROW = 4
# Where about 95 % of normal differences lie, in standard deviations.
_LIMITS_OF_AGREEMENT = 1.96


def _panels(figure: Figure, number: int) -> np.ndarray:
    """Axes of equal scale for so many panels; those of the grid that are left over are hidden."""
    columns = min(number, _PANELS_PER_ROW)
    grid = figure.subplots(math.ceil(number / columns), columns, squeeze=False, sharex=True, sharey=True)
    for axes in grid.flat[number:]:
        axes.set_visible(False)
    label_lowest(grid)
    return grid


def _size(number: int, width: float, height: float) -> tuple[float, float]:
    columns = min(number, _PANELS_PER_ROW)
    return columns * width + 0.8, math.ceil(number / columns) * height + 0.9


def draw_reliability(reliability: pd.DataFrame, styles: Mapping[str, ArmStyle]) -> Figure:
    """Draw accuracy by the probability of the most probable class on all test patients, a panel an arm.

    Parameters
    ----------
    reliability : the table of reliability; an area of a point stands for its number of predictions
    styles : how to draw each arm that is shown
    """
    filled = reliability[(reliability["scope"] == POOLED_SCOPE) & (reliability["num_predictions"] > 0)]
    arms = [arm for arm in styles if (filled["arm"] == arm).any()]
    if not arms:
        return message_figure("No test case has a known class: there is no probability to judge.")
    figure = new_figure(*_size(len(arms), 2.5, 2.4))
    grid = _panels(figure, len(arms))
    largest = filled["num_predictions"].max()
    for axes, arm in zip(grid.flat, arms, strict=False):
        bins, style = filled[filled["arm"] == arm], styles[arm]
        axes.plot([0, 1], [0, 1], color=MUTED, linestyle=(0, (4, 3)), linewidth=1.0, zorder=1)
        axes.plot(bins["mean_probability"], bins["accuracy"], color=style.colour, linewidth=1.2, zorder=2)
        areas = 16.0 + 160.0 * bins["num_predictions"] / largest
        look = {"color": style.colour, "marker": style.marker, "edgecolor": INK, "linewidth": 0.4}
        axes.scatter(bins["mean_probability"], bins["accuracy"], s=areas, **look, zorder=3, clip_on=False)
        axes.set(title=readable(arm), xlim=(0, 1.02), ylim=(0, 1.02), aspect="equal")
    figure.supxlabel("Probability of the most probable class", fontsize=9.0)
    figure.supylabel("Part that is right", fontsize=9.0)
    return figure


def plot_reliability_files(
    reliability_path: str | Path,
    figure_path: str | Path,
    arms: Sequence[str],
    style: FigureStyle,
) -> None:
    """Draw the table of reliability as a PNG.

    Parameters
    ----------
    arms : which arms to show; all where none is named
    style : of the study
    """
    styles = chosen_styles(arms, style.arm_styles)
    with apply_style():
        save_figure(draw_reliability(read_results(reliability_path), styles), figure_path, style.dpi)


def held_out_volumes(scores: pd.DataFrame) -> pd.DataFrame:
    """True and predicted volume of every held-out case with an outline, means over seeds.

    Returns
    -------
    columns arm, target, case, split, true_volume_ml and predicted_volume_ml
    """
    volumes = scores[scores["metric"].isin(["true_volume_ml", "predicted_volume_ml"])]
    keys = ["arm", "target", "case", "split"]
    wide = volumes.pivot_table(index=keys, columns="metric", values="value", aggfunc="mean", sort=False)
    if wide.empty:
        return pd.DataFrame(columns=[*keys, "true_volume_ml", "predicted_volume_ml"])
    return wide[wide["true_volume_ml"] > 0].reset_index()


def draw_volumes(volumes: pd.DataFrame, styles: Mapping[str, ArmStyle]) -> Figure:
    """Draw the difference of predicted and true volume over their mean (Bland and Altman, 1986), a panel an arm.

    The lines are the mean difference and 1.96 standard deviations around it, of the test cases of training sites; cases
    of external sites are hollow and count in none.

    Parameters
    ----------
    volumes : see ``held_out_volumes``
    styles : how to draw each arm that is shown
    """
    regions = list(dict.fromkeys(volumes["target"]))
    shown = [(arm, region) for region in regions for arm in styles if (volumes["arm"] == arm).any()]
    if not shown:
        return message_figure("No held-out case has an outline: there is no volume to compare.")
    figure = new_figure(*_size(len(shown), 2.6, 2.3))
    grid = _panels(figure, len(shown))
    for axes, (arm, region) in zip(grid.flat, shown, strict=False):
        part = volumes[(volumes["arm"] == arm) & (volumes["target"] == region)]
        _draw_differences(axes, part, styles[arm])
        axes.set_title(f"{readable(arm)}, {readable(region)}" if len(regions) > 1 else readable(arm))
    marks = [Line2D([], [], color=MUTED, linestyle="", marker="o", label="test case")]
    if (volumes["split"] == EXTERNAL).any():
        hollow = {"marker": "o", "markerfacecolor": "none", "label": "case of an external site"}
        marks.append(Line2D([], [], color=MUTED, linestyle="", **hollow))
    marks.append(Line2D([], [], color=INK, linewidth=1.2, label="mean difference, test cases"))
    dashed = {"linewidth": 0.9, "linestyle": (0, (4, 3)), "label": "limits of agreement, test cases"}
    marks.append(Line2D([], [], color=INK, **dashed))
    figure.legend(handles=marks, loc="outside lower center", ncols=len(marks))
    for column in grid.T:
        [axes for axes in column if axes.get_visible()][-1].set_xlabel("Mean of both (ml)")
    figure.supylabel("Predicted less true volume (ml)", fontsize=9.0)
    return figure


def _draw_differences(axes: Axes, part: pd.DataFrame, style: ArmStyle) -> None:
    means = (part["predicted_volume_ml"] + part["true_volume_ml"]) / 2.0
    differences = part["predicted_volume_ml"] - part["true_volume_ml"]
    is_test = part["split"] == TEST
    look = {"s": 20.0, "marker": style.marker, "zorder": 3}
    axes.scatter(means[is_test], differences[is_test], color=style.colour, edgecolor=INK, linewidth=0.4, **look)
    axes.scatter(means[~is_test], differences[~is_test], color="none", edgecolor=style.colour, linewidth=1.0, **look)
    axes.axhline(0.0, color=MUTED, linewidth=0.6, zorder=1)
    tested = differences[is_test]
    if len(tested) > 1:
        middle, spread = tested.mean(), _LIMITS_OF_AGREEMENT * tested.std(ddof=1)
        axes.axhline(middle, color=INK, linewidth=1.2, zorder=2)
        for end in (middle - spread, middle + spread):
            axes.axhline(end, color=INK, linewidth=0.9, linestyle=(0, (4, 3)), zorder=2)


def plot_volumes_files(
    scores_paths: Sequence[str | Path],
    figure_path: str | Path,
    arms: Sequence[str],
    style: FigureStyle,
) -> None:
    """Draw the volumes in the tables of scores as a PNG; the arguments are those of ``plot_reliability_files``."""
    styles = chosen_styles(arms, style.arm_styles)
    volumes = held_out_volumes(pd.concat(map(read_results, scores_paths)))
    with apply_style():
        save_figure(draw_volumes(volumes, styles), figure_path, style.dpi)
