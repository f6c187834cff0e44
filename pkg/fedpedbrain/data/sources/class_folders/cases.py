"""A cohort of 2-D pictures in folders that are named as their class."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from fedpedbrain.base.cases import Case
from fedpedbrain.base.errors import CohortError, StudyError
from fedpedbrain.base.files import check_inside, sha256_of_file
from fedpedbrain.base.lineage import digest_of
from fedpedbrain.data.formats.reading import read_scan
from fedpedbrain.data.formats.volumes import Volume
from fedpedbrain.data.sources.class_folders.files import find_pictures
from fedpedbrain.data.sources.class_names import map_classes
from fedpedbrain.data.sources.copies import voxel_digests


class ClassFolderSource:
    """Every picture ``root/{site}/**/{class folder}/*.png`` (or JPEG) is a case of one slice.

    Whose picture it is, nobody knows: each counts as a patient of its own, so that slices of one patient may stand on
    both sides of a split. Copies at one site that are the same pixel by pixel are taken for one patient.

    Parameters
    ----------
    root : the folder of the sites
    sites : sites whose cases are wanted
    classes : class names of the study
    settings : the ``class_folders`` block of the config
    formats : the ``formats`` block of the config
    """

    def __init__(
        self,
        root: str | None,
        sites: Sequence[str],
        classes: Sequence[str],
        settings: Mapping[str, Any],
        formats: Mapping[str, Any],
    ) -> None:
        self._pictures = find_pictures(root, sites)
        self._root = Path(root)
        self._sites = list(sites)
        self._classes = list(classes)
        self._settings = settings
        self._formats = formats

    def find_cases(self) -> list[Case]:
        """List the pictures of the sites; every file is read, checked and hashed."""
        problems = [
            f"{self._root / site}: no picture of site {site!r}; correct cohort.sites or cohort_root"
            for site in self._sites
            if not self._pictures.get(site)
        ]
        pictures = [(site, path) for site in self._sites for path in self._pictures.get(site, [])]
        problems += [
            f"{path}: stands in no class folder; expected {self._root / site}/CLASS/{path.name}"
            for site, path in pictures
            if path.parent == self._root / site
        ]
        problems += self._shared_names([path for _, path in pictures])
        if problems:
            raise CohortError(problems)
        counts = Counter((path.parent.name, site) for site, path in pictures)
        class_of = map_classes(counts, self._classes, self._settings["class_map"], "class_folders.class_map")
        cases: list[Case] = []
        copy_of: dict[tuple[str, tuple[str, ...]], Case] = {}
        for site, path in pictures:
            try:
                case = self._case(site, path, class_of[path.parent.name], copy_of)
            except StudyError as error:
                problems.append(f"site {site}: {error}")
            else:
                cases.append(case)
        if problems:
            raise CohortError(problems)
        return cases

    def read_case(self, case: Case) -> Volume:
        """Read one picture as a volume of one slice."""
        return Volume((self._read(Path(case.images[0])),), None)

    def _name(self, path: Path) -> str:
        """A picture's name as a case: its path from the sites' folder on, without the suffix, as one file's name."""
        return "-".join(path.relative_to(self._root).with_suffix("").parts)

    def _shared_names(self, paths: Sequence[Path]) -> list[str]:
        first: dict[str, Path] = {}
        return [
            f"{path}: has the case name {self._name(path)} of {first[self._name(path)]}; rename one"
            for path in paths
            if first.setdefault(self._name(path), path) != path
        ]

    def _read(self, path: Path) -> sitk.Image:
        return read_scan(path, self._formats).image

    def _case(self, site: str, path: Path, class_name: str, copy_of: dict[tuple[str, tuple[str, ...]], Case]) -> Case:
        """A picture's case; ``copy_of`` holds the first case of each site with the same pixels."""
        check_inside(path, self._root)
        image, name = self._read(path), self._name(path)
        digests = voxel_digests([image])
        contents = {"file": sha256_of_file(path), "class": class_name, "read": self._formats["picture"]}
        case = Case(
            case=name,
            patient=name,
            site=site,
            class_name=class_name,
            images=(str(path),),
            mask="",
            shape=image.GetSize()[::-1],
            spacing_mm=image.GetSpacing()[::-1],
            sha256=digest_of(contents),
            voxel_sha256=digests,
        )
        if not digests:
            return case
        first = copy_of.setdefault((site, digests), case)
        if first.class_name != class_name:
            raise StudyError(
                f"{path}: is {class_name!r}, but {first.images[0]}, the same pixel by pixel, is {first.class_name!r}; "
                "remove the one that is wrong"
            )
        return replace(case, patient=first.patient)


def open_class_folders(settings: dict[str, Any]) -> ClassFolderSource:
    """Open the source as the settings of a site describe it."""
    return ClassFolderSource(
        settings["root"],
        settings["sites"],
        settings["cohort"]["classes"],
        settings["class_folders"],
        settings["formats"],
    )
