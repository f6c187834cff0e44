"""Which rounds' models and site states stay on the disk; those of other rounds go as soon as no job needs them.

Imported while the job graph is built, so it needs the standard library alone.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping

from fedpedbrain.study.arms import Arm


def kept_rounds(arm: Arm, num_rounds: int, keep_every: int) -> list[int]:
    """Rounds whose models stay: the first, every ``keep_every``-th, the last, and the last of each phase of the arm.

    A phase that starts from the best model chooses among those of the phase before it.

    Parameters
    ----------
    keep_every : ``study.keep_every`` of the config
    """
    ends = {phase.last_round for phase in arm.phases} - {None}
    every = range(keep_every, num_rounds + 1, keep_every)
    return sorted({1, num_rounds, *every, *(end for end in ends if end <= num_rounds)})


def rounds_of_kept_states(arm: Arm, seeds: Iterable[int], num_rounds: int, kept: Collection[int]) -> list[int]:
    """Rounds whose site states stay: the last, from which added rounds go on, and what personal models are made of.

    These are of every kept round. Of a site that took no part in such a round, its last state before it stays. Where
    all rounds are kept, so are all states.

    Parameters
    ----------
    kept : rounds whose models stay
    """
    if len(kept) == num_rounds:
        return sorted(kept)
    wanted = set(kept) if arm.is_personal else {num_rounds}
    staying = set(wanted)
    for seed in seeds:
        last_round: dict[str, int] = {}
        for number in range(1, num_rounds + 1):
            if number == arm.phase_of(number).first_round:
                last_round.clear()
            last_round |= dict.fromkeys(arm.sites_in_round(seed, number), number)
            if number in wanted:
                staying |= set(last_round.values())
    return sorted(staying)


def arms_in_rounds(rounds_of: Mapping[str, Iterable[int]], others: bool = False) -> str:
    """A pattern of arms' names in paths, which matches before the folder of one of these rounds alone.

    Parameters
    ----------
    rounds_of : arm to its rounds
    others : match before the folder of any other round instead
    """
    arms_of = defaultdict(list)
    for arm, rounds in rounds_of.items():
        arms_of[tuple(rounds)].append(arm)
    look = "!" if others else "="
    return "|".join(
        f"(?:{'|'.join(arms)})(?{look}/seed-[0-9]+/round-(?:{'|'.join(f'{number:03d}' for number in rounds)})/)"
        for rounds, arms in arms_of.items()
    )
