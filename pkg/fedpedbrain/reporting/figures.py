"""Figures of results: validation by round, and the arms' scores side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from fedpedbrain.cohort import EXTERNAL
from fedpedbrain.evaluation.comparison import DIAGNOSIS, POOLED_SCOPE
from fedpedbrain.reporting.style import (
    INK,
    MUTED,
    ArmStyle,
    apply_style,
    arm_styles,
    message_figure,
    new_figure,
    readable,
    save_figure,
    sentence_case,
)

_CURVES = {"dice": "Dice of tumour cases", "accuracy": "Accuracy of the diagnosis"}
_MEASURES = ("dice", "accuracy")
_GROUP_GAP = 1.1
_EXTERNAL_BAND = "#f3f1ec"
_LEGEND_COLUMNS = 5


def measure_title(target: str, metric: str) -> str:
    """Title of a panel of the comparison."""
    return "Accuracy of the diagnosis" if target == DIAGNOSIS else f"Tumour {metric.title()}: {readable(target)}"


def draw_convergence(history: pd.DataFrame, configured: Mapping[str, str], local_sites: Mapping[str, str]) -> Figure:
    """Draw validation scores by round: mean over seeds, band from the lowest to the highest seed.

    Parameters
    ----------
    history : the history tables of all arms and seeds, one below the other, arms in the order of the config
    configured : colours that the config asks for
    local_sites : local arm to its site; these arms are drawn thinner
    """
    curves = [column for column in _CURVES if history[column].notna().any()]
    if not curves:
        return message_figure("No validation patient has a mask or a diagnosis: there is no curve to draw.")
    styles = arm_styles(list(dict.fromkeys(history["arm"])), configured)
    figure = new_figure(4.6 * len(curves) + 0.4, 3.7)
    for axes, column in zip(figure.subplots(1, len(curves), squeeze=False)[0], curves, strict=True):
        for arm, style in styles.items():
            _draw_curve(axes, history[history["arm"] == arm], column, style, thin=arm in local_sites)
        axes.set(title=_CURVES[column], xlabel="Round", ylabel="Validation patients, all training sites")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _limit_to_scores(axes.yaxis, history[column].to_numpy(dtype=float))
    handles = [
        Line2D(
            [], [], color=style.colour, linestyle=style.line, linewidth=_width(arm in local_sites), label=readable(arm)
        )
        for arm, style in styles.items()
    ]
    handles.append(Line2D([], [], color=MUTED, linestyle="", marker="o", markersize=7, label="selected round"))
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), _LEGEND_COLUMNS), handlelength=3)
    return figure


def _width(thin: bool) -> float:
    return 1.1 if thin else 2.2


def _draw_curve(axes: Axes, history: pd.DataFrame, column: str, style: ArmStyle, thin: bool) -> None:
    by_round = history.groupby("round")[column].agg(["mean", "min", "max"])
    axes.plot(by_round.index, by_round["mean"], color=style.colour, linestyle=style.line, linewidth=_width(thin))
    if history["seed"].nunique() > 1:
        axes.fill_between(by_round.index, by_round["min"], by_round["max"], color=style.colour, alpha=0.15, linewidth=0)
    selected = history[history["selected"] == 1]
    size = 5.5 if thin else 8.5
    axes.plot(
        selected["round"], selected[column], "o", color=style.colour, markersize=size, markeredgecolor="white", zorder=4
    )


def _limit_to_scores(axis: object, values: np.ndarray) -> None:
    """Limit an axis to the scores there are, with some air, never beyond 0 and 1 and never closer than 0.2."""
    known = values[np.isfinite(values)]
    low, high = (known.min(), known.max()) if known.size else (0.0, 1.0)
    air = max(0.06 * (high - low), (0.2 - (high - low)) / 2.0, 0.02)
    axis.axes.set(**{f"{axis.axis_name}lim": (max(low - air, -0.01), min(high + air, 1.01))})


def plot_convergence_files(
    history_paths: Sequence[str | Path],
    figure_path: str | Path,
    arm_colours: Mapping[str, str],
    dpi: int,
    local_sites: Mapping[str, str] | None = None,
) -> None:
    """Draw the histories of all arms and seeds (in the order of the config) as a PNG; see ``draw_convergence``."""
    history = pd.concat([pd.read_csv(path, sep="\t", dtype={"arm": str}) for path in history_paths])
    with apply_style():
        save_figure(draw_convergence(history, arm_colours, local_sites or {}), figure_path, dpi)


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


def draw_comparison(summary: pd.DataFrame, configured: Mapping[str, str], local_sites: Mapping[str, str]) -> Figure:
    """Draw every arm's scores as points with intervals, a panel a measure, a group a scope, external sites shaded.

    Parameters
    ----------
    summary : the summary table
    configured : colours that the config asks for
    local_sites : local arm to its site
    """
    chosen = summary[summary["metric"].isin(_MEASURES) & summary["value"].notna()]
    panels = list(chosen[["target", "metric"]].drop_duplicates().itertuples(index=False, name=None))
    if not panels:
        return message_figure("No held-out patient has a mask or a diagnosis: there is nothing to compare.")
    styles = arm_styles(list(dict.fromkeys(summary["arm"])), configured)
    groups = comparison_groups(chosen, local_sites)
    rows = sum(len(arms) + _GROUP_GAP for arms in groups.values())
    figure = new_figure(3.5 * len(panels) + 1.9, 1.3 + 0.17 * rows)
    for number, (target, metric) in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), number + 1)
        part = chosen[(chosen["target"] == target) & (chosen["metric"] == metric)]
        _draw_panel(axes, part, groups, styles, named=number == 0)
        axes.set_title(measure_title(target, metric))
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
    named: bool,
) -> None:
    top, ticks, labels = 0.0, [], []
    for (scope, split), arms in groups.items():
        rows = part[(part["scope"] == scope) & (part["split"] == split)].set_index("arm")
        if split == EXTERNAL:
            axes.axhspan(
                top - _GROUP_GAP / 2, top + len(arms) - 1 + _GROUP_GAP / 2 + 0.45, color=_EXTERNAL_BAND, zorder=0
            )
        for offset, arm in enumerate(arms):
            if arm in rows.index:
                _draw_point(axes, rows.loc[arm], top + offset, styles[arm])
        ticks.append(top + (len(arms) - 1) / 2.0)
        labels.append(_group_label(scope, split, int(rows["num_cases"].max()) if len(rows) else 0, named))
        top += len(arms) + _GROUP_GAP
    axes.set_yticks(ticks, labels)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.set_ylim(top - _GROUP_GAP / 2, -_GROUP_GAP / 2 - 0.2)
    for label, (scope, _) in zip(axes.get_yticklabels(), groups, strict=True):
        label.set_fontweight("bold" if scope == POOLED_SCOPE else "normal")
    _limit_to_scores(axes.xaxis, part[["low", "value", "high"]].to_numpy(dtype=float))
    axes.set_xlabel("Mean over patients, with its interval")


def _group_label(scope: str, split: str, num_cases: int, named: bool) -> str:
    name = f"{readable(scope)}\n" if named else ""
    kind = "external, never trained on\n" if named and split == EXTERNAL else ""
    return sentence_case(f"{name}{kind}n = {num_cases}" if named else f"n = {num_cases}")


def _draw_point(axes: Axes, row: pd.Series, height: float, style: ArmStyle) -> None:
    if np.isfinite(row["low"]) and np.isfinite(row["high"]):
        axes.plot([row["low"], row["high"]], [height, height], color=style.colour, linewidth=1.6, solid_capstyle="butt")
    axes.plot(
        row["value"],
        height,
        marker=style.marker,
        color=style.colour,
        markersize=6,
        markeredgecolor=INK,
        mew=0.4,
        zorder=3,
    )


def plot_comparison_files(
    summary_path: str | Path,
    figure_path: str | Path,
    arm_colours: Mapping[str, str],
    dpi: int,
    local_sites: Mapping[str, str] | None = None,
) -> None:
    """Draw the summary table as a PNG; see ``draw_comparison``."""
    summary = pd.read_csv(summary_path, sep="\t", dtype={"arm": str, "scope": str, "target": str})
    with apply_style():
        save_figure(draw_comparison(summary, arm_colours, local_sites or {}), figure_path, dpi)
