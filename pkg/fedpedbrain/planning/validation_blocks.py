"""Which rounds a site validates in one job: consecutive ones of a phase, so that a study has few of these jobs.

Imported while the job graph is built, so it needs the standard library alone.
"""

from collections import defaultdict
from collections.abc import Iterable

from fedpedbrain.study.arms import Arm

# Rounds of a block at most.
BLOCK = 25


def validation_blocks(arm: Arm, kept: Iterable[int]) -> dict[int, list[int]]:
    """First round of each block to the rounds that are validated in it.

    Blocks are counted from the first round of a phase and end with it. So a phase that starts from the best round waits
    for no round after it, and with more rounds no block begins elsewhere. A block without a kept round is left out.

    Parameters
    ----------
    kept : rounds whose models stay, in order
    """
    blocks: dict[int, list[int]] = defaultdict(list)
    for number in kept:
        start = arm.phase_of(number).first_round
        blocks[number - (number - start) % BLOCK].append(number)
    return dict(blocks)
