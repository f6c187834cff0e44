"""Fetching the published FLPedBrain files that a site needs from the hub."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedpedbrain.base.downloads import cache_hub_file, find_hub_files
from fedpedbrain.base.files import write_json
from fedpedbrain.data.sources.flpedbrain.files import candidate_names, choose_parts

logger = logging.getLogger(__name__)


def fetch_site_files(site: str, settings: Mapping[str, Any], receipt_path: str | Path) -> None:
    """Fetch what a site needs into the hub client's cache and write a receipt of it.

    Only files that the site needs are fetched; the hub is asked first which it has. Each is held against the digest in
    the config or, without one there, against the hub's own.

    Parameters
    ----------
    settings : the ``flpedbrain`` block of the config: ``repository``, ``revision``, ``sha256``, ``parts``, ...
    receipt_path : JSON of every file's path in the cache, size and SHA-256
    """
    repository = f"hf://datasets/{settings['repository']}@{settings['revision']}"
    on_hub = find_hub_files(repository, candidate_names(site, settings))
    receipt = {}
    for part in choose_parts(site, settings, on_hub, repository):
        for name in part.names:
            sha256 = settings["sha256"].get(name, on_hub[name].sha256)
            path = cache_hub_file(f"{repository}/{name}", sha256)
            receipt[name] = {"path": str(path), "size": path.stat().st_size, "sha256": sha256}
            logger.info("%s: %s", name, path)
    write_json(receipt_path, {"site": site, "repository": repository, "files": receipt})
