from dataclasses import replace

import numpy as np
import pytest
import torch
from fedpedbrain.base.errors import StudyError
from fedpedbrain.base.files import read_table, write_json
from fedpedbrain.base.lineage import Lineage
from fedpedbrain.evaluation.predictions import check_agreement, load_candidate, predict_cases_files
from fedpedbrain.models.files import ModelFile, ModelSpec, load_model_file, save_model_file
from fedpedbrain.models.prediction import PredictionPlan
from predicted_masks import read_masks

GRID = (4, 8, 8)
CPU = torch.device("cpu")
ALONE = PredictionPlan()
DECISION = {"threshold": 0.5, "smallest_region_ml": 0.0}


@pytest.fixture
def predict(tmp_path, spec, make_case, write_shard, write_constant_model):
    """Predict the held-out cases of two shards with a constant model; returns masks and probabilities."""
    north = [make_case("a", split="train"), make_case("b", split="test"), make_case("c", split="validation")]
    west = [make_case("d", "west", "external")]
    shards = [write_shard(tmp_path / "west", west), write_shard(tmp_path / "north", north)]

    def _predict(decision=DECISION, **model) -> tuple[list[np.ndarray], list[dict[str, str]]]:
        write_constant_model(tmp_path / "best.pth", **model)
        outputs = (tmp_path / "masks.npy", tmp_path / "probabilities.tsv")
        files = ([tmp_path / "best.pth"], {}, shards, {"grid": outputs[0]}, outputs[1])
        predict_cases_files(*files, decision, {}, CPU, ALONE, None, {})
        return read_masks(outputs[0], [(len(spec["regions"]), *GRID)] * 2), read_table(outputs[1])

    return _predict


def test_test_and_external_cases_are_predicted_in_the_order_of_the_shards(predict):
    masks, rows = predict(regions=["whole_tumour"], class_name="dipg")
    assert np.all(masks)
    assert [(row["case"], row["class"]) for row in rows] == [
        ("d", "normal"),
        ("d", "dipg"),
        ("b", "normal"),
        ("b", "dipg"),
    ]
    # Softmax of the logits 0 and 1.
    assert [float(row["probability"]) for row in rows] == pytest.approx([0.268941, 0.731059] * 2, abs=1e-5)


def test_the_decision_of_the_study_is_taken(predict):
    assert not np.any(predict({"threshold": 0.99999, "smallest_region_ml": 0.0}, regions=["whole_tumour"])[0])
    assert not np.any(predict({"threshold": 0.5, "smallest_region_ml": 500.0}, regions=["whole_tumour"])[0])


def test_a_case_diagnosed_as_normal_has_no_region_in_its_mask(predict):
    decision = DECISION | {"empty_class": "normal"}
    assert not np.any(predict(decision, regions=["whole_tumour"], class_name="normal")[0])
    assert np.all(predict(decision, regions=["whole_tumour"], class_name="dipg")[0])


def test_a_study_without_regions_has_masks_of_no_region(predict, spec):
    spec["regions"] = []
    masks, rows = predict(class_name="normal")
    assert [regions.shape for regions in masks] == [(0, *GRID)] * 2
    assert len(rows) == 4


def test_a_study_without_classes_has_no_probabilities(predict, spec):
    spec["classes"] = []
    masks, rows = predict(regions=["whole_tumour"])
    assert np.all(masks)
    assert rows == []


