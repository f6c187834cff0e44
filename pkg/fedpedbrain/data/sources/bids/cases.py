"""A cohort in a BIDS folder (https://bids-specification.readthedocs.io): images, mask derivatives, participants.tsv."""

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedpedbrain.base.cases import UNKNOWN_CLASS, Case
from fedpedbrain.base.errors import CohortError, StudyError
from fedpedbrain.base.files import check_inside
from fedpedbrain.data.formats.volumes import Volume, read_volume
from fedpedbrain.data.sources.bids.files import bids_root, read_site_participants
from fedpedbrain.data.sources.class_names import map_classes
from fedpedbrain.data.sources.outlined_case import outlined_case
from fedpedbrain.data.sources.source import labels_of
from fedpedbrain.data.sources.source_files import NOT_AVAILABLE


class BidsSource:
    """One image a channel and at most one mask for every ``sub-*`` folder (and session) of a BIDS data set.

    Parameters
    ----------
    root : the data set's folder
    sites : sites whose cases are wanted; participants of other sites are left out
    classes : class names of the study; empty where nothing is classified
    labels : mask labels that the study's regions are made of (0 is background)
    settings : the ``bids`` block of the config
    """

    def __init__(
        self,
        root: str | None,
        sites: Sequence[str],
        classes: Sequence[str],
        labels: Collection[int],
        settings: dict,
    ) -> None:
        self._root = bids_root(root)
        self._sites = list(sites)
        self._classes = list(classes)
        self._labels = set(labels)
        self._settings = settings

    def find_cases(self) -> list[Case]:
        """List the cases of the sites; every file is read, checked and hashed."""
        problems: list[str] = []
        cases: list[Case] = []
        rows = read_site_participants(str(self._root), self._settings, bool(self._classes))
        class_names = self._class_names(rows)
        for row in rows:
            if row[self._settings["site_column"]] in self._sites:
                class_name = class_names.get(row.get(self._settings["class_column"], ""), UNKNOWN_CLASS)
                self._add_cases(row, class_name, cases, problems)
        for site in self._sites:
            if not any(row[self._settings["site_column"]] == site for row in rows):
                problems.append(
                    f"{self._root}/participants.tsv: no participant of site {site!r} in column "
                    f"{self._settings['site_column']!r}; correct cohort.sites"
                )
        if problems:
            raise CohortError(problems)
        return cases

    def read_case(self, case: Case) -> Volume:
        """Read one case's images and mask."""
        images = tuple(read_volume(path).image for path in case.images)
        return Volume(images, read_volume(case.mask).image if case.mask else None)

    def _class_names(self, rows: Sequence[dict[str, str]]) -> Mapping[str, str]:
        """Value of the class column to the class that it stands for, of the sites."""
        if not self._classes:
            return {}
        column, counts = self._settings["class_column"], Counter()
        for row in rows:
            if row[self._settings["site_column"]] in self._sites and row[column] not in NOT_AVAILABLE:
                counts[row[column], row[self._settings["site_column"]]] += 1
        return map_classes(counts, self._classes, self._settings["class_map"], "bids.class_map")

    def _add_cases(self, row: dict[str, str], class_name: str, cases: list[Case], problems: list[str]) -> None:
        """Add the cases of one participant (one a session), or say what is wrong with them."""
        subject, site = row["participant_id"], row[self._settings["site_column"]]
        folder = self._root / subject
        folders = sorted(folder.glob("ses-*")) or [folder]
        for session in folders:
            case = subject if session == folder else f"{subject}_{session.name}"
            try:
                cases.append(self._check_case(case, subject, site, class_name, session))
            except StudyError as error:
                problems.append(f"site {site}: {error}")

    def _check_case(self, case: str, subject: str, site: str, class_name: str, folder: Path) -> Case:
        paths = [
            _the_one_file(self._root, folder, f"**/*_{suffix}.nii.gz") for suffix in self._settings["image_suffixes"]
        ]
        files = [(path, read_volume(path)) for path in paths]
        images, mask = [(path, file.image) for path, file in files], None
        if self._labels:
            pattern = self._settings["mask_glob"].format(subject=folder.relative_to(self._root).as_posix())
            path = _the_one_file(self._root, self._root, pattern)
            files.append((path, read_volume(path)))
            mask = (path, files[-1][1].image)
        digest = hashlib.sha256("".join(file.sha256 for _, file in files).encode())
        digest.update(class_name.encode())
        names = {"case": case, "patient": subject, "site": site, "class_name": class_name}
        return outlined_case(names, images, mask, self._labels, digest.hexdigest())


def _the_one_file(root: Path, folder: Path, pattern: str) -> Path:
    """The only file that matches and lies in the data set, or a message that says what was looked for."""
    files = sorted(folder.glob(pattern))
    if len(files) != 1:
        names = ", ".join(path.name for path in files[:3]) or "none"
        raise StudyError(f"{folder}: expected one file like {pattern}, found {len(files)} ({names})")
    check_inside(files[0], root)
    return files[0]


def open_bids(settings: dict[str, Any]) -> BidsSource:
    """Open the source as the settings of a site describe it."""
    classes = settings["cohort"]["classes"]
    return BidsSource(settings["root"], settings["sites"], classes, labels_of(settings), settings["bids"])
