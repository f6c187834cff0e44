"""Unit tests compute on one thread: their arrays are too small to share out, and the machine may be busy.

The study of a config and an overlay. A site that trains: its start, its shard and one round of its work. A Hugging
Face hub on the loopback interface. A site of made scans.
"""

import importlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from fedpedbrain.base.cases import Shard, read_cases, write_cases
from fedpedbrain.data.index import index_site_files
from fedpedbrain.data.scans import lay_out_scans_files
from fedpedbrain.data.shards import build_shard_files
from fedpedbrain.data.sources.source_files import settings_of_site
from fedpedbrain.federated.site import SitePlan
from fedpedbrain.federated.site_files import SiteFiles, run_site_round
from fedpedbrain.models.files import (
    load_model_file,
    save_model_file,
)
from fedpedbrain.models.pretrained import initialize_model_files
from fedpedbrain.study.strategy_facts import WITHOUT_EXCHANGE, merged_block
from fedpedbrain.study.study import Study, load_study
from fedpedbrain.training.batches import SiteRound
from hub_server import Hub
from scanned_heads import MADE_SCANS
from snakemake.utils import update_config

torch.set_num_threads(1)

CPU = torch.device("cpu")
# About the smallest of i3d_unet.
I3D_GRID = (10, 24, 24)
STUDY_ARMS = [
    {"name": "centralized", "participants": "pooled", "optimizer_state": "kept"},
    {"name": "local", "participants": "alone", "optimizer_state": "kept"},
    {"name": "fedavg", "participants": "sites", "weighting": "cases", "optimizer_state": "fresh"},
]


@pytest.fixture
def study_config(config) -> dict:
    """The default config with the values that these tests speak of."""
    config["cohort"]["sites"] = {"training": ["north", "east", "south"], "external": ["west"]}
    config["arms"] = [dict(arm) for arm in STUDY_ARMS]
    config["preprocessing"]["grid"] = [24, 48, 48]
    config["network"]["name"] = "unet"
    config["network"]["unet"] |= {"channels": [4, 4, 4, 4], "strides": [[1, 2, 2], [2, 2, 2], [2, 2, 2], [2, 2, 2]]}
    config["evaluation"]["reference_arm"] = "centralized"
    config["reporting"]["arm_colours"] = {}
    config["reporting"]["video"]["arms"] = ["fedavg"]
    return config


@pytest.fixture
def load(study_config, schema_path):
    """Load the study after an overlay of the keys that differ, merged as Snakemake does."""

    def _load(changes: dict | None = None) -> Study:
        update_config(study_config, changes or {})
        return load_study(study_config, schema_path)

    return _load


@pytest.fixture
def settings(config) -> dict:
    """The training block of the config with values that these tests speak of."""
    training = config["training"]
    training |= {"batch_size": 2, "epochs_per_round": 2, "max_gradient_norm": 1.0, "precision": "float32"}
    training["optimizer"] |= {"name": "adamw", "learning_rate": 0.01}
    training["schedule"] |= {"name": "constant"}
    return training


@pytest.fixture
def start(tmp_path, spec) -> Path:
    """The common start of all arms."""
    initialize_model_files(tmp_path / "initial.pth", spec, 0, 7, None, {})
    return tmp_path / "initial.pth"


@pytest.fixture
def shard(tmp_path, make_case, write_shard) -> Path:
    """Five training cases and one to test on."""
    cases = [make_case(f"case-{n}", class_name=("normal", "dipg")[n % 2]) for n in range(5)]
    return write_shard(tmp_path / "north", [*cases, make_case("case-9", split="test")])


@pytest.fixture
def i3d_start(tmp_path, spec) -> Path:
    """The start of a narrow network with batch normalisation."""
    spec |= {"name": "i3d_unet", "options": {"width": 0.0625, "dropout": 0.0}}
    spec["preprocessing"]["grid"] = list(I3D_GRID)
    initialize_model_files(tmp_path / "i3d.pth", spec, 0, 7, None, {})
    return tmp_path / "i3d.pth"


@pytest.fixture
def i3d_shard(tmp_path, make_case, write_shard) -> Path:
    """Five training cases of its grid."""
    cases = [make_case(f"case-{n}", class_name=("normal", "dipg")[n % 2]) for n in range(5)]
    images = np.random.default_rng(0).integers(0, 256, (5, 1, *I3D_GRID), dtype=np.uint8)
    return write_shard(tmp_path / "i3d", cases, images)


