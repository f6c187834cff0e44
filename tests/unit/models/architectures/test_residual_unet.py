"""A residual U-Net of volumes, of slices, and of slices with their neighbours."""

import pytest
import torch
from fedpedbrain.models.architectures.residual_unet import ResidualUNet
from fedpedbrain.models.placement import to_device
from fedpedbrain.training.execution import autocast, keep_small_convolutions_exact

CPU = torch.device("cpu")
FLAT = {
    "features": [4, 8, 8],
    "strides": [[1, 1, 1], [1, 2, 2], [1, 2, 2]],
    "kernels": [[1, 3, 3]] * 3,
    "blocks": [1, 2, 1],
}
VOLUME = FLAT | {"strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]], "kernels": [[1, 3, 3], [3, 3, 3], [3, 3, 3]]}


def build(options: dict, num_regions: int = 2, num_classes: int = 0, channels: int = 2) -> ResidualUNet:
    torch.manual_seed(0)
    return to_device(ResidualUNet(channels, num_regions, num_classes, **options), CPU)


@pytest.mark.parametrize("options", [FLAT, VOLUME], ids=["slices", "volumes"])
def test_logits_are_of_every_voxel_and_class(options) -> None:
    logits = build(options, num_classes=3)(torch.rand(2, 2, 4, 16, 24))
    assert logits.segmentation.shape == (2, 2, 4, 16, 24)
    assert logits.classification.shape == (2, 3)


@pytest.mark.parametrize(("options", "shapes"), [(FLAT, [(4, 8, 8)]), (VOLUME, [(4, 8, 8)])], ids=["slices", "volumes"])
def test_coarser_stages_speak_in_training_alone(options, shapes) -> None:
    model = build(options)
    images = torch.rand(1, 2, 4, 16, 16)
    assert [tuple(part.shape[2:]) for part in model(images).deeper] == shapes
    assert model.eval()(images).deeper == ()
    assert build(options | {"deep_supervision": False})(images).deeper == ()


def test_slices_do_not_know_of_each_other_without_neighbours() -> None:
    model = build(FLAT).eval()
    images = torch.rand(1, 2, 3, 16, 16)
    changed = images.clone()
    changed[:, :, 2] += 1.0
    before, after = model(images).segmentation, model(changed).segmentation
    torch.testing.assert_close(after[:, :, :2], before[:, :, :2])
    assert not torch.allclose(after[:, :, 2], before[:, :, 2])


def test_neighbours_go_in_and_do_not_come_out() -> None:
    model = build(FLAT | {"neighbours": 1}).eval()
    assert model.context == 1
    images = torch.rand(2, 2, 5, 16, 16)
    logits = model(images).segmentation
    assert logits.shape == (2, 2, 3, 16, 16)
    # Each slice of the volume is what it is alone with its neighbours, of whichever case.
    for case in range(2):
        for index in range(3):
            alone = model(images[case : case + 1, :, index : index + 3]).segmentation
            torch.testing.assert_close(alone[:, :, 0], logits[case : case + 1, :, index])


def test_channels_of_neighbours_lie_as_the_first_layer_reads_them() -> None:
    """The first convolution sees channel 0 of all its slices, then channel 1."""
    model = build(FLAT | {"neighbours": 1}).eval()
    images = torch.rand(1, 2, 3, 16, 16)
    seen = model._to_slices(images)
    torch.testing.assert_close(seen[0], images[0].flatten(0, 1))


def test_a_first_stride_is_the_stems() -> None:
    model = build(VOLUME | {"strides": [[1, 2, 2], [1, 2, 2], [2, 2, 2]]})
    assert model.encoder[0][0](torch.rand(1, 2, 4, 32, 32)).shape == (1, 4, 4, 16, 16)
    assert model.encoder[0](torch.rand(1, 2, 4, 32, 32)).shape == (1, 4, 4, 16, 16)


def test_a_first_stride_is_undone() -> None:
    options = VOLUME | {"strides": [[1, 2, 2], [1, 2, 2], [2, 2, 2]]}
    assert build(options)(torch.rand(1, 2, 4, 32, 32)).segmentation.shape == (1, 2, 4, 32, 32)


def test_exclusive_regions_are_a_softmax_with_the_background() -> None:
    logits = torch.log(torch.tensor([2.0, 5.0])).view(1, 2, 1, 1, 1)
    found = build(FLAT | {"exclusive_regions": True}).to_probabilities(logits)
    torch.testing.assert_close(found.flatten(), torch.tensor([2.0, 5.0]) / 8.0)
    found = build(FLAT).to_probabilities(logits)
    torch.testing.assert_close(found.flatten(), torch.tensor([2.0 / 3.0, 5.0 / 6.0]))


def test_residual_blocks_start_from_what_goes_in() -> None:
    """With the last factors of a block at 0 its features are those that the shortcut carries."""
    model = build(FLAT)
    block = model.encoder[1][1]
    torch.nn.init.zeros_(block.body[-1].weight)
    features = torch.rand(1, 8, 4, 4)
    torch.testing.assert_close(block(features), features)


@pytest.mark.parametrize("options", [FLAT, VOLUME], ids=["slices", "volumes"])
def test_a_volume_is_predicted_alike_alone_and_in_a_batch(options) -> None:
    model = build(options, num_classes=2).eval()
    images = torch.rand(3, 2, 4, 16, 16)
    together, alone = model(images), model(images[1:2])
    torch.testing.assert_close(alone.segmentation, together.segmentation[1:2])
    torch.testing.assert_close(alone.classification, together.classification[1:2])


def test_without_deep_supervision_nothing_is_sent_that_no_loss_sees() -> None:
    model = build(FLAT | {"deep_supervision": False})
    model(torch.rand(2, 2, 2, 16, 16)).segmentation.square().mean().backward()
    assert [name for name, weight in model.named_parameters() if weight.grad is None] == []


def test_nothing_but_parameters_is_averaged() -> None:
    model = build(VOLUME, num_classes=2)
    assert set(model.state_dict()) == {name for name, _ in model.named_parameters()}


@pytest.mark.parametrize("options", [FLAT | {"neighbours": 1}, VOLUME], ids=["slices", "volumes"])
def test_every_weight_learns_in_both_precisions(options) -> None:
    model = build(options, num_classes=2)
    keep_small_convolutions_exact(model)
    for precision in ("float32", "bfloat16"):
        model.zero_grad()
        with autocast(precision, CPU):
            logits = model(torch.rand(2, 2, 4 + 2 * model.context, 16, 16))
        parts = (logits.segmentation, logits.classification, *logits.deeper)
        sum(part.float().square().mean() for part in parts).backward()
        without = [name for name, weight in model.named_parameters() if not weight.grad.abs().sum() > 0]
        assert not without


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"blocks": [1, 1]}, "one of features, strides, kernels and blocks for each stage"),
        ({"neighbours": 1, "kernels": [[3, 3, 3]] * 3}, "neighbours are for kernels and strides of 1 along D"),
    ],
)
def test_options_that_contradict_each_other_are_refused(change, message) -> None:
    with pytest.raises(ValueError, match=message):
        build(FLAT | change)


def test_a_network_without_a_head_is_refused() -> None:
    with pytest.raises(ValueError, match="found neither"):
        build(FLAT, num_regions=0)


def test_a_classifier_alone_has_no_decoder() -> None:
    model = build(FLAT, num_regions=0, num_classes=2)
    assert model(torch.rand(1, 2, 2, 16, 16)).segmentation is None
    assert not any(name.startswith("decoder") for name, _ in model.named_parameters())
