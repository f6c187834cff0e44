"""Pictures: folders of ``slice_NN.png``, and single pictures (PNG, JPEG) as volumes of one slice."""

import re
import warnings
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fedpedbrain.base.errors import StudyError
from fedpedbrain.base.image_files import PICTURE_SUFFIXES
from fedpedbrain.data.formats.scan import Scan, check_num_voxels, image_of_array

_SLICE = re.compile(r"slice_(\d+)\.png", re.IGNORECASE)
# Grey pictures that were saved as colour with loss come back with channels that differ by this much.
_GREY_TOLERANCE = 8


def is_picture(path: Path) -> bool:
    """Whether a file is called as a picture is."""
    return path.suffix.lower() in PICTURE_SUFFIXES


def is_slice_folder(folder: Path) -> bool:
    """Whether a folder holds a volume as one picture a slice."""
    return any(_SLICE.fullmatch(path.name) for path in folder.iterdir())


def _grey_values(path: Path, picture: Image.Image) -> np.ndarray:
    """Values of a picture (H, W), of the bits that it has."""
    if getattr(picture, "n_frames", 1) > 1:
        raise StudyError(f"{path}: a moving picture; expected one picture a file")
    if picture.mode in ("L", "I;16", "I;16B", "I"):
        return np.asarray(picture)
    channels = np.asarray(picture.convert("RGBA")).astype(np.int16)
    if (channels[..., 3] != 255).any():
        raise StudyError(f"{path}: a picture with transparent parts; save it without transparency")
    if np.ptp(channels[..., :3], axis=2).max() > _GREY_TOLERANCE:
        raise StudyError(f"{path}: a picture in colour; expected grey values, save the scan without overlays")
    return channels[..., :3].mean(axis=2).round().astype(np.uint8)


def read_grey(path: Path) -> np.ndarray:
    """Grey values of one picture.

    Returns
    -------
    (H, W), uint8 or, of pictures of 16 bits, an integer type that holds them

    Raises
    ------
    StudyError : a file that is no picture, colour, transparency
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                check_num_voxels(path, picture.size)
                return _grey_values(path, picture)
    except PermissionError:
        raise StudyError(f"{path}: may not be read; give this user the right to read it") from None
    except Image.DecompressionBombError:
        raise StudyError(f"{path}: the header promises more pixels than any slice has; it is damaged") from None
    # Pillow raises SyntaxError and ValueError for damaged files, too.
    except (OSError, SyntaxError, ValueError):
        raise StudyError(f"{path}: not a readable picture; it may be empty or truncated, copy it again") from None


def _turn(array: np.ndarray, degrees: int) -> np.ndarray:
    """Turn slices (D, H, W) clockwise."""
    return np.rot90(array, -degrees // 90, axes=(1, 2))


def read_picture(path: Path, settings: Mapping[str, Any]) -> Scan:
    """Read one picture as a volume of one slice; ``settings`` is the block ``formats.picture`` of the config."""
    array = _turn(read_grey(path)[None], settings["rotation_degrees"])
    return Scan(image_of_array(array, settings["spacing_mm"]), "picture", (path,), is_orientation_known=False)


def _slices(folder: Path) -> list[Path]:
    """The pictures of a volume, first to last; refused where a number is missing or there twice."""
    numbered = sorted((int(match[1]), path) for path in folder.iterdir() if (match := _SLICE.fullmatch(path.name)))
    if len(numbered) < 2:
        raise StudyError(f"{folder}: one slice; expected slice_NN.png of a volume of two slices or more")
    for (number, path), (following, next_path) in pairwise(numbered):
        if following == number:
            raise StudyError(f"{folder}: {path.name} and {next_path.name} have one number; remove one")
        if following > number + 1:
            raise StudyError(f"{folder}: slice {number + 1} is missing after {path.name}; copy the whole folder again")
    return [path for _, path in numbered]


def _stated_spacing(folder: Path) -> Sequence[float] | None:
    """``spacing_mm: D H W`` of metadata.txt, None where it states none."""
    path = folder / "metadata.txt"
    if not path.is_file():
        return None
    text = path.read_text(encoding="utf-8", errors="replace")
    stated = re.search(r"^\s*spacing_mm\s*:(.*)$", text, re.MULTILINE)
    if stated is None:
        return None
    try:
        spacing = [float(number) for number in re.split(r"[\s,x]+", stated[1].strip())]
    except ValueError:
        spacing = []
    if len(spacing) != 3 or not all(0.0 < size < np.inf for size in spacing):
        raise StudyError(f"{path}: spacing_mm is {stated[1].strip()!r}; expected three numbers above 0: D H W")
    return spacing


def read_png(path: Path, settings: Mapping[str, Any]) -> Scan:
    """Read a folder of ``slice_NN.png``.

    Parameters
    ----------
    settings : the block ``formats.png`` of the config: how to turn the slices upright, their spacing where
        metadata.txt does not state ``spacing_mm``
    """
    files = _slices(path)
    slices = [read_grey(file) for file in files]
    for file, values in zip(files, slices, strict=True):
        if values.shape != slices[0].shape:
            found, first = (" x ".join(map(str, item.shape)) for item in (values, slices[0]))
            raise StudyError(f"{file}: {found} pixels, but {files[0].name} has {first}; all slices must be of one size")
    check_num_voxels(path, (len(slices), *slices[0].shape))
    array = _turn(np.stack(slices), settings["rotation_degrees"])
    spacing = _stated_spacing(path)
    notes = [] if spacing else ["the pictures state no spacing: that of formats.png.spacing_mm was taken"]
    if int(_SLICE.fullmatch(files[0].name)[1]) > 1:
        notes.append(f"the first picture is {files[0].name}: none of an earlier slice is there")
    image = image_of_array(array, spacing or settings["spacing_mm"])
    return Scan(image, "png", tuple(files), is_orientation_known=False, notes=tuple(notes))
