# Which job goes first where several could start; no priority makes a job stale.
from functools import cache

from fedpedbrain.planning import priorities

# A job that computes on a GPU counts as one core of this machine, whatever its threads: with more, GPUs would stand idle
# where cores are few, and two cores are seldom free at once while shorter jobs wait for one.
HAS_GPUS = "gpu" in workflow.global_resources and bool(workflow.global_resources["gpu"].value)
CORES_OF_TRAINING = 1 if HAS_GPUS and workflow.local_exec else STUDY.config["training"]["threads"]


@cache
def sizes_of_sites():
    """Cases or patients of every site, as well as they are known by now."""
    return priorities.known_sizes("results/cohort/splits.tsv", partial(count_cases, STUDY.source_settings), SITES)


def largest_first(wildcards):
    """Priority of a site's preprocessing: all training waits for the slowest."""
    return sizes_of_sites()[wildcards.site]


def training_first(wildcards):
    """Priority of a site's training: sites with most cases first, of arms with most work still to do."""
    arm, number = STUDY.arms[wildcards.arm], int(wildcards.round)
    return priorities.training_priority(arm, wildcards.site, number, LAST_ROUND, sizes_of_sites())


def validation_last(wildcards):
    """Priority of a validation: after all training, except where a phase starts from a round that it helps to choose."""
    arm, number = STUDY.arms[wildcards.arm], int(wildcards.round)
    return priorities.validation_priority(arm, number, LAST_ROUND, sizes_of_sites())
