"""DICOM series to a BIDS folder (https://bids-specification.readthedocs.io): pseudonyms, sidecars, participants.tsv."""

import csv
import hashlib
import json
import logging
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from operator import attrgetter
from pathlib import Path
from typing import Any

import SimpleITK as sitk
from pydicom.dataset import Dataset

from fedpedbrain.base.errors import CohortError, StudyError
from fedpedbrain.base.files import replacing, write_json, write_table
from fedpedbrain.data.conversion.pseudonyms import ImageOrigin, Key, name_files, read_key_table, subject_of, write_key
from fedpedbrain.data.conversion.sidecars import SIDECAR_TAGS, describe_sequence, sidecar_of
from fedpedbrain.data.formats.dicom import read_series
from fedpedbrain.data.formats.dicom_headers import Series, find_series
from fedpedbrain.data.sources.bids.files import read_participants
from fedpedbrain.data.sources.source_files import NOT_AVAILABLE

logger = logging.getLogger(__name__)
# Read to sort and to match, never written.
_ORDER_TAGS = ("StudyDate", "StudyTime", "StudyInstanceUID", "SeriesNumber")
_WORD_TAGS = ("SeriesDescription", "ProtocolName", "SequenceName")
_TAGS = ("PatientID", *_ORDER_TAGS, *_WORD_TAGS)
_GENERATOR = "fedpedbrain"
_DESCRIPTION = "dataset_description.json"
# Of the description: the word that the key repeats.
_KEY_FIELD = "ConversionKey"
_CONVERTED = "converted"
SERIES_COLUMNS = ("series", "site", "subject", "file", "outcome")


@dataclass(frozen=True)
class _Item:
    """A series on its way into the data set.

    Attributes
    ----------
    order : by which new names are given: a patient's studies follow each other in time
    suffix : of its BIDS name, "" where none matches
    """

    series: Series
    origin: ImageOrigin
    order: tuple[bytes | str, ...]
    suffix: str

    @property
    def left_out(self) -> str:
        """Why it is no image of the data set, "" where it may be one."""
        if self.series.is_localizer:
            return "a localizer"
        return "one slice" if self.series.num_slices == 1 else ""


def suffix_of(text: str, suffixes: Sequence[Mapping[str, Any]]) -> str:
    """The suffix of the first entry one of whose words stands in a series' texts, "" where none does.

    Parameters
    ----------
    text : description, protocol and sequence name; small and capital letters are alike
    suffixes : ``conversion.suffixes`` of the config
    """
    matching = (entry for entry in suffixes if any(word.lower() in text.lower() for word in entry["words"]))
    return next((entry["suffix"] for entry in matching), "")


def _site_of(series: Series, root: Path, settings: Mapping[str, Any], sites: Sequence[str]) -> str:
    if settings["site"] is not None:
        return settings["site"]
    folder = series.instances[0].path.relative_to(root).parts[0]
    if folder not in sites:
        raise StudyError(
            f"{root / folder}: the first folder below dicom_root is none of cohort.sites ({', '.join(sites)}); add it "
            "there, or name the site of all in conversion.site"
        )
    return folder


def _item(series: Series, root: Path, settings: Mapping[str, Any], sites: Sequence[str]) -> _Item:
    first = series.instances[0]
    patients = {str(instance.header.get("PatientID") or "") for instance in series.instances}
    if len(patients) != 1 or "" in patients:
        raise StudyError(
            f"{first.path}: series {series.name} has {'several' if len(patients) > 1 else 'no'} PatientID; export it "
            "again with one, or take it out of dicom_root"
        )
    description, (date, time, study, number) = (
        [str(first.header.get(keyword) or "") for keyword in keywords] for keywords in (_WORD_TAGS, _ORDER_TAGS)
    )
    (patient,) = patients
    origin = ImageOrigin(_site_of(series, root, settings, sites), patient, study or f"{date} {time}", series.uid)
    # Numbers of patients are not to follow their identifiers, which may follow the time.
    order = (hashlib.sha256(patient.encode()).digest(), date, time, study, number.zfill(12), series.uid)
    return _Item(series, origin, order, suffix_of(" ".join(description), settings["suffixes"]))


