"""Every table of choices by its name, as schema and fingerprints know it."""

from collections.abc import Iterable, Mapping
from typing import Any

from fedpedbrain.base.choices import Choices
from fedpedbrain.study.augmentation_facts import AUGMENTATIONS
from fedpedbrain.study.geometry_facts import GEOMETRIES
from fedpedbrain.study.network_facts import NETWORKS
from fedpedbrain.study.source_facts import SOURCES
from fedpedbrain.study.strategy_facts import STRATEGIES
from fedpedbrain.study.training_facts import (
    CLASSIFICATION_LOSSES,
    OPTIMIZERS,
    SAMPLERS,
    SCHEDULES,
    SEGMENTATION_LOSSES,
    TRAINING_CHOICES,
    sampler_of,
)

TABLES: Mapping[str, Choices] = {
    "NETWORKS": NETWORKS,
    "SOURCES": SOURCES,
    "STRATEGIES": STRATEGIES,
    "SEGMENTATION_LOSSES": SEGMENTATION_LOSSES,
    "CLASSIFICATION_LOSSES": CLASSIFICATION_LOSSES,
    "OPTIMIZERS": OPTIMIZERS,
    "SCHEDULES": SCHEDULES,
    "AUGMENTATIONS": AUGMENTATIONS,
    "SAMPLERS": SAMPLERS,
    "GEOMETRIES": GEOMETRIES,
}
# A table's name and one of its words.
Choice = tuple[str, str]


def choices_of_training(training: Mapping[str, Any]) -> set[Choice]:
    """What a ``training`` block chooses."""
    names = {id(table): name for name, table in TABLES.items()}
    chosen = {(names[id(table)], training[block][key]) for (block, key), table in TRAINING_CHOICES.items()}
    return chosen | {("SAMPLERS", sampler_of(training))}


def modules_that_train(choices: Iterable[Choice]) -> list[str]:
    """Modules of what jobs that train import by their choices."""
    return sorted(
        {TABLES[table][word].implementation.partition(":")[0] for table, word in choices if table != "SOURCES"}
    )
