"""A model file as a checkpoint that FL-PedBrain reads, from the command line."""

import pytest
from fedpedbrain.base.errors import StudyError
from fedpedbrain.commands.write_reference_checkpoint import write_reference_checkpoint


def test_files_of_the_command_line_reach_the_writer(monkeypatch):
    called = []
    place = "fedpedbrain.commands.write_reference_checkpoint.save_reference_checkpoint"
    monkeypatch.setattr(place, lambda *arguments: called.append(arguments))
    write_reference_checkpoint(["best.pth", "checkpoint.pth"])
    write_reference_checkpoint(["best.pth", "checkpoint.pth", "--unused-from", "published.pth"])
    assert called == [("best.pth", "checkpoint.pth", None), ("best.pth", "checkpoint.pth", "published.pth")]


def test_a_file_that_is_no_model_is_refused_by_name(tmp_path):
    (tmp_path / "best.pth").write_bytes(b"no model")
    with pytest.raises(StudyError, match=r"best\.pth"):
        write_reference_checkpoint([str(tmp_path / "best.pth"), str(tmp_path / "checkpoint.pth")])
    assert not (tmp_path / "checkpoint.pth").exists()
