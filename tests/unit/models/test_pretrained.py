import hashlib
import json
from pathlib import Path

import pytest
import torch
from fedpedbrain.base.errors import StudyError
from fedpedbrain.base.files import sha256_of_file
from fedpedbrain.base.lineage import Lineage
from fedpedbrain.models.architectures.i3d_unet import I3DUNet
from fedpedbrain.models.files import ModelFile, ModelSpec, load_model_file, load_tensors, save_model_file, save_tensors
from fedpedbrain.models.pretrained import (
    initialize_model_files,
    load_pretrained,
    save_reference_checkpoint,
    unused_reference_weights,
)
from torch import Tensor, nn

KEYS = Path(__file__).resolve().parents[3].parent / "shared" / "reference" / "i3d_unet_state_dict.json"
NARROW = 0.0625
LINEAGE = Lineage("global", "fedavg", 0, 3, "", 4, 8, "digest", "parent")


def make_net(num_classes: int = 5, width: float = NARROW, seed: int = 0) -> I3DUNet:
    torch.manual_seed(seed)
    return I3DUNet(1, 1, num_classes, width)


def randomised(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Other values for all weights, batch statistics and counters too."""
    generator = torch.Generator().manual_seed(9)
    return {
        key: torch.tensor(7) if key.endswith("num_batches_tracked") else torch.rand(value.shape, generator=generator)
        for key, value in weights.items()
    }


def without(weights: dict[str, Tensor], *parts: str) -> dict[str, Tensor]:
    return {key: value for key, value in weights.items() if not any(part in key for part in parts)}


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert [key for key in expected if not torch.equal(found[key], expected[key])] == []


def assert_refused(net: nn.Module, path: Path, *words: str, part: str = "all") -> None:
    """Refused by the file's name with these words, and the network is as it was."""
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with pytest.raises(StudyError) as refusal:
        load_pretrained(net, path, part)
    message = str(refusal.value)
    assert message.startswith(f"{path}: ")
    for word in words:
        assert word in message
    assert_equal(net.state_dict(), before)


@pytest.fixture
def save_net(tmp_path):
    """``save_net(name, num_classes, width)``: a network of ours with random weights, as a model file."""

    def _save_net(name: str = "ours.pth", num_classes: int = 5, width: float = NARROW) -> Path:
        spec = ModelSpec("i3d_unet", {"width": width}, ["T2w"], ["whole_tumour"], ["class"] * num_classes, {})
        save_model_file(tmp_path / name, ModelFile(spec, LINEAGE, randomised(spec.build().state_dict())))
        return tmp_path / name

    return _save_net


# Our own files.


@pytest.mark.parametrize("name", ["unet", "i3d_unet"])
def test_a_model_file_sets_all_weights(tmp_path, spec, name):
    spec = spec | ({} if name == "unet" else {"name": name, "options": {"width": NARROW}})
    weights = randomised(ModelSpec(**spec).build().state_dict())
    save_model_file(tmp_path / "model.pth", ModelFile(ModelSpec(**spec), LINEAGE, weights))
    net = ModelSpec(**spec).build()
    done = load_pretrained(net, tmp_path / "model.pth")
    assert_equal(net.state_dict(), weights)
    assert (done.kind, done.loaded, done.unused) == ("model file", sorted(weights), [])


def test_the_encoder_alone_of_a_model_file_leaves_the_other_layers(save_net):
    path = save_net(num_classes=2)
    net = make_net(num_classes=5)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    done = load_pretrained(net, path, "encoder")
    weights = load_model_file(path).weights
    expected = {key: weights[key] if key.startswith("encoder.") else value for key, value in before.items()}
    assert_equal(net.state_dict(), expected)
    assert done.loaded == sorted(key for key in before if key.startswith("encoder."))
    assert done.unused == sorted(key for key in weights if not key.startswith("encoder."))


def test_a_model_file_of_a_later_format_is_refused_with_both_formats(save_net):
    path = save_net()
    save_tensors(path, load_tensors(path) | {"format": 2})
    assert_refused(make_net(), path, "format 2, this version reads 1")


# What is refused, alike for every kind of file.


def test_another_number_of_classes_is_refused_with_both_shapes(save_net):
    assert_refused(
        make_net(num_classes=5),
        save_net(num_classes=2),
        "model file",
        "2 of 300 keys of another shape",
        "classifier.5.weight (expected (5, 8), found (2, 8))",
        "load the encoder alone",
    )


@pytest.mark.parametrize("part", ["all", "encoder"])
def test_another_width_is_refused_with_the_first_shapes(save_net, part):
    words = "encoder.layers_dict.Conv3d_1a_7x7.conv.weight (expected (4, 3, 7, 7, 7), found (8, 3, 7, 7, 7))"
    assert_refused(make_net(), save_net(width=2 * NARROW), "of another shape: ", words, ", ...);", part=part)


def test_missing_keys_are_refused_with_their_number_and_the_first_three(tmp_path):
    weights = without(make_net().state_dict(), "up1.")
    save_tensors(tmp_path / "reference.pth", {"model_state_dict": weights})
    # Of the six the counter may be missing.
    words = "5 of 300 keys missing: up1.conv_transpose.weight, up1.bn.weight, up1.bn.bias, ...)"
    assert_refused(make_net(), tmp_path / "reference.pth", "reference checkpoint", words)


def test_unknown_keys_are_refused_with_their_number_and_names(tmp_path):
    weights = make_net().state_dict() | {"up9.bias": torch.zeros(3), "up9.weight": torch.zeros(3)}
    save_tensors(tmp_path / "reference.pth", {"model_state_dict": weights})
    assert_refused(make_net(), tmp_path / "reference.pth", "2 of 300 keys unknown: up9.bias, up9.weight)")


def test_all_kinds_of_differences_are_told_at_once(tmp_path):
    weights = without(make_net(num_classes=2).state_dict(), "final_conv.bias") | {"more": torch.zeros(1)}
    save_tensors(tmp_path / "reference.pth", {"model_state_dict": weights})
    words = ("1 of 300 keys missing: final_conv.bias", "1 of 300 keys unknown: more", "2 of 300 keys of another shape")
    assert_refused(make_net(), tmp_path / "reference.pth", *words)


def test_weights_of_another_network_are_refused(save_net, spec):
    net = ModelSpec(**spec).build()
    assert_refused(net, save_net(), "keys missing: encoder.0.0.weight", "keys unknown: encoder.layers_dict")


@pytest.mark.parametrize(
    "content",
    [
        {"epoch": 3},
        [1, 2],
        torch.zeros(3),
        {},
        {"model_state_dict": [1, 2]},
        {"model_state_dict": {"up1.bn.bias": 1.0}},
    ],
    ids=["other keys", "list", "tensor", "nothing", "list of weights", "number for a tensor"],
)
def test_a_file_of_no_known_kind_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "other.pth")
    assert_refused(make_net(), tmp_path / "other.pth")


