"""What the settings of a training sample, and of its mirrored copies, may not say together."""

from collections.abc import Mapping, Sequence
from typing import Any

from fedpedbrain.base.errors import StudyError
from fedpedbrain.study.augmentation_facts import AUGMENTATIONS, DEFAULT_AUGMENTATION
from fedpedbrain.study.intensity_facts import FLOAT16_WORDS

_PATCH_KEYS = ("size", "per_case", "foreground_share")


def check_patch(where: str, patch: Mapping[str, Any] | None) -> None:
    """Refuse patches of which an arm names a part and the study nothing."""
    missing = [key for key in _PATCH_KEYS if patch is not None and key not in patch]
    if missing:
        raise StudyError(f"config: {where}training.patch: missing key {', '.join(missing)}")


def check_own_sizes(where: str, preprocessing: Mapping[str, Any], patch_size: Sequence[int] | None) -> None:
    """Refuse cases of their own size of which nobody knows the voxels, or of which no batch can be made.

    Parameters
    ----------
    preprocessing : the block of the config
    patch_size : voxels (D, H, W) of a training sample, None where it is a whole case
    """
    if preprocessing["grid"] is not None:
        return
    if preprocessing["voxel_spacing_mm"] is None:
        raise StudyError(
            "preprocessing.voxel_spacing_mm: null, and preprocessing.grid is null; write three spacings in mm "
            "(D, H, W), or native, or give a grid"
        )
    if patch_size is None:
        raise StudyError(
            f"{where}training.patch: null, but with preprocessing.grid null cases differ in size; set "
            f"{where}training.patch, or give a grid"
        )


def check_augmentation(where: str, block: Mapping[str, Any], mirror_axes: Sequence[str]) -> None:
    """Refuse ranges that end before they begin, and mirrors that make an image of another anatomy.

    Parameters
    ----------
    block : the ``training.augmentation`` block with the options of its choice
    mirror_axes : ``cohort.anatomy.mirror_axes``
    """
    name = block.get("name", DEFAULT_AUGMENTATION)
    for key, value in block.items():
        if key.endswith("_range") and value[0] > value[1]:
            raise StudyError(
                f"{where}training.augmentation.{key}: expected the smallest and then the largest value, found {value}; "
                "correct them"
            )
    _check_mirrors(f"{where}training.augmentation", AUGMENTATIONS[name].mirrored_axes(block), mirror_axes)


def check_powers(where: str, block: Mapping[str, Any], intensity: str) -> None:
    """Refuse powers of intensities that are not from 0 to 1.

    Parameters
    ----------
    block : the ``training.augmentation`` block with the options of its choice
    intensity : ``preprocessing.intensity.name``
    """
    is_in_plane = block.get("name", DEFAULT_AUGMENTATION) == DEFAULT_AUGMENTATION
    if is_in_plane and block["gamma_spread"] > 0 and intensity in FLOAT16_WORDS:
        raise StudyError(
            f"{where}training.augmentation.gamma_spread: {DEFAULT_AUGMENTATION} takes powers of intensities from 0 to "
            f"1, but preprocessing.intensity.name is {intensity}; set it to 0, or training.augmentation.name: volume"
        )


def check_flips(axes: Sequence[str], mirror_axes: Sequence[str]) -> None:
    """Refuse predictions over mirrored copies that are images of another anatomy."""
    _check_mirrors("evaluation.test_time_flips", axes, mirror_axes)


def _check_mirrors(key: str, axes: Sequence[str], mirror_axes: Sequence[str]) -> None:
    strange = [axis for axis in axes if axis not in mirror_axes]
    if strange:
        known = ", ".join(mirror_axes) or "none"
        raise StudyError(
            f"{key}: mirrors along {strange[0]}, but cohort.anatomy.mirror_axes names {known}; leave it out, or add it "
            "there if a mirrored image is still one of this anatomy"
        )
