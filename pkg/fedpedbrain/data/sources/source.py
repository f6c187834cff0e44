"""What every kind of source gives: cases, checked, and each case's images."""

from typing import Any, Protocol

from fedpedbrain.base.cases import Case
from fedpedbrain.data.formats.volumes import Volume
from fedpedbrain.study.source_facts import SOURCES


class Source(Protocol):
    """A place that cases come from."""

    def find_cases(self) -> list[Case]:
        """List every case of the sites, checked; raises ``CohortError`` naming all problems at once."""
        ...

    def read_case(self, case: Case) -> Volume:
        """Read one case in its own geometry."""
        ...


def open_source(settings: dict[str, Any]) -> Source:
    """Open the source that ``settings`` (made by ``source_files.settings_of_site``) describes."""
    return SOURCES.load(settings["cohort"]["source"])(settings)


def labels_of(settings: dict[str, Any]) -> set[int]:
    """Mask labels that the study's regions are made of."""
    return {label for region in settings["cohort"]["regions"] for label in region["labels"]}
