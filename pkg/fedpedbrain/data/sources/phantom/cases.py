"""The simulated cohort: cases with a known truth, made on demand from their recipe, never stored.

Simulated from averaged adult anatomy with painted tumours: a score on it says nothing clinical.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from fedpedbrain.base.cases import Case
from fedpedbrain.base.errors import StudyError
from fedpedbrain.base.seeds import derive_seed
from fedpedbrain.data.formats.volumes import Volume
from fedpedbrain.data.grid.orientation import describe_orientation
from fedpedbrain.data.sources.phantom.anatomy import sample_head, widen_ventricles
from fedpedbrain.data.sources.phantom.scanner import (
    Scanner,
    acquisition_shape,
    draw_scanner,
    expose,
    frame_points_ras,
    scanner_frame,
    vary_scanner,
)
from fedpedbrain.data.sources.phantom.tumours import (
    RECIPES,
    displace_anatomy,
    draw_tumour,
    paint_tumour,
    smooth_field,
)

_BRAIN_CENTRE_MM = np.array([0.0, -17.0, 4.0])


class PhantomSource:
    """Simulated multi-site cohort.

    Parameters
    ----------
    sites : names of the sites to simulate
    classes : diagnoses; each is a tumour that ``RECIPES`` knows, or ``normal_class``
    normal_class : the class whose cases carry no tumour
    settings : the ``phantom`` block of the config: ``seed``, ``cases`` (site to number), ``normal_fraction``,
        ``class_concentration`` (Dirichlet; small means unequal class mixes), ``in_plane_coarsening``
    """

    def __init__(self, sites: Sequence[str], classes: Sequence[str], normal_class: str | None, settings: dict) -> None:
        unknown = [name for name in classes if name not in RECIPES and name != normal_class]
        if unknown:
            raise StudyError(
                f"cohort.classes: the phantom source cannot draw {unknown[0]!r}; it knows {sorted(RECIPES)} "
                "and the class that cohort.normal_class names"
            )
        missing = [site for site in sites if site not in settings["cases"]]
        if missing:
            raise StudyError(f"phantom.cases: no number of cases for site {missing[0]!r}; add it")
        self._sites = list(sites)
        self._tumour_classes = [name for name in classes if name != normal_class]
        if not self._tumour_classes:
            raise StudyError("cohort.classes: the phantom source draws tumours by their class; name one or more")
        self._normal_class = normal_class
        self._settings = settings

    def _rng(self, *parts: str | int) -> np.random.Generator:
        return np.random.default_rng(derive_seed(self._settings["seed"], "phantom", *parts))

    def _scanner(self, site: str, case: str) -> Scanner:
        scanner = draw_scanner(self._rng(site, "scanner"), self._settings["in_plane_coarsening"])
        return vary_scanner(scanner, self._rng(site, case, "scanner"))

    def _class_of(self, site: str, case: str) -> str:
        mix = self._rng(site, "classes").dirichlet(
            np.full(len(self._tumour_classes), self._settings["class_concentration"])
        )
        rng = self._rng(site, case, "class")
        if self._normal_class is not None and rng.random() < self._settings["normal_fraction"]:
            return self._normal_class
        return str(rng.choice(self._tumour_classes, p=mix))

    def find_cases(self) -> list[Case]:
        """List every case; nothing is drawn yet."""
        cases = []
        for site in self._sites:
            for number in range(1, self._settings["cases"][site] + 1):
                name = f"{site}-{number:03d}"
                scanner = self._scanner(site, name)
                class_name = self._class_of(site, name)
                recipe = json.dumps([name, class_name, repr(scanner), self._settings["seed"]])
                in_plane, between = scanner.spacing_mm
                cases.append(
                    Case(
                        case=name,
                        patient=name,
                        site=site,
                        class_name=class_name,
                        images=(),
                        mask="",
                        shape=acquisition_shape(scanner),
                        spacing_mm=(between, in_plane, in_plane),
                        sha256=hashlib.sha256(recipe.encode()).hexdigest(),
                        orientation=describe_orientation(scanner_frame(scanner)),
                    )
                )
        return cases

    def read_case(self, case: Case) -> Volume:
        """Draw one case: a pure function of the phantom's seed, the site and the case's name."""
        rng = self._rng(case.site, case.case, "anatomy")
        scanner = self._scanner(case.site, case.case)
        frame = scanner_frame(scanner)
        points = _to_template(frame_points_ras(frame), rng)
        mask = np.zeros(points.shape[1:], dtype=bool)
        if case.class_name == self._normal_class:
            head = sample_head(points, scanner.tissue_values)
        else:
            recipe = RECIPES[case.class_name]
            tumour = draw_tumour(recipe, rng)
            displaced = displace_anatomy(widen_ventricles(points, recipe.ventricles), tumour)
            head, mask = paint_tumour(sample_head(displaced, scanner.tissue_values), points, tumour)
        image = sitk.GetImageFromArray(expose(head, scanner, rng))
        image.CopyInformation(frame)
        mask_image = sitk.GetImageFromArray(mask.astype(np.uint8))
        mask_image.CopyInformation(frame)
        return Volume((image,), mask_image)


def _to_template(points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Map scanner points to template mm: paediatric scale, small affine, smooth warp of 3 to 6 mm."""
    scale = rng.uniform(0.88, 1.0) * rng.uniform(0.96, 1.04, 3)
    rotation = Rotation.from_euler("xyz", rng.normal(0.0, 2.0, 3), degrees=True).as_matrix()
    matrix = (rotation / scale).astype(np.float32)
    centre = _BRAIN_CENTRE_MM.reshape(3, 1, 1, 1).astype(np.float32)
    template = np.tensordot(matrix, points - centre, axes=1) + centre
    amplitude = rng.uniform(3.0, 6.0) / 2.0
    warp = [smooth_field(template, 60.0, rng) for _ in range(3)]
    return template + amplitude * np.clip(np.stack(warp), -2.0, 2.0).astype(np.float32)


def open_phantom(settings: dict[str, Any]) -> PhantomSource:
    """Open the source as the settings of a site describe it."""
    cohort = settings["cohort"]
    return PhantomSource(settings["sites"], cohort["classes"], cohort["normal_class"], settings["phantom"])
