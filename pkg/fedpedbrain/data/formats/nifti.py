"""NIfTI files (https://nifti.nimh.nih.gov)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedpedbrain.data.formats.scan import Scan
from fedpedbrain.data.formats.volumes import read_volume


def read_nifti(path: Path, settings: Mapping[str, Any]) -> Scan:
    """Read a 3-D NIfTI file; it says all that there is to know, so ``settings`` is empty."""
    read = read_volume(path)
    return Scan(read.image, "nifti", (path,), notes=read.notes, sha256=(read.sha256,))
