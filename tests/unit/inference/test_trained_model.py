from dataclasses import replace

import pytest
import torch
from fedpedbrain.base.errors import StudyError
from fedpedbrain.inference.trained_model import check_channels, load_trained_model
from fedpedbrain.models.files import load_model_file, save_model_file


@pytest.fixture
def model(tmp_path, write_constant_model):
    return write_constant_model(tmp_path / "best.pth", regions=["whole_tumour"], class_name="dipg")


def rewrite(path, **changes) -> None:
    save_model_file(path, replace(load_model_file(path), **changes))


def assert_refused(path, match: str) -> None:
    with pytest.raises(StudyError, match=match) as refusal:
        load_trained_model(path)
    assert len(str(refusal.value).splitlines()) == 1
    assert str(path) in str(refusal.value)


@pytest.mark.parametrize("kind", ["global", "personal", "imported"])
def test_trained_models_are_taken(model, kind):
    rewrite(model, lineage=replace(load_model_file(model).lineage, kind=kind))
    assert load_trained_model(model).lineage.kind == kind


@pytest.mark.parametrize(
    ("kind", "match"),
    [("initial", "nothing trained"), ("update", "what one site sent"), ("missing", "sent nothing"), ("x", "kind 'x'")],
)
def test_what_is_untrained_or_no_whole_model_is_refused(model, kind, match):
    rewrite(model, lineage=replace(load_model_file(model).lineage, kind=kind))
    assert_refused(model, match)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    assert_refused(tmp_path / "none.pth", "no such model file")


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "notes.pth").write_text("no weights")
    assert_refused(tmp_path / "notes.pth", "not a readable model file|more than tensors")
    torch.save({"model_state_dict": {}}, tmp_path / "other.pth")
    assert_refused(tmp_path / "other.pth", "expected the entries format, lineage, model, weights, found.*import_model")


@pytest.mark.parametrize("name", ["../../whole_tumour", "", 1])
def test_a_region_that_can_name_no_file_is_refused(model, name):
    rewrite(model, spec=replace(load_model_file(model).spec, regions=[name]))
    assert_refused(model, f"has a region {name!r}, expected letters")


def test_weights_of_another_network_are_refused_with_the_first_that_differs(model):
    model_file = load_model_file(model)
    options = model_file.spec.options | {"channels": [4, 8]}
    rewrite(model, spec=replace(model_file.spec, options=options))
    assert_refused(model, r"do not fit unet: .* expected shape \(.*\), found shape \(.*\) \(and \d+ more\)")


def test_missing_weights_are_refused_by_name(model):
    weights = dict(load_model_file(model).weights)
    del weights["segmentation_head.bias"]
    rewrite(model, weights=weights)
    assert_refused(model, r"segmentation_head\.bias expected shape \(1,\), found nothing")


def test_a_network_that_nobody_knows_is_refused(model):
    rewrite(model, spec=replace(load_model_file(model).spec, name="unknown"))
    assert_refused(model, "no network can be built")


def test_nan_in_the_weights_is_refused(model):
    weights = dict(load_model_file(model).weights)
    weights["segmentation_head.bias"] = torch.tensor([float("nan")])
    rewrite(model, weights=weights)
    assert_refused(model, r"segmentation_head\.bias holds NaN")


def test_a_scan_of_another_number_of_channels_is_refused(model):
    with pytest.raises(StudyError, match=r"a\.nii, b\.nii: .* needs 1 channel\(s\) \(T2w\), found 2; give one file"):
        check_channels(model, load_trained_model(model), ["a.nii", "b.nii"])
    check_channels(model, load_trained_model(model), ["a.nii"])