def test_a_file_that_is_not_there_is_refused(tmp_path):
    assert_refused(make_net(), tmp_path / "nothing.pth", "no such model file")


# Checkpoints of the reference.


@pytest.fixture(scope="module")
def reference_weights() -> dict[str, Tensor]:
    """A state dict of the reference with random values: 374 keys at full width."""
    return randomised(make_net(width=1.0).state_dict() | unused_reference_weights())


@pytest.fixture(scope="module")
def reference_path(tmp_path_factory, reference_weights) -> Path:
    """The file of these weights as the reference writes it."""
    path = tmp_path_factory.mktemp("reference") / "ckpt.pth"
    torch.save({"model_state_dict": reference_weights}, path)
    return path


@pytest.fixture(scope="module")
def full_net() -> I3DUNet:
    """A network of the reference's width, without weights of its own."""
    with torch.device("meta"):
        net = I3DUNet(1, 1, 5)
    return net.to_empty(device="cpu")


@pytest.fixture
def zeroed_net(full_net) -> I3DUNet:
    """The same with all weights and statistics 0."""
    for value in full_net.state_dict().values():
        value.zero_()
    return full_net


def test_keys_shapes_and_types_are_the_references():
    if not KEYS.exists():
        pytest.skip(f"{KEYS} is absent: the reference's facts are not part of the repository")
    entries = {entry["key"]: (tuple(entry["shape"]), entry["dtype"]) for entry in json.loads(KEYS.read_text())}
    with torch.device("meta"):
        ours = I3DUNet(1, 1, 5).state_dict()
    written = ours | unused_reference_weights()
    assert {key: (tuple(value.shape), str(value.dtype)[len("torch.") :]) for key, value in written.items()} == entries


