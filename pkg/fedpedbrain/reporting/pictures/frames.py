"""Drawing the frames of a case's video: panels side by side, regions over the image, words above."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fedpedbrain.reporting.figures.style import is_dark

_FONT_FOLDER = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
_BACKGROUND, _TEXT, _QUIET = (16, 19, 23), (236, 239, 242), (160, 168, 178)
_TRACK, _OUTLINED = (52, 58, 66), (214, 219, 225)
_GAP = 6
_SMALLEST_FONT = 8
# Part of a region's colour in the tissue that it covers: enough to be seen, too little to hide what lies below.
_FILL = 0.18


@dataclass(frozen=True)
class Panel:
    """One view of the image.

    Attributes
    ----------
    title : above the image
    lines : below the title
    masks : uint8 (R, D, H, W), 0 or 1, to outline and fill, or None
    colour : of the regions and of the mark before the title, as #RRGGBB
    """

    title: str
    lines: tuple[str, ...] = ()
    masks: np.ndarray | None = None
    colour: str = "#FFFFFF"


@dataclass(frozen=True)
class CaseView:
    """What a case's video shows.

    Attributes
    ----------
    image : uint8 (D, H, W), D from feet to head, H from front to back, W from the patient's right to left
    marked : uint8 (R, D, H, W), 0 or 1, whose slices the bar below the panels marks: the truth, or what is predicted
    panels : from left to right
    caption : above all panels
    aspect : height of a slice over its width, both in mm
    are_sides_known : whether anybody knows which side of the image is the patient's right
    """

    image: np.ndarray
    marked: np.ndarray
    panels: Sequence[Panel]
    caption: str
    aspect: float
    are_sides_known: bool = True


def plane_aspect(shape: Sequence[int], spacing_mm: Sequence[float]) -> float:
    """Height (front to back) over width, both in mm, of a slice of an image of (D, H, W) voxels."""
    return shape[1] * spacing_mm[1] / (shape[2] * spacing_mm[2])


@lru_cache
def load_font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """The font of the figures, which comes with matplotlib and so is the same everywhere."""
    return ImageFont.truetype(_FONT_FOLDER / ("DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"), size)


def write_line(
    draw: ImageDraw.ImageDraw,
    place: tuple[int, int],
    text: str,
    fill: str | tuple,
    room: int,
    size: int,
    bold: bool = False,
) -> None:
    """Write one line from ``place``, its left end and middle, on; smaller than ``size`` where it would not fit."""
    while size > _SMALLEST_FONT and draw.textlength(text, load_font(size, bold)) > room:
        size -= 1
    draw.text(place, text, fill, load_font(size, bold), anchor="lm")


def even(size: float) -> int:
    """The nearest even number: H.264 in browsers stores colour for two by two pixels."""
    return max(2, 2 * round(size / 2.0))


def line_distance(mask: np.ndarray, size: tuple[int, int], box: tuple[slice, slice] | None = None) -> np.ndarray:
    """Distance of every pixel to a mask's outline once the mask is enlarged smoothly, negative outside.

    Parameters
    ----------
    mask : uint8 (H, W), 0 or 1
    size : pixels (height, width) of the enlarged mask
    box : rows and columns of it that are wanted; None for all

    Returns
    -------
    float32 (height, width), or as large as the box, in pixels: true near the outline and large far from it
    """
    rows, columns = box or (slice(0, size[0]), slice(0, size[1]))
    steps = mask.shape[0] / size[0], mask.shape[1] / size[1]
    source = (columns.start * steps[1], rows.start * steps[0], columns.stop * steps[1], rows.stop * steps[0])
    shape = (columns.stop - columns.start, rows.stop - rows.start)
    enlarged = Image.fromarray(mask.astype(np.float32)).resize(shape, Image.Resampling.BICUBIC, box=source)
    level = np.asarray(enlarged) - np.float32(0.5)
    rise_y, rise_x = np.gradient(level)
    # First-order distance to the level 0.5; the floor keeps flat areas far away instead of dividing by zero.
    return level / np.maximum(np.sqrt(rise_y * rise_y + rise_x * rise_x), np.float32(1e-3))


def _pixels_around(mask: np.ndarray, size: tuple[int, int], margin: float) -> tuple[slice, slice]:
    """Rows and columns of an enlarged mask that something drawn of it can reach; the mask is not empty."""
    box = []
    for axis, pixels in enumerate(size):
        found = np.flatnonzero(mask.any(axis=1 - axis))
        # Two voxels: as far as the smooth enlargement carries a voxel.
        first, stop = ((place * pixels / mask.shape[axis]) for place in (found[0] - 2, found[-1] + 3))
        box.append(slice(max(0, math.floor(first - margin)), min(pixels, math.ceil(stop + margin))))
    return box[0], box[1]


def draw_region(picture: np.ndarray, mask: np.ndarray, colour: np.ndarray, width: float, fill: float = 0.0) -> None:
    """Draw a mask's smooth outline with a dark or light rim, in place.

    Parameters
    ----------
    picture : uint8 (height, width, 3)
    mask : uint8 (H, W), 0 or 1
    colour : float32 (3,), 0 to 255
    width : of the line in pixels
    fill : part of the colour inside the outline, in [0, 1]
    """
    if not mask.any():
        return
    size = picture.shape[:2]
    box = _pixels_around(mask, size, width / 2 + 2)
    distance = line_distance(mask, size, box)[..., None]
    away = np.abs(distance)
    rim = np.full(3, 255.0 if is_dark(colour / 255.0) else 0.0, dtype=np.float32)
    part = picture[box].astype(np.float32)
    if fill:
        part += np.clip(distance + 0.5, 0.0, 1.0) * fill * (colour - part)
    for paint, half_width, strength in ((rim, width / 2 + 1.0, 0.6), (colour, width / 2, 1.0)):
        # One pixel of falloff is what makes the line look smooth.
        part += np.clip(half_width + 0.5 - away, 0.0, 1.0) * strength * (paint - part)
    picture[box] = np.round(part)


def enlarge_grey(plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A plane, uint8 (H, W), as a grey picture to draw on, uint8 (height, width, 3)."""
    grey = Image.fromarray(np.ascontiguousarray(plane)).resize(size[::-1], Image.Resampling.BICUBIC)
    return np.array(grey.convert("RGB"))


