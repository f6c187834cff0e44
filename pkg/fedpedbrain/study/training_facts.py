"""The losses, optimizers, schedules and samplers that a study can choose; each is a row here, its code and a test."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fedpedbrain.base.choices import Choices, Option
from fedpedbrain.study.augmentation_facts import AUGMENTATIONS, DEFAULT_AUGMENTATION


@dataclass(frozen=True)
class LossFacts:
    """What is known of a loss.

    ``tests/unit/training/test_losses.py`` tests every row (a perfect segmentation costs nothing), so a new loss needs
    only its worked answer.

    Attributes
    ----------
    implementation : function ``(logits, targets, **options)`` that returns float32 (B,), one number per case
    options : keys of ``training.loss`` that it reads, each a keyword argument of the function
    is_over_batch : what a sample costs depends on the others of its batch
    is_over_labels : it takes regions that exclude each other, from a network that knows so
    """

    implementation: str
    options: Mapping[str, Option] = field(default_factory=dict)
    is_over_batch: bool = False
    is_over_labels: bool = False


@dataclass(frozen=True)
class OptimizerFacts:
    """What is known of an optimizer.

    Attributes
    ----------
    implementation : class of PyTorch's form
    moments : tensors like the weights that it keeps
    arguments : further arguments of the class
    options : keys of ``training.optimizer`` that it reads, each an argument of the class
    """

    implementation: str
    moments: int
    arguments: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Option] = field(default_factory=dict)


@dataclass(frozen=True)
class ScheduleFacts:
    """What is known of a schedule of the learning rate.

    Attributes
    ----------
    implementation : function that maps the ``training.schedule`` block and a round, counted from 1, to a factor
    options : keys of that block that it reads
    """

    implementation: str
    options: Mapping[str, Option] = field(default_factory=dict)


@dataclass(frozen=True)
class SamplerFacts:
    """What is known of a way to make batches of a site's cases.

    Attributes
    ----------
    implementation : function of ``training.batches.epoch_batches``' form
    """

    implementation: str


_COUNT = {"type": "integer", "minimum": 1}
_FACTOR = {"type": "number", "exclusiveMinimum": 0, "maximum": 1}
# An option that several rows of a block read is one object.
_FOCAL = {
    "focal_gamma": Option(
        2.0,
        {"type": "number", "minimum": 0},
        "Exponent of the focal losses: how much less an easy voxel or case counts.",
    )
}
_ENDING = {
    "horizon_rounds": Option(
        12, _COUNT, "cosine, polynomial: round at which the rate reaches final_factor and stays there."
    ),
    "final_factor": Option(0.05, _FACTOR, "cosine, polynomial: factor from that round on."),
}

SEGMENTATION_LOSSES: Choices[LossFacts] = Choices(
    {
        "dice_cross_entropy": LossFacts("fedpedbrain.training.losses.dice_cross_entropy:dice_cross_entropy"),
        "dice": LossFacts("fedpedbrain.training.losses.dice:dice_loss"),
        "batch_dice_cross_entropy": LossFacts(
            "fedpedbrain.training.losses.batch_dice_cross_entropy:batch_dice_cross_entropy", is_over_batch=True
        ),
        "dice_label_cross_entropy": LossFacts(
            "fedpedbrain.training.losses.dice_label_cross_entropy:dice_label_cross_entropy",
            is_over_batch=True,
            is_over_labels=True,
        ),
        "dice_focal": LossFacts("fedpedbrain.training.losses.dice_focal:dice_focal", _FOCAL),
        "reference": LossFacts("fedpedbrain.training.losses.reference_dice:reference_dice"),
    }
)
CLASSIFICATION_LOSSES: Choices[LossFacts] = Choices(
    {
        "cross_entropy": LossFacts("fedpedbrain.training.losses.cross_entropy:cross_entropy"),
        "focal": LossFacts("fedpedbrain.training.losses.focal_cross_entropy:focal_cross_entropy", _FOCAL),
    }
)
OPTIMIZERS: Choices[OptimizerFacts] = Choices(
    {
        "adamw": OptimizerFacts("torch.optim:AdamW", 2, {"fused": True}),
        "adam": OptimizerFacts("torch.optim:Adam", 2, {"fused": True}),
        "sgd": OptimizerFacts(
            "torch.optim:SGD",
            1,
            {"fused": True},
            {"momentum": Option(0.9, {"type": "number", "minimum": 0, "exclusiveMaximum": 1}, "Momentum of sgd.")},
        ),
        # Defazio et al., "The Road Less Scheduled", NeurIPS 2024.
        "schedule_free_adamw": OptimizerFacts("schedulefree:AdamWScheduleFree", 2),
    }
)
SCHEDULES: Choices[ScheduleFacts] = Choices(
    {
        "constant": ScheduleFacts("fedpedbrain.training.schedules:constant"),
        "step": ScheduleFacts(
            "fedpedbrain.training.schedules:step",
            {
                "step_rounds": Option(10, _COUNT, "step: rounds between two falls."),
                "step_factor": Option(0.5, _FACTOR, "step: factor of each fall."),
            },
        ),
        "cosine": ScheduleFacts("fedpedbrain.training.schedules:cosine", _ENDING),
        "polynomial": ScheduleFacts(
            "fedpedbrain.training.schedules:polynomial",
            _ENDING
            | {
                "polynomial_power": Option(
                    0.9,
                    {"type": "number", "exclusiveMinimum": 0},
                    "polynomial: power of the part of the way that is left.",
                )
            },
        ),
    }
)
# No word of the config chooses one: see ``sampler_of``.
SAMPLERS: Choices[SamplerFacts] = Choices(
    {
        "whole": SamplerFacts("fedpedbrain.training.batches:epoch_batches"),
        "patches": SamplerFacts("fedpedbrain.training.patches:patch_batches"),
    }
)
# Block and key of ``training`` to the table of its words.
TRAINING_CHOICES: Mapping[tuple[str, str], Choices] = {
    ("optimizer", "name"): OPTIMIZERS,
    ("schedule", "name"): SCHEDULES,
    ("loss", "segmentation"): SEGMENTATION_LOSSES,
    ("loss", "classification"): CLASSIFICATION_LOSSES,
    ("augmentation", "name"): AUGMENTATIONS,
}


def sampler_of(training: Mapping[str, Any]) -> str:
    """The word of ``SAMPLERS`` for a ``training`` block: what one sample of a batch is."""
    return "patches" if training.get("patch") else "whole"


def samples_of_epoch(num_cases: int, training: Mapping[str, Any]) -> int:
    """How many samples an epoch draws from a site's cases: as many of each case."""
    return num_cases * training["patch"]["per_case"] if training.get("patch") else num_cases


def read_settings(training: Mapping[str, Any]) -> dict[str, Any]:
    """The ``training`` block with the options of what it chooses, or their defaults, and without those of the rest.

    What was the only choice once, whole cases and augmentation in plane, is not named: its settings stay as they were.
    """
    kept = {key: value for key, value in training.items() if key != "patch" or value is not None}
    for name in {block for block, _ in TRAINING_CHOICES}:
        tables = {key: table for (block, key), table in TRAINING_CHOICES.items() if block == name}
        block = kept[name]
        of_some = {option for table in tables.values() for facts in table.values() for option in facts.options}
        rows = [table[block[key]] for key, table in tables.items()]
        read = {key: block.get(key, option.default) for facts in rows for key, option in facts.options.items()}
        # Options come last whether the config names them or not, so that equal settings are equal as text, too.
        kept[name] = {key: value for key, value in block.items() if key not in of_some} | read
    if kept["augmentation"]["name"] == DEFAULT_AUGMENTATION:
        kept["augmentation"] = {key: value for key, value in kept["augmentation"].items() if key != "name"}
    return kept
