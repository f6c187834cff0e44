"""Room on the disk: how many bytes a run's jobs will write, and whether there is room for them.

Imported while the job graph is built, so it needs the standard library alone.
"""

import json
import math
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from fedpedbrain.base.cases import read_cases
from fedpedbrain.base.errors import StudyError
from fedpedbrain.study.arms import Arm
from fedpedbrain.study.intensity_facts import FLOAT16_WORDS
from fedpedbrain.study.training_facts import OPTIMIZERS

# An update's bytes for one of a float32 weight.
_PART_OF_FLOAT32 = {"float32": 1.0, "bfloat16": 0.5, "float16": 0.5, "int8": 0.25}
# Masked updates are sums modulo 2**64.
_PART_OF_MASKED = 2.0
# What a job leaves beside its large files: log, metrics, and what the workflow engine notes of it.
BYTES_OF_JOB = 32_000
# The report is at most so large.
BYTES_OF_REPORT = 25_000_000
# What native voxels of scans that nobody has looked at yet are taken for.
_UNKNOWN_VOXEL_MM3 = 1.0
_GB = 1e9


class Output(NamedTuple):
    """A large file that a job will write.

    Attributes
    ----------
    kind : what it is, in the words of the estimate
    path : where; what lies there is replaced
    num_bytes : how large it will be
    chain : arm and seed whose rounds it passes with; None where it stays
    round : in which round it is written, 0 where it stays
    outlasts : whether the next round needs it, too
    """

    kind: str
    path: str
    num_bytes: float
    chain: tuple[str, str] | None = None
    round: int = 0
    outlasts: bool = False


@dataclass(frozen=True)
class Sizes:
    """Bytes of what an arm's rounds write.

    Attributes
    ----------
    model_bytes : gives those of a model file, asked for only where one is written
    optimizer : the ``training.optimizer`` block
    """

    model_bytes: Callable[[], float]
    optimizer: Mapping[str, Any]

    def update(self, arm: Arm) -> float:
        """A site's update, in the form in which it travels, with what its strategy sends beside it."""
        if arm.sums_securely:
            return self.model_bytes() * _PART_OF_MASKED
        return self.model_bytes() * (_PART_OF_FLOAT32[arm.block["exchange"]["dtype"]] + arm.facts.copies_sent)

    def site_state(self, arm: Arm) -> float:
        """What a site keeps after a round; layers or statistics of its own alone are too few to count."""
        models = 2 if arm.facts.has_second_model else 1
        copies = arm.facts.copies_at_site + (models - 1) + arm.block["exchange"]["error_feedback"]
        # Without momentum there is no moment.
        if arm.keeps_optimizer_state and (self.optimizer["name"] != "sgd" or self.optimizer["momentum"]):
            copies += models * OPTIMIZERS[self.optimizer["name"]].moments
        return copies and self.model_bytes() * copies

    def server_state(self, arm: Arm) -> float:
        """What the server keeps after a round."""
        return arm.facts.copies_at_server and self.model_bytes() * arm.facts.copies_at_server


@dataclass(frozen=True)
class DiskEstimate:
    """Bytes that a run adds to the disk, at most.

    Attributes
    ----------
    bytes_of : by kind, the largest first
    """

    bytes_of: Mapping[str, float]

    @property
    def num_bytes(self) -> float:
        """All of them."""
        return sum(self.bytes_of.values())

    def describe(self, free_bytes: float) -> str:
        """What is needed, by kind, and what is free."""
        shown = {kind: num_bytes for kind, num_bytes in self.bytes_of.items() if num_bytes > self.num_bytes / 1000}
        parts = ", ".join(f"{kind} {_gigabytes(num_bytes)}" for kind, num_bytes in shown.items())
        return f"up to {_gigabytes(self.num_bytes)} of disk are needed ({parts}), {_gigabytes(free_bytes)} are free"


