"""The same cases shared out at random: sites as large as the real ones, but alike."""

from collections.abc import Sequence

import numpy as np

from fedpedbrain.base.cases import Case
from fedpedbrain.base.seeds import derive_seed


def rows_of_part(cases: Sequence[Case], sites: Sequence[str], site: str, seed: int) -> list[int]:
    """Rows of the cases that a site gets when all patients are shared out at random.

    Every site gets as many patients as it really has; all cases of a patient go to one site.

    Parameters
    ----------
    cases : all of ``sites``
    site : one of them
    seed : of the study; one draw for all rounds and sites

    Returns
    -------
    rows into ``cases``, ascending
    """
    site_of = {case.patient: case.site for case in cases}
    patients = sorted(site_of)
    order = np.random.default_rng(derive_seed(seed, "partition")).permutation(len(patients))
    sizes = [sum(home == name for home in site_of.values()) for name in sorted(sites)]
    ends = np.cumsum(sizes)
    place = sorted(sites).index(site)
    mine = {patients[index] for index in order[ends[place] - sizes[place] : ends[place]]}
    return [row for row, case in enumerate(cases) if case.patient in mine]
