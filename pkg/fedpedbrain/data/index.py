"""The index of a site: every case of it, checked before anything trains."""

from collections.abc import Mapping
from pathlib import Path

from fedpedbrain.base.cases import write_cases
from fedpedbrain.data.sources.source import open_source


def index_site_files(source_settings: Mapping, index_path: str | Path) -> None:
    """List and check all cases of one site and write the index, ordered by case.

    Parameters
    ----------
    source_settings : as ``fedpedbrain.data.sources.source_files.settings_of_site`` gives them
    """
    write_cases(index_path, sorted(open_source(source_settings).find_cases(), key=lambda case: (case.site, case.case)))