def voxels_of_site(
    preprocessing: Mapping[str, Any], num_cases: float, extent_mm: Sequence[float], index_path: str | Path
) -> float:
    """Voxels of all of a site's cases on the network's grid; of cases of their own size about as many.

    Before anything is known of their scans, a case is a cube between the smallest and the largest extent: the largest
    scan that could be would refuse runs that fit.

    Parameters
    ----------
    preprocessing : the ``preprocessing`` block
    num_cases : as well as it is known
    extent_mm : smallest and largest extent of a scan along an axis
    index_path : the site's table of cases, which tells the sizes of their scans once it is there
    """
    grid, spacing = preprocessing["grid"], preprocessing["voxel_spacing_mm"]
    if grid is not None:
        return num_cases * math.prod(grid)
    is_native = isinstance(spacing, str)
    if not Path(index_path).is_file():
        return num_cases * math.prod(extent_mm) ** 1.5 / (_UNKNOWN_VOXEL_MM3 if is_native else math.prod(spacing))
    cases = read_cases(index_path)
    if is_native:
        return sum(math.prod(case.shape) for case in cases)
    return sum(math.prod(case.shape) * math.prod(case.spacing_mm) for case in cases) / math.prod(spacing)


def bytes_of_intensity(preprocessing: Mapping[str, Any]) -> int:
    """Bytes of one number of a shard's images."""
    return 2 if preprocessing["intensity"]["name"] in FLOAT16_WORDS else 1


def _gigabytes(num_bytes: float) -> str:
    return f"{num_bytes / _GB:.1f} GB" if num_bytes >= _GB else f"{max(num_bytes / 1e6, 0.1):.3g} MB"


def estimate_disk(outputs: Iterable[Output], num_jobs: int) -> DiskEstimate:
    """Bytes that are on the disk at most at once beyond those that are there now.

    What stays adds up, less what it replaces. What passes counts as often as it is there at once: of an arm and seed,
    the updates of one round, and what goes from this round and the one before it to the next. All arms and seeds may be
    at their fullest at once.

    Parameters
    ----------
    outputs : every large file that will be written
    num_jobs : jobs of the run
    """
    bytes_of: dict[str, float] = defaultdict(float)
    chains: dict[tuple[str, str], dict[int, list[float]]] = defaultdict(lambda: defaultdict(lambda: [0.0, 0.0]))
    for output in outputs:
        if output.chain is None:
            bytes_of[output.kind] += output.num_bytes - _present_bytes(output.path)
        else:
            chains[output.chain][output.round][output.outlasts] += output.num_bytes
    bytes_of["what passes between rounds"] = sum(map(_fullest, chains.values()))
    bytes_of["all else"] = num_jobs * BYTES_OF_JOB
    ranked = sorted(bytes_of.items(), key=lambda item: -item[1])
    return DiskEstimate({kind: num_bytes for kind, num_bytes in ranked if num_bytes > 0})


def _fullest(rounds: Mapping[int, Sequence[float]]) -> float:
    """Bytes of the round in which most is there at once, with what has outlasted the round before."""
    return max(sum(own) + rounds.get(number - 1, (0.0, 0.0))[1] for number, own in rounds.items())


def _present_bytes(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError:
        return 0


def admit(needed: DiskEstimate, free_bytes: float, folder: str) -> str:
    """What a run needs and what is free; a ``StudyError`` says what to change where that does not suffice."""
    if needed.num_bytes > free_bytes:
        raise StudyError(
            f"{folder}: {needed.describe(free_bytes)}; raise study.keep_every, compare fewer arms or seeds, "
            "make room, or work on another disk (--directory)"
        )
    return needed.describe(free_bytes)


def measure_model(spec: Mapping[str, Any]) -> int:
    """Bytes of a model's weights, asked of a process of its own, since that has to import torch.

    Parameters
    ----------
    spec : arguments of ``ModelSpec``
    """
    command = [sys.executable, "-m", "fedpedbrain.models.size"]
    asked = subprocess.run(command, input=json.dumps(spec), capture_output=True, text=True)
    if asked.returncode != 0:
        reason = (asked.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise StudyError(f"network: the network cannot be built ({reason}); correct its options")
    return int(asked.stdout)
