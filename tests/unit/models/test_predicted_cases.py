import numpy as np
import pytest
import torch
from fedpedbrain.models.files import load_model_file
from fedpedbrain.models.prediction import PredictionPlan, predict_cases

CPU = torch.device("cpu")
ALONE = PredictionPlan()
IMAGES = np.zeros((2, 1, 4, 8, 8), np.uint8)


@pytest.fixture
def predict(tmp_path, write_constant_model):
    """Predict two images of voxels of 0.5 and 2 ml with a constant model."""

    def _predict(decision: dict, **model) -> list:
        path = write_constant_model(tmp_path / "best.pth", **model)
        decision = {"threshold": 0.5, "smallest_region_ml": 0.0} | decision
        return list(predict_cases([load_model_file(path)], IMAGES, [0.5, 2.0], decision, CPU, ALONE))

    return _predict


def test_each_case_has_regions_probabilities_and_a_class(predict):
    first, second = predict({}, regions=["whole_tumour"], class_name="dipg")
    assert first.regions.dtype == bool
    assert first.regions.shape == second.regions.shape == (1, 4, 8, 8)
    assert first.regions.all()
    # Softmax of the logits 0 and 1.
    assert first.probabilities == pytest.approx({"normal": 0.268941, "dipg": 0.731059}, abs=1e-5)
    assert first.predicted_class == "dipg"


def test_a_region_is_as_large_as_the_voxels_of_its_own_case(predict):
    # 256 voxels: 128 ml and 512 ml.
    small, large = predict({"smallest_region_ml": 200.0}, regions=["whole_tumour"])
    assert not small.regions.any()
    assert large.regions.all()


def test_a_case_taken_for_normal_has_no_region(predict):
    decision = {"empty_class": "normal"}
    assert not predict(decision, regions=["whole_tumour"], class_name="normal")[0].regions.any()
    assert predict(decision, regions=["whole_tumour"], class_name="dipg")[0].regions.all()


@pytest.mark.parametrize("missing", ["regions", "classes"])
def test_a_model_of_one_task_says_nothing_of_the_other(predict, spec, missing):
    spec[missing] = []
    (case, _) = predict({"empty_class": "normal"}, regions=["whole_tumour"], class_name="normal")
    assert (case.regions is None) == (missing == "regions")
    assert (case.probabilities == {}) == (case.predicted_class is None) == (missing == "classes")


def test_a_window_of_the_models_grid_slides_over_a_larger_image(tmp_path, write_constant_model):
    model_file = load_model_file(write_constant_model(tmp_path / "best.pth", regions=["whole_tumour"]))
    image = np.zeros((1, 6, 12, 9), np.uint8)
    decision = {"threshold": 0.5, "smallest_region_ml": 0.0}
    (found,) = predict_cases([model_file], [image], [1.0], decision, CPU, ALONE)
    assert found.regions.shape == (1, 6, 12, 9)
    assert found.regions.all()