def test_a_reference_checkpoint_sets_all_weights_and_says_which_it_left_out(
    zeroed_net, reference_path, reference_weights
):
    done = load_pretrained(zeroed_net, reference_path)
    unused = {key for key in reference_weights if key.startswith(("encoder.logits.", "encoder.layers_dict.Mixed_5"))}
    assert len(reference_weights) == 374
    assert_equal(zeroed_net.state_dict(), {key: reference_weights[key] for key in reference_weights.keys() - unused})
    assert (done.kind, done.unused) == ("reference checkpoint", sorted(unused))
    assert len(done.loaded) + len(done.unused) == 374


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("is_bare", [True, False], ids=["bare", "with an epoch"])
def test_a_checkpoint_may_be_bare_or_saved_from_several_gpus(tmp_path, prefix, is_bare):
    weights = randomised(make_net().state_dict())
    content = {f"{prefix}{key}": value for key, value in weights.items()}
    torch.save(content if is_bare else {"epoch": 3, "model_state_dict": content}, tmp_path / "ckpt.pth")
    net = make_net()
    assert load_pretrained(net, tmp_path / "ckpt.pth").kind == "reference checkpoint"
    assert_equal(net.state_dict(), weights)


def test_a_checkpoint_in_the_form_before_pytorch_1_6_is_read(tmp_path):
    weights = randomised(make_net().state_dict())
    torch.save({"model_state_dict": weights}, tmp_path / "ckpt.pth", _use_new_zipfile_serialization=False)
    net = make_net()
    load_pretrained(net, tmp_path / "ckpt.pth")
    assert_equal(net.state_dict(), weights)


def test_the_encoder_alone_of_a_checkpoint_with_other_classes(tmp_path):
    weights = randomised(make_net(num_classes=3).state_dict())
    save_tensors(tmp_path / "ckpt.pth", {"model_state_dict": weights})
    net = make_net(num_classes=5)
    head = net.classifier[-1].weight.clone()
    load_pretrained(net, tmp_path / "ckpt.pth", "encoder")
    found = net.state_dict()
    assert_equal(without(found, "up", "final", "classifier"), without(weights, "up", "final", "classifier"))
    assert torch.equal(net.classifier[-1].weight, head)


def test_an_unused_layer_of_another_shape_is_refused(tmp_path):
    weights = make_net().state_dict() | {"encoder.logits.weight": torch.zeros(157, 1024, 1, 1, 1)}
    save_tensors(tmp_path / "ckpt.pth", {"model_state_dict": weights})
    assert_refused(make_net(), tmp_path / "ckpt.pth", "1 of 300 keys unknown: encoder.logits.weight")


# Kinetics weights of the I3D encoder.

I3D_NAMES = {
    "branch0": "b0",
    "branch1.0": "b1a",
    "branch1.1": "b1b",
    "branch2.0": "b2a",
    "branch2.1": "b2b",
    "branch3.1": "b3b",
}


