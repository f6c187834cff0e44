"""The published FLPedBrain cohort (Lee et al., "FL-PedBrain", Nature Communications 2024): arrays in pickled dicts.

The files name no patients: every case is a patient of its own, but cases of one site that have the same image are one
patient. They carry no geometry either: voxel spacing and orientation are what the config states.
"""

import hashlib
import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from fedpedbrain.base.cases import UNKNOWN_CLASS, Case
from fedpedbrain.base.errors import CohortError, StudyError
from fedpedbrain.base.files import check_sha256
from fedpedbrain.base.seeds import derive_seed
from fedpedbrain.data.formats.volumes import Volume
from fedpedbrain.data.grid.memory_maps import forget_pages
from fedpedbrain.data.sources.copies import voxel_digests
from fedpedbrain.data.sources.flpedbrain.files import SHARED_NORMALS, SitePart, choose_parts, find_files
from fedpedbrain.data.sources.flpedbrain.pickled_arrays import read_pickled_arrays
from fedpedbrain.data.sources.outlined_case import check_labels

logger = logging.getLogger(__name__)

# Images, masks and labels in a file of one site, and in the two files of normal cases that all sites share.
_KEYS = (
    ("xs_uint8", "ys_uint8", "label_classes"),
    ("train_x", "train_seg", "train_y"),
    ("val_x", "val_seg", "val_y"),
)
_ROW_MARK = "#"
# Where each letter of an orientation leads to, in LPS mm.
_DIRECTIONS = {"L": (1, 0, 0), "R": (-1, 0, 0), "P": (0, 1, 0), "A": (0, -1, 0), "S": (0, 0, 1), "I": (0, 0, -1)}


@dataclass(frozen=True)
class _Table:
    """The cases of one file.

    Attributes
    ----------
    images, masks : (N, H, W, D), memory maps where they are large
    labels : integers (N,)
    """

    images: np.ndarray
    masks: np.ndarray
    labels: np.ndarray


