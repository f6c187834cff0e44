"""Benchmarks of what a study spends its time on. Prints tables and writes results/benchmark.json.

Compare ratios within one run: absolute times differ from machine to machine and from minute to minute. Whatever is
compared is timed in turn. Names of parts (data start memory averaging step residual video curve duplicates) run these
alone. What a GPU does is timed by ``gpu.py``.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import yaml
from averaging import NUM_UPDATES, averaging
from fedpedbrain.data.checks.duplicates import find_pairs
from fedpedbrain.jobs.devices import keep_freed_memory
from fedpedbrain.reporting.pictures.frames import CaseView, FramePainter, Panel
from fedpedbrain.reporting.pictures.video import write_video
from fedpedbrain.study.study import load_study
from fedpedbrain.training.augmentation import Augmentation
from naive import NaiveSite
from residual_steps import residual_steps
from scipy.ndimage import zoom
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

REPOSITORY = Path(__file__).resolve().parents[2]
NUM_THREADS = 2
PUBLISHED_GRID, SMALL_GRID = (64, 256, 256), (32, 64, 64)
BATCH = 4
PUBLISHED_CASES = 1414
CURVE_STEPS = 50
CONFIG = yaml.safe_load((REPOSITORY / "config.yaml").read_text())
SCHEMA_PATH = REPOSITORY / "rules" / "schemas" / "config.schema.yaml"
TRAINING = CONFIG["training"]
SHAPES = {
    "unet": StepShape("unet", BATCH, SMALL_GRID),
    "i3d_unet": StepShape("i3d_unet", BATCH, SMALL_GRID, {"width": 1.0, "dropout": 0.0}),
}


def data_path() -> dict[str, float]:
    """Augmented samples a second at the published size."""
    images, masks = simulated_site(BATCH, PUBLISHED_GRID)
    naive = NaiveSite(images, masks, REFERENCE_CROP)

    def ours(settings: dict) -> None:
        augmentation = Augmentation(settings)
        changes = [augmentation.draw(time.perf_counter_ns(), case) for case in range(BATCH)]
        augmentation(torch.from_numpy(images), torch.from_numpy(masks), changes)

    mirrored = PLAIN_CROP | {"flip_probability": 0.5, "gamma_spread": 0.2}
    actions = {
        "naive, crop": lambda: naive.batch(list(range(BATCH))),
        "ours, crop": lambda: ours(PLAIN_CROP),
        "ours, crop, mirror and contrast": lambda: ours(mirrored),
        "ours, all changes": lambda: ours(mirrored | {"rotation_degrees": 10.0, "zoom_spread": 0.1}),
    }
    return {name: BATCH / seconds for name, seconds in seconds_in_turn(actions, 5).items()}


def steps() -> dict[str, float]:
    """Cases a second of a training step, augmentation included."""
    device, found = torch.device("cpu"), {}
    for name, shape in SHAPES.items():
        kinds = {f"{name}, naive": NaiveTraining(shape, device)}
        kinds |= {f"{name}, {precision}": OurTraining(shape, device, precision=precision) for precision in PRECISIONS}
        actions = {kind: training.step for kind, training in kinds.items()}
        found |= {kind: shape.batch / seconds for kind, seconds in seconds_in_turn(actions, 5).items()}
    return found


def curves() -> dict[str, list[float]]:
    """Losses of the first steps of i3d_unet at width 1."""
    device, shape = torch.device("cpu"), SHAPES["i3d_unet"]
    naive = NaiveTraining(shape, device)
    kinds = {"naive": naive} | {precision: OurTraining(shape, device, precision=precision) for precision in PRECISIONS}
    # The same start for all.
    start = {key: value for key, value in naive.model.state_dict().items() if not key.startswith("unused.")}
    for precision in PRECISIONS:
        kinds[precision].model.load_state_dict(start)
    return {kind: [round(training.step(), 4) for _ in range(CURVE_STEPS)] for kind, training in kinds.items()}


FIRST_STEP = """
import torch
from fedpedbrain.training.execution import prepare_training
from fedpedbrain.training.losses.joint import JointLoss
from fedpedbrain.training.optimizers import build_optimizer
from fedpedbrain.federated.site_files import train_site_files
from fedpedbrain.models.networks import build_model
torch.set_num_threads(1)
model = build_model("unet", 1, 1, 2, channels=[2, 2], strides=[[1, 2, 2], [2, 2, 2]], pooled_grid=[1, 2, 2])
optimizer = build_optimizer(model.parameters(), {"name": "adamw", "weight_decay": 0.0, "momentum": 0.0}, 0.1)
model(torch.rand(2, 1, 4, 8, 8)).segmentation.mean().backward()
optimizer.step()
"""


def start_up() -> dict[str, float]:
    """Seconds from the start of a process."""

    def run(code: str) -> Callable[[], object]:
        return lambda: subprocess.run([sys.executable, "-c", code], check=True)

    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "job.py")
        script.write_text("from fedpedbrain.jobs.worker import fork_from_worker\nfork_from_worker()\n" + FIRST_STEP)
        announced = f"""
