"""How many GPUs ``make run`` grants, and that jobs take so many at once, each its own."""

import os
import re
import subprocess
import sys

import pytest
from workspace import REPOSITORY

# Four GPUs, one of them in parts.
LISTED = """\
GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-0a)
  MIG 1g.10gb     Device  0: (UUID: MIG-0b)
  MIG 1g.10gb     Device  1: (UUID: MIG-0c)
GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-1a)
GPU 2: NVIDIA H100 80GB HBM3 (UUID: GPU-2a)
GPU 3: NVIDIA H100 80GB HBM3 (UUID: GPU-3a)
"""


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Variables of a machine on which ``nvidia-smi -L`` lists four GPUs."""
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n[ \"$1\" = -L ] && cat <<'END'\n{LISTED}END\n")
    program.chmod(0o755)
    variables = {name: value for name, value in os.environ.items() if name not in ("GPU", "CUDA_VISIBLE_DEVICES")}
    return variables | {"PATH": f"{program.parent}:{os.environ['PATH']}"}


@pytest.mark.parametrize(
    ("variables", "arguments", "granted"),
    [
        ({}, [], 4),
        ({"GPU": "2"}, [], 2),
        ({}, ["GPU=2"], 2),
        ({"CUDA_VISIBLE_DEVICES": "3,1"}, [], 2),
        ({"CUDA_VISIBLE_DEVICES": "GPU-0a"}, [], 1),
        ({"CUDA_VISIBLE_DEVICES": ""}, [], 0),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, [], 0),
        ({"PATH": "/usr/bin:/bin"}, [], 0),
    ],
)
def test_a_run_is_granted_all_gpus_that_it_may_see_or_as_many_as_it_is_told(machine, variables, arguments, granted):
    command = ["make", "--dry-run", "run", *arguments]
    shown = subprocess.run(
        command, cwd=REPOSITORY, env=machine | variables, capture_output=True, text=True, check=True
    ).stdout
    assert re.findall(r"--resources gpu=(\S*)", shown) == [str(granted)]


SNAKEFILE = """
rule all:
    input: expand("job-{number}", number=range(4))
rule job:
    output: "job-{number}"
    resources: gpu=1
    shell: "{config[python]} job.py {output} {config[granted]}"
"""
# A job that holds its GPU until as many as may run have come, and a while longer, in which others could.
JOB = """
import sys, time
from pathlib import Path
from fedpedbrain.jobs.devices import lock_free_gpu, visible_gpu_ids
gpu = lock_free_gpu(visible_gpu_ids(), Path("locks"))
busy = Path(f"busy-{gpu}")
busy.touch(exist_ok=False)
until, most = time.monotonic() + 120, 0
while most < int(sys.argv[2]) and time.monotonic() < until:
    time.sleep(0.01)
    most = max(most, len(list(Path().glob("busy-*"))))
time.sleep(0.3)
most = max(most, len(list(Path().glob("busy-*"))))
busy.unlink()
Path(sys.argv[1]).write_text(f"{gpu} {most}")
"""
# Stands for PyTorch, whose import would take longer than all else here.
TORCH = "class device: pass\n"


@pytest.mark.parametrize("granted", [4, 2])
def test_jobs_take_as_many_gpus_at_once_as_are_granted_and_each_its_own(tmp_path, machine, granted):
    for name, text in {"Snakefile": SNAKEFILE, "job.py": JOB, "torch.py": TORCH}.items():
        (tmp_path / name).write_text(text)
    command = [sys.executable, "-m", "snakemake", "--cores", "4", "--resources", f"gpu={granted}"]
    command += ["--config", f"python={sys.executable}", f"granted={granted}"]
    seen = {"CUDA_VISIBLE_DEVICES": "0,1,2,3", "PYTHONPATH": str(REPOSITORY / "pkg")}
    result = subprocess.run(command, cwd=tmp_path, env=machine | seen, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    taken = [path.read_text().split() for path in tmp_path.glob("job-*")]
    assert len({gpu for gpu, _ in taken}) == granted
    assert max(int(most) for _, most in taken) == granted
