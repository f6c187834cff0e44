"""Images that are, voxel by voxel, one: found while the cohort is indexed, before anything trains."""

import hashlib
from collections.abc import Iterable

import numpy as np
import SimpleITK as sitk

from fedpedbrain.base.cases import Case


def voxel_digests(images: Iterable[sitk.Image]) -> tuple[str, ...]:
    """SHA-256 of the shape and the voxels of each image, as hexadecimal; blank images, which are all alike, have none.

    Voxels count as float32, so that a copy under another data type is a copy.
    """
    digests = []
    for image in images:
        voxels = sitk.GetArrayViewFromImage(image)
        if voxels.any():
            digest = hashlib.sha256(repr(voxels.shape).encode())
            digest.update(np.ascontiguousarray(voxels, dtype="<f4"))
            digests.append(digest.hexdigest())
    return tuple(digests)


def describe_copies(cases: Iterable[Case]) -> list[str]:
    """One line for every case that has an image of another patient: one of them might train and the other test."""
    first_of: dict[str, Case] = {}
    problems = []
    for case in cases:
        for digest in case.voxel_sha256:
            first = first_of.setdefault(digest, case)
            if first.patient != case.patient:
                problems.append(
                    f"site {case.site}: an image of case {case.case} is, voxel by voxel, one of case {first.case} of "
                    f"another patient (site {first.site}); remove one, or name both as one patient"
                )
                break
    return problems
