"""What the job graph asks of every source: its files, its cases by site; standard library only."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedpedbrain.base.choices import load_object
from fedpedbrain.base.errors import StudyError
from fedpedbrain.base.lineage import digest_of
from fedpedbrain.study.source_facts import SOURCES

# What a cell of a table says where nothing is known.
NOT_AVAILABLE = ("n/a", "")
# The job graph reads braces as wildcards; a table of cases separates paths by semicolons.
FORBIDDEN_IN_PATHS = frozenset("{};")
Settings = Mapping[str, Any]


@dataclass(frozen=True)
class SourceFiles:
    """What a source tells without reading an image.

    Attributes
    ----------
    list_files : every file that a site's cases are made from; a table of all sites is not one of them
    count_cases : cases by site, of BIDS its participants; refused where nobody can tell yet
    count_participants : participants by site, where they are counted otherwise than cases
    read_rows : what a table of all sites says of the settings' sites; None where there is no table
    settings_of_site : settings of one site, from those of all and the site's name; None where keys by site do
    """

    list_files: Callable[[Settings], list[str]]
    count_cases: Callable[[Settings], Mapping[str, int]]
    count_participants: Callable[[Settings], Mapping[str, int]] | None = None
    read_rows: Callable[[Settings], list[dict[str, str]]] | None = None
    settings_of_site: Callable[[Settings, str], dict[str, Any]] | None = None


def source_files(settings: Settings) -> SourceFiles:
    """The files of the source that settings (``Study.source_settings``) name."""
    return load_object(SOURCES[settings["cohort"]["source"]].files)


def refuse_names(paths: Iterable[Path], what: str, forbidden: frozenset[str] = FORBIDDEN_IN_PATHS) -> None:
    """Refuse paths with letters that the workflow gives a meaning of its own."""
    named_badly = [path for path in paths if set(str(path)) & forbidden]
    if named_badly:
        raise StudyError(
            f"{named_badly[0]}: {what} may hold none of {' '.join(sorted(forbidden))} "
            f"({len(named_badly)} do); rename them"
        )


def count_cases(settings: Settings) -> dict[str, int]:
    """Cases of every site of the study, of BIDS its participants; refused where nobody can tell yet.

    Parameters
    ----------
    settings : ``Study.source_settings``
    """
    counts = source_files(settings).count_cases(settings)
    return {site: counts.get(site, 0) for site in settings["sites"]}


def count_left_out(settings: Settings) -> dict[str, int]:
    """Participants by site, of those sites that the study does not name; none where nobody can tell yet.

    Parameters as of ``count_cases``.
    """
    files = source_files(settings)
    try:
        counts = (files.count_participants or files.count_cases)(settings)
    except StudyError:
        return {}
    return {site: count for site, count in sorted(counts.items()) if count and site not in settings["sites"]}


def settings_of_site(settings: Settings, site: str) -> dict[str, Any]:
    """What decides which cases a site has and what they look like: the argument of ``open_source``.

    Nothing of another site is in it, so that no change there makes this one's cases anew, except for sites that
    published normal cases are dealt out to before it: ``sites_before``.

    Parameters
    ----------
    settings : ``Study.source_settings``
    """
    source = settings["cohort"]["source"]
    cohort = {key: value for key, value in settings["cohort"].items() if key != "sites"}
    own = dict(settings) | {"cohort": cohort, "sites": [site], "sites_before": []}
    files = source_files(settings)
    if files.settings_of_site is not None:
        return own | files.settings_of_site(settings, site)
    return own | {source: only_sites(settings[source], SOURCES[source].by_site, [site])}


def only_sites(block: Settings, keys: Iterable[str], sites: Iterable[str]) -> dict[str, Any]:
    """A source's block without what it says of other sites than these, under the keys whose entries are of sites."""
    kept = set(sites)
    return {**block, **{key: {name: value for name, value in block[key].items() if name in kept} for key in keys}}


def list_source_files(settings: Settings, needed: bool = True) -> list[str]:
    """Every file that a site's cases are made from, for the workflow to watch; a table of all sites is not one of them.

    Parameters
    ----------
    settings : as ``settings_of_site`` gives them
    needed : whether a cohort that is not given or not there is refused rather than taken for one without files
    """
    try:
        return source_files(settings).list_files(settings)
    except StudyError:
        if needed:
            raise
        return []


def digest_of_rows(settings: Settings) -> str:
    """Digest of what the table of all sites' cases says of one, in whatever order; "" where there is none to be read.

    Parameters
    ----------
    settings : as ``settings_of_site`` gives them
    """
    read_rows = source_files(settings).read_rows
    if read_rows is None:
        return ""
    try:
        rows = read_rows(settings)
    except StudyError:
        # Of a cohort that is not there: ``list_source_files`` says so where it is needed.
        return ""
    return digest_of(sorted(rows, key=lambda row: sorted(row.items())))