import os, subprocess, sys, time
from fedpedbrain.jobs.worker import announce_worker
announce_worker(os.getpid(), ["torch"])
times = []
for _ in range(6):
    start = time.perf_counter()
    subprocess.run([sys.executable, {str(script)!r}], check=True)
    times.append(time.perf_counter() - start)
print(sorted(times[1:])[2])
"""
        forked = subprocess.run([sys.executable, "-c", announced], check=True, capture_output=True, text=True)
    plain = {"import torch": run("import torch"), "to the first step": run(FIRST_STEP)}
    return seconds_in_turn(plain, 5) | {"to the first step, forked": float(forked.stdout)}


MEMORY_JOB = """
import sys
from pathlib import Path
from fedpedbrain.base.cases import Shard
from fedpedbrain.jobs.usage import peak_memory_mb
from fedpedbrain.jobs.devices import take_device
from fedpedbrain.models.pretrained import initialize_model_files
from fedpedbrain.federated.site import SitePlan
from fedpedbrain.federated.site_files import SiteFiles, train_site_files
from fedpedbrain.training.batches import SiteRound
import json
folder, spec, plan = Path(sys.argv[1]), json.loads(sys.argv[2]), SitePlan(**json.loads(sys.argv[3]))
initialize_model_files(folder / "start.pth", spec, 0, 0, None, {})
outputs = [folder / name for name in ("update.pth", "state.pth", "metrics.json")]
files = SiteFiles(folder / "start.pth", [Shard(folder, folder / "cases.tsv")], *outputs)
train_site_files(files, SiteRound("centralized", 0, 1, "pooled"), plan, take_device(0, 1))
print(peak_memory_mb())
"""


def memory() -> dict[str, float]:
    """Peak memory in MB of a training job, by the number of cases at its site."""
    grid = (32, 96, 96)
    options = CONFIG["network"]["unet"] | {"channels": [4, 4, 8, 8]}
    spec = {
        "name": "unet",
        "options": options,
        "channels": ["T2w"],
        "regions": ["tumour"],
        "classes": ["a", "b"],
        "preprocessing": {"grid": list(grid)},
    }
    study = load_study(CONFIG | {"training": TRAINING | {"epochs_per_round": 1}}, SCHEMA_PATH)
    plan = study.site_plan("centralized", 0, 1, "pooled")
    found = {}
    for num_cases in (10, 300):
        with tempfile.TemporaryDirectory() as folder:
            ones = np.ones((num_cases, 1, *grid), np.uint8)
            write_shard(Path(folder), ones, ones)
            command = [sys.executable, "-c", MEMORY_JOB, folder, json.dumps(spec), json.dumps(plan)]
            job = subprocess.run(command, check=True, capture_output=True, text=True)
        found[f"{num_cases} cases ({num_cases * 2 * np.prod(grid) / 2**20:.0f} MB)"] = float(job.stdout)
    return found


def simulated_view() -> CaseView:
    """A head of smooth tissue and noise, and three outlines of a tumour: what a video of two arms shows."""
    rng = np.random.default_rng(0)
    where = np.indices(PUBLISHED_GRID).astype(np.float32)
    tissue = zoom(rng.normal(128.0, 50.0, [size // 8 for size in PUBLISHED_GRID]), 8, order=1)

    def ellipsoid(centre: float, radius: float) -> np.ndarray:
        parts = zip(where, PUBLISHED_GRID, strict=True)
        return sum(((axis - centre * size) / (radius * size)) ** 2 for axis, size in parts) < 1.0

    image = np.clip(tissue + rng.normal(0.0, 6.0, PUBLISHED_GRID), 0, 255) * ellipsoid(0.5, 0.45)
    places = ((0.5, 0.15), (0.51, 0.14), (0.48, 0.16))
    masks = [ellipsoid(centre, radius)[None].astype(np.uint8) for centre, radius in places]
    lines = ("Dice 0.812, 12.3 ml", "DIPG 83 % (correct)", "ependymoma 9 %")
    panels = [Panel("Image"), *(Panel("An arm", lines, mask) for mask in masks)]
    return CaseView(image.astype(np.uint8), masks[0], panels, "A case", 1.0)


def videos() -> dict[str, float]:
    """Seconds of a case's video, drawn and encoded."""
    view, settings = simulated_view(), CONFIG["reporting"]["video"]
    pixels, speed = settings["panel_pixels"], settings["frames_per_second"]
    with tempfile.TemporaryDirectory() as folder:
        actions = {
            "frames alone": lambda: deque(FramePainter(view, pixels), maxlen=0),
            "drawn and encoded": lambda: write_video(FramePainter(view, pixels), Path(folder, "case.mp4"), speed),
        }
        return {"load of the machine before": os.getloadavg()[0], **seconds_in_turn(actions, 5)}


