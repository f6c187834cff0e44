import json

import numpy as np
import pytest
import torch
from fedpedbrain.models.architectures.i3d_unet import ENCODER_PLAN, SMALLEST_SIZE, I3DUNet, scale_channels
from parity_fixture import fixture_tensor, reference_path
from torch import nn

UNUSED = ("encoder.layers_dict.Mixed_5b.", "encoder.layers_dict.Mixed_5c.", "encoder.logits.")
NARROW = 0.0625


def narrow_net(in_channels: int = 1, num_regions: int = 1, num_classes: int = 5) -> I3DUNet:
    torch.manual_seed(0)
    return I3DUNet(in_channels, num_regions, num_classes, width=NARROW).eval()


def count_parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def test_state_dict_is_the_references_without_its_unused_layers():
    entries = json.loads(reference_path("i3d_unet_state_dict.json").read_text())
    assert len(entries) == 374
    expected = {
        entry["key"]: (tuple(entry["shape"]), entry["dtype"])
        for entry in entries
        if not entry["key"].startswith(UNUSED)
    }
    with torch.device("meta"):
        state = I3DUNet(1, 1, 5).state_dict()
    found = {key: (tuple(tensor.shape), str(tensor.dtype)[len("torch.") :]) for key, tensor in state.items()}
    assert found == expected


def test_logits_equal_the_references():
    fixture = np.load(reference_path("i3d_unet_parity.npz"))
    with torch.device("meta"):
        net = I3DUNet(1, 1, 5)
    weights = {key: fixture_tensor(key, tuple(tensor.shape)) for key, tensor in net.state_dict().items()}
    net.load_state_dict(weights, assign=True)
    images = torch.from_numpy(np.random.RandomState(0).rand(1, 1, 32, 64, 64).astype(np.float32))
    with torch.inference_mode():
        logits = net.eval()(images)
    np.testing.assert_allclose(logits.segmentation.numpy(), fixture["seg_logits"], rtol=0, atol=1e-4)
    np.testing.assert_allclose(logits.classification.numpy(), fixture["class_logits"], rtol=0, atol=1e-4)


def test_batch_normalisation_keeps_the_published_settings():
    # Evaluation shows no momentum, so that the parity fixture cannot see it.
    settings = {
        name.split(".")[0]: (module.eps, module.momentum)
        for name, module in narrow_net().named_modules()
        if isinstance(module, nn.BatchNorm3d)
    }
    assert settings == {"encoder": (1e-3, 0.01)} | dict.fromkeys(["up1", "up2", "up3", "up4"], (1e-5, 0.1))


@pytest.mark.parametrize("size", [(9, 33, 35), (16, 32, 32), (13, 40, 31), SMALLEST_SIZE])
def test_segmentation_keeps_the_size_of_the_images(size):
    with torch.inference_mode():
        logits = narrow_net(num_regions=3)(torch.rand(2, 1, *size))
    assert logits.segmentation.shape == (2, 3, *size)
    assert logits.classification.shape == (2, 5)
    assert logits.segmentation.isfinite().all()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_images_below_the_smallest_size_are_refused(axis):
    size = list(SMALLEST_SIZE)
    size[axis] -= 1
    with pytest.raises(ValueError, match=r"expected at least \(8, 17, 17\)"):
        narrow_net()(torch.rand(1, 1, *size))


def test_no_regions_means_no_decoder():
    net = narrow_net(num_regions=0)
    with torch.inference_mode():
        logits = net(torch.rand(1, 1, 8, 32, 32))
    assert logits.segmentation is None
    assert logits.classification.shape == (1, 5)
    assert {key.split(".")[0] for key in net.state_dict()} == {"encoder", "classifier"}


def test_no_classes_means_no_classifier():
    net = narrow_net(num_classes=0)
    with torch.inference_mode():
        logits = net(torch.rand(1, 1, 8, 32, 32))
    assert logits.classification is None
    assert logits.segmentation.shape == (1, 1, 8, 32, 32)
    assert "classifier" not in {key.split(".")[0] for key in net.state_dict()}


def test_a_network_without_a_head_is_refused():
    with pytest.raises(ValueError, match="num_regions and num_classes are both 0"):
        I3DUNet(1, 0, 0)


def test_a_width_of_zero_is_refused():
    with pytest.raises(ValueError, match="width is 0"):
        I3DUNet(1, 1, 5, width=0)


def test_channels_scale_with_width_but_not_below_four():
    assert [scale_channels(channels, 0.125) for channels in (16, 64, 832)] == [4, 8, 104]
    assert scale_channels(528, 1.0) == 528


def test_an_eighth_of_the_width_has_about_a_sixty_fourth_of_the_parameters():
    with torch.device("meta"):
        full, narrow = I3DUNet(1, 1, 5), I3DUNet(1, 1, 5, width=0.125)
    assert count_parameters(full) / 70 < count_parameters(narrow) < count_parameters(full) / 50


def test_one_channel_counts_as_three_equal_ones():
    gray, colour = narrow_net(in_channels=1), narrow_net(in_channels=3)
    colour.load_state_dict(gray.state_dict())
    images = torch.rand(1, 1, 8, 32, 32)
    with torch.inference_mode():
        expected, found = gray(images), colour(images.repeat(1, 3, 1, 1, 1))
    torch.testing.assert_close(found, expected)


def test_several_channels_enter_the_stem_directly():
    net = narrow_net(in_channels=4)
    assert net.encoder.layers_dict["Conv3d_1a_7x7"].conv.in_channels == 4
    with torch.inference_mode():
        logits = net(torch.rand(1, 4, 8, 32, 32))
    assert logits.segmentation.shape == (1, 1, 8, 32, 32)


def test_a_wrong_number_of_channels_is_refused():
    # Three channels would fit the stem of a one-channel network and pass unseen.
    with pytest.raises(ValueError, match="images have 3 channels; expected 1"):
        narrow_net(in_channels=1)(torch.rand(1, 3, 8, 32, 32))


def test_stem_gradient_at_the_smallest_size_is_that_of_double_precision():
    # With one slice to three fewer, oneDNN 3.12 (float32 only) returns a wrong one or corrupts the heap.
    net, images = narrow_net(), torch.rand(2, 1, *SMALLEST_SIZE)

    def stem_gradient(dtype: torch.dtype) -> torch.Tensor:
        logits = net.to(dtype)(images.to(dtype))
        score = logits.segmentation.sum() + logits.classification.sum()
        return torch.autograd.grad(score, net.encoder.layers_dict["Conv3d_1a_7x7"].conv.weight)[0].double()

    found, expected = stem_gradient(torch.float32), stem_gradient(torch.float64)
    assert (found - expected).norm() < 1e-3 * expected.norm()


@pytest.mark.parametrize("size", [(9, 33, 35), SMALLEST_SIZE])
def test_every_parameter_of_a_training_network_feeds_a_head(size):
    net = narrow_net().train()
    logits = net(torch.rand(1, 1, *size))
    (logits.segmentation.sum() + logits.classification.sum()).backward()
    assert [name for name, parameter in net.named_parameters() if parameter.grad is None] == []
    assert list(net.encoder.layers_dict) == list(ENCODER_PLAN)
