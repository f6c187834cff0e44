import pytest
from fedpedbrain.base.errors import StudyError
from fedpedbrain.study.imported_checkpoint import ImportedCheckpoint


def asked(source: str) -> ImportedCheckpoint:
    return ImportedCheckpoint(source, None)


@pytest.mark.parametrize(
    ("source", "name", "origin"),
    [
        ("/in/FLPedBrain_ckpt.pth", "FLPedBrain_ckpt", "FLPedBrain_ckpt.pth"),
        ("best model {1}.v2.pth", "best_model_1_v2", "best model {1}.v2.pth"),
        ("ä.pth", "checkpoint", "ä.pth"),
        ("hf://datasets/owner/name@v1/a/ckpt.pth", "ckpt", "hf://datasets/owner/name@v1/a/ckpt.pth"),
        ("https://example.org/a/ckpt.pth?download=1", "ckpt", "https://example.org/a/ckpt.pth"),
        ("https://user:secret@example.org/ckpt.pth?token=secret", "ckpt", "https://example.org/ckpt.pth"),
    ],
)
def test_a_checkpoint_has_a_plain_name_and_an_origin_without_secrets(source, name, origin):
    assert (asked(source).plain_name, asked(source).origin) == (name, origin)


def test_a_file_is_found_from_where_the_user_stands_and_an_address_is_fetched(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert asked("ckpt.pth").path == str(tmp_path / "ckpt.pth")
    assert asked("hf://owner/name/ckpt.pth").path is None


def test_a_file_that_is_not_there_is_refused_and_an_address_is_not_looked_at(tmp_path):
    with pytest.raises(StudyError, match=rf"^checkpoint: no file {tmp_path}/no\.pth; correct the path$"):
        asked(str(tmp_path / "no.pth")).check_file("checkpoint")
    asked("https://example.org/no.pth").check_file("checkpoint")


def test_the_model_has_the_name_that_is_asked_for_or_that_of_the_file(load):
    assert load().requests.imports == {}
    assert list(load({"checkpoint": "/in/a b.pth"}).requests.imports) == ["a_b"]
    assert list(load({"checkpoint": "/in/a b.pth", "imported_model": "theirs"}).requests.imports) == ["theirs"]
    assert not load({"checkpoint": "/in/a.pth"}).requests.need_cohort
