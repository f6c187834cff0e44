"""A folder for every model that can be published as it is: weights, what its training images look like, and a card.

Nothing else of an arm lies there: states of sites, beside the models of rounds, are not meant to leave their sites.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedpedbrain.base.files import replacing
from fedpedbrain.evaluation.tables import read_results
from fedpedbrain.exports.model_cards import CardFacts, build_card
from fedpedbrain.exports.model_runs import build_runs, load_model_scores, load_selections
from fedpedbrain.reporting.results import estimates_by_key


@dataclass(frozen=True)
class FolderFiles:
    """What folders of models are made of, and what is written to them.

    Attributes
    ----------
    models, intensities, selections : of each arm and seed, in the order of the config
    scores, summary : tables of every model's scores, and of those over all seeds
    audit : audit of the cohort
    privacy : of every differentially private arm and seed
    cards, published_models, published_intensities : to write, in the order of ``models``
    """

    models: Sequence[str | Path]
    intensities: Sequence[str | Path]
    selections: Sequence[str | Path]
    scores: str | Path
    summary: str | Path
    audit: str | Path
    privacy: Sequence[str | Path]
    cards: Sequence[str | Path]
    published_models: Sequence[str | Path]
    published_intensities: Sequence[str | Path]


def write_model_folders_files(files: FolderFiles, study: Mapping[str, Any]) -> None:
    """Write the folder of every arm and seed.

    Parameters
    ----------
    study : ``Study.export_description`` and ``versions`` (name to version)
    """
    accounts = [json.loads(Path(path).read_text(encoding="utf-8")) for path in files.privacy]
    facts = CardFacts(
        study,
        json.loads(Path(files.audit).read_text(encoding="utf-8")),
        estimates_by_key(read_results(files.summary), "value", ("arm", "scope", "target", "metric")),
        {(account["arm"], account["seed"]): account for account in accounts},
    )
    runs = build_runs(study, load_selections(files.selections), [], load_model_scores(files.scores))
    for run, path in zip(runs, files.cards, strict=True):
        with replacing(path) as temporary:
            build_card(run, facts).save(temporary)
    sources = [*files.models, *files.intensities]
    for source, target in zip(sources, [*files.published_models, *files.published_intensities], strict=True):
        with replacing(target) as temporary:
            # A hard link has the time of the training: older than the tables, it would be made anew in every run.
            shutil.copyfile(source, temporary)
