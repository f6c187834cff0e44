"""Checkpoints made elsewhere become model files, or are refused in one line."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fedpedbrain.base.errors import StudyError
from fedpedbrain.base.files import sha256_of_file
from fedpedbrain.base.lineage import Lineage, digest_of
from fedpedbrain.inference.trained_model import load_trained_model
from fedpedbrain.models.architectures.i3d_unet import I3DUNet
from fedpedbrain.models.files import ModelFile, ModelSpec, load_model_file, save_model_file
from fedpedbrain.models.imported import describe_network, import_model_files
from fedpedbrain.models.pretrained import unused_reference_weights
from parity_fixture import fixture_tensor, reference_path
from torch import Tensor

SMALL_GRID = [8, 32, 32]


@pytest.fixture
def published_spec(spec) -> dict:
    """The config's word for the published network: only its name and options are other than the published ones."""
    return spec | {
        "classes": ["normal", "ependymoma", "DIPG", "medulloblastoma", "pilocytic_astrocytoma"],
        "preprocessing": spec["preprocessing"] | {"grid": SMALL_GRID},
    }


@pytest.fixture
def narrow_spec(published_spec) -> dict:
    """A network of the published layout and a sixteenth of its width."""
    return published_spec | {"name": "i3d_unet", "options": {"width": 0.0625, "dropout": 0.5}}


@pytest.fixture
def weights(spec) -> dict[str, Tensor]:
    """A state dict of the network of two stages."""
    torch.manual_seed(0)
    return ModelSpec(**spec).build().state_dict()


@pytest.fixture(scope="module")
def parity_weights() -> dict[str, Tensor]:
    """All 374 tensors of the parity fixture."""
    reference_path("i3d_unet_parity.npz")
    with torch.device("meta"):
        shapes = I3DUNet(1, 1, 5).state_dict()
    shapes |= unused_reference_weights()
    return {key: fixture_tensor(key, tuple(tensor.shape)) for key, tensor in shapes.items()}


def import_into(folder: Path, content: object, spec: dict, **options) -> Path:
    torch.save(content, folder / "ckpt.pth")
    import_model_files(folder / "ckpt.pth", folder / "model.pth", spec, "ckpt.pth", **options)
    return folder / "model.pth"


def assert_refused(folder: Path, content: object, spec: dict, *words: str, **options) -> None:
    with pytest.raises(StudyError) as refusal:
        import_into(folder, content, spec, **options)
    message = str(refusal.value)
    assert message.startswith(f"{folder / 'ckpt.pth'}: ")
    assert len(message.splitlines()) == 1
    for word in words:
        assert word in message
    assert not (folder / "model.pth").exists()


# What becomes of a checkpoint.


@pytest.mark.parametrize("is_bare", [True, False], ids=["bare", "with an epoch"])
def test_the_published_checkpoint_gives_the_references_logits(tmp_path, published_spec, parity_weights, is_bare):
    fixture = np.load(reference_path("i3d_unet_parity.npz"))
    assert len(parity_weights) == 374
    content = {f"module.{key}": value for key, value in parity_weights.items()}
    path = import_into(tmp_path, content if is_bare else {"epoch": 3, "model_state_dict": content}, published_spec)
    net = load_trained_model(path).to_model().eval()
    images = torch.from_numpy(np.random.RandomState(0).rand(1, 1, 32, 64, 64).astype(np.float32))
    with torch.inference_mode():
        logits = net(images)
    np.testing.assert_allclose(logits.segmentation.numpy(), fixture["seg_logits"], rtol=0, atol=2e-5)
    np.testing.assert_allclose(logits.classification.numpy(), fixture["class_logits"], rtol=0, atol=2e-5)


@pytest.mark.parametrize(("name", "dropout"), [("unet", 0.5), ("i3d_unet", 0.25)])
def test_the_published_network_is_known_by_its_keys_whatever_network_the_config_names(published_spec, name, dropout):
    options = {"width": 0.0625, "dropout": dropout} if name == "i3d_unet" else published_spec["options"]
    of_config = ModelSpec(**published_spec | {"name": name, "options": options})
    stem = {"encoder.layers_dict.Conv3d_1a_7x7.conv.weight": torch.zeros(64, 3, 7, 7, 7)}
    found = describe_network(of_config, "reference checkpoint", stem)
    assert found == replace(of_config, name="i3d_unet", options={"width": 1.0, "dropout": dropout})


def test_a_network_of_another_width_is_the_configs(tmp_path, narrow_spec):
    net = ModelSpec(**narrow_spec).build()
    assert load_model_file(import_into(tmp_path, net.state_dict(), narrow_spec)).spec == ModelSpec(**narrow_spec)


@pytest.mark.parametrize("is_bare", [True, False], ids=["bare", "with an epoch"])
def test_a_state_dict_of_a_network_of_ours_is_imported_as_it_is(tmp_path, spec, weights, is_bare):
    path = import_into(tmp_path, weights if is_bare else {"epoch": 3, "model_state_dict": weights}, spec)
    found = load_trained_model(path)
    assert found.spec == ModelSpec(**spec)
    assert found.weights.keys() == weights.keys()
    assert not [key for key in weights if not torch.equal(found.weights[key], weights[key])]


