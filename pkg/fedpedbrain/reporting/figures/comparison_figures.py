"""Figures of the arms' scores side by side: by site, and by class."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from fedpedbrain.base.cases import DIAGNOSIS, EXTERNAL
from fedpedbrain.evaluation.tables import POOLED_SCOPE, read_results
from fedpedbrain.reporting.figures.interval_panels import RowGroup, draw_interval_panels
from fedpedbrain.reporting.figures.style import (
    ArmStyle,
    FigureStyle,
    apply_style,
    chosen_styles,
    message_figure,
    readable,
    save_figure,
    sentence_case,
)
from fedpedbrain.reporting.results import class_measures, panel_title
from fedpedbrain.study.colours import MOST_ARMS_BY_COLOUR

_MEASURES = ("dice", "accuracy")
_EXTERNAL_NOTE = "\nexternal, never trained on"
_CLASS_PANEL_WIDTH = 2.3


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


def draw_comparison(
    summary: pd.DataFrame, styles: Mapping[str, ArmStyle], local_sites: Mapping[str, str], finding: str
) -> Figure:
    """Draw every arm's scores as points with intervals, a panel a measure, a group a scope, external sites shaded.

    Parameters
    ----------
    summary : the summary table
    styles : how to draw each arm, from top to bottom
    local_sites : local arm to its site
    finding : what outlined cases have, in a word
    """
    chosen = summary[summary["metric"].isin(_MEASURES) & summary["value"].notna()]
    measures = list(dict.fromkeys(zip(chosen["target"], chosen["metric"], strict=True)))
    measures.sort(key=lambda measure: measure[0] == DIAGNOSIS)
    if not measures:
        return message_figure("No held-out patient has a mask or a diagnosis: there is nothing to compare.")
    panels = {panel_title(target, finding): {"target": target, "metric": metric} for target, metric in measures}
    groups = [
        RowGroup(
            {"scope": scope, "split": split},
            sentence_case(scope) if scope == POOLED_SCOPE else scope + _EXTERNAL_NOTE * (split == EXTERNAL),
            [arm for arm in styles if arm in arms],
            is_bold=scope == POOLED_SCOPE,
            is_shaded=split == EXTERNAL,
        )
        for (scope, split), arms in comparison_groups(chosen, local_sites).items()
    ]
    return draw_interval_panels(chosen, panels, groups, styles)


def plot_comparison_files(
    summary_path: str | Path,
    figure_path: str | Path,
    style: FigureStyle,
    finding: str,
) -> None:
    """Draw the summary table as a PNG; the arguments are as of ``plot_convergence_files``."""
    summary = read_results(summary_path)
    with apply_style():
        figure = draw_comparison(summary, style.arm_styles, style.local_sites, finding)
        save_figure(figure, figure_path, style.dpi)


def draw_classes(summary: pd.DataFrame, styles: Mapping[str, ArmStyle], classes: Sequence[str]) -> Figure:
    """Draw how well each class is told from the rest on all test patients: a panel a metric, a group a class.

    Parameters
    ----------
    summary : the summary table
    styles : how to draw each arm that is shown, from top to bottom
    classes : from top to bottom
    """
    metrics = {sentence_case(measure.title): {"metric": measure.metric} for measure in class_measures("")}
    pooled = summary[(summary["scope"] == POOLED_SCOPE) & summary["target"].isin(classes) & summary["value"].notna()]
    pooled = pooled[pooled["arm"].isin(list(styles))]
    if pooled.empty:
        return message_figure("No test case has a known class: there is no diagnosis to score.")
    shown = {arm: style for arm, style in styles.items() if (pooled["arm"] == arm).any()}
    groups = [
        RowGroup({"target": name}, readable(name), list(shown)) for name in classes if (pooled["target"] == name).any()
    ]
    return draw_interval_panels(pooled, metrics, groups, shown, "Score", _CLASS_PANEL_WIDTH, repeats_sizes=False)


def plot_classes_files(
    summary_path: str | Path,
    figure_path: str | Path,
    classes: Sequence[str],
    arms: Sequence[str],
    style: FigureStyle,
) -> None:
    """Draw the scores of classes in the summary table as a PNG.

    Parameters
    ----------
    classes : from top to bottom
    arms : which arms to show where all would be too many to tell apart by colour
    style : of the study
    """
    shown = arms if len(style.study_arms) > MOST_ARMS_BY_COLOUR else []
    styles = chosen_styles(shown, style.arm_styles)
    with apply_style():
        save_figure(draw_classes(read_results(summary_path), styles, classes), figure_path, style.dpi)
