"""One image as its files lay it out."""

from dataclasses import dataclass
from pathlib import Path

import SimpleITK as sitk


@dataclass(frozen=True)
class Scan:
    """One image in its own geometry.

    Attributes
    ----------
    image : three axes, one value a voxel, in the file's own units; LPS, mm
    form : a word of ``fedpedbrain.data.formats.READERS``
    files : what it was read from, slices in the order of the image's third axis
    is_orientation_known : False where the form carries no geometry and the config's word was taken for it
    notes : what was found and worked around, one line each, without anything that identifies a patient
    frame_numbers : of a multi-frame file, the number (from 0) of the frame behind each slice; otherwise ()
    """

    image: sitk.Image
    form: str
    files: tuple[Path, ...]
    is_orientation_known: bool = True
    notes: tuple[str, ...] = ()
    frame_numbers: tuple[int, ...] = ()