def test_the_lineage_says_where_a_model_comes_from_and_that_nobody_knows_how_it_was_trained(tmp_path, spec, weights):
    lineage = load_model_file(import_into(tmp_path, weights, spec)).lineage
    sha256 = sha256_of_file(tmp_path / "ckpt.pth")
    assert lineage == Lineage("imported", "", 0, 0, "", 0, 0, digest_of(spec), sha256, source="ckpt.pth")
    assert lineage.origin == f"imported from ckpt.pth, SHA-256 {sha256}; how it was trained is not known"


def test_a_checkpoint_of_the_expected_digest_is_imported(tmp_path, spec, weights):
    torch.save(weights, tmp_path / "ckpt.pth")
    sha256 = sha256_of_file(tmp_path / "ckpt.pth").upper()
    assert import_into(tmp_path, weights, spec, sha256=sha256).exists()


# What is refused.


def test_another_digest_is_refused_with_both(tmp_path, spec, weights):
    assert_refused(tmp_path, weights, spec, f"expected SHA-256 {'0' * 64}, found ", sha256="0" * 64)


def test_missing_keys_and_other_shapes_are_refused_by_name(tmp_path, spec, weights):
    words = "keys missing: segmentation_head.bias"
    del weights["segmentation_head.bias"]
    assert_refused(tmp_path, weights, spec, "this state dict does not fit the network", words)
    words = "keys of another shape: encoder.0.0.weight (expected (4, 1, 3, 3, 3), found (2,))"
    assert_refused(tmp_path, weights | {"encoder.0.0.weight": torch.zeros(2)}, spec, words)


def test_another_number_of_classes_than_the_config_names_is_refused(tmp_path, published_spec):
    words = "classifier.5.weight (expected (4, 128), found (5, 128))"
    classes = published_spec["classes"][1:]
    assert_refused(tmp_path, I3DUNet(1, 1, 5).state_dict(), published_spec | {"classes": classes}, words)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_no_numbers_are_refused_by_name(tmp_path, spec, weights, value):
    weights["segmentation_head.bias"] = torch.tensor([value])
    assert_refused(tmp_path, weights, spec, "segmentation_head.bias holds NaN or infinite values")


def test_a_grid_too_small_for_the_published_network_is_refused(tmp_path, published_spec, spec):
    small = published_spec | {"preprocessing": spec["preprocessing"]}
    words = "i3d_unet needs a preprocessing.grid of at least [8, 17, 17], found [4, 8, 8]"
    assert_refused(tmp_path, I3DUNet(1, 1, 5).state_dict(), small, words)


def test_a_patch_too_small_for_the_published_network_is_refused(tmp_path, published_spec, spec):
    preprocessing = spec["preprocessing"] | {"grid": None, "voxel_spacing_mm": "native"}
    small = published_spec | {"preprocessing": preprocessing, "patch": [4, 8, 8]}
    words = "i3d_unet needs a training.patch.size of at least [8, 17, 17], found [4, 8, 8]"
    assert_refused(tmp_path, I3DUNet(1, 1, 5).state_dict(), small, words)


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [1], {1: torch.zeros(1)}, {"model_state_dict": {"a": 1.0}}])
def test_what_is_no_state_dict_is_refused(tmp_path, spec, content):
    assert_refused(tmp_path, content, spec, "expected one of model file, reference checkpoint, ")


def test_more_than_tensors_is_refused(tmp_path, spec, weights):
    assert_refused(
        tmp_path, weights | {"path": Path("a")}, spec, "holds more than tensors", "save its state dict alone"
    )


def test_a_file_that_is_not_there_is_refused(tmp_path, spec):
    with pytest.raises(StudyError, match=r"none\.pth: no such model file"):
        import_model_files(tmp_path / "none.pth", tmp_path / "model.pth", spec, "none.pth")


def test_a_model_file_is_none_since_its_own_lineage_would_be_lost(tmp_path, spec, weights):
    lineage = Lineage("global", "fedavg", 0, 3, "", 4, 8, "digest", "parent")
    save_model_file(tmp_path / "best.pth", ModelFile(ModelSpec(**spec), lineage, weights))
    with pytest.raises(StudyError, match=r"best\.pth: a model file already; use it as it is"):
        import_model_files(tmp_path / "best.pth", tmp_path / "model.pth", spec, "best.pth")


def test_an_encoder_alone_is_no_network(tmp_path, spec):
    assert_refused(tmp_path, {"Conv3d_1a_7x7.conv3d.weight": torch.zeros(1)}, spec, "an encoder alone")


# Files of before.


def test_a_model_file_without_a_source_is_written_and_read_as_before(tmp_path, spec, weights):
    lineage = Lineage("global", "fedavg", 0, 3, "", 4, 8, "digest", "parent")
    save_model_file(tmp_path / "best.pth", ModelFile(ModelSpec(**spec), lineage, weights))
    content = torch.load(tmp_path / "best.pth", weights_only=True)
    names = {"kind", "arm", "seed", "round", "site", "num_cases", "num_steps", "settings_digest", "parent_sha256"}
    assert content["lineage"].keys() == names | {"cases_sha256", "updates"}
    assert load_trained_model(tmp_path / "best.pth").lineage == lineage
    assert lineage.origin == ""


def test_an_imported_file_is_read_and_written_again_with_the_same_bytes(tmp_path, spec, weights):
    path = import_into(tmp_path, weights, spec)
    save_model_file(tmp_path / "again.pth", replace(load_model_file(path)))
    assert (tmp_path / "again.pth").read_bytes() == path.read_bytes()
