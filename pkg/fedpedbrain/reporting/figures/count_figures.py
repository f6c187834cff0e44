"""Figures of counted cases: confusion matrices, and what the cohort is made of."""

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import ScaledTranslation

from fedpedbrain.base.cases import EXTERNAL, SPLITS, TEST
from fedpedbrain.data.checks.case_measures import UNKNOWN_LABEL
from fedpedbrain.evaluation.tables import read_results
from fedpedbrain.reporting.figures.style import (
    FAINT,
    INK,
    MUTED,
    apply_style,
    is_dark,
    label_lowest,
    message_figure,
    new_figure,
    readable,
    save_figure,
)

# Tol's muted scheme: none of its colours is one of an arm's.
_CLASS_COLOURS = ("#332288", "#88CCEE", "#44AA99", "#117733", "#999933", "#DDCC77", "#CC6677", "#882255", "#AA4499")
# White on the bars, so that those of one grey differ too.
_CLASS_HATCHES = ("", "////", "", "....", "\\\\\\\\", "", "xxxx", "", "////")
_SPLIT_COLOURS = dict(zip(SPLITS, ("#3b4754", "#7d8a99", "#c0c8d1", "#e8c9a0"), strict=True))
_MATRICES_PER_ROW = 3
# More arms than a screen holds stand closer together.
_MOST_LARGE_MATRICES, _SMALL_MATRICES_PER_ROW = 9, 5


def draw_confusion(confusion: pd.DataFrame, colour_map: str, arms: Sequence[str]) -> Figure:
    """Draw one matrix an arm: counts as text, their part of the true class as colour.

    Parameters
    ----------
    confusion : the confusion table; rows of split ``test`` are drawn
    colour_map : name of a matplotlib colour map
    arms : which arms to draw, in this order, without those that have no row; all where none of them has
    """
    tested = confusion[confusion["split"] == TEST]
    if tested.empty:
        return message_figure("No test case has a known class: there is no diagnosis to confuse.")
    present = list(dict.fromkeys(tested["arm"]))
    shown = [arm for arm in arms if arm in present] or present
    classes = list(dict.fromkeys(tested["true_class"]))
    is_many = len(shown) > _MOST_LARGE_MATRICES
    columns = min(len(shown), _SMALL_MATRICES_PER_ROW if is_many else _MATRICES_PER_ROW)
    rows = math.ceil(len(shown) / columns)
    side = (0.3 if is_many else 0.52) * len(classes)
    figure = new_figure(columns * (side + 0.2) + 3.2, rows * (side + 0.45) + 1.15)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for axes in grid.flat[len(shown) :]:
        axes.set_visible(False)
    for axes, arm in zip(grid.flat, shown, strict=False):
        part = tested[tested["arm"] == arm]
        counts = part.pivot(index="true_class", columns="predicted_class", values="num_cases").loc[classes, classes]
        _draw_matrix(axes, counts.to_numpy(dtype=float), classes, colour_map)
        axes.set_title(readable(arm))
    for axes in grid[:, 0]:
        axes.set_ylabel("True class")
    label_lowest(grid)
    figure.supxlabel("Predicted class", fontsize=9.0)
    image = grid[0, 0].images[0]
    figure.colorbar(image, ax=grid, shrink=0.75, pad=0.02, label="Part of the true class's cases")
    return figure


def _draw_matrix(axes: Axes, counts: np.ndarray, classes: Sequence[str], colour_map: str) -> None:
    totals = counts.sum(axis=1, keepdims=True)
    parts = np.divide(counts, totals, out=np.full_like(counts, np.nan), where=totals > 0)
    colours = matplotlib.colormaps[colour_map].with_extremes(bad=FAINT)
    axes.imshow(parts, cmap=colours, vmin=0.0, vmax=1.0)
    for (row, column), count in np.ndenumerate(counts):
        if count:
            colour = "white" if is_dark(colours(parts[row, column])) else INK
            axes.text(column, row, f"{count:.0f}", ha="center", va="center", color=colour)
    names = [readable(name) for name in classes]
    axes.set_xticks(range(len(classes)), names, rotation=35, ha="right", rotation_mode="anchor")
    axes.set_yticks(
        range(len(classes)), [f"{name}  (n = {total:.0f})" for name, total in zip(names, totals[:, 0], strict=True)]
    )
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.spines[:].set(visible=True, color=FAINT)


