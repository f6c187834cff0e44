"""One figure of the report by its name."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedpedbrain.reporting.figure_facts import FIGURES
from fedpedbrain.reporting.figures.style import FigureStyle


def plot_figure_files(
    figure: str, inputs: Mapping[str, Any], figure_path: str | Path, settings: Mapping[str, Any]
) -> None:
    """Draw a figure as a PNG.

    Parameters
    ----------
    figure : a word of ``FIGURES``
    inputs : argument of its function to the path or the paths that it reads
    settings : its other arguments; of ``style``, the attributes of ``FigureStyle``
    """
    style = {"style": FigureStyle(**settings["style"])} if "style" in settings else {}
    FIGURES.load(figure)(figure_path=figure_path, **inputs, **(dict(settings) | style))
