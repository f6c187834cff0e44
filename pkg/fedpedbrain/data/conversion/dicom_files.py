"""Files of DICOM series that are to be converted; standard library only, since the job graph is built from it."""

from fedpedbrain.base.files import files_below
from fedpedbrain.data.sources.source_files import FORBIDDEN_IN_PATHS, refuse_names


def list_dicom_files(root: str) -> list[str]:
    """Every file below a folder of DICOM series that are to be converted."""
    files = list(files_below(root))
    # Files of a compact disc end in ";1".
    refuse_names(files, "paths of DICOM files", FORBIDDEN_IN_PATHS - {";"})
    return list(map(str, files))
