import ast
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import fedpedbrain
import pytest
import torch
from fedpedbrain.base.errors import StudyError
from fedpedbrain.base.files import sha256_of_file
from fedpedbrain.base.lineage import AveragedUpdate, Lineage
from fedpedbrain.models.files import (
    ModelFile,
    ModelSpec,
    load_model_file,
    load_tensors,
    save_model_file,
    save_tensors,
    sha256_of_model,
)
from fedpedbrain.models.pretrained import initialize_model_files

UPDATES = (AveragedUpdate("north", "aa", 0.25), AveragedUpdate("south", "bb", 0.75))
LINEAGE = Lineage("global", "fedavg", 1, 3, "", 40, 160, "digest", "parent", "", UPDATES)


class Intruder:
    """A pickled object that makes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture
def model_file(spec) -> ModelFile:
    torch.manual_seed(0)
    model_spec = ModelSpec(**spec)
    return ModelFile(model_spec, LINEAGE, model_spec.build().state_dict())


@pytest.fixture
def path(tmp_path, model_file) -> Path:
    """A written model file."""
    save_model_file(tmp_path / "model.pth", model_file)
    return tmp_path / "model.pth"


def test_a_model_file_reads_as_it_was_written(path, model_file):
    found = load_model_file(path)
    assert found.spec == model_file.spec
    assert found.lineage == LINEAGE
    assert list(found.weights) == list(model_file.weights)
    for name, tensor in model_file.weights.items():
        assert torch.equal(found.weights[name], tensor), name


def test_a_file_of_before_organs_were_config_has_todays_word(tmp_path, model_file):
    before = model_file.spec.preprocessing | {"field_of_view": "head"}
    save_model_file(tmp_path / "old.pth", replace(model_file, spec=replace(model_file.spec, preprocessing=before)))
    found = load_model_file(tmp_path / "old.pth").spec
    assert found == replace(model_file.spec, preprocessing=before | {"field_of_view": "foreground"})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8])
def test_tensors_of_every_type_survive_bit_for_bit(tmp_path, spec, dtype):
    tensor = torch.tensor([0, 1, 3, 200]).to(dtype)
    save_model_file(tmp_path / "model.pth", ModelFile(ModelSpec(**spec), LINEAGE, {"weight": tensor}))
    found = load_model_file(tmp_path / "model.pth").weights["weight"]
    assert found.dtype == dtype
    assert torch.equal(found, tensor)


def test_a_read_model_predicts_as_the_written_one(path, model_file):
    images = torch.rand(1, 1, 4, 8, 8)
    with torch.inference_mode():
        expected, found = model_file.to_model().eval()(images), load_model_file(path).to_model().eval()(images)
    assert torch.equal(found.segmentation, expected.segmentation)
    assert torch.equal(found.classification, expected.classification)


def test_equal_content_gives_equal_bytes_whatever_the_files_name(tmp_path, path, model_file):
    save_model_file(tmp_path / "deep" / "round-003" / "global.pth", model_file)
    assert (tmp_path / "deep" / "round-003" / "global.pth").read_bytes() == path.read_bytes()


def test_a_file_that_is_read_and_written_again_has_the_same_bytes(tmp_path, path):
    save_model_file(tmp_path / "again.pth", load_model_file(path))
    assert (tmp_path / "again.pth").read_bytes() == path.read_bytes()


def test_a_tensor_that_is_part_of_a_larger_one_is_saved_alone(tmp_path, spec, path):
    large = torch.zeros(1_000_000)
    save_model_file(tmp_path / "small.pth", ModelFile(ModelSpec(**spec), LINEAGE, {"weight": large[:10]}))
    assert (tmp_path / "small.pth").stat().st_size < 100_000


def test_a_pickle_with_code_is_refused_without_running_it(tmp_path):
    intruder = Intruder(tmp_path / "intruded")
    torch.save({"format": 1, "model": {}, "lineage": {}, "weights": intruder}, tmp_path / "zipped.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(intruder, protocol=2))
    for name in ("zipped.pth", "plain.pth"):
        with pytest.raises(StudyError, match=f"{name}: "):
            load_model_file(tmp_path / name)
    assert not (tmp_path / "intruded").exists()


def test_the_intruder_would_have_run_elsewhere(tmp_path):
    pickle.loads(pickle.dumps(Intruder(tmp_path / "intruded")))
    assert (tmp_path / "intruded").exists()


def test_every_torch_load_of_the_package_reads_weights_only():
    calls = [
        (path, node)
        for path in Path(fedpedbrain.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load"
    ]
    assert calls
    for path, node in calls:
        options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        assert options.get("weights_only") == "True", f"{path}:{node.lineno}"


def test_no_module_of_the_package_unpickles():
    for path in Path(fedpedbrain.__file__).parent.rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        assert "pickle.load" not in source, path
        assert "allow_pickle=True" not in source, path


def test_a_missing_file_is_refused_by_name(tmp_path):
    with pytest.raises(StudyError, match=r"nothing\.pth: no such model file"):
        load_model_file(tmp_path / "nothing.pth")


@pytest.mark.parametrize("kept", [0, 4, 64, 1000, -1000, -1])
def test_a_truncated_file_is_refused_by_name(path, kept):
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(StudyError, match=r"model\.pth: "):
        load_model_file(path)


@pytest.mark.parametrize(
    "content",
    [b"hello world", b"\x80\x02}q\x00.", bytes(range(256)) * 8, b"\x89HDF\r\n\x1a\n" + bytes(100)],
    ids=["text", "pickled dict", "all bytes", "HDF5"],
)
def test_a_file_of_another_kind_is_refused_by_name(path, content):
    path.write_bytes(content)
    with pytest.raises(StudyError, match=r"model\.pth: "):
        load_model_file(path)


def read_or_refuse(path: Path) -> ModelFile | None:
    """The model file, or None where it is refused by its name; any other failure is the test's."""
    try:
        return load_model_file(path)
    except StudyError as error:
        return None if f"{path.name}: " in str(error) else pytest.fail(str(error))


