"""One picture a site: its cases as the network sees them, cut along three axes through what is outlined."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from fedpedbrain.base.cases import SPLITS, Case, Shard
from fedpedbrain.base.files import replacing
from fedpedbrain.data.grid.dataset import ShardDataset
from fedpedbrain.data.grid.intensity import to_grey_levels
from fedpedbrain.reporting.figures.style import INK, MUTED, readable
from fedpedbrain.reporting.pictures.frames import draw_region, enlarge_grey, load_font, region_shades, write_line

_MOST_CASES, _CASES_PER_ROW = 24, 3
# All in pixels.
_CELL, _GAP, _MARGIN = 128, 3, 14
_FONT, _LINE, _STROKE = 12, 17, 1.6
_TILE = (3 * _CELL + 2 * _GAP, 2 * _LINE + _CELL)
_OUTLINE_COLOUR = "#E69F00"
# Grey levels and outlines need no more, and a picture of them is a third as large.
_NUM_COLOURS = 128
_VIEWS = "Axial, coronal and sagittal through the largest outline, else the middle."
_SIDES = {
    True: "R is the patient's right.",
    False: "Where no R stands, nobody knows which side is right.",
}


def spread_rows(num_rows: int, most: int) -> list[int]:
    """At most ``most`` rows, evenly spread from the first to the last."""
    return np.linspace(0, num_rows - 1, min(num_rows, most)).round().astype(int).tolist()


def largest_slices(masks: np.ndarray) -> tuple[int, int, int]:
    """Index along D, H and W of the slice with the most outlined voxels, the middle one where there is none.

    Parameters
    ----------
    masks : uint8 (R, D, H, W), 0 or 1
    """
    outlined = masks.any(axis=0)
    if not outlined.any():
        return tuple(size // 2 for size in outlined.shape)
    return tuple(int(outlined.sum(axis=others).argmax()) for others in ((1, 2), (0, 2), (0, 1)))


def cut_planes(volume: np.ndarray, place: Sequence[int]) -> list[np.ndarray]:
    """The axial (front up), coronal and sagittal (head up) plane of a volume (D, H, W) through a voxel."""
    depth, height, width = place
    return [volume[depth], volume[::-1, height], volume[::-1, :, width]]


def plane_sizes(shape: Sequence[int], spacing_mm: Sequence[float], pixels: int) -> list[tuple[int, int]]:
    """Height and width in pixels of the planes of ``cut_planes``, in one scale, the longest side ``pixels`` long.

    Parameters
    ----------
    shape, spacing_mm : of the grid (D, H, W)
    """
    lengths = np.array(shape) * spacing_mm
    depth, height, width = np.maximum(np.round(lengths * pixels / lengths.max()), 1).astype(int).tolist()
    return [(height, width), (depth, width), (depth, height)]


def draw_planes(
    image: np.ndarray, masks: np.ndarray, spacing_mm: Sequence[float], are_sides_known: bool
) -> Image.Image:
    """Three planes of one case side by side, black around them.

    Parameters
    ----------
    image : uint8 (D, H, W)
    masks : uint8 (R, D, H, W), 0 or 1
    spacing_mm : of the grid (D, H, W)
    are_sides_known : whether anybody knows which side is the patient's right, which is then named
    """
    place, shades = largest_slices(masks), region_shades(_OUTLINE_COLOUR, len(masks))[: len(masks)]
    strip = Image.new("RGB", (_TILE[0], _CELL), "white")
    planes = zip(cut_planes(image, place), plane_sizes(image.shape, spacing_mm, _CELL), strict=True)
    for number, (plane, (height, width)) in enumerate(planes):
        picture = enlarge_grey(plane, (height, width))
        for mask, shade in zip(masks, shades, strict=True):
            draw_region(picture, cut_planes(mask, place)[number], shade, _STROKE)
        cell = Image.new("RGB", (_CELL, _CELL), "black")
        cell.paste(Image.fromarray(picture), ((_CELL - width) // 2, (_CELL - height) // 2))
        strip.paste(cell, (number * (_CELL + _GAP), 0))
    if are_sides_known:
        ImageDraw.Draw(strip).text((3, _CELL // 2), "R", "#A0A8B2", load_font(_FONT - 2), anchor="lm")
    return strip


def _in_mm(spacing: Sequence[float]) -> str:
    return " x ".join(f"{size:.3g}" for size in spacing)


def describe_case(case: Case) -> tuple[str, str]:
    """A case's name, class and split, and the spacings of its scan and its grid: two lines."""
    words = [case.case, readable(case.class_name) if case.class_name else "", case.split]
    spacings = f"Scan {_in_mm(case.spacing_mm)} mm, grid {_in_mm(case.grid_spacing_mm)} mm"
    return "  ·  ".join(filter(None, words)), spacings


def draw_site(site: str, dataset: ShardDataset, regions: Sequence[str]) -> Image.Image:
    """The contact sheet of one site.

    Parameters
    ----------
    dataset : all cases of the site
    regions : names of the masks' planes
    """
    rows = spread_rows(len(dataset), _MOST_CASES)
    columns = min(_CASES_PER_ROW, len(rows))
    step = (_TILE[0] + _MARGIN, _TILE[1] + _MARGIN)
    top = _MARGIN + 4 * _LINE
    width = max(columns, 2) * step[0] + _MARGIN
    sheet = Image.new("RGB", (width, top + -(-len(rows) // columns) * step[1]), "white")
    draw = ImageDraw.Draw(sheet)
    shown = f"{len(rows)} of {len(dataset)} cases, evenly spread over the table" if len(rows) < len(dataset) else ""
    outlines = f"Outlined: {', '.join(map(readable, regions))}{', from full colour to pale' if regions[1:] else ''}."
    views = f"{_VIEWS} {_SIDES[all(case.orientation for case in dataset.cases)]}"
    heading = [f"Site {site}" + (f"  \u00b7  {shown}" if shown else ""), views, outlines if regions else ""]
    for number, text in enumerate(heading):
        size, colour = (_FONT + 2, INK) if number == 0 else (_FONT, MUTED)
        place = (_MARGIN, _MARGIN + round((number + 0.5) * _LINE))
        write_line(draw, place, text, colour, width - 2 * _MARGIN, size, bold=number == 0)
    for number, row in enumerate(rows):
        left, upper = _MARGIN + number % columns * step[0], top + number // columns * step[1]
        case = dataset.cases[row]
        for line, text in enumerate(describe_case(case)):
            place, colour = (left, upper + round((line + 0.5) * _LINE)), MUTED if line else INK
            write_line(draw, place, text, colour, _TILE[0], _FONT, bold=not line)
        image = to_grey_levels(dataset.image(row)[:1])[0]
        strip = draw_planes(image, dataset.mask(row), case.grid_spacing_mm, bool(case.orientation))
        sheet.paste(strip, (left, upper + 2 * _LINE))
    return sheet


def plot_quality_files(shard: Shard, picture_path: str | Path, site: str, regions: Sequence[str]) -> None:
    """Draw one site's shard as a PNG; see ``draw_site``. Of several channels the first is shown."""
    sheet = draw_site(site, ShardDataset([shard], SPLITS), regions)
    with replacing(picture_path) as temporary:
        sheet.quantize(_NUM_COLOURS, dither=Image.Dither.NONE).save(temporary, format="PNG", optimize=True)
