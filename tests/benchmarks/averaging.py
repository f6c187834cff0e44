"""Averaging the updates of as many sites as the published study has, against reading them.

Called by run.py, and by itself for every measurement: each takes a process of its own, as a round's averaging does in a
study. What one reads over and over keeps the memory of the files before, and asks the kernel for none.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
import yaml
from fedpedbrain.base.files import sha256_of_file, write_json, write_out
from fedpedbrain.base.lineage import Lineage
from fedpedbrain.federated.round_files import RoundFiles, aggregate_round_files
from fedpedbrain.federated.rounds import RoundPlan
from fedpedbrain.federated.site_metrics import SiteMetrics, write_site_metrics
from fedpedbrain.jobs.usage import peak_memory_mb
from fedpedbrain.models.files import ModelFile, ModelSpec, load_model_file, save_model_file
from fedpedbrain.study.study import load_study

REPOSITORY = Path(__file__).resolve().parents[2]
NUM_UPDATES = 16
NUM_CLASSES = 5
# Folder of what a measurement writes: as in a study, where every round has files of its own, none is overwritten.
WRITTEN = "written"


def write_updates(folder: Path) -> None:
    """Updates of ``i3d_unet`` at width 1, as sites send them and as plain state dicts, and what a round goes by."""
    config = yaml.safe_load((REPOSITORY / "config.yaml").read_text())
    study = load_study(config, REPOSITORY / "rules" / "schemas" / "config.schema.yaml")
    plan = study.round_plan("fedavg", 1) | {"num_sites": NUM_UPDATES}
    write_json(folder / "plan.json", plan)
    spec = ModelSpec("i3d_unet", {"width": 1.0, "dropout": 0.5}, ["T2w"], ["tumour"], ["class"] * NUM_CLASSES, {})
    weights = spec.build().state_dict()
    start = Lineage("initial", "", 0, 0, "", 0, 0, "", "")
    save_model_file(folder / "start.pth", ModelFile(spec, start, weights))
    parent = sha256_of_file(folder / "start.pth")
    for number in range(NUM_UPDATES):
        site = f"site-{number:02d}"
        lineage = Lineage("update", "fedavg", 0, 1, site, 10, 10, plan["digest"], parent)
        path = folder / f"{site}.pth"
        save_model_file(path, ModelFile(spec, lineage, weights), packed=True)
        metrics = SiteMetrics("fedavg", 0, 1, site, 10, 10, update_norm=1.0, update_sha256=sha256_of_file(path))
        write_site_metrics(path.with_suffix(".json"), metrics)
        torch.save(weights, folder / f"plain-{number:02d}.pth")


def load_plain(folder: Path) -> None:
    """Read the plain state dicts, one after the other."""
    for path in sorted(folder.glob("plain-*.pth")):
        torch.load(path, weights_only=True)


def load_checked(folder: Path) -> None:
    """Read the updates and hold them against their archives' checksums, one after the other."""
    for path in sorted(folder.glob("site-*.pth")):
        load_model_file(path)


def average_naively(folder: Path) -> None:
    """All state dicts at once, the mean of their float copies, written as safely as ours."""
    updates = [torch.load(path, weights_only=True) for path in sorted(folder.glob("plain-*.pth"))]
    mean = {name: torch.stack([update[name].float() for update in updates]).mean(0) for name in updates[0]}
    torch.save(mean, folder / WRITTEN / "global.pth")
    write_out(folder / WRITTEN / "global.pth")


def average(folder: Path) -> None:
    """A round's averaging: read, check, combine, write the model and where it comes from."""
    updates = {path.stem: path for path in sorted(folder.glob("site-*.pth"))}
    metrics = {site: path.with_suffix(".json") for site, path in updates.items()}
    written = [folder / WRITTEN / name for name in ("global.pth", "server.pth", "lineage.json", "metrics.json")]
    plan = RoundPlan(**json.loads((folder / "plan.json").read_text()))
    aggregate_round_files(RoundFiles(folder / "start.pth", updates, metrics, *written), "fedavg", 0, 1, plan)


AVERAGED = "read, check, average and write"
LOADED, LOADED_OURS = "torch.load of plain state dicts", "read our updates and their checksums"
NAIVE = "torch.load all, mean of float copies"
ACTIONS: dict[str, Callable[[Path], None]] = {
    LOADED: load_plain,
    LOADED_OURS: load_checked,
    AVERAGED: average,
    NAIVE: average_naively,
}


def forget_files(folder: Path) -> None:
    """Ask the kernel to let go of what it holds of a folder's files (posix_fadvise(2)): the disk is read next."""
    os.sync()
    for path in folder.glob("*.pth"):
        with open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measured(name: str, folder: Path) -> tuple[float, float]:
    """Seconds of an action, from its imports on, and the memory in MB that it takes beyond them."""
    (folder / WRITTEN).mkdir()
    command = [sys.executable, __file__, name, str(folder)]
    seconds, memory = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    shutil.rmtree(folder / WRITTEN)
    return float(seconds), float(memory)


def in_turn(folder: Path, turns: int, is_cold: bool) -> dict[str, tuple[float, float]]:
    """Median seconds and memory of each action, all of them run in turn, after one turn that does not count."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ACTIONS}
    for turn in range(turns + 1):
        for name, values in found.items():
            if is_cold:
                forget_files(folder)
            value = measured(name, folder)
            if turn:
                values.append(value)
    return {name: tuple(np.median(values, axis=0).tolist()) for name, values in found.items()}


def averaging() -> dict[str, float]:
    """Seconds of each action, from the kernel's memory and from the disk, and what averaging takes of the others."""
    found = {}
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_updates(folder)
        model_mb = (folder / "start.pth").stat().st_size / 2**20
        for place, turns in (("", 7), (", from the disk", 3)):
            values = in_turn(folder, turns, bool(place))
            found |= {f"{word}{place}": seconds for word, (seconds, _) in values.items()}
            for word, baseline in (("torch.load", LOADED), ("reading ours", LOADED_OURS), ("the naive mean", NAIVE)):
                found[f"ratio to {word}{place}"] = values[AVERAGED][0] / values[baseline][0]
            found[f"peak memory, model sizes{place}"] = values[AVERAGED][1] / model_mb
    return found


def main(arguments: Sequence[str]) -> None:
    """Measure one action, on one thread as the workflow's rule does it."""
    name, folder = arguments
    torch.set_num_threads(1)
    before = peak_memory_mb()
    start = time.perf_counter()
    ACTIONS[name](Path(folder))
    sys.stdout.write(f"{time.perf_counter() - start} {peak_memory_mb() - before}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
