"""Figures of results: validation by round, and the arms' scores side by side."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from fedpedbrain.cohort import EXTERNAL
from fedpedbrain.evaluation.intervals import MIN_PATIENTS_FOR_INTERVAL
from fedpedbrain.evaluation.tables import DIAGNOSIS, POOLED_SCOPE, read_results
from fedpedbrain.reporting.style import (
    FAINT,
    INK,
    MOST_ARMS_BY_COLOUR,
    MUTED,
    ArmStyle,
    apply_style,
    arm_styles,
    label_lowest,
    message_figure,
    new_figure,
    readable,
    save_figure,
    sentence_case,
)

_CURVES = {"dice": "Dice of tumour cases", "accuracy": "Accuracy of the diagnosis"}
_PROGRESS = {"round": "Round", "sent_mb": "Sent by all sites together (MB)"}
_MEASURES = ("dice", "accuracy")
_GROUP_GAP = 1.1
# With room for a line of text.
_NAMED_GROUP_GAP = 2.4
_EXTERNAL_BAND = "#f3f1ec"
_LEGEND_COLUMNS = 6
_PANELS_PER_ROW = 4


def draw_convergence(history: pd.DataFrame, styles: Mapping[str, ArmStyle], exchanging: Sequence[str]) -> Figure:
    """Draw validation scores by round and by bytes sent: mean over seeds, band from the lowest to the highest seed.

    Bytes are those of all sites' updates up to a round; many arms have a panel each, by round alone.

    Parameters
    ----------
    history : the history tables of all arms and seeds, one below the other
    styles : how to draw each arm
    exchanging : arms whose sites send weights
    """
    curves = [column for column in _CURVES if history[column].notna().any()]
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
            axes.set(title=_CURVES[column], xlabel=_PROGRESS[by], ylabel="Mean over validation patients")
            _limit_to_scores(axes.yaxis, history[column].to_numpy(dtype=float))
            axes.xaxis.set_major_locator(MaxNLocator(integer=by == "round"))
    handles = [
        Line2D([], [], color=style.colour, linestyle=style.line, linewidth=_line_width(style), label=readable(arm))
        for arm, style in styles.items()
    ]
    handles.append(Line2D([], [], color=MUTED, linestyle="", marker="o", markersize=7, label="selected round"))
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), _LEGEND_COLUMNS), handlelength=3)
    return figure


def _draw_arm_by_arm(history: pd.DataFrame, styles: Mapping[str, ArmStyle], curves: Sequence[str]) -> Figure:
    """A small panel an arm, its curves of all measures over those of the other arms in grey."""
    rows = math.ceil(len(styles) / _PANELS_PER_ROW)
    figure = new_figure(2.35 * _PANELS_PER_ROW, 1.45 * rows + 0.7)
    grid = figure.subplots(rows, _PANELS_PER_ROW, squeeze=False, sharex=True, sharey=True)
    for axes in grid.flat[len(styles) :]:
        axes.set_visible(False)
    looks = dict(zip(curves, ("-", (0, (2, 1))), strict=False))
    means = {column: history.groupby(["arm", "round"])[column].mean().unstack(0) for column in curves}
    for axes, (arm, style) in zip(grid.flat, styles.items(), strict=False):
        for column, line in looks.items():
            axes.plot(means[column], color=FAINT, linestyle=line, linewidth=0.8, zorder=1)
            look = replace(style, line=line, thin=True)
            _draw_curve(axes, history[history["arm"] == arm], column, look, "round")
        axes.set_title(readable(arm), fontsize=9.0, pad=3.0)
        axes.grid(visible=False)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    values = history[curves].to_numpy(dtype=float)
    _limit_to_scores(grid[0, 0].yaxis, values)
    label_lowest(grid)
    for axes in grid[-1]:
        axes.set_xlabel("Round")
    handles = [Line2D([], [], color=INK, linestyle=line, label=_CURVES[column]) for column, line in looks.items()]
    handles.append(Line2D([], [], color=FAINT, linewidth=0.8, label="the other arms"))
    handles.append(Line2D([], [], color=MUTED, linestyle="", marker="o", markersize=5.5, label="selected round"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), handlelength=3)
    return figure


def _line_width(style: ArmStyle) -> float:
    return 1.2 if style.thin else 2.2


def _draw_curve(axes: Axes, history: pd.DataFrame, column: str, style: ArmStyle, by: str) -> None:
    rounds = history.groupby("round")
    scores, progress = rounds[column].agg(["mean", "min", "max"]), rounds[by].mean()
    axes.plot(progress, scores["mean"], color=style.colour, linestyle=style.line, linewidth=_line_width(style))
    if history["seed"].nunique() > 1:
        axes.fill_between(progress, scores["min"], scores["max"], color=style.colour, alpha=0.15, linewidth=0)
    selected = history[history["selected"] == 1]
    look = {"color": style.colour, "markersize": 5.5 if style.thin else 8.5, "markeredgecolor": "white"}
    axes.plot(selected[by], selected[column], "o", **look, zorder=4, clip_on=False)


def _limit_to_scores(axis: Axis, values: np.ndarray) -> None:
    """Limit an axis to the scores there are, with some air, never far beyond 0 and 1 and never closer than 0.2."""
    known = values[np.isfinite(values)]
    low, high = (known.min(), known.max()) if known.size else (0.0, 1.0)
    air = max(0.06 * (high - low), (0.2 - (high - low)) / 2.0, 0.02)
    axis.axes.set(**{f"{axis.axis_name}lim": (max(low - air, -0.03), min(high + air, 1.03))})


def plot_convergence_files(
    history_paths: Sequence[str | Path],
    figure_path: str | Path,
    study_arms: Sequence[str],
    local_sites: Mapping[str, str],
    configured_colours: Mapping[str, str],
    exchanging: Sequence[str],
    dpi: int,
) -> None:
    """Draw the histories of all arms and seeds as a PNG.

    Parameters
    ----------
    study_arms : every arm in the order of the config, on which the colours depend
    local_sites : local arm to its site; these arms are drawn thin
    exchanging : arms whose sites send weights
    configured_colours, dpi : see the config
    """
    history = pd.concat(map(read_results, history_paths))
    styles = arm_styles(study_arms, configured_colours, local_sites)
    with apply_style():
        save_figure(draw_convergence(history, styles, exchanging), figure_path, dpi)


def comparison_groups(summary: pd.DataFrame, local_sites: Mapping[str, str]) -> dict[tuple[str, str], list[str]]:
    """List which arms stand under which (scope, split), from top to bottom.

    A training site's own group shows its own local arm and not those of other sites, which the tables give.
    """
    groups: dict[tuple[str, str], list[str]] = {}
    for arm, scope, split in summary[["arm", "scope", "split"]].drop_duplicates().itertuples(index=False):
        foreign = local_sites.get(arm, scope) != scope and scope in local_sites.values()
        if not foreign:
            groups.setdefault((scope, split), []).append(arm)
    return groups


def draw_comparison(summary: pd.DataFrame, styles: Mapping[str, ArmStyle], local_sites: Mapping[str, str]) -> Figure:
    """Draw every arm's scores as points with intervals, a panel a measure, a group a scope, external sites shaded.

    Parameters
    ----------
    summary : the summary table
    styles : how to draw each arm, from top to bottom
    local_sites : local arm to its site
    """
    chosen = summary[summary["metric"].isin(_MEASURES) & summary["value"].notna()]
    panels = list(dict.fromkeys(zip(chosen["target"], chosen["metric"], strict=True)))
    panels.sort(key=lambda panel: panel[0] == DIAGNOSIS)
    if not panels:
        return message_figure("No held-out patient has a mask or a diagnosis: there is nothing to compare.")
    groups = comparison_groups(chosen, local_sites)
    groups = {scope: [arm for arm in styles if arm in arms] for scope, arms in groups.items()}
    by_name = len(styles) > MOST_ARMS_BY_COLOUR
    gap = _NAMED_GROUP_GAP if by_name else _GROUP_GAP
    rows = sum(len(arms) + gap for arms in groups.values())
    figure = new_figure(3.5 * len(panels) + 1.9, 1.3 + 0.17 * rows)
    for number, (target, metric) in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), number + 1)
        part = chosen[(chosen["target"] == target) & (chosen["metric"] == metric)]
        _draw_panel(axes, part, groups, styles, gap, named=number == 0)
        if by_name:
            _name_rows(axes, groups, named=number == 0)
        axes.set_title("Accuracy of the diagnosis" if target == DIAGNOSIS else f"Tumour Dice: {readable(target)}")
    if by_name:
        return figure
    handles = [
        Line2D([], [], color=style.colour, marker=style.marker, markersize=5.5, linewidth=1.6, label=readable(arm))
        for arm, style in styles.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), _LEGEND_COLUMNS))
    return figure


def _draw_panel(
    axes: Axes,
    part: pd.DataFrame,
    groups: Mapping[tuple[str, str], Sequence[str]],
    styles: Mapping[str, ArmStyle],
    gap: float,
    named: bool,
) -> None:
    top, ticks, labels = 0.0, [], []
    for (scope, split), arms in groups.items():
        rows = part[(part["scope"] == scope) & (part["split"] == split)].set_index("arm")
        bottom = top + len(arms) - 1
        if split == EXTERNAL:
            axes.axhspan(top - gap / 2, bottom + gap / 2, color=_EXTERNAL_BAND, zorder=0)
        for offset, arm in enumerate(arms):
            if arm in rows.index:
                _draw_point(axes, rows.loc[arm], top + offset, styles[arm])
        ticks.append((top + bottom) / 2.0)
        labels.append(_group_label(scope, split, rows, named))
        top = bottom + 1 + gap
    axes.set_yticks(ticks, labels)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.set_ylim(top - 0.9, -gap / 2 - 0.2)
    for label, (scope, _) in zip(axes.get_yticklabels(), groups, strict=True):
        label.set_fontweight("bold" if scope == POOLED_SCOPE else "normal")
    _limit_to_scores(axes.xaxis, part[["low", "value", "high"]].to_numpy(dtype=float))
    few = (part["num_patients"] < MIN_PATIENTS_FOR_INTERVAL).any()
    rule = f"\n(none for fewer than {MIN_PATIENTS_FOR_INTERVAL} patients)" if few else ""
    axes.set_xlabel(f"Mean over patients, with its interval{rule}")


def _name_rows(axes: Axes, groups: Mapping[tuple[str, str], Sequence[str]], named: bool) -> None:
    """Name the arm of every row, and write above a group what it is."""
    labels = [label.get_text().replace("\n", ", ") for label in axes.get_yticklabels()]
    ticks, names, top = [], [], 0.0
    for label, arms in zip(labels, groups.values(), strict=True):
        ticks += [top + offset for offset in range(len(arms))]
        names += [readable(arm) for arm in arms]
        axes.text(0.0, top - 0.6, label, transform=axes.get_yaxis_transform(), fontsize=8.0, fontweight="bold")
        top += len(arms) + _NAMED_GROUP_GAP
    axes.set_yticks(ticks, names if named else [""] * len(names), fontsize=7.0, fontweight="normal")
    axes.grid(visible=True, axis="y", linewidth=0.4)


def _group_label(scope: str, split: str, rows: pd.DataFrame, named: bool) -> str:
    num_cases, num_patients = (rows[column].max() if len(rows) else 0 for column in ("num_cases", "num_patients"))
    too_few = ", too few patients" if 0 < num_patients < MIN_PATIENTS_FOR_INTERVAL else ""
    lines = [f"n = {num_cases}{too_few}"]
    if named and split == EXTERNAL:
        lines.insert(0, "external, never trained on")
    if named:
        lines.insert(0, sentence_case(scope) if scope == POOLED_SCOPE else scope)
    return "\n".join(lines)


def _draw_point(axes: Axes, row: pd.Series, height: float, style: ArmStyle) -> None:
    if np.isfinite(row["low"]) and np.isfinite(row["high"]):
        axes.plot([row["low"], row["high"]], [height, height], color=style.colour, linewidth=1.6, solid_capstyle="butt")
    look = {"marker": style.marker, "color": style.colour, "markersize": 6, "markeredgecolor": INK}
    axes.plot(row["value"], height, **look, markeredgewidth=0.4, zorder=3)


def plot_comparison_files(
    summary_path: str | Path,
    figure_path: str | Path,
    study_arms: Sequence[str],
    local_sites: Mapping[str, str],
    configured_colours: Mapping[str, str],
    dpi: int,
) -> None:
    """Draw the summary table as a PNG; the arguments are as of ``plot_convergence_files``."""
    styles = arm_styles(study_arms, configured_colours, local_sites)
    with apply_style():
        save_figure(draw_comparison(read_results(summary_path), styles, local_sites), figure_path, dpi)
