"""The simulated cohort has no files; its cases are counted in the config."""

from collections.abc import Mapping
from typing import Any

from fedpedbrain.data.sources.source_files import SourceFiles


def _no_files(settings: Mapping[str, Any]) -> list[str]:
    return []


def _count_simulated(settings: Mapping[str, Any]) -> dict[str, int]:
    return settings["phantom"]["cases"]


PHANTOM_FILES = SourceFiles(_no_files, _count_simulated)
