"""What ``gpu.py`` measures: a function per part, values by name. Needs torch, NumPy and the package alone."""

import gc
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from fedpedbrain.base.cases import TRAIN
from fedpedbrain.base.choices import defaults_of
from fedpedbrain.data.grid.dataset import ShardDataset
from fedpedbrain.models.architectures.i3d_unet import I3DUNet
from fedpedbrain.models.placement import to_device
from fedpedbrain.study.augmentation_facts import AUGMENTATIONS
from fedpedbrain.study.training_facts import SAMPLERS, sampler_of, samples_of_epoch
from fedpedbrain.training.batches import SiteRound
from fedpedbrain.training.execution import autocast
from gpu_shapes import SHAPES, SHORT_SHAPES, SMALLEST_SHAPE
from naive import NaiveSite
from parity_fixture import fixture_tensor
from torch import nn
from training_steps import (
    PLAIN_CROP,
    PRECISIONS,
    REFERENCE_CROP,
    NaiveTraining,
    OurTraining,
    StepShape,
    seconds_in_turn,
    simulated_site,
    write_shard,
)

Values = dict[str, float | bool | str]

# The reference's logits and ours may differ by this much in float32.
LARGEST_DIFFERENCE = 1e-3
NUM_EQUAL_STEPS = 3


class Skipped(Exception):
    """A part that cannot be measured here, and why."""


@dataclass(frozen=True)
class Bench:
    """Where and how much is measured.

    Attributes
    ----------
    is_short : as little as shows that every part runs
    reference : folder with the parity fixture
    """

    device: torch.device
    is_short: bool
    reference: Path

    @property
    def shapes(self) -> Mapping[str, StepShape]:
        """What a training step of each network is timed with."""
        return SHORT_SHAPES if self.is_short else SHAPES

    @property
    def published(self) -> StepShape:
        """What is trained where one network stands for all: the published one, in the short form the quickest."""
        return self.shapes["unet" if self.is_short else "i3d_unet"]

    @property
    def repeats(self) -> int:
        """How often a training step is timed."""
        return 2 if self.is_short else 20

    def wait(self) -> None:
        """Until the device has done all that it was told to."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def run_python(code: str, *arguments: str) -> str:
    """What a process of its own writes, that finds the same modules."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"a process of its own failed: {done.stderr.strip()[-2000:]}")
    return done.stdout


# Start of a job.

SHORT_JOB = """
import json, sys, time
seconds, begun = {}, time.perf_counter()

def note(what):
    global begun
    seconds[what] = time.perf_counter() - begun
    begun = time.perf_counter()

import torch
note("import torch")
from gpu_shapes import SHAPES, SHORT_SHAPES
from training_steps import OurTraining
note("import the package")
device = torch.device(sys.argv[1])
torch.zeros(1, device=device).item()
note("context and first tensor")
torch.arange(8.0, device=device).mul(2.0).sum().item()
note("first kernels")
training = OurTraining((SHORT_SHAPES if sys.argv[2:] else SHAPES)["unet"], device)
training.step()
note("first training step of unet")
training.step()
note("second training step of unet")
print(json.dumps(seconds))
"""


def measure_start(bench: Bench) -> Values:
    """Seconds of a short job's parts, in a process of its own; of the last of as many as there are."""
    walls, seconds = [], {}
    for _ in range(1 if bench.is_short else 2):
        begun = time.perf_counter()
        seconds = json.loads(run_python(SHORT_JOB, str(bench.device), *["short"] * bench.is_short))
        walls.append(time.perf_counter() - begun)
    rest = walls[-1] - sum(seconds.values())
    return seconds | {"start and end of the process": rest, "in all": walls[-1], "in all, the first time": walls[0]}


# Memory of a step.


def peak_mb(bench: Bench, step: Callable[[], object]) -> float:
    """Most memory in MB that tensors take on the device during a step; on a CPU what it allocates beyond its start."""
    if bench.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(bench.device)
        step()
        return torch.cuda.max_memory_allocated(bench.device) / 2**20
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        step()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return float(np.cumsum(changes).max()) / 2**20


def measure_checkpointing(bench: Bench, is_checkpointed: bool) -> Values:
    """Memory and time of a step with activations kept, or computed again."""
    # A network whose stages compute again refers to itself, so what came before may still be there.
    gc.collect()
    training = OurTraining(bench.published, bench.device, checkpoint_activations=is_checkpointed)
    step = partial(training.learn, training.draw_batch())
    return {
        # Where convolutions are tried out, which takes memory of its own.
        "first step, peak MB": peak_mb(bench, step),
        "later step, peak MB": peak_mb(bench, step),
        "seconds of a step": seconds_in_turn({"": step}, bench.repeats, at_most_seconds=3.0)[""],
    }


def measure_memory(bench: Bench) -> Values:
    """Memory and time of a step of the published network, with and without checkpointed activations."""
    kinds = {"activations kept": False, "checkpointed": True}
    return {
        f"{kind}, {what}": value
        for kind, is_checkpointed in kinds.items()
        for what, value in measure_checkpointing(bench, is_checkpointed).items()
    }


