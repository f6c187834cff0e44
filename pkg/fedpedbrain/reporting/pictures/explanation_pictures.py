"""A picture a case: each arm's probabilities of regions, and its evidence for the class."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from fedpedbrain.base.cases import Shard
from fedpedbrain.base.files import read_table, replacing, write_table
from fedpedbrain.data.grid.intensity import to_grey_levels
from fedpedbrain.evaluation.case_choice import read_choice
from fedpedbrain.reporting.figures.style import apply_style, new_figure, readable
from fedpedbrain.reporting.pictures.frames import plane_aspect
from fedpedbrain.reporting.words.case_words import CaseScores
from fedpedbrain.study.geometry_facts import GEOMETRIES

EXPLANATION_COLUMNS = ("case", "file", "text", "saliency_cells")
SALIENCY_TITLE = "Evidence for the class\n(HiResCAM)"
# Perceptually uniform, and in order for every common colour vision; two, so that nobody takes one scale for the other.
_PROBABILITY_MAP, _SALIENCY_MAP = "viridis", "inferno"
# An overlay's part of the colour, and from which value on it has all of that: what is near 0 leaves the image free.
_OPACITY, _OPAQUE_FROM = 0.75, 0.3
_TILE_INCHES, _LABEL_INCHES, _BAR_INCHES = 1.9, 1.5, 0.55
_QUALITY = 88


@dataclass(frozen=True)
class ArmExplanation:
    """What an arm and seed says of one case on one slice.

    Attributes
    ----------
    name : of the arm
    lines : what it predicts, in words
    predicted_class : the most probable one, "" in a study without classes
    regions : probabilities (R, H, W), in [0, 1]
    saliency : (S, H, W) in [0, 1], S being 1, or 0 in a study without classes
    """

    name: str
    lines: tuple[str, ...]
    predicted_class: str
    regions: np.ndarray
    saliency: np.ndarray


def overlay_map(name: str) -> ListedColormap:
    """A colour map of matplotlib that is clear at 0 and lets the image through everywhere."""
    shares = np.linspace(0.0, 1.0, 256)
    colours = matplotlib.colormaps[name](shares)
    colours[:, 3] = _OPACITY * np.clip(shares / _OPAQUE_FROM, 0.0, 1.0)
    return ListedColormap(colours)


def _draw_tile(
    axes: Axes, plane: np.ndarray, masks: np.ndarray, aspect: float, overlay: np.ndarray | None, colours: ListedColormap
) -> None:
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.imshow(plane, cmap="gray", vmin=0, vmax=255, interpolation="bicubic", aspect=aspect)
    if overlay is not None:
        axes.imshow(overlay, cmap=colours, vmin=0.0, vmax=1.0, interpolation="bilinear", aspect=aspect)
        for mask in filter(np.any, masks):
            lines = axes.contour(mask, [0.5], colors="white", linewidths=1.0)
            lines.set(path_effects=[withStroke(linewidth=2.2, foreground="black")])


def draw_case(
    plane: np.ndarray, masks: np.ndarray, aspect: float, arms: Sequence[ArmExplanation], regions: Sequence[str]
) -> Figure:
    """Draw one slice of a case: a row an arm, the image and its overlays from left to right.

    Parameters
    ----------
    plane : uint8 (H, W)
    masks : the true regions, uint8 (R, H, W), 0 or 1
    aspect : height of the slice over its width, both in mm
    """
    names = [f"Probability of {readable(region)}" for region in regions]
    names += [SALIENCY_TITLE] * len(arms[0].saliency)
    maps = [overlay_map(_PROBABILITY_MAP)] * len(regions) + [overlay_map(_SALIENCY_MAP)] * len(arms[0].saliency)
    height = _TILE_INCHES * aspect
    num_bars = bool(regions) + len(arms[0].saliency)
    width = _LABEL_INCHES + (1 + len(names)) * _TILE_INCHES + num_bars * _BAR_INCHES
    figure = new_figure(width, len(arms) * height + 0.55)
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.06)
    grid = figure.subplots(len(arms), 1 + len(names), squeeze=False)
    pixel_aspect = aspect * plane.shape[1] / plane.shape[0]
    for row, arm in zip(grid, arms, strict=True):
        _draw_tile(row[0], plane, masks, pixel_aspect, None, None)
        words = "\n".join((readable(arm.name), *arm.lines))
        row[0].set_ylabel(words, rotation=0, ha="right", va="center", fontsize=7.5)
        for axes, overlay, colours in zip(row[1:], (*arm.regions, *arm.saliency), maps, strict=True):
            _draw_tile(axes, plane, masks, pixel_aspect, overlay, colours)
    for axes, name in zip(grid[0], ("Image", *names), strict=True):
        axes.set_title(name, fontsize=8.5, loc="center")
    # One scale beside all overlays of a kind.
    for column in sorted({len(regions), len(names)} - {0}):
        bar = figure.colorbar(ScalarMappable(cmap=maps[column - 1]), ax=grid[:, column], fraction=0.06, pad=0.03)
        bar.ax.tick_params(labelsize=7.0)
        bar.outline.set_visible(False)
    return figure


def describe_picture(place: str, arms: Sequence[ArmExplanation], regions: Sequence[str]) -> str:
    """What a picture shows, for those who do not see it."""
    parts = [place]
    for arm in arms:
        highest = [
            f"probability of {readable(region)} up to {float(plane.max()):.2f}"
            for region, plane in zip(regions, arm.regions, strict=True)
        ]
        seen = [f"evidence for {readable(arm.predicted_class)}"] if arm.predicted_class else []
        parts.append(f"{readable(arm.name)}: {', '.join(highest + seen)}")
    return ". ".join(parts)


def load_explanations(path: str | Path) -> dict[str, tuple[str, np.ndarray, np.ndarray]]:
    """Case to predicted class, regions and saliency of an ``ArmExplanation``, as ``explain_cases_files`` wrote them."""
    with np.load(path) as found:
        facts = zip(found["cases"].tolist(), found["predicted_classes"].tolist(), strict=True)
        return {
            case: (predicted, *(found[f"{name}_{number}"].astype(np.float32) for name in ("regions", "saliency")))
            for number, (case, predicted) in enumerate(facts)
        }


def load_saliency_cells(path: str | Path) -> str:
    """How many cells the saliency has on each axis, in words; "" in a study without classes."""
    with np.load(path) as found:
        return " x ".join(map(str, found["saliency_cells"].tolist()))


def plot_explanations_files(
    choice_path: str | Path,
    shards: Sequence[Shard],
    explanations_paths: Sequence[str | Path],
    scores_paths: Sequence[str | Path],
    pictures_folder: str | Path,
    arms: Sequence[str],
    regions: Sequence[str],
    dpi: int,
    geometry: str,
) -> None:
    """Write a picture for each chosen case, and ``explanations.tsv`` that lists them.

    Parameters
    ----------
    choice_path : the chosen cases
    shards : of all sites
    explanations_paths, scores_paths : of one seed, one of each arm in ``arms``
    regions, dpi : see the config
    geometry : in which the cases are shown, a word of ``GEOMETRIES``
    """
    dataset = GEOMETRIES.load(geometry)().open(shards)
    row_of = {case.case: row for row, case in enumerate(dataset.cases)}
    scores = [CaseScores(read_table(path)) for path in scores_paths]
    explanations = [load_explanations(path) for path in explanations_paths]
    cells = load_saliency_cells(explanations_paths[0])
    entries = []
    with apply_style():
        for chosen in read_choice(choice_path):
            case, row = dataset.cases[row_of[chosen.case]], row_of[chosen.case]
            shown = [
                ArmExplanation(name, arm_scores.lines(case, regions), *found[case.case])
                for name, arm_scores, found in zip(arms, scores, explanations, strict=True)
            ]
            image, masks = to_grey_levels(dataset.image(row)[:1])[0], dataset.mask(row)[:, chosen.slice_index]
            aspect = plane_aspect(image.shape, dataset.spacing_mm(row))
            figure = draw_case(image[chosen.slice_index], masks, aspect, shown, regions)
            name = f"{case.case}.jpg"
            with replacing(Path(pictures_folder) / name) as temporary:
                figure.savefig(temporary, dpi=dpi, format="jpg", pil_kwargs={"quality": _QUALITY})
            place = f"Case {case.case}, slice {chosen.slice_index + 1} of {len(image)}"
            words = describe_picture(place, shown, regions)
            entries.append({"case": case.case, "file": name, "text": words, "saliency_cells": cells})
    write_table(Path(pictures_folder) / "explanations.tsv", EXPLANATION_COLUMNS, entries)