def as_published(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Encoder weights under the names that ``rgb_imagenet.pt`` has, without counters, as it was saved."""
    published = {}
    for key, value in without(weights, "num_batches_tracked").items():
        if not key.startswith("encoder."):
            continue
        key = key.removeprefix("encoder.layers_dict.").replace("encoder.logits.", "logits.conv3d.")
        for ours, theirs in I3D_NAMES.items():
            key = key.replace(f".{ours}.", f".{theirs}.")
        published[key.replace(".conv.", ".conv3d.")] = value
    return published


def test_a_published_name_becomes_ours():
    net = make_net()
    ours = set(as_published(net.state_dict()))
    assert {"Conv3d_1a_7x7.conv3d.weight", "Mixed_3b.b1a.bn.running_mean", "Mixed_4f.b3b.conv3d.weight"} <= ours


def test_the_published_encoder_is_read_from_its_old_file(tmp_path, zeroed_net, reference_weights):
    published = as_published(reference_weights)
    assert {"logits.conv3d.bias", "Mixed_5c.b2b.conv3d.weight"} < published.keys()
    torch.save(published, tmp_path / "rgb_imagenet.pt", _use_new_zipfile_serialization=False)
    done = load_pretrained(zeroed_net, tmp_path / "rgb_imagenet.pt")
    assert done.kind == "I3D encoder"
    for key, value in zeroed_net.state_dict().items():
        if key.startswith("encoder.") and not key.endswith("num_batches_tracked"):
            assert torch.equal(value, reference_weights[key]), key
        else:
            assert not value.any(), key
    assert "encoder.layers_dict.Mixed_5b.branch0.conv.weight" in done.unused
    assert "encoder.logits.bias" in done.unused


def test_the_published_encoder_may_tell_other_actions_apart(tmp_path):
    published = as_published(randomised(make_net().state_dict())) | {"logits.conv3d.bias": torch.zeros(157)}
    save_tensors(tmp_path / "rgb_charades.pt", published)
    assert load_pretrained(make_net(), tmp_path / "rgb_charades.pt").unused == ["encoder.logits.bias"]


@pytest.mark.parametrize("part", ["all", "encoder"])
def test_a_published_encoder_without_a_layer_is_refused(tmp_path, part):
    save_tensors(tmp_path / "rgb_imagenet.pt", without(as_published(make_net().state_dict()), "Mixed_4c.b2a.conv3d"))
    words = "keys missing: encoder.layers_dict.Mixed_4c.branch2.0.conv.weight)"
    assert_refused(make_net(), tmp_path / "rgb_imagenet.pt", "I3D encoder", words, part=part)


# Writing checkpoints for the reference.


@pytest.fixture(scope="module")
def ours_path(tmp_path_factory, reference_weights) -> Path:
    """A model file of ours at the reference's width."""
    path = tmp_path_factory.mktemp("ours") / "ours.pth"
    spec = ModelSpec("i3d_unet", {"width": 1.0, "dropout": 0.5}, ["T2w"], ["whole_tumour"], ["class"] * 5, {})
    weights = {key: value for key, value in reference_weights.items() if key not in unused_reference_weights()}
    save_model_file(path, ModelFile(spec, LINEAGE, weights))
    return path


def test_ours_to_the_reference_and_back_is_exact(tmp_path, ours_path, zeroed_net):
    save_reference_checkpoint(ours_path, tmp_path / "ckpt.pth")
    written = load_tensors(tmp_path / "ckpt.pth")["model_state_dict"]
    assert len(written) == 374
    # What the reference does not use is no noise.
    assert not written["encoder.layers_dict.Mixed_5b.branch0.conv.weight"].any()
    assert not written["encoder.logits.weight"].any()
    assert not written["encoder.logits.bias"].any()
    assert (written["encoder.layers_dict.Mixed_5c.branch1.1.bn.running_var"] == 1.0).all()
    load_pretrained(zeroed_net, tmp_path / "ckpt.pth")
    assert_equal(zeroed_net.state_dict(), load_model_file(ours_path).weights)


@pytest.mark.parametrize("has_counters", [True, False], ids=["counters", "saved before PyTorch 0.4.1"])
def test_the_reference_to_ours_and_back_is_exact(tmp_path, ours_path, reference_path, reference_weights, has_counters):
    if not has_counters:
        reference_path = tmp_path / "old.pth"
        torch.save(without(reference_weights, "num_batches_tracked"), reference_path)
    save_reference_checkpoint(ours_path, tmp_path / "ckpt.pth", unused_from=reference_path)
    found = load_tensors(tmp_path / "ckpt.pth")["model_state_dict"]
    assert len(found) == 374
    if not has_counters:
        found, reference_weights = (without(each, "num_batches_tracked") for each in (found, reference_weights))
    assert_equal(found, reference_weights)


def test_a_file_without_the_unused_layers_gives_none(tmp_path, ours_path):
    save_tensors(tmp_path / "narrow.pth", {"model_state_dict": make_net().state_dict()})
    with pytest.raises(StudyError, match=r"narrow\.pth: not a reference checkpoint \(62 of 74 keys missing: encoder\."):
        save_reference_checkpoint(ours_path, tmp_path / "ckpt.pth", unused_from=tmp_path / "narrow.pth")
    assert not (tmp_path / "ckpt.pth").exists()


def test_another_network_is_no_checkpoint_of_the_reference(tmp_path, save_net, write_constant_model):
    for path in (save_net(), write_constant_model(tmp_path / "unet.pth")):
        with pytest.raises(
            StudyError, match=rf"{path.name}: expected network, width .* \('i3d_unet', 1\.0, 1, 1, 5\), found"
        ):
            save_reference_checkpoint(path, tmp_path / "ckpt.pth")
    assert not (tmp_path / "ckpt.pth").exists()


# The start of all arms.

FIVE_CLASSES = {
    "name": "i3d_unet",
    "options": {"width": NARROW},
    "channels": ["T2w"],
    "regions": ["whole_tumour"],
    "classes": list("abcde"),
    "preprocessing": {},
}


def test_all_arms_start_from_the_pretrained_weights(tmp_path, save_net):
    path = save_net()
    pretrained = {"sha256": sha256_of_file(path), "part": "all"}
    initialize_model_files(tmp_path / "start.pth", FIVE_CLASSES, 5, 7, path, pretrained)
    start = load_model_file(tmp_path / "start.pth")
    assert_equal(start.weights, load_model_file(path).weights)
    assert (start.lineage.kind, start.lineage.seed, start.lineage.round) == ("initial", 5, 0)
    assert start.lineage.parent_sha256 == sha256_of_file(path)


def test_layers_that_are_not_pretrained_are_drawn_as_without(tmp_path, save_net):
    initialize_model_files(tmp_path / "drawn.pth", FIVE_CLASSES, 0, 7, None, {})
    pretrained = {"sha256": None, "part": "encoder"}
    initialize_model_files(tmp_path / "start.pth", FIVE_CLASSES, 0, 7, save_net(num_classes=2), pretrained)
    drawn, start = (load_model_file(tmp_path / name).weights for name in ("drawn.pth", "start.pth"))
    assert_equal(without(start, "encoder."), without(drawn, "encoder."))
    assert not torch.equal(*(each["encoder.layers_dict.Conv3d_2b_1x1.conv.weight"] for each in (start, drawn)))


def test_a_pretrained_file_of_another_digest_starts_nothing(tmp_path, save_net):
    path = save_net()
    pretrained = {"sha256": hashlib.sha256(b"").hexdigest(), "part": "all"}
    with pytest.raises(StudyError, match=rf"ours\.pth: expected SHA-256 {pretrained['sha256']}, found "):
        initialize_model_files(tmp_path / "start.pth", FIVE_CLASSES, 0, 7, path, pretrained)
    assert not (tmp_path / "start.pth").exists()
