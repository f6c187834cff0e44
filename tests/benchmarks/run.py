"""Benchmarks of what a study spends its time on. Prints a table and writes results/benchmark.json.

Compare ratios within one run: absolute times differ from machine to machine and from minute to minute.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import yaml
from fedpedbrain.data.shards import preprocess_images
from fedpedbrain.data.sources import open_source
from fedpedbrain.federated.averaging import average_weights
from fedpedbrain.models import build_model
from fedpedbrain.models.prediction import to_device, to_network_input
from fedpedbrain.study import load_study
from fedpedbrain.training.augmentation import Augmentation
from fedpedbrain.training.losses import JointLoss
from fedpedbrain.training.optimizers import build_optimizer

REPOSITORY = Path(__file__).resolve().parents[2]
REPEATS = 5
NUM_UPDATES = 16


def median_seconds(action: Callable[[], object], repeats: int = REPEATS) -> float:
    """Median wall time of an action after one run that does not count."""
    action()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def start_up(module: str) -> float:
    """Seconds to start Python and import a module."""
    return median_seconds(lambda: subprocess.run([sys.executable, "-c", f"import {module}"], check=True), 3)


def train_step(name: str, options: dict, settings: dict, grid: list[int]) -> float:
    """Seconds a case of one optimizer step, augmentation included."""
    device = torch.device("cpu")
    model = to_device(build_model(name, 1, 1, 5, **options), device).train()
    optimizer = build_optimizer(model.parameters(), settings["optimizer"], 1e-3)
    loss, augmentation = JointLoss(**settings["loss"]), Augmentation(settings["augmentation"])
    batch = settings["batch_size"]
    images = np.random.default_rng(0).integers(0, 255, (batch, 1, *grid), dtype=np.uint8)
    masks = torch.from_numpy(images > 250).float()
    classes = torch.zeros(batch, dtype=torch.long)

    def step() -> None:
        changes = [augmentation.draw(case) for case in range(batch)]
        inputs, targets = augmentation(to_network_input(images, device), masks, changes)
        optimizer.zero_grad(set_to_none=True)
        loss(model(inputs), targets, classes).backward()
        optimizer.step()

    return median_seconds(step, 10) / batch


def averaging(model: torch.nn.Module) -> float:
    """Seconds to average the weights of as many sites as the published study has."""
    updates = [(model.state_dict(), 1.0 / NUM_UPDATES)] * NUM_UPDATES
    return median_seconds(lambda: average_weights(updates))


def main() -> None:
    """Run all benchmarks of the default study's settings on one CPU thread."""
    torch.set_num_threads(1)
    config = yaml.safe_load((REPOSITORY / "config.yaml").read_text())
    study = load_study(config, REPOSITORY / "rules/schemas/config.schema.yaml")
    settings, grid = study.training_settings, config["preprocessing"]["grid"]
    source = open_source(study.source_settings)
    case = source.find_cases()[0]
    volume = source.read_case(case)
    rows = {
        "start Python, import torch": start_up("torch"),
        "start Python, import the training code": start_up("fedpedbrain.training.site"),
        "start Python, import the report": start_up("fedpedbrain.reporting.report"),
        "simulate one case": median_seconds(lambda: source.read_case(case)),
        "preprocess one case": median_seconds(lambda: preprocess_images(volume, config["preprocessing"])),
        "train on one case, unet": train_step("unet", config["network"]["unet"], settings, grid),
        "train on one case, i3d_unet": train_step("i3d_unet", config["network"]["i3d_unet"], settings, grid),
        f"average {NUM_UPDATES} updates, i3d_unet at width 1": averaging(build_model("i3d_unet", 1, 1, 5)),
    }
    sys.stdout.writelines(f"{name:45s} {1000 * seconds:10.1f} ms\n" for name, seconds in rows.items())
    target = REPOSITORY / "results" / "benchmark.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps({"torch": torch.__version__, "seconds": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
