"""A cohort that a table lists: one row a case, images and masks of any form."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from fedpedbrain.base.cases import UNKNOWN_CLASS, Case
from fedpedbrain.base.errors import CohortError, StudyError
from fedpedbrain.base.files import check_inside, files_below, sha256_of_file
from fedpedbrain.base.lineage import digest_of
from fedpedbrain.data.formats.dicom_segmentation import is_segmentation, read_segmentation
from fedpedbrain.data.formats.nifti_headers import is_nifti
from fedpedbrain.data.formats.reading import read_scan
from fedpedbrain.data.formats.scan import Scan
from fedpedbrain.data.formats.volumes import Volume
from fedpedbrain.data.sources.class_names import map_classes
from fedpedbrain.data.sources.listed.files import read_listing
from fedpedbrain.data.sources.outlined_case import outlined_case
from fedpedbrain.data.sources.source import labels_of
from fedpedbrain.data.sources.source_files import NOT_AVAILABLE


class ListedSource:
    """Every row of a table is a case; its cells name files or folders of images, from the table's folder on.

    Parameters
    ----------
    root : folder of the table and of what it names
    sites : sites whose cases are wanted; rows of other sites are left out
    classes : class names of the study; empty where nothing is classified
    normal_class : the class whose cases need no mask, since nothing is outlined in them
    labels : mask labels that the study's regions are made of
    settings : the ``listed`` block of the config
    formats : the ``formats`` block of the config
    """

    def __init__(
        self,
        root: str | None,
        sites: Sequence[str],
        classes: Sequence[str],
        normal_class: str | None,
        labels: Collection[int],
        settings: Mapping[str, Any],
        formats: Mapping[str, Any],
    ) -> None:
        self._rows = read_listing(root, settings, bool(classes), bool(labels))
        self._root = Path(root)
        self._sites = list(sites)
        self._classes = list(classes)
        self._normal_class = normal_class
        self._labels = set(labels)
        self._settings, self._columns = settings, settings["columns"]
        self._formats = formats

    def find_cases(self) -> list[Case]:
        """List the cases of the sites; every file is read, checked and hashed."""
        table, cases = self._root / self._settings["table"], []
        rows = [row for row in self._rows if row[self._columns["site"]] in self._sites]
        found = {row[self._columns["site"]] for row in rows}
        problems = [
            f"{table}: no case of site {site!r} in column {self._columns['site']!r}; correct cohort.sites"
            for site in self._sites
            if site not in found
        ]
        class_of = self._class_names(rows)
        for row in rows:
            try:
                cases.append(self._check_case(row, class_of))
            except StudyError as error:
                problems.append(f"site {row[self._columns['site']]}, case {row[self._columns['case']]}: {error}")
        if problems:
            raise CohortError(problems)
        return cases

    def read_case(self, case: Case) -> Volume:
        """Read one case's images and mask."""
        images = tuple(read_scan(path, self._formats).image for path in case.images)
        return Volume(images, self._read_mask(Path(case.mask), images[0])[0] if case.mask else None)

    def _class_names(self, rows: Sequence[Mapping[str, str]]) -> Mapping[str, str]:
        """Value of the class column to the class that it stands for."""
        if not self._classes:
            return {}
        cells = [(row[self._columns["class"]], row[self._columns["site"]]) for row in rows]
        counts = Counter(cell for cell in cells if cell[0] not in NOT_AVAILABLE)
        return map_classes(counts, self._classes, self._settings["class_map"], "listed.class_map")

    def _path(self, cell: str) -> Path:
        path = self._root / cell
        check_inside(path, self._root)
        return path

    def _read_mask(self, path: Path, scan: sitk.Image) -> tuple[sitk.Image, Sequence[str]]:
        """The mask, and SHA-256 of its files."""
        if not is_nifti(path) and is_segmentation(path):
            return read_segmentation(path, scan), [sha256_of_file(path)]
        mask = read_scan(path, self._formats)
        return mask.image, list(map(sha256_of_file, files_below(path))) if path.is_dir() else mask.file_digests()

    def _check_case(self, row: Mapping[str, str], class_of: Mapping[str, str]) -> Case:
        paths = [self._path(row[column]) for column in self._columns["images"]]
        scans = [read_scan(path, self._formats) for path in paths]
        class_name = class_of.get(row.get(self._columns["class"], ""), UNKNOWN_CLASS)
        mask, digests = None, [digest for scan in scans for digest in scan.file_digests()]
        cell = row[self._columns["mask"]] if self._labels else ""
        if cell not in NOT_AVAILABLE:
            path = self._path(cell)
            image, of_mask = self._read_mask(path, scans[0].image)
            mask, digests = (path, image), [*digests, *of_mask]
        elif self._labels and (class_name == UNKNOWN_CLASS or class_name != self._normal_class):
            raise StudyError(
                "no mask, which would count as an empty one; name one (an empty one where nothing is there), or leave "
                "the case out"
            )
        names = {key: row[self._columns[key]] for key in ("case", "patient", "site")} | {"class_name": class_name}
        return outlined_case(
            names,
            [(path, scan.image) for path, scan in zip(paths, scans, strict=True)],
            mask,
            self._labels,
            self._digest(scans, digests, class_name),
            all(scan.is_orientation_known for scan in scans),
        )

    def _digest(self, scans: Sequence[Scan], digests: Sequence[str], class_name: str) -> str:
        """Digest of everything that the case is made from: files with these digests, and what is assumed of them."""
        assumed = {scan.form: self._formats.get(scan.form) for scan in scans}
        return digest_of({"files": digests, "class": class_name, "read": assumed})


def open_listed(settings: dict[str, Any]) -> ListedSource:
    """Open the source as the settings of a site describe it."""
    cohort, formats = settings["cohort"], settings["formats"]
    return ListedSource(
        settings["root"],
        settings["sites"],
        cohort["classes"],
        cohort["normal_class"],
        labels_of(settings),
        settings["listed"],
        formats,
    )