def duplicates() -> dict[str, float]:
    """Seconds to compare every two cases of a cohort, by its number of cases: of five slices each, of noise."""
    found, case = {}, SimpleNamespace(voxel_sha256=())
    for num_cases in (PUBLISHED_CASES // 2, PUBLISHED_CASES):
        pictures = np.random.default_rng(0).uniform(0, 255, (num_cases, 5, 32, 32)).astype(np.float32)
        compare = partial(find_pairs, [case] * num_cases, pictures, CONFIG["audit"])
        found |= seconds_in_turn({f"{num_cases} cases": compare}, 5)
    return found


PARTS: dict[str, tuple[str, Callable[[], dict]]] = {
    "data": ("augmented samples a second, 64 x 256 x 256", data_path),
    "start": ("seconds from process start", start_up),
    "memory": ("peak MB of a training job", memory),
    "averaging": (f"seconds for {NUM_UPDATES} updates of i3d_unet at width 1, in a process each", averaging),
    "step": ("cases a second of a training step, 32 x 64 x 64", steps),
    "residual": ("CPU ms of a training step of residual_unet, one thread", residual_steps),
    "video": ("seconds of a video of four panels, 64 x 256 x 256", videos),
    "duplicates": ("seconds to look for cases that are one image", duplicates),
    "curve": (f"loss of {CURVE_STEPS} steps of i3d_unet", curves),
}


def shown(value: float | list[float]) -> str:
    """A number, or every tenth of many."""
    return f"{value:10.2f}" if isinstance(value, float) else "  ".join(f"{item:.3f}" for item in value[9::10])


def main(chosen: Iterable[str]) -> None:
    """Run the chosen parts."""
    torch.set_num_threads(NUM_THREADS)
    keep_freed_memory()
    parts = {name: PARTS[name] for name in chosen}
    results = {"torch": torch.__version__, "threads": NUM_THREADS, "cpu": dict(torch.cpu.get_capabilities())}
    for name, (title, measure) in parts.items():
        results[name] = measure()
        sys.stdout.write(f"\n{title}\n")
        sys.stdout.writelines(f"  {kind:40s} {shown(value)}\n" for kind, value in results[name].items())
        sys.stdout.flush()
    target = REPOSITORY / "results" / "benchmark.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:] or PARTS)
