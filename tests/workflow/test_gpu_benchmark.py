"""The benchmark of GPUs: its short form on the CPU with torch and NumPy alone, and what it says of failing parts."""

import importlib
import json
import math
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from fedpedbrain.study.network_facts import NETWORKS
from parity_fixture import REFERENCE
from workspace import REPOSITORY

BENCHMARKS = REPOSITORY / "tests" / "benchmarks"
# What a machine with a GPU need not have.
ABSENT = (
    *("PIL", "SimpleITK", "jsonschema", "matplotlib", "nibabel", "opacus", "pandas", "pydicom", "pytest"),
    *("schedulefree", "scipy", "sklearn", "snakemake", "yaml"),
)


@pytest.fixture
def gpu(monkeypatch) -> ModuleType:
    """The benchmark as a module."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("gpu")


@pytest.fixture
def run_parts(gpu, tmp_path):
    """``run_parts(is_short=True, **measures)``: failed parts, and what was written; ``stuck`` has little time."""

    def _run(is_short=True, **measures) -> SimpleNamespace:
        limits = {"stuck": 0.2}
        parts = {name: gpu.Part("a title", limits.get(name, 60.0), measure) for name, measure in measures.items()}
        bench = gpu.Bench(torch.device("cpu"), is_short, tmp_path)
        failed = gpu.run_parts(parts, bench, tmp_path / "found.json", 600.0)
        return SimpleNamespace(failed=failed, parts=json.loads((tmp_path / "found.json").read_text())["parts"])

    return _run


def run_benchmark(json_path: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess:
    """Run the script; ``variables`` are of its environment."""
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), "--short", "--json", str(json_path), *arguments]
    return subprocess.run(command, env=os.environ | variables, capture_output=True, text=True)


@pytest.mark.slow
def test_the_short_form_measures_every_part_with_torch_and_numpy_alone(gpu, tmp_path):
    absent = tmp_path / "absent"
    absent.mkdir()
    for name in ABSENT:
        (absent / f"{name}.py").write_text(f'raise ImportError("{name} is absent")\n')
    done = run_benchmark(tmp_path / "found.json", PYTHONPATH=str(absent))
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["short"]
    assert list(found["parts"]) == list(gpu.PARTS)
    skipped = set()
    if not (REFERENCE / "i3d_unet_parity.npz").exists():
        skipped.add("parity")
    if shutil.which("g++") is None:
        skipped.add("compile")
    assert {name for name, part in found["parts"].items() if "skipped" in part} == skipped
    for name in found["parts"].keys() - skipped:
        numbers = [value for value in found["parts"][name]["values"].values() if type(value) is float]
        assert numbers, name
        assert all(map(math.isfinite, numbers)), name
        assert f"\n{name}: {gpu.PARTS[name].title} (" in done.stdout
    assert found["parts"]["data"]["values"]["naive, crop"] == "not measured: scipy is absent"
    equal_runs = found["parts"]["equal runs"]["values"]
    assert equal_runs["deterministic off, same bytes"] is equal_runs["deterministic on, same bytes"] is True


@pytest.mark.slow
def test_logits_that_are_not_the_references_fail_by_name_and_other_parts_run(tmp_path):
    arrays = {"seg_logits": np.zeros((1, 1, 32, 64, 64)), "class_logits": np.zeros((1, 5))}
    np.savez(tmp_path / "i3d_unet_parity.npz", **arrays)
    chosen = ["parity", "step of unet", "--reference", str(tmp_path)]
    done = run_benchmark(tmp_path / "found.json", *chosen)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "failed: parity"
    assert "FAILED: ValueError: float32, seg_logits: expected the reference's to 0.001, found " in done.stdout
    parts = json.loads((tmp_path / "found.json").read_text())["parts"]
    assert {name: "values" in part for name, part in parts.items()} == {"parity": False, "step of unet": True}


def test_a_part_that_fails_is_named_and_the_others_run(run_parts, capsys):
    def fail(bench):
        raise RuntimeError("no kernel image")

    done = run_parts(broken=fail, sound=lambda bench: {"samples per second": 2.0, "same bytes": True})
    assert done.failed == ["broken"]
    assert done.parts["broken"]["failed"] == "RuntimeError: no kernel image"
    assert "in fail" in done.parts["broken"]["traceback"]
    assert done.parts["sound"]["values"] == {"samples per second": 2.0, "same bytes": True}
    told = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["FAILED:", "RuntimeError:", "no", "kernel", "image"] in told
    assert ["samples", "per", "second", "2"] in told
    assert ["same", "bytes", "yes"] in told


def test_a_part_that_takes_too_long_is_given_up(run_parts):
    never = threading.Event()
    done = run_parts(is_short=False, stuck=lambda bench: {"waited": never.wait(600)}, sound=lambda bench: {"one": 1.0})
    assert done.failed == ["stuck"]
    assert done.parts["stuck"]["failed"] == "TimeoutError: not finished within 0.2 s"
    assert done.parts["sound"]["values"] == {"one": 1.0}


def test_a_part_that_cannot_be_measured_says_why_and_has_not_failed(gpu, run_parts):
    def leave_out(bench):
        raise gpu.Skipped("no fixture")

    done = run_parts(left_out=leave_out)
    assert not done.failed
    assert done.parts["left_out"]["skipped"] == "no fixture"


def test_a_kind_that_needs_too_much_memory_is_told_and_the_others_are_timed(gpu, tmp_path, monkeypatch):
    import gpu_parts

    def fail(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(gpu_parts, "NaiveTraining", fail)
    values = gpu_parts.measure_steps("unet", gpu.Bench(torch.device("cpu"), True, tmp_path))
    assert values["naive"] == "out of memory"
    assert values["bfloat16, samples per second"] > 0.0
    assert not [what for what in values if "naive" in what and what != "naive"]


def test_all_parts_have_their_time_within_four_minutes(gpu):
    *first, last = gpu.PARTS.values()
    # A compiler is left a quarter of a minute at least.
    assert sum(part.at_most_seconds for part in first) + 15.0 <= gpu.ALL_SECONDS == last.at_most_seconds < 240.0


def test_every_network_has_a_step_that_is_timed(gpu):
    import gpu_shapes

    assert {shape.network for shape in gpu_shapes.SHAPES.values()} == set(NETWORKS)
    assert {name: shape.network for name, shape in gpu_shapes.SHORT_SHAPES.items()} == {
        name: shape.network for name, shape in gpu_shapes.SHAPES.items()
    }


def test_the_default_network_is_timed_as_the_default_study_trains_it(gpu, config):
    shape = gpu.SHAPES[config["network"]["name"]]
    assert list(shape.grid) == config["preprocessing"]["grid"]
    assert shape.batch == config["training"]["batch_size"]
    assert NETWORKS[shape.network].settings(shape.options) == config["network"][shape.network]
    assert shape.num_classes == len(config["cohort"]["classes"])
    assert shape.segmentation_loss == config["training"]["loss"]["segmentation"]