def _check_sites(items: Sequence[_Item], known: Iterable[ImageOrigin]) -> None:
    """Refuse an identifier at several sites: there it may be another patient's."""
    site_of = {origin.patient: origin.site for origin in known}
    for item in items:
        site = site_of.setdefault(item.origin.patient, item.origin.site)
        if site != item.origin.site:
            raise StudyError(
                f"{item.series.instances[0].path}: its PatientID stands at several sites ({site}, {item.origin.site}); "
                "give the patients identifiers of their own, or take one out"
            )


def _reason(error: StudyError, series: Series) -> str:
    """What a refusal says after the path that it starts with: folders may be named after patients."""
    paths = {str(path) for instance in series.instances for path in (instance.path, instance.path.parent)}
    starts = sorted((f"{path}: " for path in paths), key=len, reverse=True)
    message = str(error)
    return next((message.removeprefix(start) for start in starts if message.startswith(start)), "cannot be read")


def _write_image(image: sitk.Image, header: Dataset, path: Path) -> None:
    """Write a series' image and sidecar."""
    with replacing(path) as temporary:
        sitk.WriteImage(image, str(temporary), useCompression=True)
    sidecar = sidecar_of(header) | {"SpacingBetweenSlices": image.GetSpacing()[2]}
    write_json(str(path).replace(".nii.gz", ".json"), sidecar)


def _convert_item(
    item: _Item, files: Mapping[ImageOrigin, str], root: Path, settings: Mapping[str, Any], dicom: Mapping[str, Any]
) -> dict[str, str]:
    """Convert a series where that can be done: what of its row is its own."""
    header = item.series.instances[0].header
    if item.left_out:
        return {"outcome": f"passed over: {item.left_out}"}
    if not item.suffix:
        known = "; ".join(f"{entry['suffix']}: {', '.join(entry['words'])}" for entry in settings["suffixes"])
        outcome = f"no suffix matches ({describe_sequence(header)}); a word of its description would do ({known})"
        return {"outcome": f"{outcome}: add one to conversion.suffixes"}
    try:
        image = read_series(item.series, dicom).image
    except StudyError as error:
        return {"outcome": f"refused: {_reason(error, item.series)}"}
    # What hinders writing is no fault of the series, and stops the conversion.
    _write_image(image, header, root / files[item.origin])
    return {"file": files[item.origin], "outcome": _CONVERTED}


def _convert_items(
    items: Sequence[_Item],
    files: Mapping[ImageOrigin, str],
    root: Path,
    settings: Mapping[str, Any],
    dicom: Mapping[str, Any],
) -> list[dict[str, str]]:
    """Convert the items one by one; a row for each says what became of it."""
    subjects = {origin.patient: subject_of(file) for origin, file in files.items()}
    rows = []
    for item in items:
        row = {
            "series": item.series.name,
            "site": item.origin.site,
            "subject": subjects.get(item.origin.patient, NOT_AVAILABLE[0]),
            "file": NOT_AVAILABLE[0],
        }
        rows.append(row | _convert_item(item, files, root, settings, dicom))
        logger.info("series %s: %s", item.series.name, rows[-1]["outcome"])
    return rows


def _check_folders(dicom_root: Path, bids_root: Path, key_path: Path | None) -> None:
    """Refuse folders that hold each other, and a key that whoever gets the data set would get too."""
    if not dicom_root.is_dir():
        raise StudyError(f"dicom_root: no folder at {dicom_root}; correct the path")
    if bids_root.is_relative_to(dicom_root) or dicom_root.is_relative_to(bids_root):
        raise StudyError(f"bids_root: {bids_root} and dicom_root {dicom_root} hold each other; give separate folders")
    if key_path is not None and key_path.is_relative_to(bids_root):
        raise StudyError(f"conversion.key_file: {key_path} lies in bids_root; the key belongs elsewhere")


def _read_description(root: Path, key: Key) -> dict[str, Any]:
    """Description of the data set that is there and whose every image the key names, a new one in an empty folder."""
    if not root.is_dir() or not any(root.iterdir()):
        return {"Name": "Converted from DICOM", "BIDSVersion": "1.10.0", "DatasetType": "raw"}
    try:
        description = json.loads((root / _DESCRIPTION).read_text(encoding="utf-8"))
        has_this_key = description[_KEY_FIELD] == key.data_set
    except (OSError, ValueError, LookupError, TypeError):
        has_this_key = False
    if not has_this_key:
        raise StudyError(
            f"bids_root: {root} is not empty, and conversion.key_file is not the key of a data set in it; name the key "
            "that it was converted with, or give an empty folder"
        )
    _check_known(root, {file.relative_to(root).as_posix() for file in root.glob("sub-*/**/sub-*.nii.gz")}, key)
    return description


