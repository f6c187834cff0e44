"""Panels of points with intervals: a row an arm, rows in groups, a panel a measure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fedpedbrain.evaluation.intervals import MIN_PATIENTS_FOR_INTERVAL
from fedpedbrain.reporting.figures.style import (
    INK,
    LEGEND_COLUMNS,
    ArmStyle,
    limit_to_scores,
    new_figure,
    readable,
)
from fedpedbrain.study.colours import MOST_ARMS_BY_COLOUR

_GROUP_GAP = 1.1
# With room for a line of text.
_NAMED_GROUP_GAP = 2.4
_BAND = "#f3f1ec"


@dataclass(frozen=True)
class RowGroup:
    """Rows that stand together.

    Attributes
    ----------
    where : columns of the table, and what they hold in these rows
    title : what the rows are of, in one or more lines
    arms : from top to bottom
    is_bold, is_shaded : how the group stands out
    """

    where: Mapping[str, str]
    title: str
    arms: Sequence[str]
    is_bold: bool = False
    is_shaded: bool = False


def _rows_where(table: pd.DataFrame, where: Mapping[str, str]) -> pd.DataFrame:
    for column, value in where.items():
        table = table[table[column] == value]
    return table


def draw_interval_panels(
    table: pd.DataFrame,
    panels: Mapping[str, Mapping[str, str]],
    groups: Sequence[RowGroup],
    styles: Mapping[str, ArmStyle],
    quantity: str = "Mean over patients",
    width: float = 3.5,
    repeats_sizes: bool = True,
) -> Figure:
    """Draw scores as points with intervals; many arms are named row by row, a few stand in a legend.

    Parameters
    ----------
    table : with arm, num_cases, num_patients, value, low and high
    panels : title of each panel, and which rows of the table it shows
    groups : from top to bottom
    styles : how to draw each arm
    quantity : what the points are
    width : of a panel, in inches
    repeats_sizes : every panel says how many cases its groups have, and not the first alone
    """
    by_name = len(styles) > MOST_ARMS_BY_COLOUR
    gap = _NAMED_GROUP_GAP if by_name else _GROUP_GAP
    num_rows = sum(len(group.arms) + gap for group in groups)
    figure = new_figure(width * len(panels) + 1.9, 1.3 + 0.17 * num_rows)
    for number, (title, where) in enumerate(panels.items()):
        axes = figure.add_subplot(1, len(panels), number + 1)
        part = _rows_where(table, where)
        _draw_panel(axes, part, groups, styles, gap, named=number == 0)
        if number and not repeats_sizes:
            axes.set_yticklabels([""] * len(groups))
        axes.set_xlabel(f"{quantity}, with its interval{_describe_rule(part)}")
        if by_name:
            _name_rows(axes, groups, named=number == 0)
        axes.set_title(title)
    if not by_name:
        look = {"markersize": 5.5, "linewidth": 1.6}
        handles = [
            Line2D([], [], color=style.colour, marker=style.marker, **look, label=readable(arm))
            for arm, style in styles.items()
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), LEGEND_COLUMNS))
    return figure


def _draw_panel(
    axes: Axes,
    part: pd.DataFrame,
    groups: Sequence[RowGroup],
    styles: Mapping[str, ArmStyle],
    gap: float,
    named: bool,
) -> None:
    top, ticks, labels = 0.0, [], []
    for group in groups:
        rows = _rows_where(part, group.where).set_index("arm")
        bottom = top + len(group.arms) - 1
        if group.is_shaded:
            axes.axhspan(top - gap / 2, bottom + gap / 2, color=_BAND, zorder=0)
        for offset, arm in enumerate(group.arms):
            if arm in rows.index:
                _draw_point(axes, rows.loc[arm], top + offset, styles[arm])
        ticks.append((top + bottom) / 2.0)
        labels.append(_group_label(group.title if named else "", rows))
        top = bottom + 1 + gap
    axes.set_yticks(ticks, labels)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.set_ylim(top - 0.9, -gap / 2 - 0.2)
    for label, group in zip(axes.get_yticklabels(), groups, strict=True):
        label.set_fontweight("bold" if group.is_bold else "normal")
    limit_to_scores(axes.xaxis, part[["low", "value", "high"]].to_numpy(dtype=float))


def _describe_rule(part: pd.DataFrame) -> str:
    """Why some points have no interval, where that is by their number of patients."""
    few = (part["num_patients"] < MIN_PATIENTS_FOR_INTERVAL).any()
    return f"\n(none for fewer than {MIN_PATIENTS_FOR_INTERVAL} patients)" if few else ""


def _name_rows(axes: Axes, groups: Sequence[RowGroup], named: bool) -> None:
    """Name the arm of every row, and write above a group what it is."""
    labels = [label.get_text().replace("\n", ", ") for label in axes.get_yticklabels()]
    ticks, names, top = [], [], 0.0
    for label, group in zip(labels, groups, strict=True):
        ticks += [top + offset for offset in range(len(group.arms))]
        names += [readable(arm) for arm in group.arms]
        axes.text(0.0, top - 0.6, label, transform=axes.get_yaxis_transform(), fontsize=8.0, fontweight="bold")
        top += len(group.arms) + _NAMED_GROUP_GAP
    axes.set_yticks(ticks, names if named else [""] * len(names), fontsize=7.0, fontweight="normal")
    axes.grid(visible=True, axis="y", linewidth=0.4)


def _group_label(title: str, rows: pd.DataFrame) -> str:
    num_cases, num_patients = (rows[column].max() if len(rows) else 0 for column in ("num_cases", "num_patients"))
    too_few = ", too few patients" if 0 < num_patients < MIN_PATIENTS_FOR_INTERVAL else ""
    return "\n".join([*([title] if title else []), f"n = {num_cases}{too_few}"])


def _draw_point(axes: Axes, row: pd.Series, height: float, style: ArmStyle) -> None:
    if np.isfinite(row["low"]) and np.isfinite(row["high"]):
        axes.plot([row["low"], row["high"]], [height, height], color=style.colour, linewidth=1.6, solid_capstyle="butt")
    look = {"marker": style.marker, "color": style.colour, "markersize": 6, "markeredgecolor": INK}
    axes.plot(row["value"], height, **look, markeredgewidth=0.4, zorder=3)