# Equal logits.


def reference_model(device: torch.device) -> nn.Module:
    """The published network with the weights of the parity fixture."""
    with torch.device("meta"):
        model = I3DUNet(1, 1, 5)
    weights = {key: fixture_tensor(key, tuple(tensor.shape)) for key, tensor in model.state_dict().items()}
    model.load_state_dict(weights, assign=True)
    return to_device(model, device).eval()


def measure_parity(bench: Bench) -> Values:
    """How far logits are from those of the reference network on a CPU, and on which voxels both decide alike.

    Raises
    ------
    Skipped : the fixture is not there
    ValueError : float32 is further off than ``LARGEST_DIFFERENCE``
    """
    path = bench.reference / "i3d_unet_parity.npz"
    if not path.exists():
        raise Skipped(f"{path} is absent: the reference's facts are not part of the repository")
    expected, model = np.load(path), reference_model(bench.device)
    images = torch.from_numpy(np.random.RandomState(0).rand(1, 1, 32, 64, 64).astype(np.float32)).to(bench.device)
    values: Values = {}
    kinds = {"float32": ("float32", False), "float32, TF32 allowed": ("float32", True), "bfloat16": ("bfloat16", True)}
    for kind, (precision, is_tf32) in kinds.items():
        flags = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=False, allow_tf32=is_tf32)
        with torch.inference_mode(), flags, autocast(precision, bench.device):
            logits = model(images)
        regions, classes = (part.float().cpu().numpy() for part in logits[:2])
        for name, found in (("seg_logits", regions), ("class_logits", classes)):
            values[f"{kind}, {name}, largest difference"] = float(np.abs(found - expected[name]).max())
        alike = (regions > 0) == (expected["seg_logits"] > 0)
        values[f"{kind}, voxels decided alike, %"] = 100.0 * float(alike.mean())
    for name in ("seg_logits", "class_logits"):
        found = values[f"float32, {name}, largest difference"]
        if not found <= LARGEST_DIFFERENCE:
            raise ValueError(f"float32, {name}: expected the reference's to {LARGEST_DIFFERENCE}, found {found} off")
    return values


# Training steps.


def prepare_step(
    build: Callable[[], OurTraining | NaiveTraining], bench: Bench, is_contiguous: bool
) -> Callable[[], object] | None:
    """A training step that has run once, always on the same batch; None where the device has too little memory."""
    try:
        training = build()
        batch = training.shape.draw_batch(1, training.context, bench.device)
        if is_contiguous:
            batch = replace(batch, images=batch.images.contiguous())
        training.learn(batch)
    except torch.OutOfMemoryError:
        return None
    return partial(training.learn, batch)


def measure_steps(name: str, bench: Bench) -> Values:
    """Samples a second of a network's training step on one batch, by kind, and how much faster than the baseline."""
    shape, actions = bench.shapes[name], {}
    builders = {"naive": partial(NaiveTraining, shape, bench.device)}
    builders |= {precision: partial(OurTraining, shape, bench.device, precision=precision) for precision in PRECISIONS}
    values: Values = {"samples": f"{shape.batch} of {' x '.join(map(str, shape.grid))} voxels"}
    for kind, build in builders.items():
        action = prepare_step(build, bench, kind == "naive")
        if action is None:
            values[kind] = "out of memory"
            torch.cuda.empty_cache()
        else:
            actions[kind] = action
    seconds = seconds_in_turn(actions, bench.repeats, at_most_seconds=10.0)
    values |= {f"{kind}, samples per second": shape.batch / found for kind, found in seconds.items()}
    ours = [kind for kind in seconds if kind != "naive"] if "naive" in seconds else []
    return values | {f"{kind}, times as fast as naive": seconds["naive"] / seconds[kind] for kind in ours}


# Equal runs.