def test_flips_average_the_held_out_cases_over_their_mirror_images(tmp_path, spec, make_case, write_shard):
    torch.manual_seed(0)
    model = ModelSpec(**spec)
    save_model_file(
        tmp_path / "best.pth",
        ModelFile(model, Lineage("global", "fedavg", 0, 1, "", 4, 8, "digest", "parent"), model.build().state_dict()),
    )
    cases = [make_case("a", split="test"), make_case("b", split="test")]
    image = np.random.default_rng(0).integers(0, 256, (1, 4, 8, 8), dtype=np.uint8)
    # The second is the first in a mirror: averaged, both are told the same.
    shard = write_shard(tmp_path / "north", cases, np.stack([image, image[..., ::-1]]))
    probabilities = {}
    for flips in ("", "W"):
        outputs = (tmp_path / "masks.npy", tmp_path / "probabilities.tsv")
        files = ([tmp_path / "best.pth"], {}, [shard], {"grid": outputs[0]}, outputs[1])
        predict_cases_files(*files, DECISION, {}, CPU, PredictionPlan(flips), None, {})
        probabilities[flips] = [float(row["probability"]) for row in read_table(outputs[1]) if row["class"] == "dipg"]
    first, second = probabilities["W"]
    assert first == pytest.approx(second, abs=1e-6)
    assert first == pytest.approx(np.mean(probabilities[""]), abs=1e-6)
    assert abs(np.diff(probabilities[""])) > 1e-4


@pytest.mark.parametrize(
    ("key", "value"), [("regions", ["core"]), ("classes", ["a", "b"]), ("channels", ["T1w"]), ("preprocessing", {})]
)
def test_a_model_that_is_not_of_the_study_is_not_scored_beside_its_arms(spec, key, value):
    model_spec = ModelSpec(**spec)
    expected = {name: getattr(model_spec, name) for name in ("channels", "regions", "classes", "preprocessing")}
    check_agreement("elsewhere.pth", model_spec, expected)
    with pytest.raises(StudyError, match=rf"^elsewhere\.pth: cannot be scored beside the arms: expected {key} "):
        check_agreement("elsewhere.pth", model_spec, expected | {key: value})


def test_several_models_are_scored_as_their_mean(tmp_path, make_case, write_shard, write_constant_model):
    shard = write_shard(tmp_path / "north", [make_case("a", split="test")])
    paths = [write_constant_model(tmp_path / f"{name}.pth", class_name=name) for name in ("normal", "dipg")]
    outputs = (tmp_path / "masks.npy", tmp_path / "probabilities.tsv")
    predict_cases_files(paths, {}, [shard], {"grid": outputs[0]}, outputs[1], DECISION, {}, CPU, ALONE, None, {})
    assert [float(row["probability"]) for row in read_table(outputs[1])] == pytest.approx([0.5, 0.5])


def test_models_whose_regions_exclude_each_other_are_not_averaged_with_others(tmp_path, spec, write_constant_model):
    paths = [write_constant_model(tmp_path / name) for name in ("a.pth", "b.pth")]
    model_file = load_model_file(paths[1])
    exclusive = replace(model_file.spec, options=model_file.spec.options | {"exclusive_regions": True})
    save_model_file(paths[1], replace(model_file, spec=exclusive))
    with pytest.raises(StudyError, match=r"b\.pth: its regions exclude each other and those of .+a\.pth do not"):
        load_candidate(paths, {})


def test_filters_that_were_chosen_are_applied(tmp_path, make_case, write_shard, write_constant_model):
    shard = write_shard(tmp_path / "north", [make_case("a", split="test")])
    path = write_constant_model(tmp_path / "best.pth", regions=["whole_tumour"])
    outputs = (tmp_path / "masks.npy", tmp_path / "probabilities.tsv")
    for smallest_ml, is_left in ((0.0, True), (1e6, False)):
        chosen = {"chosen": {"smallest_component_ml": smallest_ml, "largest_only": False}}
        write_json(tmp_path / "filters.json", {"whole_tumour": chosen})
        filters = (tmp_path / "filters.json", {"smallest_component_ml": 1e6})
        files = ([path], {}, [shard], {"grid": outputs[0]}, outputs[1])
        predict_cases_files(*files, DECISION, {}, CPU, ALONE, *filters)
        assert np.any(read_masks(outputs[0], [(1, *GRID)])) == is_left
