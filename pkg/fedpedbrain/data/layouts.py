"""Which files each kind of source reads; standard library only, since the job graph is built from it."""

import csv
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from fedpedbrain.base.errors import StudyError
from fedpedbrain.base.files import check_inside, files_below, read_table
from fedpedbrain.base.image_files import files_of_image
from fedpedbrain.base.lineage import digest_of
from fedpedbrain.data.sources.flpedbrain.files import block_of_sites, find_files, sites_before

# What a cell of a table says where nothing is known.
NOT_AVAILABLE = ("n/a", "")
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")
# The job graph reads braces as wildcards; a table of cases separates paths by semicolons.
_FORBIDDEN_IN_PATHS = frozenset("{};")


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


def _no_files(settings: Mapping[str, Any]) -> list[str]:
    return []


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
    _refuse_names(files, "paths of a BIDS data set")
    return list(map(str, files))


def find_pictures(root: str | None, sites: Collection[str] | None = None) -> dict[str, list[Path]]:
    """Pictures of a folder of class folders by site, ``root/{site}/**/{class folder}/*``, each site's in order.

    ``sites`` are those that are looked at, all without it.
    """
    if root is None:
        raise StudyError(
            "cohort_root: the class_folders source needs the folder of the sites; add --config cohort_root=PATH"
        )
    if not Path(root).is_dir():
        raise StudyError(f"cohort_root: no folder at {root}; give the folder that holds one folder a site")
    found = {}
    folders = (path for path in Path(root).iterdir() if path.is_dir() and (sites is None or path.name in sites))
    for folder in sorted(folders):
        pictures = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES)
        found[folder.name] = [path for path in pictures if not path.name.startswith(".")]
    _refuse_names([path for pictures in found.values() for path in pictures], "paths of pictures")
    return found


def list_dicom_files(root: str) -> list[str]:
    """Every file below a folder of DICOM series that are to be converted."""
    files = list(files_below(root))
    # Files of a compact disc end in ";1".
    _refuse_names(files, "paths of DICOM files", _FORBIDDEN_IN_PATHS - {";"})
    return list(map(str, files))


def _refuse_names(paths: Iterable[Path], what: str, forbidden: frozenset[str] = _FORBIDDEN_IN_PATHS) -> None:
    named_badly = [path for path in paths if set(str(path)) & forbidden]
    if named_badly:
        raise StudyError(
            f"{named_badly[0]}: {what} may hold none of {' '.join(sorted(forbidden))} "
            f"({len(named_badly)} do); rename them"
        )


def _class_folder_files(settings: Mapping[str, Any]) -> list[str]:
    found = find_pictures(settings["root"], settings["sites"])
    return [str(path) for site in settings["sites"] for path in found.get(site, [])]


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
    _refuse_names(files, "paths that a table of cases names")
    return list(map(str, files))


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
    "listed": _listed_files,
    "class_folders": _class_folder_files,
    "flpedbrain": _flpedbrain_files,
}


def modules_of_other_sources(source: str) -> tuple[str, ...]:
    """Modules that read sources other than a study's own: no result of it depends on them."""
    return tuple(f"fedpedbrain.data.sources.{word}" for word in _LISTINGS if word != source)


def settings_of_site(settings: Mapping[str, Any], site: str) -> dict[str, Any]:
    """What decides which cases a site has and what they look like: the argument of ``open_source``.

    Nothing of another site is in it, so that no change there makes this one's cases anew, but for sites that published
    normal cases are dealt out to before it: ``sites_before``.

    Parameters
    ----------
    settings : ``fedpedbrain.study.study.Study.source_settings``
    """
    source = settings["cohort"]["source"]
    cohort = {key: value for key, value in settings["cohort"].items() if key != "sites"}
    block, before = settings[source], []
    if source == "phantom":
        block = block | {"cases": {name: count for name, count in block["cases"].items() if name == site}}
    if source == "flpedbrain":
        before = sites_before(site, settings["sites"], block)
        left_out = [case for case in block["left_out_cases"] if case.startswith(f"{site}-")]
        block = block_of_sites([*before, site], block) | {"left_out_cases": left_out}
    return dict(settings) | {"cohort": cohort, "sites": [site], "sites_before": before, source: block}


def list_source_files(settings: Mapping[str, Any], needed: bool = True) -> list[str]:
    """Every file that a site's cases are made from, for the workflow to watch; a table of all sites is none of them.

    Parameters
    ----------
    settings : as ``settings_of_site`` gives them
    needed : whether a cohort that is not given or not there is refused rather than taken for one without files
    """
    try:
        return _LISTINGS[settings["cohort"]["source"]](settings)
    except StudyError:
        if needed:
            raise
        return []


_TABLES: dict[str, Callable[[Mapping[str, Any]], list[dict[str, str]]]] = {"bids": _bids_rows, "listed": _listed_rows}


def digest_of_rows(settings: Mapping[str, Any]) -> str:
    """Digest of what the table of all sites' cases says of one, in whatever order; "" where there is none to be read.

    Parameters
    ----------
    settings : as ``settings_of_site`` gives them
    """
    source = settings["cohort"]["source"]
    if source not in _TABLES:
        return ""
    try:
        rows = _TABLES[source](settings)
    except StudyError:
        # Of a cohort that is not there: ``list_source_files`` says so where it is needed.
        return ""
    return digest_of(sorted(rows, key=lambda row: sorted(row.items())))
