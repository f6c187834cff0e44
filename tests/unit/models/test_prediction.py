import warnings

import numpy as np
import pytest
import torch
from fedpedbrain.data.grid.dataset import ShardDataset
from fedpedbrain.models.components import ComponentFilter
from fedpedbrain.models.files import ModelSpec
from fedpedbrain.models.networks import build_model
from fedpedbrain.models.outputs import Logits
from fedpedbrain.models.prediction import (
    PredictionPlan,
    WindowedNetwork,
    decide_regions,
    most_probable_class,
    predict_probabilities,
    to_network_input,
)
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

CPU = torch.device("cpu")
ALONE = PredictionPlan()


def predict_with(model, images, plan=ALONE, window=None, is_of_patches=False):
    """Predict images with one network."""
    return predict_probabilities([WindowedNetwork(model, window, is_of_patches)], images, CPU, plan)


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
    predictions = list(predict_with(model, images))
    assert len(predictions) == 3
    with torch.inference_mode():
        logits = model(torch.from_numpy(images[1][None]).float() / 255)
    regions, classes = predictions[1]
    np.testing.assert_allclose(regions, torch.sigmoid(logits.segmentation[0]).numpy(), rtol=1e-5)
    np.testing.assert_allclose(classes, torch.softmax(logits.classification[0], 0).numpy(), rtol=1e-5)


def test_class_probabilities_sum_to_1(spec, images):
    for _, classes in predict_with(ModelSpec(**spec).build(), images):
        assert classes.shape == (2,)
        assert classes.sum() == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("missing", ["regions", "classes"])
def test_a_head_that_the_model_lacks_predicts_none(spec, images, missing):
    model = ModelSpec(**(spec | {missing: []})).build()
    for regions, classes in predict_with(model, images):
        assert (regions is None) == (missing == "regions")
        assert (classes is None) == (missing == "classes")


def test_dropout_is_off(spec, images):
    spec["options"]["dropout"] = 0.9
    model = ModelSpec(**spec).build().train()
    first, second = (list(predict_with(model, images)) for _ in range(2))
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
            found = list(predict_with(model, map(dataset.image, range(3))))
    finally:
        torch.set_warn_always(False)
    for (regions, _), (expected, _) in zip(found, predict_with(model, images), strict=True):
        np.testing.assert_array_equal(regions, expected)


class RightSeer(nn.Module):
    """Sees a region where the voxel is bright and in the first half of W, and a class by how bright that half is."""

    def forward(self, images: torch.Tensor) -> Logits:
        half = torch.arange(images.shape[-1], device=images.device) < images.shape[-1] // 2
        bright = images[:, :1] * half
        level = bright.sum((1, 2, 3, 4))
        return Logits(20.0 * bright - 10.0, torch.stack([level, torch.zeros_like(level)], 1))


def one_bright_voxel(place: int) -> np.ndarray:
    image = np.zeros((1, 2, 2, 4), np.uint8)
    image[0, 1, 0, place] = 255
    return image


def test_without_flips_a_network_blind_on_one_side_stays_so():
    (regions, classes), (others, _) = predict_with(RightSeer(), map(one_bright_voxel, (0, 3)))
    assert regions[0, 1, 0, 0] > 0.99
    assert others.max() < 0.01
    assert classes[0] == pytest.approx(1 / (1 + np.exp(-1.0)))


@pytest.mark.parametrize("place", [0, 3])
def test_flips_average_a_case_with_its_mirror_image_laid_back(place):
    ((regions, classes),) = predict_with(RightSeer(), [one_bright_voxel(place)], PredictionPlan("W"))
    # Seen in one of the two copies, at the place where it is.
    expected = np.zeros((1, 2, 2, 4))
    expected[0, 1, 0, place] = 0.5
    np.testing.assert_allclose(regions, expected, atol=1e-4)
    assert classes[0] == pytest.approx((1 / (1 + np.exp(-1.0)) + 0.5) / 2)


def test_an_image_of_the_windows_size_is_predicted_as_without_a_window(spec, images):
    torch.manual_seed(0)
    model = ModelSpec(**spec).build()
    windows = (None, (4, 8, 8))
    whole, windowed = (list(predict_with(model, images, PredictionPlan("W"), window)) for window in windows)
    for one, other in zip(whole, windowed, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])


def test_of_a_larger_image_the_class_is_that_of_the_middle_window_and_regions_are_everywhere(spec, images):
    torch.manual_seed(0)
    model = ModelSpec(**spec).build()
    larger = np.random.default_rng(1).integers(0, 256, (1, 8, 14, 10), dtype=np.uint8)
    larger[:, 2:6, 3:11, 1:9] = images[0]
    ((regions, classes),) = predict_with(model, [larger], window=(4, 8, 8))
    ((_, expected),) = predict_with(model, [images[0]])
    assert regions.shape == (1, 8, 14, 10)
    np.testing.assert_array_equal(classes, expected)


