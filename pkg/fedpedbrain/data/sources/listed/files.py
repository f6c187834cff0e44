"""A table of cases and the files that it names; standard library only, since the job graph is built from it."""

import csv
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedpedbrain.base.errors import StudyError
from fedpedbrain.base.files import check_inside, read_table
from fedpedbrain.base.image_files import files_of_image
from fedpedbrain.data.sources.source_files import NOT_AVAILABLE, SourceFiles, refuse_names


def read_listing(
    root: str | None, settings: Mapping[str, Any], has_classes: bool, has_masks: bool
) -> list[dict[str, str]]:
    """Rows of a table of cases; refused where it or a column is missing, or where it is no text.

    Parameters
    ----------
    settings : the ``listed`` block of the config
    has_classes, has_masks : whether the study needs these columns
    """
    if root is None:
        raise StudyError("cohort_root: the listed source needs the folder of the table; add --config cohort_root=PATH")
    path, columns = Path(root) / settings["table"], settings["columns"]
    if not path.is_file():
        raise StudyError(f"{path}: missing; cohort_root is to be the folder of the table that listed.table names")
    try:
        rows = read_table(path, csv.QUOTE_NONE)
    except UnicodeDecodeError:
        raise StudyError(f"{path}: not UTF-8 text; save it as UTF-8") from None
    needed = [columns["case"], columns["patient"], columns["site"], *columns["images"]]
    needed += [columns["class"]] * has_classes + [columns["mask"]] * has_masks
    for column in needed:
        if not rows or column not in rows[0]:
            found = ", ".join(filter(None, rows[0])) if rows else "no rows"
            raise StudyError(f"{path}: expected a column {column!r}, found: {found}; see listed.columns in the config")
    for number, row in enumerate(rows, start=2):
        if None in row.values() or None in row:
            amount = "more" if None in row else "fewer"
            raise StudyError(f"{path}: line {number} has {amount} cells than the header; correct it")
        empty = [column for column in needed[: 3 + len(columns["images"])] if not row[column]]
        if empty:
            raise StudyError(f"{path}: line {number} has no {empty[0]}; fill it in, or remove the line")
    return rows


def _listed_rows(settings: Mapping[str, Any]) -> list[dict[str, str]]:
    """What a table of cases says of the settings' sites, of the columns that are read."""
    cohort, listed = settings["cohort"], settings["listed"]
    columns, has_classes, has_masks = listed["columns"], bool(cohort["classes"]), bool(cohort["regions"])
    names = [columns["case"], columns["patient"], columns["site"], *columns["images"]]
    names += [columns["class"]] * has_classes + [columns["mask"]] * has_masks
    rows = read_listing(settings["root"], listed, has_classes, has_masks)
    return [{name: row[name] for name in names} for row in rows if row[columns["site"]] in settings["sites"]]


def _listed_files(settings: Mapping[str, Any]) -> list[str]:
    cohort, listed = settings["cohort"], settings["listed"]
    columns = [*listed["columns"]["images"], *([listed["columns"]["mask"]] if cohort["regions"] else [])]
    root, rows = Path(settings["root"] or ""), _listed_rows(settings)
    paths = {root / row[column] for row in rows for column in columns if row[column] not in NOT_AVAILABLE}
    missing = sorted(path for path in paths if not path.exists())
    if missing:
        raise StudyError(
            f"{root / listed['table']}: names {missing[0]}, not there ({len(missing)} in all); correct the table"
        )
    # Before it is walked: a cell may name any folder of the machine.
    for path in sorted(paths):
        check_inside(path, root)
    files = sorted({file for path in paths for file in files_of_image(path)})
    for file in files:
        check_inside(file, root)
    refuse_names(files, "paths that a table of cases names")
    return list(map(str, files))


def _read_listing(settings: Mapping[str, Any]) -> list[dict[str, str]]:
    cohort = settings["cohort"]
    return read_listing(settings["root"], settings["listed"], bool(cohort["classes"]), bool(cohort["regions"]))


def _count_listed(settings: Mapping[str, Any]) -> dict[str, int]:
    return Counter(row[settings["listed"]["columns"]["site"]] for row in _read_listing(settings))


def _count_listed_patients(settings: Mapping[str, Any]) -> dict[str, int]:
    columns = settings["listed"]["columns"]
    patients = {(row[columns["site"]], row[columns["patient"]]) for row in _read_listing(settings)}
    return Counter(site for site, _ in patients)


LISTED_FILES = SourceFiles(_listed_files, _count_listed, _count_listed_patients, _listed_rows)
