"""The losses, optimizers and schedules that a study can choose; each is a row here, its code and a test."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fedpedbrain.base.choices import Choices


@dataclass(frozen=True)
class LossFacts:
    """What is known of a loss.

    Attributes
    ----------
    implementation : function that maps logits, targets and ``focal_gamma`` to float32 (B,), one number per case
    reads : options of ``training.loss`` that it reads and others do not
    """

    implementation: str
    reads: tuple[str, ...] = ()


@dataclass(frozen=True)
class OptimizerFacts:
    """What is known of an optimizer.

    Attributes
    ----------
    implementation : class of PyTorch's form
    moments : tensors like the weights that it keeps
    arguments : further arguments of the class
    reads : options of ``training.optimizer`` that it reads and others do not, each an argument of the class
    """

    implementation: str
    moments: int
    arguments: Mapping[str, Any] = field(default_factory=dict)
    reads: tuple[str, ...] = ()


@dataclass(frozen=True)
class ScheduleFacts:
    """What is known of a schedule of the learning rate.

    Attributes
    ----------
    implementation : function that maps the ``training.schedule`` block and a round, counted from 1, to a factor
    reads : options of that block that it reads and others do not
    """

    implementation: str
    reads: tuple[str, ...] = ()


SEGMENTATION_LOSSES: Choices[LossFacts] = Choices(
    {
        "dice_cross_entropy": LossFacts("fedpedbrain.training.losses.dice_cross_entropy:dice_cross_entropy"),
        "dice_focal": LossFacts("fedpedbrain.training.losses.dice_focal:dice_focal", reads=("focal_gamma",)),
        "reference": LossFacts("fedpedbrain.training.losses.reference_dice:reference_dice"),
    }
)
CLASSIFICATION_LOSSES: Choices[LossFacts] = Choices(
    {
        "cross_entropy": LossFacts("fedpedbrain.training.losses.cross_entropy:cross_entropy"),
        "focal": LossFacts(
            "fedpedbrain.training.losses.focal_cross_entropy:focal_cross_entropy", reads=("focal_gamma",)
        ),
    }
)
OPTIMIZERS: Choices[OptimizerFacts] = Choices(
    {
        "adamw": OptimizerFacts("torch.optim:AdamW", 2, {"fused": True}),
        "adam": OptimizerFacts("torch.optim:Adam", 2, {"fused": True}),
        "sgd": OptimizerFacts("torch.optim:SGD", 1, {"fused": True}, reads=("momentum",)),
        # Defazio et al., "The Road Less Scheduled", NeurIPS 2024.
        "schedule_free_adamw": OptimizerFacts("schedulefree:AdamWScheduleFree", 2),
    }
)
SCHEDULES: Choices[ScheduleFacts] = Choices(
    {
        "constant": ScheduleFacts("fedpedbrain.training.schedules:constant"),
        "step": ScheduleFacts("fedpedbrain.training.schedules:step", ("step_rounds", "step_factor")),
        "cosine": ScheduleFacts("fedpedbrain.training.schedules:cosine", ("horizon_rounds", "final_factor")),
        "polynomial": ScheduleFacts(
            "fedpedbrain.training.schedules:polynomial", ("horizon_rounds", "final_factor", "polynomial_power")
        ),
    }
)
# Block and key of ``training`` to the table of its words.
TRAINING_CHOICES: Mapping[tuple[str, str], Choices] = {
    ("optimizer", "name"): OPTIMIZERS,
    ("schedule", "name"): SCHEDULES,
    ("loss", "segmentation"): SEGMENTATION_LOSSES,
    ("loss", "classification"): CLASSIFICATION_LOSSES,
}


def read_settings(training: Mapping[str, Any]) -> dict[str, Any]:
    """The ``training`` block without the options that nothing chosen reads."""
    kept = dict(training)
    for name in {block for block, _ in TRAINING_CHOICES}:
        tables = {key: table for (block, key), table in TRAINING_CHOICES.items() if block == name}
        of_some = {option for table in tables.values() for facts in table.values() for option in facts.reads}
        read = {option for key, table in tables.items() for option in table[kept[name][key]].reads}
        kept[name] = {key: value for key, value in kept[name].items() if key not in of_some - read}
    return kept
