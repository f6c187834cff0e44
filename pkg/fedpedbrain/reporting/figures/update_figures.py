"""Figure of what the sites sent: length and direction of every update, by site and round."""

import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from fedpedbrain.reporting.figures.style import (
    DIVERGING_COLOURS,
    FAINT,
    INK,
    SEQUENTIAL_COLOURS,
    apply_style,
    message_figure,
    new_figure,
    readable,
    save_figure,
)
from fedpedbrain.reporting.tables.site_updates import Mark, Update, find_marks, load_updates
from fedpedbrain.study.colours import MOST_ARMS_BY_COLOUR

_MEASURES = {"norm": "length", "cosine": "direction"}
_DOT = {"color": INK, "markeredgecolor": "white", "markeredgewidth": 0.5}
# What has no value is a grey that the map itself has not.
_LOOKS = {"norm": (SEQUENTIAL_COLOURS, FAINT), "cosine": (DIVERGING_COLOURS, "#9aa2ad")}
_SCALES = {"norm": "Length of the update (L2 norm)", "cosine": "Cosine to the mean of the others"}


def draw_updates(updates: Sequence[Update], arms: Sequence[str]) -> Figure:
    """Draw two heat maps an arm, of lengths and of cosines: a row a site, a column a round, means over seeds.

    A cell is grey where a site sent nothing or there is nothing to compare, and dotted where an update stands out by
    what the map shows.

    Parameters
    ----------
    updates : of all arms, seeds and rounds
    arms : in the order of the config
    """
    table = pd.DataFrame([vars(update) for update in updates if not update.is_missing])
    if table.empty:
        return message_figure("No arm of this study has updates that can be compared.")
    shown = [arm for arm in arms if (table["arm"] == arm).any()]
    marks = find_marks(updates)
    arms_a_line = 1 if len(shown) <= MOST_ARMS_BY_COLOUR else 2
    num_lines, num_sites = math.ceil(len(shown) / arms_a_line), table["site"].nunique()
    figure = new_figure(8.6 * arms_a_line, num_lines * (0.17 * num_sites + 0.75) + 1.3)
    grid = figure.subplots(num_lines, 2 * arms_a_line, squeeze=False)
    pairs = grid.reshape(-1, 2)
    scales = {"norm": _length_scale(table["norm"].to_numpy(dtype=float)), "cosine": Normalize(-1.0, 1.0)}
    for pair, arm in zip(pairs, shown, strict=False):
        part = table[table["arm"] == arm]
        for axes, (measure, word) in zip(pair, _MEASURES.items(), strict=True):
            _draw_map(axes, part, measure, scales[measure])
            _draw_marks(axes, [mark for mark in marks if measure in mark.measures and mark.update.arm == arm], part)
            axes.set_title(f"{readable(arm)}: {word}")
    for axes in pairs[len(shown) :].flat:
        axes.set_visible(False)
    for number, measure in enumerate(_MEASURES):
        place = {"ax": list(grid[:, number::2].flat), "location": "bottom", "aspect": 45, "pad": 0.02}
        figure.colorbar(pairs[0, number].images[0], label=_SCALES[measure], **place)
    dot = Line2D([], [], linestyle="", marker="o", markersize=3.5, **_DOT)
    figure.legend([dot], ["stands out"], loc="outside upper right")
    return figure


def _length_scale(lengths: np.ndarray) -> Normalize:
    """A logarithmic scale over the lengths above 0, of which an update without any change has none."""
    positive = lengths[lengths > 0.0]
    if not positive.size:
        return Normalize(0.0, 1.0)
    return LogNorm(positive.min() / 1.05, positive.max() * 1.05)


def _draw_map(axes: Axes, part: pd.DataFrame, measure: str, scale: Normalize) -> None:
    means = part.pivot_table(index="site", columns="round", values=measure, aggfunc="mean", dropna=False)
    rounds = range(1, int(part["round"].max()) + 1)
    name, empty = _LOOKS[measure]
    colours = matplotlib.colormaps[name].with_extremes(bad=empty)
    edges = (0.5, len(rounds) + 0.5, len(means) - 0.5, -0.5)
    look = {"cmap": colours, "norm": scale, "aspect": "auto", "interpolation": "nearest"}
    axes.imshow(means.reindex(columns=rounds), extent=edges, **look)
    axes.set_yticks(range(len(means)), means.index if measure == "norm" else [""] * len(means), fontsize=7.5)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    axes.set_xlabel("Round")
    axes.grid(visible=False)
    axes.tick_params(axis="y", length=0)
    axes.spines[:].set(visible=True, color=FAINT)


def _draw_marks(axes: Axes, marks: Sequence[Mark], part: pd.DataFrame) -> None:
    sites = sorted(part["site"].unique())
    places = sorted({(mark.update.round, sites.index(mark.update.site)) for mark in marks})
    # Smaller than a cell, and still to be seen.
    size = min(3.5, max(1.8, 100.0 / part["round"].max()))
    axes.plot([place[0] for place in places], [place[1] for place in places], "o", markersize=size, **_DOT)


def plot_updates_files(
    inspection_paths: Sequence[str | Path], figure_path: str | Path, arms: Sequence[str], dpi: int
) -> None:
    """Draw the inspections of all rounds as a PNG; see ``draw_updates``."""
    with apply_style():
        save_figure(draw_updates(load_updates(inspection_paths), arms), figure_path, dpi)
