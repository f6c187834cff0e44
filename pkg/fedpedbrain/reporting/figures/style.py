"""One look for all figures: colours and line styles of arms, readable names, and saving that is equal to the byte."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axis import Axis
from matplotlib.figure import Figure

from fedpedbrain.base.files import replacing
from fedpedbrain.study.colours import arm_colours

_LINES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")

LEGEND_COLUMNS = 6
# Of heat maps: told apart with every common colour vision, and from dark to light in greyscale.
SEQUENTIAL_COLOURS = "cividis"
# The same of values on both sides of 0, which is white.
DIVERGING_COLOURS = "PuOr"
INK, MUTED, FAINT = "#1d232b", "#5b6470", "#e3e6ea"
_SETTINGS = {
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 8.0,
    "axes.labelsize": 9.0,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#9aa2ad",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "hatch.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}

# Published methods whose names have a spelling of their own.
_SPELLINGS = {
    "fedavg": "FedAvg",
    "fedprox": "FedProx",
    "fedbn": "FedBN",
    "fedadagrad": "FedAdagrad",
    "fedadam": "FedAdam",
    "fedavgm": "FedAvgM",
    "feddyn": "FedDyn",
    "fedyogi": "FedYogi",
    "fednova": "FedNova",
    "scaffold": "SCAFFOLD",
    "ditto": "Ditto",
    "krum": "Krum",
}


@dataclass(frozen=True)
class ArmStyle:
    """How one arm is drawn; line and marker tell arms apart in greyscale too, and local arms are thin."""

    colour: str
    line: str | tuple
    marker: str
    thin: bool


def arm_styles(
    arms: Sequence[str], configured: Mapping[str, str], local_sites: Mapping[str, str]
) -> dict[str, ArmStyle]:
    """Give every arm a colour, a line style and a marker.

    Parameters
    ----------
    arms, configured : see ``arm_colours``
    local_sites : local arm to its site; these arms come last, so that the others have the plainest lines

    Returns
    -------
    arm to its style, local arms last
    """
    colours = arm_colours(arms, configured)
    return {
        arm: ArmStyle(colours[arm], _LINES[number % len(_LINES)], _MARKERS[number % len(_MARKERS)], arm in local_sites)
        for number, arm in enumerate(sorted(arms, key=lambda arm: arm in local_sites))
    }


@dataclass(frozen=True)
class FigureStyle:
    """How the figures of a study are drawn, every arm the same way in all of them.

    Attributes
    ----------
    study_arms : every arm in the order of the config, on which the colours depend
    local_sites : local arm to its site; these arms are drawn thin
    configured_colours, dpi : see the config
    """

    study_arms: Sequence[str]
    local_sites: Mapping[str, str]
    configured_colours: Mapping[str, str]
    dpi: int

    @property
    def arm_styles(self) -> dict[str, ArmStyle]:
        """Arm to its style, local arms last."""
        return arm_styles(self.study_arms, self.configured_colours, self.local_sites)


def chosen_styles(arms: Sequence[str], styles: Mapping[str, ArmStyle]) -> dict[str, ArmStyle]:
    """Styles of some arms, or of all where none is named."""
    return {arm: styles[arm] for arm in arms or styles}


def readable(name: str) -> str:
    """A config name as a reader's words: ``whole_lesion`` becomes ``whole lesion``, ``fedavg`` ``FedAvg``."""
    return " ".join(_SPELLINGS.get(word.lower(), word) for word in name.split("_"))


def sentence_case(text: str) -> str:
    """The text with its first letter in upper case and the others as they are."""
    return text[:1].upper() + text[1:]


def is_dark(colour: Sequence[float]) -> bool:
    """Whether white stands out from a colour better than black.

    Parameters
    ----------
    colour : red, green and blue in [0, 1], whatever follows; weighed as in ITU-R BT.601
    """
    red, green, blue = colour[:3]
    # The grey from which both differ by the same contrast ratio of WCAG 2.2.
    return bool(0.299 * red + 0.587 * green + 0.114 * blue < 0.46)


@contextmanager
def apply_style() -> Iterator[None]:
    """Draw the figures of this block in the house's look; matplotlib's settings are restored afterwards."""
    with matplotlib.rc_context(_SETTINGS):
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty figure (inches) outside pyplot's global state, so that nothing needs a display or is left open."""
    return Figure(figsize=(width, height), layout="constrained")


def message_figure(message: str) -> Figure:
    """A small figure that says why there is nothing to draw."""
    figure = new_figure(7.0, 1.6)
    axes = figure.add_subplot(xticks=[], yticks=[], frame_on=False)
    axes.text(0.5, 0.5, message, ha="center", va="center", color=MUTED)
    return figure


def label_lowest(grid: np.ndarray) -> None:
    """Write tick labels under the lowest visible axes of every column of a grid that shares its x axes."""
    for column in grid.T:
        [axes for axes in column if axes.get_visible()][-1].tick_params(labelbottom=True)


def limit_to_scores(axis: Axis, values: np.ndarray) -> None:
    """Limit an axis to the scores there are, with some air, never far beyond 0 and 1 and never closer than 0.2."""
    known = values[np.isfinite(values)]
    low, high = (known.min(), known.max()) if known.size else (0.0, 1.0)
    air = max(0.06 * (high - low), (0.2 - (high - low)) / 2.0, 0.02)
    axis.axes.set(**{f"{axis.axis_name}lim": (max(low - air, -0.03), min(high + air, 1.03))})


def save_figure(figure: Figure, path: str | Path, dpi: int) -> None:
    """Write a PNG; equal figures give equal bytes, since no version or date goes into the file."""
    with replacing(path) as temporary:
        figure.savefig(
            temporary, dpi=dpi, format="png", metadata={"Software": None}, bbox_inches="tight", pad_inches=0.08
        )
