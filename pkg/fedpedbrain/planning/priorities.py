"""Which job goes first: the one whose work the end of the study waits for longest.

Where several jobs could start, the one with the longest way still to go does: its own work and that of the rounds after
it (highest level first; Hu, Operations Research, 1961). Work is counted in cases. Imported while the job graph is
built, so it needs the standard library alone.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from fedpedbrain.base.errors import StudyError
from fedpedbrain.base.files import read_table
from fedpedbrain.study.arms import Arm

# Short jobs that many others wait for go before any training; what only keeps files on the disk comes after them.
UNBLOCKS_TRAINING, FREES_DISK = 10**9, 10**9 - 1
# Whatever no round waits for, and what tells of all other jobs.
OFF_THE_CRITICAL_PATH, LAST = 0, -1


def known_sizes(
    splits_path: str | Path, count_cases: Callable[[], Mapping[str, int]], sites: Sequence[str]
) -> dict[str, int]:
    """Size of each site, as well as it is known while the job graph is built.

    Parameters
    ----------
    splits_path : the table of splits; once it is there it tells the patients of the sites that it has
    count_cases : counts cases as far as the source's own files tell; may raise ``StudyError``
    sites : all sites

    Returns
    -------
    site to a number of at least 1; all 1 where nothing is known
    """
    rows = read_table(splits_path) if Path(splits_path).exists() else []
    sizes: Mapping[str, int] = Counter(row["site"] for row in rows)
    if not sizes.keys() >= set(sites):
        # Files that are still to be fetched, or a cohort that is elsewhere, are not counted.
        with suppress(StudyError):
            sizes = {**count_cases(), **sizes}
    return {site: max(1, sizes.get(site, 0)) for site in sites}


def work_of(arm: Arm, participant: str, sizes: Mapping[str, int]) -> int:
    """Cases that a participant trains on in a round."""
    # Who shares all cases out at random has as many as its own site.
    sites = [participant] if arm.is_repartitioned else arm.shards_of[participant]
    return sum(sizes[site] for site in sites)


def length_of_round(arm: Arm, sizes: Mapping[str, int]) -> int:
    """Cases that a round takes one after the other: those of its largest participant, in a cyclic arm all."""
    together = sum if arm.is_cyclic else max
    return together(work_of(arm, participant, sizes) for participant in arm.participants)


def training_priority(arm: Arm, participant: str, round_number: int, last_round: int, sizes: Mapping[str, int]) -> int:
    """Priority of a participant's training: its own cases, and those of the arm's rounds after this one."""
    return work_of(arm, participant, sizes) + (last_round - round_number) * length_of_round(arm, sizes)


def validation_priority(arm: Arm, round_number: int, last_round: int, sizes: Mapping[str, int]) -> int:
    """Priority of a round's validation: none but where a later phase waits for it, to start from the best round."""
    end = arm.phase_of(round_number).last_round
    if end is None or end >= last_round or not arm.starts_from_best(end + 1):
        return OFF_THE_CRITICAL_PATH
    return (last_round - end) * length_of_round(arm, sizes)
