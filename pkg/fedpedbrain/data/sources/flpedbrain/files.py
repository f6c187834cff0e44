"""The published FLPedBrain files: their names, which of them a site needs, and where they are.

Imported while the job graph is built, so it needs the standard library alone.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedpedbrain.base.errors import StudyError
from fedpedbrain.data.sources.source_files import SourceFiles

SHARED_NORMALS = {
    "train": "normals_400x256x256x64_train_for_fl_64.npy",
    "val": "normals_867x256x256x64_val_for_fl_64.npy",
}


@dataclass(frozen=True)
class SitePart:
    """One of the parts that a site's cases are published in.

    Attributes
    ----------
    part : ``train`` or ``val``
    tumours, normals : names of the files; ``normals`` is None where no normal case is asked for
    """

    site: str
    part: str
    tumours: str
    normals: str | None

    @property
    def names(self) -> list[str]:
        """The part's files."""
        return [self.tumours, *([self.normals] if self.normals else [])]


def _parts_of(site: str, settings: Mapping[str, Any]) -> Sequence[str]:
    return settings["site_parts"].get(site, settings["parts"])


def _normals_names(site: str, part: str, settings: Mapping[str, Any]) -> list[str]:
    """Files that a part's normal cases may come from, the one to prefer first."""
    own, shared = f"{site}_normals_uint8_{part}.npy", SHARED_NORMALS[part]
    if settings["normal_fraction"] == 0:
        return []
    return {"site": [own], "shared": [shared], "auto": [own, shared]}[settings["normals"]]


def _tumours_name(site: str, part: str) -> str:
    return f"{site}_data_uint8_{part}.npy"


def candidate_names(site: str, settings: Mapping[str, Any]) -> list[str]:
    """Every file that a site may need.

    Parameters
    ----------
    settings : the ``flpedbrain`` block of the config
    """
    return [
        name
        for part in _parts_of(site, settings)
        for name in (_tumours_name(site, part), *_normals_names(site, part, settings))
    ]


def sites_before(site: str, sites: Sequence[str], settings: Mapping[str, Any]) -> list[str]:
    """Sites that take their shared normal cases before a site: what is left for it depends on theirs.

    Parameters
    ----------
    sites : all of the study, in whose order normal cases are dealt out
    settings : the ``flpedbrain`` block of the config
    """
    may_share = settings["normals"] != "site" and settings["normal_fraction"] > 0
    return list(sites[: sites.index(site)]) if may_share else []


def block_of_sites(sites: Sequence[str], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The ``flpedbrain`` block of the config, or a part of it, without what it says of other sites than these."""
    block = settings | {"site_parts": {site: parts for site, parts in settings["site_parts"].items() if site in sites}}
    names = {name for site in sites for name in candidate_names(site, settings)}
    return block | {"sha256": {name: digest for name, digest in settings["sha256"].items() if name in names}}


def choose_parts(site: str, settings: Mapping[str, Any], available: Collection[str], place: str) -> list[SitePart]:
    """The files that a site needs, of those that are there.

    Parameters
    ----------
    settings : the ``flpedbrain`` block of the config
    available : names of files that are there
    place : what they are in, for messages

    Raises
    ------
    StudyError
        If one is missing.
    """
    parts = []
    for part in _parts_of(site, settings):
        tumours, normals = _tumours_name(site, part), _normals_names(site, part, settings)
        if tumours not in available:
            raise StudyError(f"{place}: no file {tumours}; correct cohort.sites, flpedbrain.parts or site_parts")
        found = [name for name in normals if name in available]
        if normals and not found:
            raise StudyError(
                f"{place}: no file {' or '.join(normals)} with normal cases of site {site}; change flpedbrain.normals, "
                "or set flpedbrain.normal_fraction to 0"
            )
        parts.append(SitePart(site, part, tumours, found[0] if found else None))
    return parts


def find_files(settings: Mapping[str, Any]) -> dict[str, Path]:
    """Where the files are that sites need, and those before them, by name: in the cohort's folder, or as receipts say.

    Parameters
    ----------
    settings : argument of ``open_source``

    Raises
    ------
    StudyError
        If the folder or one of the files is not there.
    """
    if settings["root"] is None:
        return {name: path for receipt in settings["receipts"] for name, path in _read_receipt(receipt).items()}
    root, block = Path(settings["root"]), settings["flpedbrain"]
    if not root.is_dir():
        raise StudyError(f"cohort_root: no folder at {root}; give the folder that holds the .npy files, or null")
    sites = [*settings["sites_before"], *settings["sites"]]
    names = [name for site in sites for name in candidate_names(site, block) if (root / name).is_file()]
    parts = [part for site in sites for part in choose_parts(site, block, names, str(root))]
    return {name: root / name for part in parts for name in part.names}


def _read_receipt(receipt_path: str | Path) -> dict[str, Path]:
    """Where the files of a receipt are; refused where one is no longer as it was fetched."""
    files = json.loads(Path(receipt_path).read_text(encoding="utf-8"))["files"]
    for entry in files.values():
        path = Path(entry["path"])
        if not path.is_file() or path.stat().st_size != entry["size"]:
            raise StudyError(
                f"{path}: gone, or of another size than the {entry['size']} bytes in {receipt_path}; delete that "
                "receipt and run again"
            )
    return {name: Path(entry["path"]) for name, entry in files.items()}


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


def _refuse_to_count(settings: Mapping[str, Any]) -> dict[str, int]:
    raise StudyError("arms.phases: cases of the published files are not counted before they are read; name the sites")


def _settings_of_site(settings: Mapping[str, Any], site: str) -> dict[str, Any]:
    """Settings of a site and of those that shared normal cases are dealt out to before it."""
    block = settings["flpedbrain"]
    before = sites_before(site, settings["sites"], block)
    left_out = [case for case in block["left_out_cases"] if case.startswith(f"{site}-")]
    own = block_of_sites([*before, site], block) | {"left_out_cases": left_out}
    return {"sites_before": before, "flpedbrain": own}


FLPEDBRAIN_FILES = SourceFiles(_flpedbrain_files, _refuse_to_count, settings_of_site=_settings_of_site)
