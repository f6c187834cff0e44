"""Figure of convergence: validation scores by round, and by what the sites have sent."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from fedpedbrain.evaluation.tables import read_results
from fedpedbrain.reporting.figures.style import (
    FAINT,
    INK,
    LEGEND_COLUMNS,
    MUTED,
    ArmStyle,
    FigureStyle,
    apply_style,
    label_lowest,
    limit_to_scores,
    message_figure,
    new_figure,
    readable,
    save_figure,
)
from fedpedbrain.study.colours import MOST_ARMS_BY_COLOUR

_CURVES = {"dice": "Dice of {finding} cases", "accuracy": "Accuracy of the diagnosis"}
_PROGRESS = {"round": "Round", "sent_mb": "Uploaded by all sites together (MB)"}
_PANELS_PER_ROW = 4


def draw_convergence(
    history: pd.DataFrame, styles: Mapping[str, ArmStyle], exchanging: Sequence[str], finding: str
) -> Figure:
    """Draw validation scores by round and by bytes sent: mean over seeds, band from the lowest to the highest seed.

    Bytes are those of all sites' updates up to a round; many arms have a panel each, by round alone.

    Parameters
    ----------
    history : the history tables of all arms and seeds, one below the other
    styles : how to draw each arm
    exchanging : arms whose sites send weights
    finding : what outlined cases have, in a word
    """
    curves = {
        column: title.format(finding=finding) for column, title in _CURVES.items() if history[column].notna().any()
    }
    if not curves:
        return message_figure("No validation patient has a mask or a diagnosis: there is no curve to draw.")
    if len(styles) > MOST_ARMS_BY_COLOUR:
        return _draw_arm_by_arm(history, styles, curves)
    sent = history.assign(sent_mb=history.groupby(["arm", "seed"])["uploaded_bytes"].cumsum() / 1e6)
    rows = {"round": list(styles)} | ({"sent_mb": [arm for arm in styles if arm in exchanging]} if exchanging else {})
    figure = new_figure(4.6 * len(curves) + 0.4, 3.1 * len(rows) + 0.6)
    for line, (by, arms) in zip(figure.subplots(len(rows), len(curves), squeeze=False), rows.items(), strict=True):
        for axes, column in zip(line, curves, strict=True):
            for arm in arms:
                _draw_curve(axes, sent[sent["arm"] == arm], column, styles[arm], by)
            axes.set(title=curves[column], xlabel=_PROGRESS[by], ylabel="Mean over validation patients")
            limit_to_scores(axes.yaxis, history[column].to_numpy(dtype=float))
            axes.xaxis.set_major_locator(MaxNLocator(integer=by == "round"))
    handles = [
        Line2D([], [], color=style.colour, linestyle=style.line, linewidth=_line_width(style), label=readable(arm))
        for arm, style in styles.items()
    ]
    handles.append(Line2D([], [], color=MUTED, linestyle="", marker="o", markersize=7, label="selected round"))
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), LEGEND_COLUMNS), handlelength=3)
    return figure


def _draw_arm_by_arm(history: pd.DataFrame, styles: Mapping[str, ArmStyle], curves: Mapping[str, str]) -> Figure:
    """A small panel an arm, its curves of all measures over those of the other arms in grey."""
    rows = math.ceil(len(styles) / _PANELS_PER_ROW)
    figure = new_figure(2.35 * _PANELS_PER_ROW, 1.45 * rows + 0.7)
    grid = figure.subplots(rows, _PANELS_PER_ROW, squeeze=False, sharex=True, sharey=True)
    for axes in grid.flat[len(styles) :]:
        axes.set_visible(False)
    looks = dict(zip(curves, ("-", (0, (2, 1))), strict=False))
    means = {column: history.groupby(["arm", "round"])[column].mean().dropna() for column in curves}
    for axes, (arm, style) in zip(grid.flat, styles.items(), strict=False):
        for column, line in looks.items():
            for _, other in means[column].groupby(level="arm"):
                axes.plot(other.droplevel("arm"), color=FAINT, linestyle=line, linewidth=0.8, zorder=1)
            look = replace(style, line=line, thin=True)
            _draw_curve(axes, history[history["arm"] == arm], column, look, "round")
        axes.set_title(readable(arm), fontsize=9.0, pad=3.0)
        axes.grid(visible=False)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    values = history[[*curves]].to_numpy(dtype=float)
    limit_to_scores(grid[0, 0].yaxis, values)
    label_lowest(grid)
    for axes in grid[-1]:
        axes.set_xlabel("Round")
    handles = [Line2D([], [], color=INK, linestyle=line, label=curves[column]) for column, line in looks.items()]
    handles.append(Line2D([], [], color=FAINT, linewidth=0.8, label="the other arms"))
    handles.append(Line2D([], [], color=MUTED, linestyle="", marker="o", markersize=5.5, label="selected round"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), handlelength=3)
    return figure


def _line_width(style: ArmStyle) -> float:
    return 1.2 if style.thin else 2.2


def _draw_curve(axes: Axes, history: pd.DataFrame, column: str, style: ArmStyle, by: str) -> None:
    # A curve goes from one validated round to the next.
    history = history[history[column].notna()]
    rounds = history.groupby("round")
    scores, progress = rounds[column].agg(["mean", "min", "max"]), rounds[by].mean()
    axes.plot(progress, scores["mean"], color=style.colour, linestyle=style.line, linewidth=_line_width(style))
    if history["seed"].nunique() > 1:
        axes.fill_between(progress, scores["min"], scores["max"], color=style.colour, alpha=0.15, linewidth=0)
    selected = history[history["selected"] == 1]
    look = {"color": style.colour, "markersize": 5.5 if style.thin else 8.5, "markeredgecolor": "white"}
    axes.plot(selected[by], selected[column], "o", **look, zorder=4, clip_on=False)


def plot_convergence_files(
    history_paths: Sequence[str | Path],
    figure_path: str | Path,
    style: FigureStyle,
    exchanging: Sequence[str],
    finding: str,
) -> None:
    """Draw the histories of all arms and seeds as a PNG.

    Parameters
    ----------
    style : of the study
    exchanging : arms whose sites send weights
    finding : what outlined cases have, in a word
    """
    history = pd.concat(map(read_results, history_paths))
    with apply_style():
        save_figure(draw_convergence(history, style.arm_styles, exchanging, finding), figure_path, style.dpi)
