"""Figure of a run: what every core and GPU did when, the critical path, and how much was busy."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from fedpedbrain.jobs.course.critical_path import KINDS, WAITING
from fedpedbrain.jobs.course.timeline import mean_busy
from fedpedbrain.reporting.figures.style import (
    FAINT,
    INK,
    LEGEND_COLUMNS,
    MUTED,
    SEQUENTIAL_COLOURS,
    ArmStyle,
    FigureStyle,
    apply_style,
    message_figure,
    new_figure,
    readable,
    save_figure,
)

_WIDTH = 9.8
# Of a lane in inches, and of all lanes together: many lanes are narrow ones.
_LANE_HEIGHT, _LEAST_LANES, _MOST_LANES = 0.32, 0.9, 6.0
_MOST_NAMED_LANES, _MOST_OUTLINES = 24, 80
# Of jobs that are of no arm: paler than what is written and outlined.
_OF_ALL_ARMS = "#aab1bb"
_BINS = 400
# Height of a bar as a part of its lane.
_TALL, _LOW = 0.84, 0.46
_UNITS = ((3 * 3600.0, 3600.0, "hours"), (180.0, 60.0, "minutes"), (0.0, 1.0, "seconds"))
_KIND_COLOURS = {
    kind: matplotlib.colormaps[SEQUENTIAL_COLOURS](place)
    for kind, place in zip(KINDS, np.linspace(0.0, 1.0, len(KINDS)), strict=True)
}


def draw_timeline(jobs: pd.DataFrame, summary: Mapping[str, Any], styles: Mapping[str, ArmStyle]) -> Figure:
    """Draw a run: the critical path by kind of work, a lane a device with its jobs by arm, and what was busy at once.

    Parameters
    ----------
    jobs : a row a job, see ``measure_timeline_files``
    summary : see ``evaluation.timeline.summarize_timeline``
    styles : how to draw each arm
    """
    if jobs.empty:
        return message_figure("No job has left a record of when it ran: there is nothing to draw.")
    scale, unit = next((seconds, name) for least, seconds, name in _UNITS if summary["wall_seconds"] >= least)
    times = {name: jobs[name] / scale for name in ("started", "busy_from", "ended")}
    jobs = jobs.assign(**times, cpu_seconds=jobs["cpu_seconds"] / scale)
    devices = sorted(jobs["device"].unique(), key=_device_order)
    has_gpu = summary["gpu"] is not None
    lanes = float(np.clip(_LANE_HEIGHT * len(devices), _LEAST_LANES, _MOST_LANES))
    heights = [0.32, lanes, 0.8, *([0.8] if has_gpu else [])]
    figure = new_figure(_WIDTH, sum(heights) + 1.9)
    panels = figure.subplots(len(heights), 1, sharex=True, gridspec_kw={"height_ratios": heights})
    end = summary["wall_seconds"] / scale
    panels[0].set_xlim(0.0, end)
    _draw_path(panels[0], jobs[jobs["on_critical_path"] == 1])
    _draw_lanes(panels[1], jobs, devices, styles)
    cores = jobs["cpu_seconds"] / (jobs["ended"] - jobs["started"]).clip(lower=1e-9)
    _draw_busy(panels[2], jobs, "started", cores, end, "Cores")
    if has_gpu:
        on_gpu = jobs[jobs["device"].str.startswith("GPU")]
        _draw_busy(panels[3], on_gpu, "busy_from", np.ones(len(on_gpu)), end, "GPUs")
        panels[3].set_ylim(0.0, 1.08 * summary["gpu"]["num_devices"])
    for axes in panels:
        for pause in summary["pauses"]:
            axes.axvline(pause["at"] / scale, color=INK, linestyle=(0, (2, 2)), linewidth=1.0)
    panels[-1].set_xlabel(f"Time from the start of the first job ({unit})")
    _draw_legends(figure, jobs, styles)
    return figure


def _device_order(device: str) -> tuple[bool, str, int]:
    """GPUs first, machine by machine and number by number."""
    kind, number, *host = device.split()
    return kind != "GPU", " ".join(host).zfill(20), int(number)


def _bars(
    starts: Sequence[float], ends: Sequence[float], middles: Sequence[float], heights: Sequence[float]
) -> np.ndarray:
    """Corners (n, 4, 2) of n bars."""
    low, high = np.subtract(middles, np.divide(heights, 2)), np.add(middles, np.divide(heights, 2))
    corners = [(starts, low), (starts, high), (ends, high), (ends, low)]
    return np.stack([np.stack(corner, axis=-1) for corner in corners], axis=1)


def _add_bars(axes: Axes, corners: np.ndarray, **look: Any) -> None:
    """Draw bars as thin as they are: moved to whole pixels, those of many short jobs would be gone."""
    axes.add_collection(PolyCollection(corners, snap=False, **look))


def _draw_path(axes: Axes, path: pd.DataFrame) -> None:
    """The path in one lane: what is left white is waiting."""
    count = len(path)
    corners = _bars(path["busy_from"], path["ended"], np.zeros(count), np.ones(count))
    _add_bars(axes, corners, facecolors=[_KIND_COLOURS[kind] for kind in path["kind"]], linewidths=0)
    axes.set(ylim=(-0.5, 0.5), yticks=[0.0], yticklabels=["Critical path"])
    axes.grid(visible=False)
    axes.tick_params(axis="both", length=0)
    axes.spines[:].set(visible=True, color=FAINT)


def _draw_lanes(axes: Axes, jobs: pd.DataFrame, devices: Sequence[str], styles: Mapping[str, ArmStyle]) -> None:
    places = jobs["device"].map({device: place for place, device in enumerate(devices)})
    heights = np.where(jobs["kind"] == "training", _TALL, _LOW)
    corners = _bars(jobs["busy_from"], jobs["ended"], places, heights)
    colours = [styles[arm].colour if arm in styles else _OF_ALL_ARMS for arm in jobs["arm"]]
    _add_bars(axes, corners, facecolors=colours, linewidths=0)
    on_path = (jobs["on_critical_path"] == 1).to_numpy()
    if on_path.sum() <= _MOST_OUTLINES:
        _add_bars(axes, corners[on_path], facecolors="none", edgecolors=INK, linewidths=1.2)
    axes.set(ylim=(len(devices) - 0.5, -0.5))
    step = -(-len(devices) // _MOST_NAMED_LANES)
    axes.set_yticks(range(0, len(devices), step), devices[::step])
    axes.grid(visible=False)
    axes.tick_params(axis="y", length=0)


def _draw_busy(axes: Axes, jobs: pd.DataFrame, start: str, weights: Sequence[float], end: float, name: str) -> None:
    edges = np.linspace(0.0, end, _BINS + 1)
    busy = mean_busy(jobs[start], jobs["ended"], weights, edges)
    axes.stairs(busy, edges, fill=True, color=MUTED, linewidth=0)
    axes.set(ylim=(0.0, max(1.0, 1.08 * busy.max())), ylabel=f"{name}\nbusy")
    axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))


def _draw_legends(figure: Figure, jobs: pd.DataFrame, styles: Mapping[str, ArmStyle]) -> None:
    """Arms below, kinds of work on the critical path above."""
    present = set(jobs["arm"])
    arms = [Patch(color=style.colour, label=readable(arm)) for arm, style in styles.items() if arm in present]
    arms.append(Patch(color=_OF_ALL_ARMS, label="of all arms"))
    figure.legend(handles=arms, loc="outside lower center", ncols=min(len(arms), LEGEND_COLUMNS))
    on_path = set(jobs.loc[jobs["on_critical_path"] == 1, "kind"])
    kinds = [Patch(color=_KIND_COLOURS[kind], label=kind) for kind in KINDS if kind in on_path]
    kinds.append(Patch(facecolor="white", edgecolor=FAINT, label=WAITING))
    figure.legend(handles=kinds, loc="outside upper center", ncols=len(kinds))


def plot_timeline_files(
    jobs_path: str | Path,
    summary_path: str | Path,
    figure_path: str | Path,
    style: FigureStyle,
) -> None:
    """Draw a run as a PNG.

    Parameters
    ----------
    jobs_path, summary_path : see ``measure_timeline_files``
    style : of the study
    """
    jobs = pd.read_csv(jobs_path, sep="\t", dtype={"arm": str, "seed": str, "device": str}, keep_default_na=False)
    summary = json.loads(Path(summary_path).read_text(encoding="utf-8"))
    with apply_style():
        save_figure(draw_timeline(jobs, summary, style.arm_styles), figure_path, style.dpi)
