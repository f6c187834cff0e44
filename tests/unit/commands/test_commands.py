"""The doors of ``python -m fedpedbrain COMMAND``."""

import importlib
import sys

import pytest
from fedpedbrain.__main__ import COMMANDS, run_command


def test_every_command_is_a_function_of_its_own_module():
    for name, place in COMMANDS.items():
        module, function = place.rsplit(".", 1)
        assert module == f"fedpedbrain.commands.{name.replace('-', '_')}"
        assert callable(getattr(importlib.import_module(module), function))


def test_an_unknown_command_is_refused_with_those_that_there_are(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["fedpedbrain", "describe"])
    with pytest.raises(SystemExit):
        run_command()
    assert "describe-config" in capsys.readouterr().err


def test_a_mistake_of_the_user_is_one_line(monkeypatch, tmp_path, caplog):
    monkeypatch.setitem(COMMANDS, "describe-config", "fedpedbrain.study.study.load_study")
    monkeypatch.setattr(sys, "argv", ["fedpedbrain", "describe-config", "x"])
    monkeypatch.setattr("fedpedbrain.study.study.load_study", _refuse)
    assert run_command() == 1
    assert [record.getMessage() for record in caplog.records] == ["['x']: refused"]


def _refuse(arguments):
    from fedpedbrain.base.errors import StudyError

    raise StudyError(f"{arguments}: refused")