def train_and_save(device_name: str, is_short: str, folder: str) -> None:
    """Train the published network for a few steps, with deterministic algorithms off and on, and write its weights."""
    bench = Bench(torch.device(device_name), bool(is_short), Path())
    for kind, is_deterministic in (("off", False), ("on", True)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            training = OurTraining(bench.published, bench.device, deterministic=is_deterministic)
            for _ in range(NUM_EQUAL_STEPS):
                training.step()
        weights = torch.cat([value.flatten().double().cpu() for value in training.model.state_dict().values()])
        torch.save(weights, Path(folder, f"{kind}.pth"))
        texts = (str(warning.message) for warning in caught)
        without = {text.partition(" does not have")[0] for text in texts if "deterministic" in text}
        Path(folder, f"{kind}.json").write_text(json.dumps(sorted(without)))


def compare_weights(paths: list[Path]) -> Values:
    """How the numbers of two trained networks differ."""
    first, second = (torch.load(path, weights_only=True) for path in paths)
    return {
        "same bytes": bool(torch.equal(first, second)),
        "numbers that differ, %": 100.0 * (first != second).double().mean().item(),
        "largest difference": (first - second).abs().max().item(),
    }


def measure_equality(bench: Bench) -> Values:
    """Two equal runs of the published network's training, in a process each: do they end in the same weights?"""
    code = "import sys; from gpu_parts import train_and_save; train_and_save(*sys.argv[1:])"
    values: Values = {}
    with tempfile.TemporaryDirectory() as folder:
        runs = [Path(folder, name) for name in ("first", "second")]
        for run in runs:
            run.mkdir()
            run_python(code, str(bench.device), "short" if bench.is_short else "", str(run))
        for kind in ("off", "on"):
            found = compare_weights([run / f"{kind}.pth" for run in runs])
            values |= {f"deterministic {kind}, {what}": value for what, value in found.items()}
        without = json.loads((runs[0] / "on.json").read_text())
    return values | {"without a deterministic form": ", ".join(without) or "nothing"}


# Data path.


def sampling_settings(bench: Bench) -> dict[str, dict[str, Any]]:
    """``training`` blocks of kinds of samples, as far as samples are made by them."""
    batch_size = bench.shapes["i3d_unet"].batch
    every_change = {"flip_probability": 0.5, "gamma_spread": 0.2, "rotation_degrees": 10.0, "zoom_spread": 0.1}
    augmentations = {
        "whole cases, crop": PLAIN_CROP,
        "whole cases, all changes in plane": PLAIN_CROP | every_change,
        "patches, volume": {"name": "volume"} | defaults_of(AUGMENTATIONS["volume"].options),
    }
    blocks = {kind: {"batch_size": batch_size, "augmentation": block} for kind, block in augmentations.items()}
    size = list(bench.shapes["residual_unet"].grid)
    blocks["patches, volume"]["patch"] = {"size": size, "per_case": 2, "foreground_share": 0.5}
    return blocks


def sample_epoch(dataset: ShardDataset, settings: Mapping[str, Any], epoch: int, bench: Bench) -> float:
    """Samples a second of an epoch."""
    sampler, classes = SAMPLERS.load(sampler_of(settings)), np.zeros(len(dataset), np.int64)
    begun = time.perf_counter()
    for _ in sampler(dataset, classes, settings, SiteRound("centralized", 0, 1, "pooled"), epoch, bench.device):
        pass
    bench.wait()
    return samples_of_epoch(len(dataset), settings) / (time.perf_counter() - begun)


def measure_data(bench: Bench) -> Values:
    """Samples a second from a shard to an augmented batch on the device."""
    shape, values = bench.shapes["i3d_unet"], {}
    images, masks = simulated_site(2 * shape.batch, shape.grid)
    with tempfile.TemporaryDirectory() as folder:
        shard = write_shard(Path(folder), images, masks)
        for kind, settings in sampling_settings(bench).items():
            dataset = ShardDataset([shard], {TRAIN})
            # Where every case is checked against its digest.
            values[f"{kind}, first epoch"] = sample_epoch(dataset, settings, 1, bench)
            later, ends = [], time.perf_counter() + 3.0
            while len(later) < bench.repeats and (not later or time.perf_counter() < ends):
                later.append(sample_epoch(dataset, settings, 2 + len(later), bench))
            values[f"{kind}, later epochs"] = float(np.median(later))
    return values | naive_data(images[: shape.batch], masks[: shape.batch])


def naive_data(images: np.ndarray, masks: np.ndarray) -> Values:
    """Samples a second of the baseline's crop, on a CPU."""
    site = NaiveSite(images, masks, REFERENCE_CROP)
    try:
        begun = time.perf_counter()
        site.batch(list(range(len(images))))
        return {"naive, crop": len(images) / (time.perf_counter() - begun)}
    except ImportError as error:
        return {"naive, crop": f"not measured: {error}"}


# Compilation.


def measure_compilation(bench: Bench) -> Values:
    """What compiling a network costs at the first step of a job where nothing was compiled before, and what it gains.

    Raises
    ------
    Skipped : nothing can be compiled here
    """
    if bench.device.type == "cpu" and shutil.which("g++") is None:
        raise Skipped("torch.compile for a CPU needs g++, found none")
    shape = SMALLEST_SHAPE if bench.is_short else bench.shapes["residual_unet"]
    first, actions = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        caches = {"TORCHINDUCTOR_CACHE_DIR": folder, "TRITON_CACHE_DIR": str(Path(folder, "triton"))}
        with mock.patch.dict(os.environ, caches):
            for kind, is_compiled in (("plain", False), ("compiled", True)):
                training = OurTraining(shape, bench.device, compile=is_compiled)
                actions[kind] = partial(training.learn, training.draw_batch())
                begun = time.perf_counter()
                actions[kind]()
                first[kind] = time.perf_counter() - begun
            seconds = seconds_in_turn(actions, bench.repeats, at_most_seconds=5.0)
    cost, gain = first["compiled"] - first["plain"], seconds["plain"] - seconds["compiled"]
    values: Values = {f"{kind}, seconds of the first step": found for kind, found in first.items()}
    values |= {f"{kind}, samples per second": shape.batch / found for kind, found in seconds.items()}
    values["times as fast"] = seconds["plain"] / seconds["compiled"]
    return values | {"steps after which it has paid": cost / gain if gain > 0 else "never"}
