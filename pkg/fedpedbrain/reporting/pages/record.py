"""The report for programs: the study, every row of its tables, and the SHA-256 of each file behind it, as JSON."""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fedpedbrain.base.files import files_below, sha256_of_file, write_json
from fedpedbrain.evaluation.tables import read_results


def write_record(
    record_path: str | Path,
    study: Mapping[str, Any],
    facts: Mapping[str, Any],
    tables: Mapping[str, str | Path],
    files: Iterable[str | Path],
) -> None:
    """Write the record; what a table leaves empty is null.

    Parameters
    ----------
    study : ``Study.description`` and ``versions``
    facts : what the report knows from JSON files, each under its name
    tables : name to path
    files : what the report is made of; a folder stands for all files below it
    """
    present = [file for path in map(Path, files) for file in (files_below(path) if path.is_dir() else [path])]
    record = {
        "study": study,
        **facts,
        "tables": {name: _rows(path) for name, path in tables.items()},
        "files": {str(path): sha256_of_file(path) for path in sorted(present)},
    }
    write_json(record_path, record)


def _rows(path: str | Path) -> list[dict[str, Any]]:
    rows = read_results(path).to_dict("records")
    return [{name: None if _is_empty(value) else value for name, value in row.items()} for row in rows]


def _is_empty(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)
