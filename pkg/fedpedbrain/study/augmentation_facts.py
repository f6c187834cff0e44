"""The augmentations that a study can choose; each is a row here, its code and a test."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fedpedbrain.base.choices import Choices, Option

# What a study chose before there was a choice: settings do not name it.
DEFAULT_AUGMENTATION = "in_plane"


@dataclass(frozen=True)
class AugmentationFacts:
    """What is known of an augmentation.

    Attributes
    ----------
    implementation : class, called with the ``training.augmentation`` block. ``draw(*seed_parts, shape, spacing_mm)``
        draws what happens to one sample of ``shape`` (C, D, H, W). ``reach(size, changes)`` says how many voxels
        (D, H, W) around the middle of each sample are looked at, at least ``size``. A call with images, masks and drawn
        changes applies them to a batch
    mirrored_axes : of that block, the axes among D, H, W along which images may be mirrored
    options : keys of that block that it reads
    """

    implementation: str
    mirrored_axes: Callable[[Mapping[str, Any]], Sequence[str]]
    options: Mapping[str, Option] = field(default_factory=dict)


_SPREAD = {"type": "number", "minimum": 0, "exclusiveMaximum": 1}
_DEGREES = {"type": "number", "minimum": 0, "maximum": 180}
_PROBABILITY = {"type": "number", "minimum": 0, "maximum": 1}
_RANGE = {"type": "array", "minItems": 2, "maxItems": 2, "items": {"type": "number", "minimum": 0}}
_FACTORS = {"type": "array", "minItems": 2, "maxItems": 2, "items": {"type": "number", "exclusiveMinimum": 0}}
_AXES = {"type": "array", "uniqueItems": True, "items": {"enum": ["D", "H", "W"]}}

AUGMENTATIONS: Choices[AugmentationFacts] = Choices(
    {
        "in_plane": AugmentationFacts(
            "fedpedbrain.training.augmentation:Augmentation",
            lambda block: ["W"] if block["flip_probability"] > 0 else [],
            {
                "crop_fraction": Option(
                    1.0,
                    {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
                    "in_plane: side of the random in-plane crop that is stretched to the full plane; 1.0 for none.",
                ),
                "rotation_degrees": Option(0.0, _DEGREES, "in_plane: largest in-plane rotation in degrees."),
                "zoom_spread": Option(0.0, _SPREAD, "in_plane: in-plane zoom, drawn from [1 - spread, 1 + spread]."),
                "flip_probability": Option(0.5, _PROBABILITY, "in_plane: probability of a left-right mirror."),
                "gamma_spread": Option(
                    0.2, _SPREAD, "in_plane: exponent of the intensities, drawn from [1 - spread, 1 + spread]."
                ),
            },
        ),
        # As get_training_transforms of nnUNetTrainer in nnunetv2, whose noise_variance is a standard deviation.
        "volume": AugmentationFacts(
            "fedpedbrain.training.volume_augmentation:VolumeAugmentation",
            lambda block: block["mirror_axes"] if block["mirror_probability"] > 0 else [],
            {
                "rotation_probability": Option(0.2, _PROBABILITY, "volume: probability of a rotation."),
                "volume_rotation_degrees": Option(
                    30.0, _DEGREES, "volume: largest rotation in degrees about each axis."
                ),
                "plane_rotation_degrees": Option(
                    180.0,
                    _DEGREES,
                    "volume: largest in-plane rotation in degrees. Samples of more than three times as many voxels in "
                    "height or width as in depth turn in their plane alone.",
                ),
                "scaling_probability": Option(0.2, _PROBABILITY, "volume: probability of scaling."),
                "scaling_range": Option([0.7, 1.4], _FACTORS, "volume: factor on the size of what is shown."),
                "noise_probability": Option(0.1, _PROBABILITY, "volume: probability of Gaussian noise."),
                "noise_deviation_range": Option(
                    [0.0, 0.1], _RANGE, "volume: standard deviation of the noise, over that of the sample's channel."
                ),
                "blur_probability": Option(0.2, _PROBABILITY, "volume: probability of a Gaussian blur."),
                "blur_sigma_range": Option([0.5, 1.0], _FACTORS, "volume: standard deviation of the blur in voxels."),
                "brightness_probability": Option(
                    0.15, _PROBABILITY, "volume: probability that intensities are multiplied."
                ),
                "brightness_range": Option([0.75, 1.25], _FACTORS, "volume: factor on the intensities."),
                "contrast_probability": Option(0.15, _PROBABILITY, "volume: probability of another contrast."),
                "contrast_range": Option(
                    [0.75, 1.25], _FACTORS, "volume: factor on the distance from the mean intensity."
                ),
                "low_resolution_probability": Option(
                    0.25, _PROBABILITY, "volume: probability of a simulated low resolution."
                ),
                "low_resolution_range": Option(
                    [0.5, 1.0],
                    {**_FACTORS, "items": {"type": "number", "exclusiveMinimum": 0, "maximum": 1}},
                    "volume: part of the voxels along an axis that the simulated low resolution has.",
                ),
                "channel_probability": Option(
                    0.5,
                    _PROBABILITY,
                    "volume: probability of each channel to be part of a blur or of a low resolution.",
                ),
                "gamma_probability": Option(0.3, _PROBABILITY, "volume: probability of a power of the intensities."),
                "inverted_gamma_probability": Option(
                    0.1, _PROBABILITY, "volume: probability of a power of inverted intensities."
                ),
                "gamma_range": Option([0.7, 1.5], _FACTORS, "volume: exponent of both."),
                "mirror_axes": Option(
                    ["W"],
                    _AXES,
                    "volume: axes (D, H, W) along which a sample is mirrored, each on its own; no others than those of "
                    "cohort.anatomy.mirror_axes.",
                ),
                "mirror_probability": Option(0.5, _PROBABILITY, "volume: probability of each of these mirrors."),
            },
        ),
    }
)
