import warnings

import numpy as np
import pytest
import torch
from fedpedbrain.data.dataset import ShardDataset
from fedpedbrain.models.files import ModelSpec
from fedpedbrain.models.prediction import (
    decide_regions,
    most_probable_class,
    predict_probabilities,
    to_network_input,
)

CPU = torch.device("cpu")


def test_images_become_fractions_of_255():
    images = np.array([0, 51, 255], np.uint8).reshape(1, 1, 1, 1, 3)
    found = to_network_input(images, CPU)
    assert found.dtype == torch.float32
    assert found.shape == (1, 1, 1, 1, 3)
    torch.testing.assert_close(found.flatten(), torch.tensor([0.0, 0.2, 1.0]))


def test_the_images_themselves_stay_as_they_are():
    images = np.full((1, 1, 2, 2, 2), 200, np.uint8)
    to_network_input(images, CPU)
    assert (images == 200).all()


@pytest.fixture
def images() -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (3, 1, 4, 8, 8), dtype=np.uint8))


def test_probabilities_are_those_of_the_logits(spec, images):
    torch.manual_seed(0)
    model = ModelSpec(**spec).build()
    predictions = list(predict_probabilities(model, images, CPU))
    assert len(predictions) == 3
    with torch.inference_mode():
        logits = model(torch.from_numpy(images[1][None]).float() / 255)
    regions, classes = predictions[1]
    np.testing.assert_allclose(regions, torch.sigmoid(logits.segmentation[0]).numpy(), rtol=1e-5)
    np.testing.assert_allclose(classes, torch.softmax(logits.classification[0], 0).numpy(), rtol=1e-5)


def test_class_probabilities_sum_to_1(spec, images):
    for _, classes in predict_probabilities(ModelSpec(**spec).build(), images, CPU):
        assert classes.shape == (2,)
        assert classes.sum() == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("missing", ["regions", "classes"])
def test_a_head_that_the_model_lacks_predicts_none(spec, images, missing):
    model = ModelSpec(**(spec | {missing: []})).build()
    for regions, classes in predict_probabilities(model, images, CPU):
        assert (regions is None) == (missing == "regions")
        assert (classes is None) == (missing == "classes")


def test_dropout_is_off(spec, images):
    spec["options"]["dropout"] = 0.9
    model = ModelSpec(**spec).build().train()
    first, second = (list(predict_probabilities(model, images, CPU)) for _ in range(2))
    for (_, one), (_, other) in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


def test_images_of_a_shard_are_predicted_without_a_warning(tmp_path, spec, make_case, write_shard, images):
    shard = write_shard(tmp_path / "north", [make_case(name) for name in "abc"], np.stack(images))
    dataset = ShardDataset([shard], {"train"})
    model = ModelSpec(**spec).build()
    torch.set_warn_always(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = list(predict_probabilities(model, map(dataset.image, range(3)), CPU))
    finally:
        torch.set_warn_always(False)
    for (regions, _), (expected, _) in zip(found, predict_probabilities(model, images, CPU), strict=True):
        np.testing.assert_array_equal(regions, expected)


PROBABILITIES = np.array([[0.2, 0.5, 0.7, 0.9], [0.1, 0.1, 0.1, 0.6]]).reshape(2, 1, 2, 2)


def test_a_voxel_belongs_to_a_region_from_the_threshold_on():
    found = decide_regions(PROBABILITIES, voxel_ml=1.0, threshold=0.5, smallest_region_ml=0.0)
    assert found.dtype == bool
    assert found.reshape(2, 4).tolist() == [[False, True, True, True], [False, False, False, True]]


def test_a_region_smaller_than_the_smallest_is_left_out():
    # 3 and 1 voxels of 0.5 ml.
    found = decide_regions(PROBABILITIES, voxel_ml=0.5, threshold=0.5, smallest_region_ml=1.0)
    assert found.reshape(2, 4).tolist() == [[False, True, True, True], [False] * 4]


def test_a_region_of_exactly_the_smallest_size_stays():
    found = decide_regions(PROBABILITIES, voxel_ml=0.5, threshold=0.5, smallest_region_ml=0.5)
    assert found.sum((1, 2, 3)).tolist() == [3, 1]


def test_nothing_above_the_threshold_is_no_region():
    assert not decide_regions(PROBABILITIES, voxel_ml=1.0, threshold=0.95, smallest_region_ml=0.0).any()


@pytest.mark.parametrize(
    ("predicted_class", "empty_class", "expected"),
    [("normal", "normal", 0), ("dipg", "normal", 3), ("normal", None, 3), (None, None, 3), (None, "normal", 3)],
    ids=["normal", "tumour", "heads decide apart", "nothing classified", "no classifier"],
)
def test_a_case_diagnosed_as_normal_has_no_region(predicted_class, empty_class, expected):
    options = {"predicted_class": predicted_class, "empty_class": empty_class}
    found = decide_regions(PROBABILITIES, voxel_ml=1.0, threshold=0.5, smallest_region_ml=0.0, **options)
    assert found[0].sum() == expected


def test_the_most_probable_class_is_named():
    assert most_probable_class(np.array([0.2, 0.7, 0.1]), ["normal", "dipg", "ependymoma"]) == "dipg"
    assert most_probable_class(None, []) is None