class FlpedbrainSource:
    """Cases of the published ``.npy`` files, one row each, of which only the row at hand is in memory.

    Parameters
    ----------
    files : every file that the sites need, name to path
    sites : sites whose cases are wanted
    sites_before : sites that take their shared normal cases before these, in the order in which they do
    cohort : the ``cohort`` block of the config: ``classes``, ``normal_class`` and ``regions``
    settings : the ``flpedbrain`` block of the config
    """

    def __init__(
        self,
        files: Mapping[str, Path],
        sites: Sequence[str],
        sites_before: Sequence[str],
        cohort: Mapping[str, Any],
        settings: Mapping[str, Any],
    ) -> None:
        self._files = files
        self._sites = sites
        self._sites_before = sites_before
        self._classes = cohort["classes"]
        self._normal_class = cohort["normal_class"]
        self._labels = {label for region in cohort["regions"] for label in region["labels"]}
        self._settings = settings
        self._tables: dict[str, _Table] = {}

    def find_cases(self) -> list[Case]:
        """List the cases of the sites; every voxel is read, checked and hashed.

        Normal cases are drawn without replacement: a file's rows stand in an order that its name and the seed decide,
        and each site takes as many as it needs, one site after the other. So no two sites get the same one, and another
        site at the end of the list leaves the earlier ones theirs. A site's own file that has too few is used up.
        """
        problems: list[str] = []
        cases: list[Case] = []
        num_taken: Counter[str] = Counter()
        for name in dict.fromkeys(name for site in self._sites for part in self._parts_of(site) for name in part.names):
            check_sha256(self._files[name], self._settings["sha256"].get(name), name=str(self._files[name]))
        for part in (part for site in self._sites_before for part in self._parts_of(site)):
            # What is wrong with them is said where they are read themselves.
            with suppress(StudyError):
                self._rows_of(part, num_taken)
        for site in self._sites:
            # Images of the site, and the case that had each first.
            patients: dict[tuple[str, ...], str] = {}
            for part in self._parts_of(site):
                try:
                    rows = self._rows_of(part, num_taken)
                except StudyError as error:
                    problems.append(f"site {site}: {error}")
                    continue
                for case, name, row in rows:
                    try:
                        cases.append(self._check_case(case, site, name, row, patients))
                    except StudyError as error:
                        problems.append(f"site {site}: {error}")
        left_out = set(self._settings["left_out_cases"])
        unknown = sorted(left_out - {case.case for case in cases})
        if unknown and not problems:
            problems.append(f"flpedbrain.left_out_cases: there is no case {unknown[0]!r}; correct its name")
        if problems:
            raise CohortError(problems)
        return [case for case in cases if case.case not in left_out]

    def read_case(self, case: Case) -> Volume:
        """Read one case's row; voxel spacing and orientation are those that the config states."""
        (place,) = case.images
        name, row = place.rsplit(_ROW_MARK, 1)
        table = self._table(name)
        mask = self._place(_read_row(table.masks, int(row)).astype(np.uint8)) if case.mask else None
        return Volume((self._place(_read_row(table.images, int(row))),), mask)

    def _parts_of(self, site: str) -> list[SitePart]:
        return choose_parts(site, self._settings, self._files, "the published files")

    def _table(self, name: str) -> _Table:
        if name not in self._tables:
            self._tables[name] = _open_table(self._files[name])
        return self._tables[name]

    def _rows_of(self, part: SitePart, num_taken: Counter[str]) -> list[tuple[str, str, int]]:
        """Case, file and row of a part's cases: all of its own file, and the normal cases drawn for them."""
        labels = self._table(part.tumours).labels
        rows = [(f"{part.site}-{part.part}-{row:04d}", part.tumours, row) for row in range(len(labels))]
        if part.normals is None:
            return rows
        num_tumours = sum(self._name_of(label) != self._normal_class for label in labels.tolist())
        num_normals = math.floor(self._settings["normal_fraction"] * num_tumours + 0.5)
        first, num_there = num_taken[part.normals], len(self._table(part.normals).labels)
        if num_normals > num_there and part.normals not in SHARED_NORMALS.values():
            logger.warning("%s: %d normal cases wanted, all %d taken", part.normals, num_normals, num_there)
            num_normals = num_there
        if first + num_normals > num_there:
            raise StudyError(
                f"{part.normals}: {num_there - first} normal cases are left, {num_normals} are wanted for "
                f"{num_tumours} tumour cases; lower flpedbrain.normal_fraction or change flpedbrain.normals"
            )
        num_taken[part.normals] += num_normals
        generator = np.random.default_rng(derive_seed(self._settings["seed"], "normals", part.normals))
        drawn = sorted(generator.permutation(num_there)[first : first + num_normals].tolist())
        return rows + [(f"{part.site}-normal-{part.part}-{row:04d}", part.normals, row) for row in drawn]

    def _name_of(self, label: int) -> str | None:
        names = self._settings["label_names"]
        return names[label] if 0 <= label < len(names) else None

    def _class_of(self, name: str, row: int) -> str:
        label = int(self._table(name).labels[row])
        class_name = self._name_of(label)
        if class_name is None:
            raise StudyError(
                f"{name}: row {row} has label {label}, flpedbrain.label_names has names for 0 to "
                f"{len(self._settings['label_names']) - 1}; add one"
            )
        if self._classes and class_name not in self._classes:
            raise StudyError(
                f"{name}: row {row} is {class_name!r}, which is none of cohort.classes ({', '.join(self._classes)}); "
                "add it there"
            )
        return class_name if self._classes else UNKNOWN_CLASS

    def _check_case(self, case: str, site: str, name: str, row: int, patients: dict[tuple[str, ...], str]) -> Case:
        """Describe one row; ``patients`` holds the site's images that were met before, and whose they are."""
        table, class_name = self._table(name), self._class_of(name, row)
        image = self._place(_read_row(table.images, row))
        voxel_sha256 = voxel_digests([image])
        digest = hashlib.sha256(repr((voxel_sha256, class_name)).encode())
        if self._labels:
            mask = _read_row(table.masks, row)
            check_labels(f"{name}: row {row}", mask, self._labels)
            digest.update(mask)
        place = f"{name}{_ROW_MARK}{row}"
        return Case(
            case=case,
            # Blank images are all alike; the audit notes them.
            patient=patients.setdefault(voxel_sha256, case) if voxel_sha256 else case,
            site=site,
            class_name=class_name,
            images=(place,),
            mask=place if self._labels else "",
            shape=image.GetSize()[::-1],
            spacing_mm=image.GetSpacing()[::-1],
            sha256=digest.hexdigest(),
            # Which ear is the right one, the files do not say: the config's word is no knowledge of it.
            orientation="",
            voxel_sha256=voxel_sha256,
        )

    def _place(self, array: np.ndarray) -> sitk.Image:
        """An array (H, W, D) with the stated spacing and orientation."""
        image = sitk.GetImageFromArray(np.ascontiguousarray(array.transpose(2, 0, 1)))
        image.SetSpacing(self._settings["voxel_spacing_mm"][::-1])
        height, width, depth = (_DIRECTIONS[letter] for letter in self._settings["orientation"])
        image.SetDirection(np.array([width, height, depth], dtype=float).T.ravel().tolist())
        return image


def _read_row(array: np.ndarray, row: int) -> np.ndarray:
    """One row in memory of its own."""
    values = np.array(array[row], order="C")
    forget_pages(array)
    return values


def _open_table(path: Path) -> _Table:
    """Open a file's arrays; refused where they are not those of cases."""
    content = read_pickled_arrays(path)
    keys = next((keys for keys in _KEYS if all(key in content for key in keys)), None)
    if keys is None:
        expected = " or ".join(", ".join(keys) for keys in _KEYS)
        raise StudyError(f"{path}: expected the keys {expected}, found {', '.join(map(str, content))[:200] or 'none'}")
    table = _Table(*(np.asanyarray(content[key]) for key in keys))
    if table.images.ndim != 4 or table.images.dtype != np.uint8:
        raise StudyError(
            f"{path}: expected {keys[0]} as uint8 (N, H, W, D), found {table.images.dtype} {table.images.shape}"
        )
    if table.masks.shape != table.images.shape or table.masks.dtype.kind not in "bu":
        raise StudyError(
            f"{path}: expected {keys[1]} of the shape {table.images.shape} of its images in whole numbers from 0 on, "
            f"found {table.masks.dtype} {table.masks.shape}"
        )
    if table.labels.shape != table.images.shape[:1] or table.labels.dtype.kind not in "iu":
        raise StudyError(
            f"{path}: expected {keys[2]} as {len(table.images)} integers, found {table.labels.dtype} "
            f"{table.labels.shape}"
        )
    return table


def open_flpedbrain(settings: dict[str, Any]) -> FlpedbrainSource:
    """Open the source as the settings of a site describe it."""
    files, block = find_files(settings), settings["flpedbrain"]
    return FlpedbrainSource(files, settings["sites"], settings["sites_before"], settings["cohort"], block)
