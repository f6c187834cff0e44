"""What every kind of source gives: cases, checked, and each case's images."""

from typing import Protocol

from fedpedbrain.base.cases import Case
from fedpedbrain.data.formats.volumes import Volume
from fedpedbrain.data.sources.bids.cases import BidsSource
from fedpedbrain.data.sources.class_folders.cases import ClassFolderSource
from fedpedbrain.data.sources.flpedbrain.cases import FlpedbrainSource
from fedpedbrain.data.sources.flpedbrain.files import find_files
from fedpedbrain.data.sources.listed.cases import ListedSource
from fedpedbrain.data.sources.phantom.cases import PhantomSource


class Source(Protocol):
    """A place that cases come from."""

    def find_cases(self) -> list[Case]:
        """List every case of the sites, checked; raises ``CohortError`` naming all problems at once."""
        ...

    def read_case(self, case: Case) -> Volume:
        """Read one case in its own geometry."""
        ...


def _phantom(settings: dict) -> Source:
    cohort = settings["cohort"]
    return PhantomSource(settings["sites"], cohort["classes"], cohort["normal_class"], settings["phantom"])


def _labels(settings: dict) -> set[int]:
    """Mask labels that the study's regions are made of."""
    return {label for region in settings["cohort"]["regions"] for label in region["labels"]}


def _bids(settings: dict) -> Source:
    classes = settings["cohort"]["classes"]
    return BidsSource(settings["root"], settings["sites"], classes, _labels(settings), settings["bids"])


def _listed(settings: dict) -> Source:
    cohort, formats = settings["cohort"], settings["formats"]
    return ListedSource(
        settings["root"],
        settings["sites"],
        cohort["classes"],
        cohort["normal_class"],
        _labels(settings),
        settings["listed"],
        formats,
    )


def _class_folders(settings: dict) -> Source:
    return ClassFolderSource(
        settings["root"],
        settings["sites"],
        settings["cohort"]["classes"],
        settings["class_folders"],
        settings["formats"],
    )


def _flpedbrain(settings: dict) -> Source:
    files, block = find_files(settings), settings["flpedbrain"]
    return FlpedbrainSource(files, settings["sites"], settings["sites_before"], settings["cohort"], block)


SOURCES = {
    "phantom": _phantom,
    "bids": _bids,
    "listed": _listed,
    "class_folders": _class_folders,
    "flpedbrain": _flpedbrain,
}


def open_source(settings: dict) -> Source:
    """Open the source that ``settings`` (made by ``fedpedbrain.data.layouts.settings_of_site``) describes."""
    return SOURCES[settings["cohort"]["source"]](settings)
