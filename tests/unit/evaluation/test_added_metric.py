"""A metric of a region is one row, one function and one test: nothing else knows its name."""

import numpy as np
import pytest
from fedpedbrain.evaluation.mask_pair import MaskPair
from fedpedbrain.evaluation.scores import region_scores
from fedpedbrain.evaluation.tables import POOLED_SCOPE
from fedpedbrain.reporting.results import Results, measure_groups
from fedpedbrain.reporting.tables.score_tables import score_table
from fedpedbrain.study.metric_facts import AMOUNTS, LOWER, REGION_METRICS, TRUTH, VOLUMES, RegionMetricFacts
from fedpedbrain.study.schema import load_schema
from scored_cases import Scored

STUDY = {"regions": ["whole_tumour"], "classes": [], "anatomy": {"finding": "tumour"}}
RESULTS = ("summary", "differences", "tests", "sites", "gains", "cross_sites")


def missed_ml(pair: MaskPair) -> float:
    return float((pair.truth & ~pair.predicted).sum() * np.prod(pair.spacing_mm) / 1000.0)


@pytest.fixture(autouse=True)
def row(monkeypatch):
    facts = {"better": LOWER, "origin": VOLUMES, "title": "missed {finding}", "groups": (AMOUNTS,), "unit": "ml"}
    facts |= {"digits": 2, "empty_rule": "left_out_without_truth", "decided_by": (TRUTH,)}
    monkeypatch.setitem(REGION_METRICS, "missed_ml", RegionMetricFacts(f"{__name__}:missed_ml", **facts))


@pytest.mark.parametrize(("size", "value", "rule"), [(4, 3.0, ""), (0, 0.0, "left_out_without_truth")])
def test_an_added_metric_is_scored_and_its_rule_named(size, value, rule):
    truth, predicted = np.zeros((2, 1, 1, 4), bool)
    truth[..., :size], predicted[..., 3:] = True, True
    pair = MaskPair(predicted, truth, (10.0, 10.0, 10.0), 1.0, 0.1)
    assert ("missed_ml", value, rule) in list(region_scores(pair))


def test_an_added_metric_is_compared_and_shown_under_its_title(compare, tmp_path):
    cases = [Scored(f"{number}", 0.5, others={"missed_ml": (1.254, "")}) for number in range(6)]
    tables = compare({"centralized": cases})
    assert tables.value("centralized", "missed_ml") == 1.254
    results = Results.from_files({name: tmp_path / f"{name}.tsv" for name in RESULTS})
    shown = score_table(results, {"centralized": "#000000"}, [POOLED_SCOPE], measure_groups(STUDY)[AMOUNTS])
    assert shown.columns == ["Arm", "Missed tumour (ml)"]
    assert [row[1].text for row in shown.groups[0].rows] == ["n = 6", "1.25"]


def test_an_added_metric_can_have_a_margin(schema_path):
    margins = load_schema(schema_path)["properties"]["evaluation"]["properties"]["noninferiority_margin"]["properties"]
    assert "missed_ml" in margins
    assert "volume_bias_ml" not in margins