@pytest.mark.parametrize("missing", ["regions", "classes"])
def test_windows_and_flips_leave_out_a_head_that_the_model_lacks(spec, missing):
    model = ModelSpec(**(spec | {missing: []})).build()
    larger = np.zeros((1, 6, 8, 12), np.uint8)
    ((regions, classes),) = predict_with(model, [larger], PredictionPlan("W"), (4, 8, 8))
    assert (regions is None) == (missing == "regions")
    assert (classes is None) == (missing == "classes")


class SliceSum(nn.Module):
    """Sees, in each slice, the brightness of the slices around it; a class by the brightness of the first voxel."""

    context = 1

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.factor, self.sizes = factor, []

    def forward(self, images: torch.Tensor) -> Logits:
        self.sizes.append(tuple(images.shape))
        logits = self.factor * (images[:, :1, :-2] + 2.0 * images[:, :1, 1:-1] + 4.0 * images[:, :1, 2:])
        return Logits(logits, torch.cat([logits[:, 0, :1, 0, 0], 0.0 * logits[:, 0, :1, 0, 0]], 1))


VOLUME = np.random.default_rng(0).integers(0, 256, (1, 5, 6, 8), dtype=np.uint8)


def slice_sums(volume) -> np.ndarray:
    padded = np.pad(volume.astype(np.float32) / 255.0, ((0, 0), (1, 1), (0, 0), (0, 0)), mode="edge")
    return padded[:, :-2] + 2.0 * padded[:, 1:-1] + 4.0 * padded[:, 2:]


def sigmoid(logits):
    return 1.0 / (1.0 + np.exp(-logits))


@pytest.mark.parametrize("window", [(1, 6, 8), (1, 4, 5), (2, 6, 8), (5, 6, 8), (8, 6, 8), (1, 9, 8)])
def test_a_flat_patch_sees_the_slices_around_it_wherever_it_lies(window):
    ((regions, _),) = predict_with(SliceSum(), [VOLUME], window=window, is_of_patches=True)
    found, expected = regions, sigmoid(slice_sums(VOLUME))
    # Air above and below takes the place of the last slices where the patch is deeper than the case.
    inner = slice(1, -1) if window[0] > 5 else slice(None)
    np.testing.assert_allclose(found[:, inner], expected[:, inner], rtol=1e-5)
    assert found.shape == (1, 5, 6, 8)


def test_many_slices_go_through_the_network_at_once():
    model = SliceSum()
    list(predict_with(model, [VOLUME], PredictionPlan("W"), (1, 6, 8), True))
    assert model.sizes == [(5, 1, 3, 6, 8)] * 2


def test_copies_mirrored_along_all_combinations_of_axes_are_averaged():
    assert PredictionPlan(["H", "W"]).copies == [(), (-2,), (-1,), (-2, -1)]
    assert len(PredictionPlan(["D", "H", "W"]).copies) == 8
    ((regions, _),) = predict_with(SliceSum(), [VOLUME], PredictionPlan(["D", "H"]), (1, 6, 8), True)
    # Mirrored along D, the slice below counts as the one above.
    mirrored = slice_sums(VOLUME[:, ::-1])[:, ::-1]
    np.testing.assert_allclose(regions, (sigmoid(slice_sums(VOLUME)) + sigmoid(mirrored)) / 2, rtol=1e-5)


@pytest.mark.parametrize("mean_of", ["probabilities", "logits"])
def test_several_networks_are_averaged_in_probabilities_or_in_logits(mean_of):
    networks = [WindowedNetwork(SliceSum(factor), (1, 4, 8), True) for factor in (1.0, -3.0)]
    plan = PredictionPlan(overlap=0.5, mean_of=mean_of)
    ((regions, classes),) = predict_probabilities(networks, [VOLUME], CPU, plan)
    logits = slice_sums(VOLUME)
    expected = sigmoid(-logits) if mean_of == "logits" else (sigmoid(logits) + sigmoid(-3.0 * logits)) / 2
    np.testing.assert_allclose(regions, expected, rtol=1e-4)
    assert classes.sum() == pytest.approx(1.0)


def test_one_network_is_the_mean_of_itself(spec, images):
    torch.manual_seed(0)
    model = ModelSpec(**spec).build()
    twice = predict_probabilities([WindowedNetwork(model, (4, 8, 8))] * 2, images, CPU, ALONE)
    for one, other in zip(predict_with(model, images, window=(4, 8, 8)), twice, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])