def plot_confusion_files(
    confusion_path: str | Path, figure_path: str | Path, colour_map: str, arms: Sequence[str], dpi: int
) -> None:
    """Draw the confusion table as a PNG; see ``draw_confusion``."""
    with apply_style():
        save_figure(draw_confusion(read_results(confusion_path), colour_map, arms), figure_path, dpi)


def draw_cohort(sites: Sequence[Mapping]) -> Figure:
    """Draw the number of cases a site, stacked by class and by split.

    Parameters
    ----------
    sites : ``sites`` of the audit
    """
    known = sorted({name for site in sites for name in site["classes"]} - {UNKNOWN_LABEL})
    colours = {name: _CLASS_COLOURS[number % len(_CLASS_COLOURS)] for number, name in enumerate(known)}
    hatches = dict(zip(known, itertools.cycle(_CLASS_HATCHES), strict=False))
    panels = {"By split": ("splits", _SPLIT_COLOURS, {EXTERNAL: "////"})}
    if known:
        panels = {"By class": ("classes", colours | {UNKNOWN_LABEL: "#d5d9de"}, hatches), **panels}
    figure = new_figure(4.6 * len(panels) + 1.0, 1.9 + 0.38 * len(sites))
    grid = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axes, (title, (key, palette, pattern)) in zip(grid, panels.items(), strict=True):
        _draw_stacks(axes, sites, key, palette, pattern)
        axes.set(title=title, xlabel="Cases")
    names = [f"{site['site']} (external)" if site["role"] == EXTERNAL else site["site"] for site in sites]
    grid[0].set_yticks(range(len(sites)), names)
    grid[0].invert_yaxis()
    return figure


def _draw_stacks(
    axes: Axes, sites: Sequence[Mapping], key: str, palette: Mapping[str, str], hatches: Mapping[str, str]
) -> None:
    starts = np.zeros(len(sites))
    widest = max(sum(site[key].values()) for site in sites)
    for name, colour in palette.items():
        counts = np.array([site[key].get(name, 0) for site in sites], dtype=float)
        if not counts.any():
            continue
        look = {"color": colour, "hatch": hatches.get(name, ""), "edgecolor": "white", "label": readable(name)}
        bars = axes.barh(range(len(sites)), counts, left=starts, height=0.66, **look)
        # A number is written where its bar is wide enough to hold it.
        texts = [f"{count:.0f}" if count > 0.04 * widest else "" for count in counts]
        text_colour = "white" if is_dark(matplotlib.colors.to_rgb(colour)) else INK
        for label in axes.bar_label(bars, texts, label_type="center", fontsize=7.5, color=text_colour):
            # Over the hatching.
            label.set_bbox({"facecolor": colour, "edgecolor": "none", "pad": 1.0} if label.get_text() else None)
        starts += counts
    for row, total in enumerate(starts):
        axes.annotate(f"{total:.0f}", (total, row), (4, 0), textcoords="offset points", va="center", color=MUTED)
    axes.set_xlim(0, 1.1 * widest)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=True))
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    # In inches below the axis, whatever the number of sites.
    below = axes.transAxes + ScaledTranslation(0.0, -0.5, axes.figure.dpi_scale_trans)
    place = {"loc": "upper center", "bbox_to_anchor": (0.5, 0.0), "bbox_transform": below}
    axes.legend(**place, ncols=3, handlelength=1.0, handleheight=1.0, columnspacing=1.4)


def plot_cohort_files(audit_path: str | Path, figure_path: str | Path, dpi: int) -> None:
    """Draw the audit as a PNG; see ``draw_cohort``."""
    audit = json.loads(Path(audit_path).read_text(encoding="utf-8"))
    with apply_style():
        save_figure(draw_cohort(audit["sites"]), figure_path, dpi)
