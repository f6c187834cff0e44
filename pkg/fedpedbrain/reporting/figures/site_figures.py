"""Figure of who does how well where: every arm at every site."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from fedpedbrain.base.cases import DIAGNOSIS, EXTERNAL
from fedpedbrain.evaluation.tables import read_results
from fedpedbrain.reporting.figures.style import (
    FAINT,
    INK,
    SEQUENTIAL_COLOURS,
    apply_style,
    is_dark,
    message_figure,
    new_figure,
    readable,
    save_figure,
)
from fedpedbrain.reporting.results import panel_title

_MEASURES = ("dice", "accuracy")


def draw_cross_sites(cross_sites: pd.DataFrame, arms: Sequence[str], finding: str) -> Figure:
    """Draw a heat map a measure: a row an arm, a column a site, frames where the arm learnt from the site.

    Parameters
    ----------
    cross_sites : the table of arms at sites
    arms : every arm, from top to bottom
    finding : what outlined cases have, in a word
    """
    table = cross_sites[cross_sites["metric"].isin(_MEASURES) & cross_sites["value"].notna()]
    panels = list(dict.fromkeys(zip(table["target"], table["metric"], strict=True)))
    panels.sort(key=lambda panel: panel[0] == DIAGNOSIS)
    if not panels:
        return message_figure("No held-out patient has a mask or a diagnosis: there is nothing to compare.")
    rows = [arm for arm in arms if (table["arm"] == arm).any()]
    sites = list(dict.fromkeys(table["tested_on"]))
    external = set(table["tested_on"][table["split"] == EXTERNAL])
    lowest = np.floor(10.0 * table["value"].min()) / 10.0
    figure = new_figure(len(panels) * (0.72 * len(sites) + 0.4) + 2.6, 0.34 * len(rows) + 1.5)
    grid = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axes, (target, metric) in zip(grid, panels, strict=True):
        part = table[(table["target"] == target) & (table["metric"] == metric)]
        _draw_map(axes, part, rows, sites, lowest)
        axes.set_title(panel_title(target, finding))
        names = [f"{site}\n(external)" if site in external else site for site in sites]
        axes.set_xticks(range(len(sites)), names)
        axes.set_xlabel("Tested at")
    grid[0].set_yticks(range(len(rows)), list(map(readable, rows)))
    figure.colorbar(grid[0].images[0], ax=list(grid), shrink=0.85, pad=0.02, label="Mean over patients")
    return figure


def _draw_map(axes: Axes, part: pd.DataFrame, arms: Sequence[str], sites: Sequence[str], lowest: float) -> None:
    places = {(row.arm, row.tested_on): row for row in part.itertuples(index=False)}
    values = np.full((len(arms), len(sites)), np.nan)
    for (arm, site), row in places.items():
        values[arms.index(arm), sites.index(site)] = row.value
    colours = matplotlib.colormaps[SEQUENTIAL_COLOURS].with_extremes(bad=FAINT)
    image = axes.imshow(values, cmap=colours, vmin=lowest, vmax=1.0, aspect="auto")
    for (number, column), value in np.ndenumerate(values):
        if np.isnan(value):
            continue
        colour = "white" if is_dark(image.to_rgba(value)) else INK
        axes.text(column, number, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=8.5)
        if places[arms[number], sites[column]].is_own_site:
            frame = {"edgecolor": colour, "facecolor": "none", "linewidth": 1.2}
            axes.add_patch(Rectangle((column - 0.43, number - 0.4), 0.86, 0.8, **frame))
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.spines[:].set(visible=True, color=FAINT)


def plot_cross_sites_files(
    cross_sites_path: str | Path, figure_path: str | Path, arms: Sequence[str], finding: str, dpi: int
) -> None:
    """Draw the table of arms at sites as a PNG; see ``draw_cross_sites``."""
    with apply_style():
        save_figure(draw_cross_sites(read_results(cross_sites_path), arms, finding), figure_path, dpi)