def test_of_patches_the_class_is_the_mean_over_all_windows():
    ((_, classes),) = predict_with(SliceSum(), [VOLUME], window=(1, 6, 8), is_of_patches=True)
    assert classes[0] == pytest.approx(sigmoid(slice_sums(VOLUME)[0, :, 0, 0]).mean(), rel=1e-5)


def test_a_network_of_slices_with_neighbours_predicts_a_volume_slice_by_slice_as_in_one_piece():
    torch.manual_seed(0)
    options = {"features": [4, 8], "strides": [[1, 1, 1], [1, 2, 2]], "kernels": [[1, 3, 3]] * 2, "blocks": [1, 1]}
    model = build_model("residual_unet", 1, 2, 2, **options, neighbours=1)
    for parameter in model.decoder.heads.parameters():
        parameter.data.normal_()
    image = np.random.default_rng(0).integers(0, 256, (1, 5, 8, 12), dtype=np.uint8)
    ((regions, classes),) = predict_with(model, [image], window=(1, 8, 12), is_of_patches=True)
    with torch.inference_mode():
        whole = torch.from_numpy(np.pad(image, ((0, 0), (1, 1), (0, 0), (0, 0)), mode="edge")[None]).float() / 255
        logits = model(whole)
    np.testing.assert_allclose(regions, model.to_probabilities(logits.segmentation)[0], rtol=1e-4)
    assert classes.sum() == pytest.approx(1.0)


class Exclusive(nn.Module):
    """Two regions of which a voxel has one at most."""

    def forward(self, images: torch.Tensor) -> Logits:
        return Logits(torch.cat([images, 2.0 * images], 1), None)

    def to_probabilities(self, segmentation: torch.Tensor) -> torch.Tensor:
        background = torch.zeros_like(segmentation[:, :1])
        return torch.cat([background, segmentation], 1).softmax(1)[:, 1:]


@pytest.mark.parametrize("mean_of", ["probabilities", "logits"])
def test_regions_that_exclude_each_other_share_the_probability(mean_of):
    ((regions, _),) = predict_with(Exclusive(), [VOLUME], PredictionPlan(mean_of=mean_of), (3, 4, 4))
    odds = np.exp(np.concatenate([VOLUME, 2.0 * VOLUME]) / 255.0)
    np.testing.assert_allclose(regions, odds / (1.0 + odds.sum(0)), rtol=1e-4)


def test_images_in_half_precision_are_taken_as_they_are():
    found = to_network_input(np.full((1, 1, 1, 1, 2), -2.5, np.float16), CPU)
    assert found.dtype == torch.float32
    assert (found == -2.5).all()


class SeenStorages(TorchDispatchMode):
    """Bytes of every storage that an operation returns a part of, by its place in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: dict[int, int] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        for tensor in found if isinstance(found, list | tuple) else [found]:
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                self.sizes[storage.data_ptr()] = storage.nbytes()
        return found


@pytest.mark.parametrize("mean_of", ["probabilities", "logits"])
def test_one_array_alone_is_as_large_as_all_regions_of_the_case(mean_of):
    class EightRegions(nn.Module):
        def forward(self, images: torch.Tensor) -> Logits:
            return Logits(images.repeat(1, 8, 1, 1, 1), None)

    image = np.zeros((1, 64, 128, 128), np.uint8)
    networks = [WindowedNetwork(EightRegions(), (1, 64, 64), True)] * 2
    with SeenStorages() as seen:
        ((regions, _),) = predict_probabilities(networks, [image], CPU, PredictionPlan("W", mean_of=mean_of))
    large = [size for size in seen.sizes.values() if size >= regions.nbytes]
    assert large == [regions.nbytes]


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


def test_filters_of_components_come_before_the_smallest_volume():
    # Three voxels in a row, of which the first lies apart.
    probabilities = np.array([0.9, 0.1, 0.9, 0.9]).reshape(1, 1, 1, 4)
    filters = [ComponentFilter(2.0)]
    options = {"voxel_ml": 1.0, "threshold": 0.5, "filters": filters}
    assert decide_regions(probabilities, smallest_region_ml=2.0, **options).ravel().tolist() == [
        False,
        False,
        True,
        True,
    ]
    assert not decide_regions(probabilities, smallest_region_ml=3.0, **options).any()


def test_each_region_has_its_own_filter():
    probabilities = np.array([0.9, 0.1, 0.9, 0.9] * 2).reshape(2, 1, 1, 4)
    filters = [ComponentFilter(), ComponentFilter(0.0, True)]
    found = decide_regions(probabilities, 1.0, 0.5, 0.0, filters=filters)
    assert found.sum((1, 2, 3)).tolist() == [3, 2]
