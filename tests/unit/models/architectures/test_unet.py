import pytest
import torch
from fedpedbrain.base.errors import StudyError
from fedpedbrain.models.architectures.unet import UNet
from fedpedbrain.models.networks import build_model

OPTIONS = {"channels": [4, 6], "strides": [[1, 2, 2], [2, 2, 2]], "pooled_grid": [1, 2, 2], "dropout": 0.2}


def make_net(in_channels: int = 1, num_regions: int = 1, num_classes: int = 3, **changes) -> UNet:
    torch.manual_seed(0)
    return UNet(in_channels, num_regions, num_classes, **(OPTIONS | changes)).eval()


@torch.inference_mode()
def run(net: UNet, *shape: int):
    return net(torch.rand(*shape, generator=torch.Generator().manual_seed(1)))


def test_segmentation_has_the_size_of_the_images_and_a_plane_a_region():
    logits = run(make_net(num_regions=2), 3, 1, 4, 8, 12)
    assert logits.segmentation.shape == (3, 2, 4, 8, 12)
    assert logits.classification.shape == (3, 3)


def test_several_channels_enter_together():
    net = make_net(in_channels=4)
    assert run(net, 1, 4, 4, 8, 8).segmentation.shape == (1, 1, 4, 8, 8)
    with pytest.raises(RuntimeError, match="4 channels"):
        run(net, 1, 1, 4, 8, 8)


@pytest.mark.parametrize(
    ("strides", "size"),
    [
        ([[1, 3, 3], [1, 2, 2]], (2, 12, 6)),
        ([[1, 1, 1], [2, 2, 2]], (4, 4, 6)),
        ([[2, 2, 2], [3, 1, 2]], (6, 4, 8)),
        ([[1, 2, 2], [1, 1, 1]], (3, 4, 4)),
    ],
    ids=["stem of three", "no stem", "mixed stages", "stage without a stride"],
)
def test_every_stride_is_undone_at_the_output(strides, size):
    assert run(make_net(strides=strides), 1, 1, *size).segmentation.shape == (1, 1, *size)


def test_more_stages_undo_as_many_strides():
    net = make_net(channels=[4, 6, 8], strides=[[1, 2, 2], [2, 2, 2], [2, 2, 2]])
    assert run(net, 1, 1, 8, 16, 16).segmentation.shape == (1, 1, 8, 16, 16)


def test_single_slices_are_classified_and_learnt_from():
    net = make_net(num_regions=0, strides=[[1, 2, 2], [1, 2, 2]]).train()
    logits = net(torch.rand(2, 1, 1, 16, 16))
    assert logits.classification.shape == (2, 3)
    logits.classification[:, 0].sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in net.encoder.parameters())


def test_no_regions_means_no_decoder():
    net = make_net(num_regions=0)
    logits = run(net, 2, 1, 4, 8, 8)
    assert logits.segmentation is None
    assert logits.classification.shape == (2, 3)
    assert {name.split(".")[0] for name in net.state_dict()} == {"encoder", "classifier"}


def test_no_classes_means_no_classifier():
    net = make_net(num_classes=0)
    logits = run(net, 2, 1, 4, 8, 8)
    assert logits.classification is None
    assert logits.segmentation.shape == (2, 1, 4, 8, 8)
    assert "classifier" not in {name.split(".")[0] for name in net.state_dict()}


def test_a_network_without_a_head_is_refused():
    with pytest.raises(ValueError, match="found neither"):
        make_net(num_regions=0, num_classes=0)


def test_a_stage_without_a_stride_is_refused():
    with pytest.raises(ValueError, match="2 channels but 1 strides"):
        make_net(strides=[[1, 2, 2]])


def test_an_image_is_predicted_alike_alone_and_in_a_batch():
    net = make_net()
    images = torch.rand(3, 1, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        together, alone = net(images), net(images[1:2])
    torch.testing.assert_close(together.segmentation[1:2], alone.segmentation)
    torch.testing.assert_close(together.classification[1:2], alone.classification)


def test_nothing_but_parameters_is_averaged():
    net = make_net()
    assert set(net.state_dict()) == {name for name, _ in net.named_parameters()}


def test_every_parameter_feeds_a_head():
    net = make_net().train()
    logits = net(torch.rand(2, 1, 4, 8, 8))
    (logits.segmentation.sum() + logits.classification.sum()).backward()
    assert [name for name, parameter in net.named_parameters() if parameter.grad is None] == []


def test_the_classifier_sees_where_something_is():
    net = make_net(dropout=0.0)
    images = torch.zeros(2, 1, 4, 8, 8)
    images[0, :, :, :4, :4] = 1.0
    images[1, :, :, 4:, 4:] = 1.0
    with torch.inference_mode():
        first, second = net(images).classification
    assert (first - second).abs().max() > 1e-3


def test_a_network_is_built_by_the_configs_word():
    assert isinstance(build_model("unet", 1, 1, 2, **OPTIONS), UNet)


def test_an_unknown_network_is_refused_with_the_known_ones():
    with pytest.raises(StudyError, match="unknown choice 'vnet'; known are unet, i3d_unet"):
        build_model("vnet", 1, 1, 2)
