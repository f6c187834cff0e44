import numpy as np
import pytest
import torch
from fedpedbrain.base.files import write_table
from fedpedbrain.evaluation.case_choice import CHOICE_COLUMNS
from fedpedbrain.evaluation.explanations import explain_case, explain_cases_files, saliency_of
from fedpedbrain.models.networks import build_model
from fedpedbrain.models.prediction import PredictionPlan, WindowedNetwork, predict_probabilities
from torch import nn

CPU = torch.device("cpu")
ALONE = PredictionPlan()
CLASSES = ["normal", "dipg"]
NETWORKS = {
    "unet": ((4, 8, 8), {"channels": [4, 6], "strides": [[1, 2, 2], [2, 2, 2]], "pooled_grid": [1, 2, 2]}),
    "unet of single slices": (
        (1, 8, 8),
        {"channels": [4, 6], "strides": [[1, 2, 2], [1, 2, 2]], "pooled_grid": [1, 2, 2]},
    ),
    "i3d_unet": ((8, 24, 24), {"width": 0.0625}),
    "residual_unet": (
        (4, 8, 8),
        {
            "features": [4, 6],
            "strides": [[1, 1, 1], [2, 2, 2]],
            "kernels": [[3, 3, 3]] * 2,
            "blocks": [1, 1],
            "pooled_grid": [2, 2, 2],
        },
    ),
    "residual_unet of slices": (
        (3, 8, 8),
        {
            "features": [4, 6],
            "strides": [[1, 1, 1], [1, 2, 2]],
            "kernels": [[1, 3, 3]] * 2,
            "blocks": [1, 1],
            "pooled_grid": [1, 2, 2],
        },
    ),
}


def build(name, num_regions=1, num_classes=2):
    torch.manual_seed(0)
    grid, options = NETWORKS[name]
    image = np.random.default_rng(0).integers(0, 256, (1, *grid), dtype=np.uint8)
    return build_model(name.split()[0], 1, num_regions, num_classes, **options), image


def test_the_saliency_of_a_global_mean_is_that_of_grad_cam():
    features = torch.tensor([[1.0, 2.0, 0.0], [3.0, 0.0, 1.0]]).reshape(1, 2, 1, 1, 3)
    classifier = nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(2, 2))
    classifier[-1].weight.data.copy_(torch.tensor([[0.0, 0.0], [3.0, -6.0]]))
    # Features times 3 / 3 and -6 / 3, summed: 1 - 6, 2, -2.
    assert saliency_of(classifier, features, 1).flatten().tolist() == pytest.approx([0.0, 2.0, 0.0])


def test_a_classifier_that_weighs_places_apart_has_its_saliency_there():
    features = torch.ones(1, 1, 1, 1, 4)
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(4, 1))
    classifier[-1].weight.data.copy_(torch.tensor([[1.0, -1.0, 2.0, -2.0]]))
    # The mean of the gradient, which Grad-CAM takes, is zero.
    assert saliency_of(classifier, features, 0).flatten().tolist() == [1.0, 0.0, 2.0, 0.0]


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_is_explained(name):
    model, image = build(name)
    found = explain_case([WindowedNetwork(model)], CLASSES, image, CPU, ALONE)
    ((regions, probabilities),) = predict_probabilities([WindowedNetwork(model)], [image], CPU, ALONE)
    assert (found.regions == regions).all()
    assert found.saliency.shape == (1, *image.shape[1:])
    assert (found.saliency.min() >= 0.0, found.saliency.max()) == (True, pytest.approx(1.0))
    assert found.predicted_class == CLASSES[int(probabilities.argmax())]


@pytest.mark.parametrize("name", NETWORKS)
def test_what_a_model_lacks_is_empty(name):
    model, image = build(name, num_classes=0)
    found = explain_case([WindowedNetwork(model)], [], image, CPU, ALONE)
    assert found.saliency.shape == (0, *image.shape[1:])
    assert found.saliency_cells == ()
    assert found.predicted_class is None
    model, image = build(name, num_regions=0)
    assert explain_case([WindowedNetwork(model)], CLASSES, image, CPU, ALONE).regions.shape == (
        0,
        *image.shape[1:],
    )


def test_the_cells_of_the_saliency_are_those_of_the_deepest_features():
    model, image = build("unet")
    # Depth 4 is halved once, 8 by 8 twice.
    assert explain_case([WindowedNetwork(model)], CLASSES, image, CPU, ALONE).saliency_cells == (2, 2, 2)


def test_the_mean_over_mirrored_copies_does_not_mind_being_mirrored():
    model, image = build("unet")
    found, mirrored = (
        explain_case([WindowedNetwork(model)], CLASSES, part, CPU, PredictionPlan("W"))
        for part in (image, image[..., ::-1].copy())
    )
    assert np.allclose(found.saliency, mirrored.saliency[..., ::-1], atol=1e-5)
    assert not np.allclose(found.saliency, found.saliency[..., ::-1], atol=1e-2)


def test_a_sites_cases_are_explained_by_its_own_model(tmp_path, make_case, write_shard, write_constant_model):
    shards = [write_shard(tmp_path / site, [make_case(site, site, "test")]) for site in ("north", "west")]
    common = write_constant_model(tmp_path / "best.pth", regions=["whole_tumour"], class_name="dipg")
    own = write_constant_model(tmp_path / "own.pth", class_name="normal")
    rows = [
        {"case": site, "class_name": "dipg", "split": "test", "place": "only", "rank": 1, "num_cases": 1}
        | {"slice_index": 2}
        for site in ("west", "north")
    ]
    write_table(tmp_path / "cases.tsv", CHOICE_COLUMNS, rows)
    files = ([common], {"north": own}, shards, tmp_path / "cases.tsv", tmp_path / "found.npz")
    explain_cases_files(*files, CPU, ALONE, "grid")
    with np.load(tmp_path / "found.npz") as found:
        assert found["cases"].tolist() == ["west", "north"]
        assert found["predicted_classes"].tolist() == ["dipg", "normal"]
        regions, saliency = ([found[f"{name}_{number}"] for number in (0, 1)] for name in ("regions", "saliency"))
        assert np.shape(regions) == np.shape(saliency) == (2, 1, 8, 8)
        # The logits are 9 and -9.
        assert [plane.mean() for plane in regions] == pytest.approx([1.0, 0.0], abs=1e-3)
        assert found["saliency_cells"].shape == (3,)
        # A model that sees the same everywhere has seen its class nowhere.
        assert not np.any(saliency)


def test_a_case_that_is_larger_than_the_patch_is_explained_window_by_window():
    model, _ = build("unet")
    network = WindowedNetwork(model, (4, 8, 8), True)
    image = np.random.default_rng(0).integers(0, 256, (1, 3, 12, 9), dtype=np.uint8)
    found = explain_case([network, network], CLASSES, image, CPU, PredictionPlan("W", 0.5))
    ((regions, _),) = predict_probabilities([network], [image], CPU, PredictionPlan("W", 0.5))
    np.testing.assert_allclose(found.regions, regions, rtol=1e-6)
    assert found.saliency.shape == (1, 3, 12, 9)
    assert (found.saliency.min() >= 0.0, found.saliency.max()) == (True, pytest.approx(1.0))
    assert found.saliency_cells == (2, 2, 2)