def _check_known(root: Path, names: Collection[str], key: Key) -> None:
    known = {*key.files.values(), *map(subject_of, key.files.values())}
    unknown = sorted(set(names) - known)
    if unknown:
        raise StudyError(
            f"bids_root: {root} holds {unknown[0]}, which conversion.key_file does not know ({len(unknown)} in all); "
            "name the newest key, or take them out"
        )


def _read_participants(root: Path, columns: Mapping[str, str], key: Key) -> list[dict[str, str]]:
    """Rows of the table as the user left it; refused where it could not be added to."""
    path = root / "participants.tsv"
    rows = read_participants(str(root)) if path.is_file() else []
    for column in ("participant_id", columns["site_column"]):
        if rows and column not in rows[0]:
            found = ", ".join(filter(None, rows[0]))
            raise StudyError(
                f"{path}: expected a column {column!r}, found: {found}; see bids.site_column in the config"
            )
    for number, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            raise StudyError(f"{path}: line {number} has not as many cells as the header; correct it")
    _check_known(root, {row["participant_id"] for row in rows}, key)
    return rows


def _add_participants(
    root: Path, rows: Sequence[dict[str, str]], site_of: Mapping[str, str], columns: Mapping[str, str]
) -> None:
    """Add those who are not in the table yet; what it says of others, in columns of any name, stays."""
    names = list(rows[0]) if rows else ["participant_id", columns["site_column"], columns["class_column"]]
    known = {row["participant_id"] for row in rows}
    added = [
        dict.fromkeys(names, NOT_AVAILABLE[0]) | {"participant_id": subject, columns["site_column"]: site_of[subject]}
        for subject in sorted(site_of)
        if subject not in known
    ]
    if added:
        write_table(root / "participants.tsv", names, [*rows, *added], csv.QUOTE_NONE)


def _check_any_converted(source: Path, rows: Sequence[Mapping[str, str]]) -> None:
    outcomes = Counter(row["outcome"] for row in rows)
    if not outcomes:
        raise StudyError(f"{source}: no DICOM image is there; correct dicom_root")
    if not outcomes[_CONVERTED]:
        reasons = [f"{count} series: {outcome}" for outcome, count in outcomes.most_common()]
        raise CohortError([f"{source}: none of {len(rows)} series could be converted", *reasons])


def convert_dicom_files(
    dicom_root: str | Path,
    bids_root: str | Path,
    table_path: str | Path,
    settings: Mapping[str, Any],
    sites: Sequence[str],
    dicom: Mapping[str, Any],
    columns: Mapping[str, str],
) -> None:
    """Convert every DICOM series below a folder and list what became of each, without anything that identifies.

    Parameters
    ----------
    settings : the block ``conversion`` of the config
    sites : names that the first folders below ``dicom_root`` may have
    dicom : the block ``formats.dicom`` of the config
    columns : ``site_column`` and ``class_column`` of participants.tsv

    Raises
    ------
    StudyError : folders that hold each other, a data set that the key does not know, nothing that could be converted,
        a full disk
    """
    source, target = Path(dicom_root).resolve(), Path(bids_root).resolve()
    key_path = None if settings["key_file"] is None else Path(settings["key_file"]).resolve()
    _check_folders(source, target, key_path)
    key = read_key_table(key_path)
    description = _read_description(target, key)
    participants = _read_participants(target, columns, key)
    series = find_series(source, (*_TAGS, *SIDECAR_TAGS))
    items = sorted((_item(one, source, settings, sites) for one in series), key=attrgetter("order"))
    _check_sites(items, key.files)
    images = {item.origin: item.suffix for item in items if item.suffix and not item.left_out}
    key = replace(key, files=name_files(key.files, images))
    if key_path is not None and key.files:
        # Before the images: no name is ever given twice, even if this is cut short.
        write_key(key_path, key)
        description[_KEY_FIELD] = key.data_set
    rows = _convert_items(items, key.files, target, settings, dicom)
    write_table(table_path, SERIES_COLUMNS, rows)
    _check_any_converted(source, rows)
    site_of = {row["subject"]: row["site"] for row in rows if row["outcome"] == _CONVERTED}
    _add_participants(target, participants, site_of, columns)
    generator = {"GeneratedBy": [{"Name": _GENERATOR, "Version": version(_GENERATOR)}]}
    write_json(target / _DESCRIPTION, description | generator)
