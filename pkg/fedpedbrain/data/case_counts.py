"""How many cases each site has, as far as a source tells before its files are read; standard library only."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from fedpedbrain.base.errors import StudyError
from fedpedbrain.data.layouts import find_pictures, read_listing, read_participants


def _count_simulated(settings: Mapping[str, Any]) -> dict[str, int]:
    return settings["phantom"]["cases"]


def _count_participants(settings: Mapping[str, Any]) -> dict[str, int]:
    return Counter(row.get(settings["bids"]["site_column"], "") for row in read_participants(settings["root"]))


def _count_pictures(settings: Mapping[str, Any]) -> dict[str, int]:
    return {site: len(pictures) for site, pictures in find_pictures(settings["root"]).items()}


def _read_listing(settings: Mapping[str, Any]) -> list[dict[str, str]]:
    cohort = settings["cohort"]
    return read_listing(settings["root"], settings["listed"], bool(cohort["classes"]), bool(cohort["regions"]))


def _count_listed(settings: Mapping[str, Any]) -> dict[str, int]:
    return Counter(row[settings["listed"]["columns"]["site"]] for row in _read_listing(settings))


def _count_listed_patients(settings: Mapping[str, Any]) -> dict[str, int]:
    columns = settings["listed"]["columns"]
    patients = {(row[columns["site"]], row[columns["patient"]]) for row in _read_listing(settings)}
    return Counter(site for site, _ in patients)


def _refuse_to_count(settings: Mapping[str, Any]) -> dict[str, int]:
    raise StudyError("arms.phases: cases of the published files are not counted before they are read; name the sites")


_COUNTS: dict[str, Callable[[Mapping[str, Any]], Mapping[str, int]]] = {
    "phantom": _count_simulated,
    "bids": _count_participants,
    "listed": _count_listed,
    "class_folders": _count_pictures,
    "flpedbrain": _refuse_to_count,
}
# Where participants are counted otherwise than cases.
_PARTICIPANTS = _COUNTS | {"listed": _count_listed_patients}


def count_cases(settings: Mapping[str, Any]) -> dict[str, int]:
    """Cases of every site of the study, of BIDS its participants; refused where nobody can tell yet.

    Parameters
    ----------
    settings : ``fedpedbrain.study.study.Study.source_settings``
    """
    counts = _COUNTS[settings["cohort"]["source"]](settings)
    return {site: counts.get(site, 0) for site in settings["sites"]}


def count_left_out(settings: Mapping[str, Any]) -> dict[str, int]:
    """Participants by site, of those sites that are none of the study's; none where nobody can tell yet.

    Parameters as of ``count_cases``.
    """
    try:
        counts = _PARTICIPANTS[settings["cohort"]["source"]](settings)
    except StudyError:
        return {}
    return {site: count for site, count in sorted(counts.items()) if count and site not in settings["sites"]}
