"""DICOM series to a BIDS folder (https://bids-specification.readthedocs.io): pseudonyms, sidecars, participants.tsv."""

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from fedpedbrain.data.formats.dicom import read_series
from fedpedbrain.data.formats.dicom_headers import Series, find_series
from fedpedbrain.data.pseudonyms import name_patients
from fedpedbrain.data.sidecars import SIDECAR_TAGS, describe_sequence, sidecar_of
from fedpedbrain.errors import StudyError
from fedpedbrain.files import read_table, replacing, write_json, write_table

_LOGGER = logging.getLogger(__name__)
# Read to sort and to match, never written.
_TAGS = ("PatientID", "StudyInstanceUID", "StudyDate", "StudyTime", "SeriesNumber")
_WORD_TAGS = ("SeriesDescription", "ProtocolName", "SequenceName")
_GENERATOR = "fedpedbrain"
_NOT_AVAILABLE = "n/a"
SERIES_COLUMNS = ("series", "site", "subject", "file", "outcome")


@dataclass(frozen=True)
class _Item:
    """A series on its way into the data set.

    Attributes
    ----------
    patient : PatientID as it is
    study : StudyInstanceUID after date and time, so that a patient's studies sort by time
    suffix : of its BIDS name, "" where none matches
    """

    series: Series
    patient: str
    study: tuple[str, ...]
    site: str
    suffix: str
    subject: str = ""
    session: str = ""

    @property
    def place(self) -> tuple[str, str, str]:
        """Where it goes; several of one place are runs."""
        return self.subject, self.session, self.suffix


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
    text = " ".join(str(first.header.get(keyword) or "") for keyword in _WORD_TAGS)
    study = tuple(str(first.header.get(keyword) or "") for keyword in ("StudyDate", "StudyTime", "StudyInstanceUID"))
    site = _site_of(series, root, settings, sites)
    return _Item(series, patients.pop(), study, site, suffix_of(text, settings["suffixes"]))


def _named(items: Sequence[_Item], subject_of: Mapping[str, str]) -> list[_Item]:
    """Give every item its subject and, where a patient was examined more than once, its session."""
    studies: dict[str, set[tuple[str, ...]]] = {}
    sites: dict[str, set[str]] = {}
    for item in items:
        studies.setdefault(item.patient, set()).add(item.study)
        sites.setdefault(item.patient, set()).add(item.site)
    for patient, found in sites.items():
        if len(found) > 1:
            raise StudyError(
                f"dicom_root: one PatientID stands at several sites ({', '.join(sorted(found))}), as "
                f"{subject_of[patient]}; give the patients identifiers of their own, or take one out"
            )
    named = []
    for item in items:
        of_patient = sorted(studies[item.patient])
        session = f"ses-{of_patient.index(item.study) + 1:02d}" if len(of_patient) > 1 else ""
        named.append(replace(item, subject=subject_of[item.patient], session=session))
    return sorted(named, key=lambda item: (*item.place, _series_number(item.series), item.series.name))


def _series_number(series: Series) -> int:
    return int(series.instances[0].header.get("SeriesNumber") or 0)


def _write_item(item: _Item, run: int, root: Path, dicom: Mapping[str, Any]) -> str:
    """Write a series' image and sidecar; returns the image's path in the data set."""
    scan = read_series(item.series, dicom)
    parts = [item.subject, item.session, f"run-{run:02d}" if run else "", item.suffix]
    folder = Path(item.subject, item.session, "anat")
    path = folder / f"{'_'.join(filter(None, parts))}.nii.gz"
    with replacing(root / path) as temporary:
        sitk.WriteImage(scan.image, str(temporary), useCompression=True)
    sidecar = sidecar_of(item.series.instances[0].header) | {"SpacingBetweenSlices": scan.image.GetSpacing()[2]}
    write_json(root / str(path).replace(".nii.gz", ".json"), sidecar)
    return path.as_posix()


def _outcomes(
    items: Sequence[_Item], root: Path, suffixes: Sequence[Mapping[str, Any]], dicom: Mapping[str, Any]
) -> Iterable[dict[str, str]]:
    """Convert the items one by one; a row for each says what became of it."""
    known = "; ".join(f"{entry['suffix']}: {', '.join(entry['words'])}" for entry in suffixes)
    places = [item.place for item in items if not _left_out(item)]
    runs: dict[tuple[str, str, str], int] = {}
    for item in items:
        row = {"series": item.series.name, "site": item.site, "subject": item.subject, "file": _NOT_AVAILABLE}
        if _left_out(item):
            yield row | {"outcome": f"passed over: {_left_out(item)}"}
        elif not item.suffix:
            what = describe_sequence(item.series.instances[0].header)
            outcome = f"no suffix matches ({what}); a word of its description would do ({known})"
            yield row | {"outcome": f"{outcome}: add one to conversion.suffixes"}
        else:
            runs[item.place] = runs.get(item.place, 0) + 1
            run = runs[item.place] if places.count(item.place) > 1 else 0
            try:
                yield row | {"file": _write_item(item, run, root, dicom), "outcome": "converted"}
            except StudyError as error:
                # Paths before the reason may hold a patient's name.
                yield row | {"outcome": f"refused: {str(error).split(': ', 1)[1]}"}