@contextmanager
def drawing_on(frame: np.ndarray, left: int, top: int, right: int, bottom: int) -> Iterator[ImageDraw.ImageDraw]:
    """Draw on a part of a frame, uint8 (height, width, 3), in coordinates of that part; the rest is not copied."""
    part = frame[top:bottom, left:right]
    picture = Image.fromarray(part)
    yield ImageDraw.Draw(picture)
    part[:] = picture


def region_shades(colour: str, num_regions: int) -> list[np.ndarray]:
    """One shade of a colour a region, the first the colour itself, the next ones paler; float32 (3,), 0 to 255."""
    base = 255.0 * np.array(matplotlib.colors.to_rgb(colour), dtype=np.float32)
    shares = np.linspace(0.0, 0.7, num_regions) if num_regions > 1 else [0.0]
    return [base + np.float32(share) * (255.0 - base) for share in shares]


class FramePainter:
    """Paints the frames of one case.

    Parameters
    ----------
    view : what to show
    panel_pixels : height of a panel; its width follows from the slice's size in mm
    """

    def __init__(self, view: CaseView, panel_pixels: int) -> None:
        self._view = view
        self._height, self._width = even(panel_pixels), even(panel_pixels / view.aspect)
        self._font_size = max(11, round(panel_pixels / 20))
        self._line = round(1.45 * self._font_size)
        # All words stand above the panels: a browser's controls cover the lower edge of a paused video.
        num_lines = max(len(panel.lines) for panel in view.panels)
        self._top = (2 + num_lines) * self._line + 3 * _GAP
        bottom = self._top + self._height + 2 * _GAP + self._line
        self.size = (even(bottom), even(len(view.panels) * (self._width + _GAP) + _GAP))
        self._shades = [
            [] if panel.masks is None else region_shades(panel.colour, len(panel.masks)) for panel in view.panels
        ]
        self._stroke = max(2.0, panel_pixels / 115)
        self._canvas = self._paint_words()

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield every slice from feet to head as uint8 (height, width, 3)."""
        return (self.paint(index) for index in range(len(self._view.image)))

    def paint(self, slice_index: int) -> np.ndarray:
        """One slice's frame, uint8 (height, width, 3)."""
        frame = self._canvas.copy()
        grey = enlarge_grey(self._view.image[slice_index], (self._height, self._width))
        for number, panel in enumerate(self._view.panels):
            left = self._left(number)
            picture = frame[self._top : self._top + self._height, left : left + self._width]
            picture[:] = grey
            for region, shade in enumerate(self._shades[number]):
                draw_region(picture, panel.masks[region, slice_index], shade, self._stroke, _FILL)
        self._paint_position(frame, slice_index)
        return frame

    def _row(self, number: int) -> int:
        """Middle of a line of words, counted from the upper edge."""
        return _GAP + round((number + 0.5) * self._line) + (_GAP if number else 0)

    def _left(self, number: int) -> int:
        return _GAP + number * (self._width + _GAP)

    def _paint_words(self) -> np.ndarray:
        """All that is the same in every frame."""
        canvas = Image.new("RGB", self.size[::-1], _BACKGROUND)
        draw = ImageDraw.Draw(canvas)
        mark = round(0.75 * self._font_size)
        # The right end stays free for the number of the slice.
        room = self.size[1] - 2 * _GAP - 9 * self._font_size
        write_line(draw, (_GAP, self._row(0)), self._view.caption, _QUIET, room, self._font_size)
        for number, panel in enumerate(self._view.panels):
            left, middle, indent = self._left(number), self._row(1), 0
            if panel.masks is not None:
                box = (left, middle - mark // 2, left + mark, middle + mark - mark // 2)
                draw.rectangle(box, fill=panel.colour, outline=_QUIET)
                indent = mark + _GAP
            write_line(draw, (left + indent, middle), panel.title, _TEXT, self._width - indent, self._font_size, True)
            for row, line in enumerate(panel.lines):
                write_line(draw, (left, self._row(2 + row)), line, _TEXT, self._width, self._font_size)
        self._paint_track(draw)
        return np.asarray(canvas).copy()

    def _track(self) -> tuple[int, int, int, int]:
        middle = self._top + self._height + _GAP + self._line // 2
        return _GAP, middle - 2, self.size[1] - _GAP, middle + 2

    def _paint_track(self, draw: ImageDraw.ImageDraw) -> None:
        """A bar from feet to head, bright where something is outlined."""
        left, top, right, bottom = self._track()
        draw.rectangle((left, top, right, bottom), fill=_TRACK)
        step = (right - left) / len(self._view.image)
        for index in np.flatnonzero(self._view.marked.any(axis=(0, 2, 3))):
            draw.rectangle((left + index * step, top, left + (index + 1) * step, bottom), fill=_OUTLINED)

    def _paint_position(self, frame: np.ndarray, slice_index: int) -> None:
        """Say which slice it is, and on which side the patient's right is."""
        num_slices, width = len(self._view.image), self.size[1]
        font = load_font(self._font_size)
        with drawing_on(frame, width - 9 * self._font_size, 0, width, self._top) as draw:
            place = (9 * self._font_size - _GAP, self._row(0))
            draw.text(place, f"slice {slice_index + 1} of {num_slices}", _TEXT, font, anchor="rm")
        left, top, right, bottom = self._track()
        step = (right - left) / num_slices
        start = left + slice_index * step
        with drawing_on(frame, 0, top - 4, width, bottom + 5) as draw:
            draw.rectangle((start, 0, start + max(step, 3.0), bottom - top + 8), outline=_TEXT, width=2)
        if self._view.are_sides_known:
            # Radiological convention: the patient's right is on the reader's left.
            first, middle = self._left(0), self._top + self._height // 2
            with drawing_on(frame, first, middle - self._line, first + self._width, middle + self._line) as draw:
                draw.text((4, self._line), "R", _QUIET, font, anchor="lm")
                draw.text((self._width - 4, self._line), "L", _QUIET, font, anchor="rm")
