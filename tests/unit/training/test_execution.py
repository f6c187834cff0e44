import pytest
import torch
from fedpedbrain.base.errors import StudyError
from fedpedbrain.models.architectures.residual_layers import InstanceNorm
from fedpedbrain.models.networks import build_model, freeze_encoder
from fedpedbrain.training.execution import (
    autocast,
    checkpoint_activations,
    computes_in_bfloat16,
    explained_memory,
    keep_small_convolutions_exact,
    prepare_training,
)
from torch import Tensor, nn

CPU, GPU = torch.device("cpu"), torch.device("cuda")
OPTIONS = {
    "unet": {"channels": [4, 6], "strides": [[1, 2, 2], [2, 2, 2]], "pooled_grid": [1, 2, 2], "dropout": 0.0},
    "i3d_unet": {"width": 0.0625, "dropout": 0.0},
    "residual_unet": {
        "features": [4, 6],
        "strides": [[1, 1, 1], [2, 2, 2]],
        "kernels": [[1, 3, 3], [3, 3, 3]],
        "blocks": [1, 1],
        "deep_supervision": False,
        "dropout": 0.0,
    },
}
NORMS = nn.BatchNorm3d | nn.InstanceNorm3d | InstanceNorm
every_network = pytest.mark.parametrize("name", sorted(OPTIONS))


def make_net(name: str) -> nn.Module:
    torch.manual_seed(0)
    net = build_model(name, 1, 1, 2, **OPTIONS[name]).train()
    keep_small_convolutions_exact(net)
    return net


def make_images(seed: int = 1) -> Tensor:
    return torch.rand(2, 1, 12, 24, 24, generator=torch.Generator().manual_seed(seed))


def backward(net: nn.Module, images: Tensor, precision: str = "float32") -> None:
    with autocast(precision, CPU):
        logits = net(images)
    (logits.segmentation.float().square().mean() + logits.classification.float().square().sum()).backward()


def gradients(net: nn.Module) -> dict[str, Tensor]:
    return {name: weight.grad for name, weight in net.named_parameters() if weight.grad is not None}


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []


@pytest.fixture
def settings(config):
    """The training block of the config; what it sets for all of PyTorch is undone."""
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    yield config["training"]
    if torch.are_deterministic_algorithms_enabled() != before[0]:
        torch.use_deterministic_algorithms(before[0])
    torch.backends.cudnn.benchmark = before[1]


# Precision.


@pytest.mark.parametrize(
    ("precision", "device", "has_bfloat16", "expected"),
    [
        ("float32", GPU, True, False),
        ("bfloat16", GPU, False, True),
        ("bfloat16", CPU, False, True),
        ("auto", GPU, True, True),
        ("auto", GPU, False, False),
        ("auto", CPU, True, False),
    ],
)
def test_bfloat16_is_taken_where_it_is_asked_for_or_the_gpu_has_it(
    monkeypatch, precision, device, has_bfloat16, expected
):
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation: has_bfloat16)
    assert computes_in_bfloat16(precision, device) is expected


def test_a_device_of_another_kind_computes_in_float32():
    assert not computes_in_bfloat16("auto", torch.device("mps"))


@every_network
@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_a_forward_pass_is_computed_in_the_precision_and_weights_stay_float32(name, precision, dtype):
    net = make_net(name)
    with autocast(precision, CPU):
        logits = net(make_images())
    assert logits.segmentation.dtype == dtype
    assert logits.classification.dtype == dtype
    backward(net, make_images(), precision)
    kept = [*net.parameters(), *gradients(net).values(), *net.buffers()]
    assert {tensor.dtype for tensor in kept} <= {torch.float32, torch.int64}