@pytest.fixture
def make_plan(settings) -> Callable:
    """``make_plan(round_number, keep, block, **changes)``: plan of a site's round; ``block`` is laid over the arm's."""

    def _make_plan(round_number=1, keep=False, block=(), **changes) -> SitePlan:
        arm = {key: WITHOUT_EXCHANGE[key] for key in ("strategy", "batch_norm", "exchange", "privacy")}
        arm |= {"weighting": "cases", "optimizer_state": "kept" if keep else "fresh"}
        values = {
            "training": settings,
            "arm": merged_block(arm, dict(block)),
            "digest": "digest",
            "learning_rate": settings["optimizer"]["learning_rate"],
            "start": {"kind": "global" if round_number > 1 else "initial", "rounds": [round_number - 1], "site": ""},
            "state_round": round_number - 1,
            "sites": ["north", "south"],
            "cases_of": ["north", "south"],
        }
        return SitePlan(**(values | changes))

    return _make_plan


@pytest.fixture
def train(tmp_path, start, shard, make_plan) -> Callable:
    """Train a site for a round; returns the paths of update, state and metrics."""

    def _train(
        name: str = "north",
        start=start,
        shards=(shard,),
        round_number=1,
        state=None,
        keep=False,
        server=None,
        block=None,
        plan=None,
        attempt=1,
        may_be_missing=False,
        **work,
    ):
        paths = SimpleNamespace(
            update=tmp_path / f"{name}-{round_number}.pth",
            new_state=tmp_path / f"{name}-{round_number}-state.pth",
            metrics=tmp_path / f"{name}-{round_number}.json",
        )
        files = SiteFiles(start, shards, **vars(paths), state=state, server_state=server)
        site_round = SiteRound(**({"arm": "fedavg", "seed": 0, "round": round_number, "site": "north"} | work))
        plan = make_plan(round_number, keep, block or {}, **(plan or {}))
        run_site_round(files, site_round, plan, CPU, attempt, may_be_missing)
        return SimpleNamespace(update=paths.update, state=paths.new_state, metrics=paths.metrics)

    return _train


@pytest.fixture
def make_global(tmp_path) -> Callable:
    """Write the global model that an update alone averages to."""

    def _make_global(update: Path, name: str = "global.pth", **changes) -> Path:
        model_file = load_model_file(update)
        lineage = replace(model_file.lineage, **({"kind": "global", "site": ""} | changes))
        save_model_file(tmp_path / name, replace(model_file, lineage=lineage))
        return tmp_path / name

    return _make_global


@pytest.fixture
def use_hub(monkeypatch, tmp_path):
    """``use_hub(hub, url)`` points the Hugging Face client at a hub; its waits between attempts take no time."""
    constants = pytest.importorskip("huggingface_hub.constants")

    def _use_hub(hub: Hub, url: str) -> None:
        for name, value in hub.environment(url, tmp_path / "home").items():
            monkeypatch.setenv(name, value)
        # The client reads its environment once.
        importlib.reload(constants)
        monkeypatch.setattr("time.sleep", lambda seconds: None)

    yield _use_hub
    monkeypatch.undo()
    importlib.reload(constants)


@pytest.fixture
def scanned_site(tmp_path, bids, source_settings, config) -> Shard:
    """A site whose first case trains and whose other cases are the made scans, with shard, frames and scans."""
    source_settings["cohort"]["regions"] = [{"name": "whole", "labels": [1, 2]}, {"name": "core", "labels": [2]}]
    for number, scan in enumerate(MADE_SCANS.values()):
        subject = f"sub-1{number}"
        bids.add(subject, "west", "dipg")
        sitk.WriteImage(scan.stored(scan.head()), str(bids.image(subject)))
        sitk.WriteImage(scan.stored(scan.labels(number)), str(bids.mask(subject)))
    bids.add("sub-00", "west", "dipg")
    source_settings["cohort"]["sites"]["training"].append("west")
    settings, folder = settings_of_site(source_settings, "west"), tmp_path / "west"
    folder.mkdir()
    index_site_files(settings, folder / "index.tsv")
    shard = [folder / name for name in ("images.npy", "masks.npy", "shard.tsv", "outlines.tsv", "frames.tsv")]
    preprocessing = config["preprocessing"] | {"grid": [10, 20, 20], "field_of_view": "foreground"}
    build_shard_files(folder / "index.tsv", *shard, settings, preprocessing)
    cases = read_cases(folder / "shard.tsv")
    splits = zip(cases, ["train", "test", "external", "test"], strict=True)
    write_cases(folder / "cases.tsv", [replace(case, split=split) for case, split in splits])
    scans = [folder / name for name in ("scan_images.npy", "scan_masks.npy", "scans.tsv")]
    lay_out_scans_files(folder / "cases.tsv", *scans, settings, config["cohort"]["anatomy"]["foreground"])
    return Shard(folder, folder / "cases.tsv")
