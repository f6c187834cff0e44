"""A cohort in a BIDS folder (https://bids-specification.readthedocs.io): images, mask derivatives, participants.tsv."""

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from fedpedbrain.cohort import UNKNOWN_CLASS, Case
from fedpedbrain.data.class_names import map_classes
from fedpedbrain.data.copies import voxel_digests
from fedpedbrain.data.layouts import bids_root, read_participants
from fedpedbrain.data.orientation import describe_orientation
from fedpedbrain.data.volumes import Volume, check_finite, check_same_grid, read_volume
from fedpedbrain.errors import CohortError, StudyError
from fedpedbrain.files import check_inside, sha256_of_file

NOT_AVAILABLE = ("n/a", "")


class BidsSource:
    """One image a channel and at most one mask for every ``sub-*`` folder (and session) of a BIDS data set.

    Parameters
    ----------
    root : the data set's folder
    sites : sites of the study; participants of other sites are left out
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
        """List the cases of the study's sites; every file is read, checked and hashed."""
        problems: list[str] = []
        cases: list[Case] = []
        rows = self._participants()
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

    def count_left_out(self) -> dict[str, int]:
        """Number of participants by site, of the sites that are none of the study's."""
        sites = Counter(row[self._settings["site_column"]] for row in self._participants())
        return {site: count for site, count in sorted(sites.items()) if site not in self._sites}

    def read_case(self, case: Case) -> Volume:
        """Read one case's images and mask."""
        images = tuple(read_volume(path) for path in case.images)
        return Volume(images, read_volume(case.mask) if case.mask else None)

    def _participants(self) -> list[dict[str, str]]:
        path, rows = self._root / "participants.tsv", read_participants(str(self._root))
        columns = ["participant_id", self._settings["site_column"]]
        if self._classes:
            columns.append(self._settings["class_column"])
        for column in columns:
            if not rows or column not in rows[0]:
                found = ", ".join(filter(None, rows[0])) if rows else "no rows"
                raise StudyError(
                    f"{path}: expected a column {column!r}, found: {found}; see bids.*_column in the config"
                )
        for row in rows:
            if None in row.values() or None in row:
                raise StudyError(
                    f"{path}: the row of {row['participant_id']} has {'more' if None in row else 'fewer'} cells than "
                    "the header; correct it"
                )
        return rows

    def _class_names(self, rows: Sequence[dict[str, str]]) -> Mapping[str, str]:
        """Value of the class column to the class that it stands for, of the study's sites."""
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
        images = [
            _the_one_file(self._root, folder, f"**/*_{suffix}.nii.gz") for suffix in self._settings["image_suffixes"]
        ]
        volumes = [read_volume(path) for path in images]
        for path, volume in zip(images, volumes, strict=True):
            check_finite(path, volume)
            check_same_grid(path, volume, images[0], volumes[0])
        masks = []
        if self._labels:
            pattern = self._settings["mask_glob"].format(subject=folder.relative_to(self._root).as_posix())
            masks = [_the_one_file(self._root, self._root, pattern)]
            mask = read_volume(masks[0])
            check_finite(masks[0], mask)
            check_same_grid(masks[0], mask, images[0], volumes[0])
            self._check_labels(masks[0], mask)
        digest = hashlib.sha256("".join(map(sha256_of_file, [*images, *masks])).encode())
        digest.update(class_name.encode())
        return Case(
            case=case,
            patient=subject,
            site=site,
            class_name=class_name,
            images=tuple(map(str, images)),
            mask=str(masks[0]) if masks else "",
            shape=volumes[0].GetSize()[::-1],
            spacing_mm=volumes[0].GetSpacing()[::-1],
            sha256=digest.hexdigest(),
            orientation=describe_orientation(volumes[0]),
            voxel_sha256=voxel_digests(volumes),
        )

    def _check_labels(self, path: Path, mask: sitk.Image) -> None:
        found = np.unique(sitk.GetArrayViewFromImage(mask))
        strange = [value for value in found.tolist() if value != 0 and value not in self._labels]
        if strange:
            raise StudyError(
                f"{path}: mask label {strange[0]:g} belongs to no region of cohort.regions "
                f"(labels {sorted(self._labels)}); correct the mask or add the label to a region"
            )


def _the_one_file(root: Path, folder: Path, pattern: str) -> Path:
    """The only file that matches and lies in the data set, or a message that says what was looked for."""
    files = sorted(folder.glob(pattern))
    if len(files) != 1:
        names = ", ".join(path.name for path in files[:3]) or "none"
        raise StudyError(f"{folder}: expected one file like {pattern}, found {len(files)} ({names})")
    check_inside(files[0], root)
    return files[0]