@pytest.mark.parametrize(
    ("layer", "size", "dtype"),
    [
        (nn.Conv3d(8, 8, 3, padding=1), (2, 6, 6), torch.float32),
        (nn.Conv3d(8, 8, 3, padding=1), (6, 6, 6), torch.bfloat16),
        (nn.Conv3d(8, 8, 7, 2, padding=3), (7, 16, 16), torch.float32),
        (nn.Conv3d(8, 8, (1, 3, 3), padding=(0, 1, 1)), (2, 6, 6), torch.bfloat16),
        (nn.Conv3d(8, 8, 1), (1, 1, 1), torch.bfloat16),
        (nn.ConvTranspose3d(8, 8, (2, 3, 3), 2, (1, 1, 1)), (4, 1, 1), torch.float32),
        (nn.ConvTranspose3d(8, 8, (2, 3, 3), 2, (1, 1, 1)), (4, 4, 4), torch.bfloat16),
    ],
    ids=["shallow", "deep", "just as deep", "in the plane", "of one voxel", "transposed and small", "transposed"],
)
def test_convolutions_as_large_as_what_they_move_over_stay_out_of_autocast(layer, size, dtype):
    features = torch.rand(2, 8, *size, generator=torch.Generator().manual_seed(0))
    keep_small_convolutions_exact(layer)
    layer(features).square().sum().backward()
    expected, layer.weight.grad = layer.weight.grad, None
    with autocast("bfloat16", CPU):
        found = layer(features)
    found.float().square().sum().backward()
    assert found.dtype == dtype
    assert (layer.weight.grad - expected).norm() < 0.02 * expected.norm()


@pytest.mark.parametrize(("precision", "is_exact"), [("bfloat16", True), ("float32", False)])
def test_the_settings_keep_small_convolutions_exact_in_bfloat16(settings, precision, is_exact):
    net = prepare_training(build_model("unet", 1, 1, 2, **OPTIONS["unet"]), settings | {"precision": precision}, CPU)
    features = torch.rand(1, 4, 2, 4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        found = net.decoder[0][3](features)
    assert found.dtype == (torch.float32 if is_exact else torch.bfloat16)


# Activations.


@every_network
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_checkpointed_activations_give_the_same_gradients_and_batch_statistics(name, precision):
    plain, thrifty = make_net(name), make_net(name)
    checkpoint_activations(thrifty)
    for seed in (1, 2):
        for net in (plain, thrifty):
            backward(net, make_images(seed), precision)
    assert len(gradients(plain)) == len(list(plain.parameters()))
    assert_equal(gradients(thrifty), gradients(plain))
    assert_equal(thrifty.state_dict(), plain.state_dict())
    counters = [value.item() for key, value in thrifty.state_dict().items() if key.endswith("num_batches_tracked")]
    assert set(counters) == ({2} if name == "i3d_unet" else set())


@every_network
def test_checkpointed_stages_are_computed_again(name):
    net = make_net(name)
    calls = []
    for stage in net.stages():
        # It runs once forward, and once more where the stage is computed again.
        first = next(layer for layer in stage.modules() if isinstance(layer, NORMS))
        first.register_forward_hook(lambda layer, inputs, output: calls.append(layer))
    backward(net, make_images())
    assert len(calls) == len(net.stages())
    checkpoint_activations(net)
    backward(net, make_images())
    assert len(calls) == 3 * len(net.stages())


@every_network
def test_a_network_with_checkpointed_activations_predicts_and_is_saved_as_before(name):
    plain, thrifty = make_net(name), make_net(name)
    checkpoint_activations(thrifty)
    assert thrifty.state_dict().keys() == plain.state_dict().keys()
    with torch.inference_mode():
        expected, found = plain.eval()(make_images()), thrifty.eval()(make_images())
    assert torch.equal(found.segmentation, expected.segmentation)
    assert torch.equal(found.classification, expected.classification)


def test_checkpointed_activations_are_fewer():
    def count_kept(net: nn.Module) -> int:
        """Numbers that a forward pass of the encoder's stages keeps for the backward pass."""
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()), lambda _: None):
            net(make_images())
        return sum(kept)

    plain, thrifty = make_net("i3d_unet"), make_net("i3d_unet")
    checkpoint_activations(thrifty)
    assert count_kept(thrifty) < 0.5 * count_kept(plain)


# Frozen encoder.


