"""A new scan as pictures: a video of its slices with what each model outlines, and an overview of a few of them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from PIL import Image, ImageDraw

from fedpedbrain.base.files import replacing
from fedpedbrain.data.formats.reading import read_scan
from fedpedbrain.data.grid.geometry import to_lps
from fedpedbrain.evaluation.case_choice import largest_slice
from fedpedbrain.reporting.figures.style import readable
from fedpedbrain.reporting.pictures.frames import (
    CaseView,
    FramePainter,
    Panel,
    draw_region,
    enlarge_grey,
    even,
    load_font,
    plane_aspect,
    region_shades,
)
from fedpedbrain.reporting.pictures.video import write_video
from fedpedbrain.study.colours import arm_colours

# Tiles of the overview: columns and rows, and the height of each in pixels.
_OVERVIEW = (4, 2)
_TILE_PIXELS = 256
# Part of the voxels that become black and white at the ends of the grey scale.
_WINDOW_PERCENTILES = (1.0, 99.5)


@dataclass(frozen=True)
class ModelView:
    """What one model says of a scan.

    Attributes
    ----------
    result : its ``prediction.json``
    masks : of every region by its name, uint8 (D, H, W), 0 or 1, in the layout of ``upright``; they may overlap
    colour : of the model in the video and on the page
    """

    result: Mapping[str, Any]
    masks: Mapping[str, np.ndarray]
    colour: str

    @property
    def name(self) -> str:
        """Under which name the model was given."""
        return self.result["model"]["name"]

    @property
    def lines(self) -> tuple[str, ...]:
        """What the model says, in a few words a line."""
        volumes = self.result["volumes_ml"]
        named = len(volumes) > 1
        lines = [f"{readable(name)} {ml:.1f} ml" if named else f"{ml:.1f} ml outlined" for name, ml in volumes.items()]
        best = self.result["predicted_class"]
        if best is not None:
            lines.append(f"{readable(best)} {100 * self.result['probabilities'][best]:.0f} %")
        return tuple(lines)


def upright(image: sitk.Image) -> np.ndarray:
    """An image's values as (D, H, W), D from feet to head, H from front to back, W from right to left."""
    return sitk.GetArrayFromImage(to_lps(image))


def to_grey(values: np.ndarray) -> np.ndarray:
    """Values of any unit as uint8, their lowest and highest percentiles black and white."""
    low, high = np.percentile(values, _WINDOW_PERCENTILES)
    return np.round(255.0 * np.clip((values - low) / max(high - low, 1e-6), 0.0, 1.0)).astype(np.uint8)


def load_model_view(folder: Path, colour: str) -> ModelView:
    """Read what one model says of a scan."""
    result = json.loads((folder / "prediction.json").read_text(encoding="utf-8"))
    masks = {name: upright(sitk.ReadImage(str(folder / file))) for name, file in result["region_masks"].items()}
    return ModelView(result, masks, colour)


def load_model_views(folders: Sequence[str | Path], configured_colours: Mapping[str, str]) -> list[ModelView]:
    """Read what every model says of a scan; a model of an arm's name has that arm's colour."""
    colours = arm_colours([Path(folder).name for folder in folders], configured_colours)
    return [load_model_view(Path(folder), colours[Path(folder).name]) for folder in folders]


def build_scan_view(scan_name: str, image: sitk.Image, models: Sequence[ModelView]) -> CaseView:
    """Gather what the video shows: the image, and beside it each model's outlines."""
    oriented = to_lps(image)
    grey = to_grey(sitk.GetArrayViewFromImage(oriented))
    # A region has one shade, whichever models know it.
    regions = list({name: None for model in models for name in model.masks})
    masks = np.zeros((len(models), len(regions), *grey.shape), dtype=np.uint8)
    for model, planes in zip(models, masks, strict=True):
        for name, mask in model.masks.items():
            planes[regions.index(name)] = mask
    panels = [Panel("Image")]
    panels += [
        Panel(readable(model.name), model.lines, planes if model.masks else None, model.colour)
        for model, planes in zip(models, masks, strict=True)
    ]
    words = [f"scan {scan_name}"]
    if len(regions) > 1:
        words.append(f"outlines from full colour to pale: {', '.join(map(readable, regions))}")
    are_sides_known = models[0].result["scan"]["is_orientation_known"]
    if not are_sides_known:
        words.append("orientation as the config assumes")
    aspect = plane_aspect(grey.shape, oriented.GetSpacing()[::-1])
    return CaseView(grey, masks.max(axis=0), panels, "  ·  ".join(words), aspect, are_sides_known)


def overview_slices(marked: np.ndarray, num_slices: int) -> list[int]:
    """Slices that show what is outlined, with a little around it, or all of the scan where nothing is.

    Parameters
    ----------
    marked : uint8 (R, D, H, W), 0 or 1
    num_slices : how many at most, evenly spaced
    """
    depth = marked.shape[1]
    outlined = np.flatnonzero(marked.any(axis=(0, 2, 3)))
    first, last = (outlined[0], outlined[-1]) if outlined.size else (round(0.1 * depth), round(0.9 * depth) - 1)
    missing = max(0, min(num_slices, depth) - (last - first + 1))
    first = max(0, min(first - missing // 2, depth - (last - first + 1) - missing))
    last = max(last, min(depth, first + num_slices) - 1)
    return sorted({round(place) for place in np.linspace(first, last, min(num_slices, last - first + 1))})


def paint_overview(view: CaseView) -> Image.Image:
    """A few slices side by side, all models' outlines in each."""
    columns, rows = _OVERVIEW
    size = (even(_TILE_PIXELS), even(_TILE_PIXELS / view.aspect))
    chosen = overview_slices(view.marked, columns * rows)
    canvas = Image.new("RGB", (columns * size[1], -(-len(chosen) // columns) * size[0]))
    for place, index in enumerate(chosen):
        picture = enlarge_grey(view.image[index], size)
        for panel in view.panels:
            if panel.masks is not None:
                shades = region_shades(panel.colour, len(panel.masks))
                for mask, shade in zip(panel.masks[:, index], shades, strict=True):
                    draw_region(picture, mask, shade, 2.0)
        tile = Image.fromarray(picture)
        ImageDraw.Draw(tile).text((6, 5), str(index + 1), (160, 168, 178), load_font(13))
        canvas.paste(tile, ((place % columns) * size[1], place // columns * size[0]))
    return canvas


def render_scan_files(
    scan_name: str,
    scan_path: str | Path,
    prediction_folders: Sequence[str | Path],
    video_path: str | Path,
    poster_path: str | Path,
    overview_path: str | Path,
    formats: Mapping[str, Any],
    configured_colours: Mapping[str, str],
    frames_per_second: float,
    panel_pixels: int,
) -> None:
    """Write video, its first picture and overview of a scan.

    Parameters
    ----------
    scan_path : the channel that is shown
    prediction_folders : one a model, in the order of the panels
    formats, configured_colours, frames_per_second, panel_pixels : see the config
    """
    models = load_model_views(prediction_folders, configured_colours)
    view = build_scan_view(scan_name, read_scan(scan_path, formats).image, models)
    painter = FramePainter(view, panel_pixels)
    write_video(painter, Path(video_path), frames_per_second)
    poster = Image.fromarray(painter.paint(largest_slice(view.marked)))
    for path, picture in ((poster_path, poster), (overview_path, paint_overview(view))):
        with replacing(path) as temporary:
            picture.save(temporary, quality=88)
