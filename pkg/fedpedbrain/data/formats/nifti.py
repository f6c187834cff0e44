"""NIfTI files (https://nifti.nimh.nih.gov)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedpedbrain.data.formats.nifti_headers import geometry_notes
from fedpedbrain.data.formats.scan import Scan
from fedpedbrain.data.formats.volumes import check_finite, read_volume


def read_nifti(path: Path, settings: Mapping[str, Any]) -> Scan:
    """Read a 3-D NIfTI file; it says all that there is to know, so ``settings`` is empty."""
    image = read_volume(path)
    check_finite(path, image)
    return Scan(image, "nifti", (path,), notes=geometry_notes(path))
