"""Which files each kind of source reads; standard library only, since the job graph is built from it."""

import csv
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fedpedbrain.data.flpedbrain_files import find_files
from fedpedbrain.errors import StudyError
from fedpedbrain.files import read_table


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


def _no_files(settings: Mapping[str, Any]) -> list[str]:
    return []


def _bids_files(settings: Mapping[str, Any]) -> list[str]:
    root, bids = bids_root(settings["root"]), settings["bids"]
    patterns = [f"sub-*/**/*_{suffix}.nii.gz" for suffix in bids["image_suffixes"]]
    if settings["cohort"]["regions"]:
        patterns += [bids["mask_glob"].format(subject=subject) for subject in ("sub-*", "sub-*/ses-*")]
    files = sorted(str(path) for pattern in patterns for path in root.glob(pattern))
    return [str(root / "participants.tsv"), *files]


def _flpedbrain_files(settings: Mapping[str, Any]) -> list[str]:
    block = settings["flpedbrain"]
    if settings["root"] is not None:
        return sorted(map(str, find_files(settings).values()))
    if block["revision"] is None:
        raise StudyError(
            f"flpedbrain.revision: which commit of {block['repository']} to fetch is not said; add --config "
            "flpedbrain='{revision: COMMIT}', or cohort_root=PATH for a folder of its files"
        )
    # Jobs fetch them.
    return []


_LISTINGS: dict[str, Callable[[Mapping[str, Any]], list[str]]] = {
    "phantom": _no_files,
    "bids": _bids_files,
    "flpedbrain": _flpedbrain_files,
}


def list_source_files(settings: Mapping[str, Any], needed: bool = True) -> list[str]:
    """Every file that a cohort is made from, for the workflow to watch.

    Parameters
    ----------
    settings : ``fedpedbrain.study.Study.source_settings``
    needed : whether a cohort that is not given or not there is refused rather than taken for one without files
    """
    try:
        return _LISTINGS[settings["cohort"]["source"]](settings)
    except StudyError:
        if needed:
            raise
        return []


def _count_simulated(settings: Mapping[str, Any]) -> dict[str, int]:
    return settings["phantom"]["cases"]


def _count_participants(settings: Mapping[str, Any]) -> dict[str, int]:
    return Counter(row.get(settings["bids"]["site_column"], "") for row in read_participants(settings["root"]))


def _refuse_to_count(settings: Mapping[str, Any]) -> dict[str, int]:
    raise StudyError("arms.phases: cases of the published files are not counted before they are read; name the sites")


_COUNTS: dict[str, Callable[[Mapping[str, Any]], Mapping[str, int]]] = {
    "phantom": _count_simulated,
    "bids": _count_participants,
    "flpedbrain": _refuse_to_count,
}


def count_cases(settings: Mapping[str, Any]) -> dict[str, int]:
    """Cases of every site as far as they can be counted before the cohort is read: of BIDS, the participants.

    Parameters
    ----------
    settings : ``fedpedbrain.study.Study.source_settings``
    """
    counts = _COUNTS[settings["cohort"]["source"]](settings)
    return {site: counts.get(site, 0) for site in settings["sites"]}
