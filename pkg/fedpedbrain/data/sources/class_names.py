"""From the names that a cohort's diagnoses have in its folders or tables to the classes of the study."""

import difflib
import json
from collections.abc import Mapping, Sequence

from fedpedbrain.base.errors import CohortError


def map_classes(
    counts: Mapping[tuple[str, str], int], classes: Sequence[str], class_map: Mapping[str, str], map_key: str
) -> dict[str, str]:
    """Find the class of every name that the cohort uses.

    Parameters
    ----------
    counts : number of cases by (name, site)
    classes : ``cohort.classes``
    class_map : name to class, one of ``classes``, for the names that are no class themselves
    map_key : where ``class_map`` stands in the config

    Returns
    -------
    name to class

    Raises
    ------
    CohortError : one line for every name without a class: how many cases have it at which sites, the class whose name
        is nearest, and what to add to the map
    """
    problems = []
    names = list(dict.fromkeys(name for name, _ in sorted(counts)))
    for name in names:
        if class_map.get(name, name) not in classes:
            sites = {site: count for (found, site), count in sorted(counts.items()) if found == name}
            where = ", ".join(f"{count} at site {site}" for site, count in sites.items())
            problems.append(
                f"class name {name!r} ({sum(sites.values())} case(s): {where}) is none of cohort.classes "
                f"({', '.join(classes)}); {_advise(name, classes, map_key)}"
            )
    if problems:
        raise CohortError(problems, shown=len(problems))
    return {name: class_map.get(name, name) for name in names}


def _advise(name: str, classes: Sequence[str], map_key: str) -> str:
    """What to add to the map: the nearest class, whatever the case of its letters, or the choice of all."""
    folded = {candidate.casefold(): candidate for candidate in classes}
    nearest = difflib.get_close_matches(name.casefold(), folded, n=1)
    # As a key and a value of YAML, quoted where they need it.
    key = json.dumps(name, ensure_ascii=False)
    if nearest:
        return f"nearest is {folded[nearest[0]]!r}: if it is meant, add {key}: {folded[nearest[0]]} to {map_key}"
    return f"no class has a name like it: add {key}: CLASS to {map_key}, or the class to cohort.classes"
