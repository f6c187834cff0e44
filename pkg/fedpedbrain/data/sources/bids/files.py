"""Files and participants of a BIDS data set; standard library only, since the job graph is built from it."""

import csv
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedpedbrain.base.errors import StudyError
from fedpedbrain.base.files import read_table
from fedpedbrain.data.sources.source_files import SourceFiles, refuse_names


def bids_root(root: str | None) -> Path:
    """Folder of a BIDS data set; refused where it is not given or not there."""
    if root is None:
        raise StudyError("cohort_root: the bids source needs the folder of the data set; add --config cohort_root=PATH")
    if not Path(root).is_dir():
        raise StudyError(f"cohort_root: no folder at {root}; give the folder that holds participants.tsv")
    if not (Path(root) / "participants.tsv").is_file():
        raise StudyError(f"{root}/participants.tsv: missing; cohort_root is to be the top folder of a BIDS data set")
    return Path(root)


def read_participants(root: str | None) -> list[dict[str, str]]:
    """Rows of a BIDS data set's participants.tsv; refused where it is not there or no text."""
    path = bids_root(root) / "participants.tsv"
    try:
        # Quotation marks are letters there: BIDS knows no quoting.
        return read_table(path, csv.QUOTE_NONE)
    except UnicodeDecodeError:
        raise StudyError(f"{path}: not UTF-8 text; save it as UTF-8") from None


def read_site_participants(root: str | None, settings: Mapping[str, Any], has_classes: bool) -> list[dict[str, str]]:
    """Rows of participants.tsv; refused where a column is missing, or a row has more or fewer cells.

    Parameters
    ----------
    settings : the ``bids`` block of the config
    has_classes : whether the study needs the column of classes
    """
    rows = read_participants(root)
    path = Path(root) / "participants.tsv"
    for column in ["participant_id", settings["site_column"], *([settings["class_column"]] if has_classes else [])]:
        if not rows or column not in rows[0]:
            found = ", ".join(filter(None, rows[0])) if rows else "no rows"
            raise StudyError(f"{path}: expected a column {column!r}, found: {found}; see bids.*_column in the config")
    for row in rows:
        if None in row.values() or None in row:
            raise StudyError(
                f"{path}: the row of {row['participant_id']} has {'more' if None in row else 'fewer'} cells than "
                "the header; correct it"
            )
    return rows


def _bids_rows(settings: Mapping[str, Any]) -> list[dict[str, str]]:
    """What participants.tsv says of the settings' sites, of the columns that are read."""
    bids, has_classes = settings["bids"], bool(settings["cohort"]["classes"])
    columns = ["participant_id", bids["site_column"], *([bids["class_column"]] if has_classes else [])]
    rows = read_site_participants(settings["root"], bids, has_classes)
    return [{name: row[name] for name in columns} for row in rows if row[bids["site_column"]] in settings["sites"]]


def _bids_files(settings: Mapping[str, Any]) -> list[str]:
    root, bids = bids_root(settings["root"]), settings["bids"]
    subjects = sorted({row["participant_id"] for row in _bids_rows(settings)})
    odd = [subject for subject in subjects if not subject or Path(subject).name != subject]
    if odd:
        raise StudyError(f"{root}/participants.tsv: participant_id {odd[0]!r} is no folder's name; correct it")
    patterns = [f"{subject}/**/*_{suffix}.nii.gz" for subject in subjects for suffix in bids["image_suffixes"]]
    if settings["cohort"]["regions"]:
        folders = [folder for subject in subjects for folder in (subject, f"{subject}/ses-*")]
        patterns += [bids["mask_glob"].format(subject=folder) for folder in folders]
    files = sorted(path for pattern in patterns for path in root.glob(pattern))
    refuse_names(files, "paths of a BIDS data set")
    return list(map(str, files))


def _count_participants(settings: Mapping[str, Any]) -> dict[str, int]:
    return Counter(row.get(settings["bids"]["site_column"], "") for row in read_participants(settings["root"]))


BIDS_FILES = SourceFiles(_bids_files, _count_participants, read_rows=_bids_rows)