@every_network
@pytest.mark.parametrize("is_checkpointed", [False, True], ids=["plain", "checkpointed"])
def test_a_frozen_encoder_stays_and_the_rest_trains(name, is_checkpointed):
    net = make_net(name)
    freeze_encoder(net)
    if is_checkpointed:
        checkpoint_activations(net)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    optimizer = torch.optim.SGD([weight for weight in net.parameters() if weight.requires_grad], 0.1)
    for seed in (1, 2):
        backward(net, make_images(seed))
        optimizer.step()
    changed = {key for key, value in net.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {key for key in before if not key.startswith("encoder.")}


# All of it by the settings.


def test_a_network_trains_all_its_weights_unless_the_settings_say_otherwise(settings):
    net = prepare_training(make_net("i3d_unet").eval(), settings, CPU)
    assert all(module.training for module in net.modules())
    assert all(weight.requires_grad for weight in net.parameters())
    stem = net.encoder.layers_dict["Conv3d_1a_7x7"].conv.weight
    assert stem.is_contiguous(memory_format=torch.channels_last_3d)


def test_the_settings_freeze_and_checkpoint(settings):
    settings |= {"freeze_encoder": True, "checkpoint_activations": True}
    net = prepare_training(make_net("i3d_unet"), settings, CPU)
    assert not any(weight.requires_grad for weight in net.encoder.parameters())
    assert not any(module.training for module in net.encoder.modules())
    assert all(weight.requires_grad for weight in net.up1.parameters())
    calls = []
    net.up1.bn.register_forward_hook(lambda layer, inputs, output: calls.append(layer))
    backward(net, make_images())
    assert len(calls) == 2


@pytest.mark.parametrize("is_compiled", [False, True])
def test_the_settings_compile(settings, monkeypatch, is_compiled):
    compiled = []
    monkeypatch.setattr(nn.Module, "compile", lambda self: compiled.append(self))
    net = prepare_training(make_net("unet"), settings | {"compile": is_compiled}, CPU)
    assert compiled == [net] * is_compiled


@pytest.mark.parametrize("is_deterministic", [False, True])
def test_the_settings_ask_for_deterministic_algorithms(settings, is_deterministic):
    prepare_training(make_net("unet"), settings | {"deterministic": is_deterministic}, CPU)
    assert torch.are_deterministic_algorithms_enabled() is is_deterministic
    assert torch.backends.cudnn.benchmark is not is_deterministic


# Memory.

WHO = "arm fedavg, site north, round 2"


@pytest.mark.parametrize(
    ("changes", "num_cases", "advice"),
    [
        ({"batch_size": 4}, 4, "set training.micro_batch_size below 4"),
        ({"batch_size": 4, "micro_batch_size": 2}, 2, "set training.micro_batch_size below 2"),
        ({"batch_size": 2, "micro_batch_size": 8}, 2, "set training.micro_batch_size below 2"),
        ({"batch_size": 4, "micro_batch_size": 1}, 1, "set training.checkpoint_activations: true"),
        ({"batch_size": 1, "checkpoint_activations": True}, 1, "lower preprocessing.grid"),
    ],
)
def test_running_out_of_memory_names_the_setting_to_change(settings, changes, num_cases, advice):
    settings |= {"micro_batch_size": None, "checkpoint_activations": False} | changes
    with pytest.raises(StudyError) as refusal, explained_memory(WHO, settings, [32, 64, 48]):
        torch.empty(1 << 50)
    expected = f"{WHO}: out of memory with {num_cases} cases of 32x64x48 voxels at once; {advice}"
    assert str(refusal.value) == expected


def test_running_out_of_memory_with_patches_speaks_of_patches(settings):
    settings |= {"batch_size": 1, "micro_batch_size": None, "checkpoint_activations": True}
    settings["patch"] = {"size": [16, 96, 96], "per_case": 2, "foreground_share": 0.5}
    with pytest.raises(StudyError) as refusal, explained_memory(WHO, settings, [32, 64, 48]):
        torch.empty(1 << 50)
    assert str(refusal.value) == (
        f"{WHO}: out of memory with 1 patches of 16x96x96 voxels at once; lower training.patch.size"
    )


@pytest.mark.parametrize(
    ("is_checkpointed", "advice"),
    [(False, "set training.checkpoint_activations: true"), (True, "lower preprocessing.grid")],
)
def test_smaller_parts_are_no_advice_where_cases_go_one_by_one(settings, is_checkpointed, advice):
    settings |= {"batch_size": 4, "micro_batch_size": None, "checkpoint_activations": is_checkpointed}
    with pytest.raises(StudyError) as refusal, explained_memory(WHO, settings, [1], one_by_one=True):
        torch.empty(1 << 50)
    assert str(refusal.value) == f"{WHO}: out of memory with 1 cases of 1 voxels at once; {advice}"


def test_running_out_of_a_gpus_memory_is_told_too(settings):
    with pytest.raises(StudyError, match="out of memory"), explained_memory(WHO, settings, [1]):
        raise torch.OutOfMemoryError("CUDA out of memory.")


def test_another_failure_keeps_its_traceback(settings):
    with pytest.raises(RuntimeError, match="invalid for input"), explained_memory(WHO, settings, [1]):
        torch.zeros(3).reshape(2)
