"""Pictures in class folders; standard library only, since the job graph is built from it."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from fedpedbrain.base.errors import StudyError
from fedpedbrain.base.image_files import PICTURE_SUFFIXES
from fedpedbrain.data.sources.source_files import SourceFiles, refuse_names


def find_pictures(root: str | None, sites: Collection[str] | None = None) -> dict[str, list[Path]]:
    """Pictures of a folder of class folders by site, ``root/{site}/**/{class folder}/*``, each site's in order.

    ``sites`` are those that are looked at, all without it.
    """
    if root is None:
        raise StudyError(
            "cohort_root: the class_folders source needs the folder of the sites; add --config cohort_root=PATH"
        )
    if not Path(root).is_dir():
        raise StudyError(f"cohort_root: no folder at {root}; give the folder that holds one folder a site")
    found = {}
    folders = (path for path in Path(root).iterdir() if path.is_dir() and (sites is None or path.name in sites))
    for folder in sorted(folders):
        pictures = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES)
        found[folder.name] = [path for path in pictures if not path.name.startswith(".")]
    refuse_names([path for pictures in found.values() for path in pictures], "paths of pictures")
    return found


def _class_folder_files(settings: Mapping[str, Any]) -> list[str]:
    found = find_pictures(settings["root"], settings["sites"])
    return [str(path) for site in settings["sites"] for path in found.get(site, [])]


def _count_pictures(settings: Mapping[str, Any]) -> dict[str, int]:
    return {site: len(pictures) for site, pictures in find_pictures(settings["root"]).items()}


CLASS_FOLDER_FILES = SourceFiles(_class_folder_files, _count_pictures)