def _left_out(item: _Item) -> str:
    if item.series.is_localizer:
        return "a localizer"
    return "one slice" if item.series.num_slices == 1 else ""


def _write_participants(root: Path, site_of: Mapping[str, str], columns: Mapping[str, str]) -> None:
    """Add participants to the table; what it says of earlier ones, in columns of any name, stays."""
    path = root / "participants.tsv"
    rows = {row["participant_id"]: row for row in read_table(path)} if path.is_file() else {}
    names = list(next(iter(rows.values()), ("participant_id", columns["site_column"], columns["class_column"])))
    for subject, site in site_of.items():
        rows.setdefault(subject, dict.fromkeys(names, _NOT_AVAILABLE) | {"participant_id": subject})
        rows[subject][columns["site_column"]] = site
    write_table(path, names, (rows[subject] for subject in sorted(rows)))


def _check_folders(dicom_root: Path, bids_root: Path, key_path: Path | None) -> Mapping[str, Any]:
    """Refuse folders that hold each other; returns the description of the data set that is there, if one is."""
    if not dicom_root.is_dir():
        raise StudyError(f"dicom_root: no folder at {dicom_root}; correct the path")
    if bids_root.is_relative_to(dicom_root) or dicom_root.is_relative_to(bids_root):
        raise StudyError(f"bids_root: {bids_root} and dicom_root {dicom_root} hold each other; give separate folders")
    if key_path is not None and key_path.is_relative_to(bids_root):
        raise StudyError(f"conversion.key_file: {key_path} lies in bids_root; the key belongs elsewhere")
    return _read_description(bids_root)


def _read_description(bids_root: Path) -> Mapping[str, Any]:
    path = bids_root / "dataset_description.json"
    if not path.is_file():
        if bids_root.is_dir() and any(bids_root.iterdir()):
            raise StudyError(f"bids_root: {bids_root} holds something else; give an empty folder or one to be made")
        return {}
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        is_ours = description["GeneratedBy"][0]["Name"] == _GENERATOR and "StudiesDigest" in description
    except (ValueError, LookupError, TypeError):
        is_ours = False
    if not is_ours:
        raise StudyError(f"bids_root: {bids_root} holds a data set of another origin; give an empty folder")
    return description


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
    StudyError : folders that hold each other, a data set of another origin, patients who would get another's name,
        nothing that could be converted
    """
    source, target = Path(dicom_root).resolve(), Path(bids_root).resolve()
    key_path = None if settings["key_file"] is None else Path(settings["key_file"]).resolve()
    description = _check_folders(source, target, key_path)
    series = find_series(source, (*_TAGS, *_WORD_TAGS, *SIDECAR_TAGS))
    items = [_item(one, source, settings, sites) for one in series]
    patients = sorted({item.patient for item in items})
    digest = _digest_of_studies(items)
    subject_of = name_patients(patients, key_path, digest, description.get("StudiesDigest"))
    rows = list(_outcomes(_named(items, subject_of), target, settings["suffixes"], dicom))
    for row in rows:
        _LOGGER.info("series %s: %s", row["series"], row["outcome"])
    write_table(table_path, SERIES_COLUMNS, rows)
    converted = {row["subject"]: row["site"] for row in rows if row["outcome"] == "converted"}
    if not converted:
        raise StudyError(f"{source}: none of {len(rows)} series could be converted; {_first_reason(rows)}")
    _write_participants(target, converted, columns)
    write_json(
        target / "dataset_description.json",
        {
            "Name": "Converted from DICOM",
            "BIDSVersion": "1.10.0",
            "DatasetType": "raw",
            "GeneratedBy": [{"Name": _GENERATOR, "Version": version(_GENERATOR)}],
            "StudiesDigest": digest,
        },
    )


def _digest_of_studies(items: Sequence[_Item]) -> str:
    """SHA-256 of patients with their studies: with the studies' UIDs, identifiers cannot be found by trying them."""
    studies = sorted({"\t".join((item.patient, *item.study)) for item in items})
    return hashlib.sha256("\n".join(studies).encode()).hexdigest()


def _first_reason(rows: Sequence[Mapping[str, str]]) -> str:
    return f"the first: {rows[0]['outcome']}" if rows else "no DICOM image is there, correct dicom_root"
