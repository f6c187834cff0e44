"""Scores of an arm's predictions in one long, tidy table."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedpedbrain.base.cases import Shard
from fedpedbrain.base.files import read_table, write_table
from fedpedbrain.data.grid.packed_masks import PackedMasks
from fedpedbrain.evaluation.case_geometry import HeldOutCases, open_predictions
from fedpedbrain.evaluation.mask_pair import MaskPair
from fedpedbrain.evaluation.region_metrics import dice
from fedpedbrain.study.geometry_facts import GEOMETRIES
from fedpedbrain.study.metric_facts import REGION_METRICS

# The rule is named in the rows that it decided, whether it gave the value or left the case out (value nan).
SCORE_COLUMNS = ("arm", "seed", "case", "patient", "site", "split", "class", "target", "metric", "value", "empty_rule")


@dataclass(frozen=True)
class PredictedCases:
    """The held-out cases in one geometry, and what was predicted of them there.

    Attributes
    ----------
    geometry : word of ``GEOMETRIES``
    regions : names, in the order of the masks
    """

    geometry: str
    dataset: HeldOutCases
    masks: PackedMasks
    regions: Sequence[str]

    @classmethod
    def open(
        cls, geometry: str, shards: Sequence[Shard], masks_path: str | Path, regions: Sequence[str]
    ) -> "PredictedCases":
        """Open the cases of some sites and their predicted masks, which stand in the same order."""
        dataset = GEOMETRIES.load(geometry)().open(shards)
        return cls(geometry, dataset, open_predictions(masks_path, dataset, len(regions)), regions)

    def pairs(self, row: int, settings: Mapping[str, float]) -> Iterator[tuple[str, MaskPair]]:
        """Region by region of one case, its name and both masks."""
        spacing_mm = self.dataset.spacing_mm(row)
        both = zip(self.regions, self.masks.row(row), self.dataset.mask(row), strict=True)
        for region, predicted, truth in both:
            yield region, MaskPair(predicted.astype(bool), truth.astype(bool), spacing_mm, **settings)


def region_scores(pair: MaskPair) -> Iterator[tuple[str, float, str]]:
    """Yield (metric, value, empty rule) of one region of one case: every row of ``REGION_METRICS``, and both volumes.

    The rule of a metric for empty masks is named where it decided.
    """
    for metric, facts in REGION_METRICS.items():
        is_decided = not pair.empty.isdisjoint(facts.decided_by)
        yield metric, REGION_METRICS.load(metric)(pair), facts.empty_rule if is_decided else ""
    yield "true_volume_ml", pair.true_ml, ""
    yield "predicted_volume_ml", pair.predicted_ml, ""


def score_predictions_files(
    masks_paths: Mapping[str, str | Path],
    probabilities_path: str | Path,
    shards: Sequence[Shard],
    scores_path: str | Path,
    arm: str,
    seed: int,
    regions: Sequence[str],
    settings: Mapping[str, float],
) -> None:
    """Score an arm's predictions: one row a case, target (a region or a class) and metric.

    Parameters
    ----------
    masks_paths : word of ``GEOMETRIES`` to the masks in that geometry. In the first all metrics are computed, in any
        other Dice alone: the metric ``dice_on_WORD``
    settings : ``surface_tolerance_mm`` and ``lesion_overlap`` of ``MaskPair``
    """
    main, *others = (PredictedCases.open(word, shards, path, regions) for word, path in masks_paths.items())
    rows: list[dict[str, Any]] = []
    common_of = {}
    for row, case in enumerate(main.dataset.cases):
        common = {"arm": arm, "seed": seed, "case": case.case, "patient": case.patient, "site": case.site}
        common |= {"split": case.split, "class": case.class_name, "empty_rule": ""}
        common_of[case.case] = common
        for region, pair in main.pairs(row, settings):
            for metric, value, rule in region_scores(pair):
                rows.append({**common, "target": region, "metric": metric, "value": value, "empty_rule": rule})
        for other in others:
            metric = f"dice_on_{other.geometry}"
            for region, pair in other.pairs(row, settings):
                rows.append({**common, "target": region, "metric": metric, "value": dice(pair)})
    for entry in read_table(probabilities_path):
        common = common_of[entry["case"]]
        rows.append({**common, "target": entry["class"], "metric": "probability", "value": entry["probability"]})
    write_table(scores_path, SCORE_COLUMNS, rows)