@pytest.mark.parametrize("place", [100, 393, 686, 979, 1565, 1858, 2444, -3000, -300, -40])
def test_a_damaged_file_is_refused_by_name_or_reads_as_it_was(path, model_file, place):
    content = bytearray(path.read_bytes())
    place %= len(content)
    content[place : place + 40] = b"\xff" * 40
    path.write_bytes(content)
    found = read_or_refuse(path)
    if found is not None:
        assert found.lineage == LINEAGE
        assert all(torch.equal(found.weights[name], tensor) for name, tensor in model_file.weights.items())


def test_damaged_weights_are_refused(path, model_file):
    tensor = next(iter(model_file.weights.values()))
    content = path.read_bytes()
    stored = tensor.numpy().tobytes()
    assert content.count(stored) == 1
    path.write_bytes(content.replace(stored, bytes(len(stored))))
    with pytest.raises(StudyError, match=r"model\.pth: "):
        load_model_file(path)


def test_a_state_dict_alone_is_refused_with_what_was_expected(path, model_file):
    save_tensors(path, model_file.weights)
    with pytest.raises(StudyError, match=r"model\.pth: expected the entries format, lineage, model, weights, found: "):
        load_model_file(path)


def test_an_entry_too_many_is_refused(path):
    save_tensors(path, load_tensors(path) | {"optimizer": {}})
    with pytest.raises(StudyError, match=r"model\.pth: expected the entries .* found: .*optimizer"):
        load_model_file(path)


def test_a_file_that_is_no_dict_is_refused(path):
    torch.save([1, 2], path)
    with pytest.raises(StudyError, match=r"model\.pth: expected the entries .* found: list"):
        load_model_file(path)


def test_another_format_is_refused_with_both_numbers(path):
    save_tensors(path, load_tensors(path) | {"format": 2})
    with pytest.raises(StudyError, match=r"model\.pth: format 2, this version reads 1"):
        load_model_file(path)


@pytest.mark.parametrize("entry", ["model", "lineage"])
@pytest.mark.parametrize("change", ["missing", "extra"])
def test_wrong_values_inside_an_entry_are_refused_by_the_files_name(path, entry, change):
    content = load_tensors(path)
    if change == "missing":
        del content[entry][next(iter(content[entry]))]
    else:
        content[entry]["colour"] = "red"
    save_tensors(path, content)
    with pytest.raises(StudyError, match=rf"model\.pth: .*{entry}"):
        load_model_file(path)


def test_initial_weights_are_a_function_of_the_model_seed(tmp_path, spec):
    for name, seed in (("a.pth", 7), ("b.pth", 7), ("c.pth", 8)):
        torch.rand(3)
        initialize_model_files(tmp_path / name, spec, 0, seed, None, {})
    assert (tmp_path / "a.pth").read_bytes() == (tmp_path / "b.pth").read_bytes()
    first, other = load_model_file(tmp_path / "a.pth").weights, load_model_file(tmp_path / "c.pth").weights
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_an_initial_model_states_where_it_comes_from(tmp_path, spec):
    initialize_model_files(tmp_path / "a.pth", spec, 5, 7, None, {})
    lineage = load_model_file(tmp_path / "a.pth").lineage
    assert (lineage.kind, lineage.seed, lineage.round) == ("initial", 5, 0)
    assert (lineage.arm, lineage.site, lineage.parent_sha256) == ("", "", "")


def test_a_copied_file_is_the_same_model(tmp_path, path):
    shutil.copy(path, tmp_path / "best.pth")
    assert load_model_file(tmp_path / "best.pth").lineage == LINEAGE


@pytest.mark.parametrize("packed", [False, True])
def test_a_models_digest_is_that_of_the_file_that_it_would_be(tmp_path, model_file, packed):
    save_model_file(tmp_path / "model.pth", model_file, packed)
    assert sha256_of_model(model_file, packed) == sha256_of_file(tmp_path / "model.pth")
    assert sha256_of_model(model_file, not packed) != sha256_of_file(tmp_path / "model.pth")
