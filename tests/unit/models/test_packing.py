import json

import pytest
import torch
from fedpedbrain.base.errors import StudyError
from fedpedbrain.base.lineage import Lineage
from fedpedbrain.models.files import ModelFile, ModelSpec, load_model_file, load_tensors, save_model_file, save_tensors
from fedpedbrain.models.packing import pack, unpack

TENSORS = {
    "a.weight": torch.arange(6.0).view(2, 3),
    "steps": torch.tensor(7),
    "b.weight": torch.tensor([[[1.5]]]),
    "rounded": torch.tensor([1, -2], dtype=torch.int8),
    "nothing": torch.empty(0, 4),
}


def same(found, expected):
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert found[name].shape == tensor.shape
        assert torch.equal(found[name], tensor)


def test_all_tensors_of_a_dtype_lie_one_behind_the_other():
    packed = pack(TENSORS)
    assert packed["flat"]["float32"].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 1.5]
    assert packed["flat"]["int64"].tolist() == [7]
    assert json.loads(packed["layout"])[0] == ["a.weight", "float32", [2, 3]]


def test_what_was_packed_comes_back():
    same(unpack(pack(TENSORS)), TENSORS)


def test_no_tensors_come_back_as_none():
    assert unpack(pack({})) == {}


def without_last_number(packed):
    packed["flat"]["float32"] = packed["flat"]["float32"][:-1]


def without_a_dtype(packed):
    del packed["flat"]["int64"]


def with_another_shape(packed):
    packed["layout"] = packed["layout"].replace("[2, 3]", "[3, 3]")


def with_a_number_for_a_layout(packed):
    packed["layout"] = 3


def with_text_for_a_shape(packed):
    packed["layout"] = packed["layout"].replace("[2, 3]", '"23"')


def with_a_layout_that_is_cut_off(packed):
    packed["layout"] = packed["layout"][:-1]


def without_a_layout(packed):
    del packed["layout"]


@pytest.mark.parametrize(
    "damage",
    [
        without_last_number,
        without_a_dtype,
        with_another_shape,
        with_a_number_for_a_layout,
        with_text_for_a_shape,
        with_a_layout_that_is_cut_off,
        without_a_layout,
    ],
)
def test_a_packed_file_whose_layout_does_not_fit_is_refused_by_its_name(tmp_path, damage):
    path = tmp_path / "update.pth"
    spec = ModelSpec("unet", {}, ["T2w"], ["tumour"], [], {})
    model_file = ModelFile(
        spec, Lineage("update", "fedavg", 0, 1, "north", 1, 1, "", ""), TENSORS, {"control": TENSORS}
    )
    save_model_file(path, model_file, packed=True)
    found = load_model_file(path)
    same(found.weights, TENSORS)
    same(found.sent["control"], TENSORS)
    content = load_tensors(path)
    damage(content["sent"]["control"])
    save_tensors(path, content)
    with pytest.raises(StudyError, match=r"update\.pth: packed tensors do not fit their layout \(.+\); delete it"):
        load_model_file(path)
