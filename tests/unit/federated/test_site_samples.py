"""A site's round on patches, with other augmentation, and of a network that sees neighbouring slices."""

import json

import numpy as np
import pytest
import torch
from fedpedbrain.base.cases import UNKNOWN_CLASS_INDEX
from fedpedbrain.base.choices import defaults_of
from fedpedbrain.base.errors import StudyError
from fedpedbrain.data.grid.dataset import ShardDataset
from fedpedbrain.models.architectures.unet import UNet
from fedpedbrain.models.files import load_model_file
from fedpedbrain.models.networks import build_model
from fedpedbrain.models.outputs import Logits
from fedpedbrain.study.augmentation_facts import AUGMENTATIONS
from fedpedbrain.training.batches import SiteRound, epoch_batches
from fedpedbrain.training.epochs import train_model
from fedpedbrain.training.optimizers import build_optimizer
from fedpedbrain.training.private import check_private
from torch import nn

CPU = torch.device("cpu")
CLASSES = ["normal", "dipg"]
PATCH = {"size": [2, 8, 8], "per_case": 3, "foreground_share": 0.5}
VOLUME = {"name": "volume"} | defaults_of(AUGMENTATIONS["volume"].options)


@pytest.fixture
def patch_settings(settings) -> dict:
    """The plan's own training block, of patches."""
    settings |= {"patch": dict(PATCH), "augmentation": dict(VOLUME)}
    return settings


def test_an_update_counts_cases_and_the_steps_that_its_patches_took(train, patch_settings):
    paths = train()
    lineage = load_model_file(paths.update).lineage
    # Two epochs of 15 patches in batches of 2.
    assert (lineage.num_cases, lineage.num_steps) == (5, 16)
    metrics = json.loads(paths.metrics.read_text())
    assert (metrics["num_cases"], metrics["num_steps"]) == (5, 16)
    assert all(0 < loss < 10 for loss in metrics["epoch_losses"])


def test_two_runs_on_patches_give_the_same_bytes(train, patch_settings):
    first, second = train("first", keep=True), train("second", keep=True)
    assert first.update.read_bytes() == second.update.read_bytes()
    assert first.state.read_bytes() == second.state.read_bytes()


def test_the_arm_does_not_change_the_patches(train, patch_settings):
    one, other = (load_model_file(train(arm, arm=arm).update).weights for arm in ("fedavg", "local-north"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_only_site_of_a_pooled_arm_trains_as_in_a_federated_one(train, patch_settings):
    plan = {"cases_of": ["north"]}
    one, other = (load_model_file(train(site, site=site, plan=plan).update).weights for site in ("north", "pooled"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_whole_cases_are_changed_as_volumes(train, patch_settings):
    patch_settings["patch"] = None
    lineage = load_model_file(train().update).lineage
    assert (lineage.num_cases, lineage.num_steps) == (5, 6)


def test_batch_statistics_of_patches_are_taken_anew(train, patch_settings, i3d_start, i3d_shard):
    patch_settings["patch"] |= {"size": [8, 24, 24]}
    patch_settings["optimizer"]["name"] = "schedule_free_adamw"
    weights = load_model_file(train(start=i3d_start, shards=[i3d_shard]).update).weights
    # An epoch of 15 patches, and statistics anew in as many batches.
    assert weights["up1.bn.num_batches_tracked"] == 8


def test_patches_are_no_examples_of_dp_sgd(train, patch_settings, spec):
    model = build_model(spec["name"], 1, 1, 2, **spec["options"])
    with pytest.raises(StudyError, match=r"training\.patch makes several of one; set it to null"):
        check_private(model, patch_settings, {"clip_norm": 1.0, "noise_multiplier": 1.0})


# Neighbouring slices.


class SeesNeighbours(nn.Module):
    """Averages a voxel with those of the two slices on either side, into regions of the slices in the middle."""

    context = 2

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv3d(1, 1, (5, 1, 1))
        self.depths = []

    def forward(self, images: torch.Tensor) -> Logits:
        self.depths.append(images.shape[2])
        return Logits(self.layer(images), None)


@pytest.mark.parametrize(("patch", "depth"), [(None, 4), (PATCH, 2)], ids=["whole cases", "patches"])
def test_a_network_is_handed_the_slices_that_it_sees_beyond_a_sample(shard, patch_settings, patch, depth):
    patch_settings["patch"] = patch
    model = SeesNeighbours()
    optimizer = build_optimizer(model.parameters(), patch_settings["optimizer"], 0.01)
    dataset = ShardDataset([shard], {"train"})
    work = SiteRound("fedavg", 0, 1, "north")
    losses = train_model(model, optimizer, dataset, CLASSES, patch_settings, work, CPU)
    assert set(model.depths) == {depth + 4}
    assert len(losses) == 2


def test_beyond_a_whole_case_its_last_slices_are_repeated(shard, settings):
    dataset = ShardDataset([shard], {"train"})
    indices = dataset.class_indices(CLASSES, UNKNOWN_CLASS_INDEX)
    work = SiteRound("fedavg", 0, 1, "north")
    plain, seen = (list(epoch_batches(dataset, indices, settings, work, 1, CPU, context=context)) for context in (0, 1))
    for one, other in zip(plain, seen, strict=True):
        assert torch.equal(other.images, one.images[:, :, [0, 0, 1, 2, 3, 3]])
        assert torch.equal(other.masks, one.masks)


def test_a_network_without_a_word_of_neighbours_sees_none():
    assert getattr(UNet(1, 1, 0, [4, 4], [[1, 1, 1], [2, 2, 2]], [1, 1, 1], 0.0), "context", 0) == 0


def test_powers_of_z_scores_in_plane_are_refused(shard, settings, monkeypatch):
    dataset = ShardDataset([shard], {"train"})
    monkeypatch.setattr(dataset, "image", lambda row: np.zeros((1, 4, 8, 8), np.float16))
    indices = dataset.class_indices(CLASSES, UNKNOWN_CLASS_INDEX)
    batches = epoch_batches(dataset, indices, settings, SiteRound("fedavg", 0, 1, "north"), 1, CPU)
    with pytest.raises(StudyError, match=r"^training\.augmentation\.gamma_spread: in_plane takes powers"):
        next(batches)
    settings["augmentation"]["gamma_spread"] = 0.0
    assert next(epoch_batches(dataset, indices, settings, SiteRound("fedavg", 0, 1, "north"), 1, CPU)).images.max() == 0


def test_a_site_trains_on_patches_of_cases_of_their_own_size(tmp_path, train, patch_settings, make_case, write_shard):
    rng = np.random.default_rng(0)
    sizes = [(2, 9, 8), (5, 8, 12), (1, 6, 6), (4, 16, 9)]
    cases = [make_case(f"case-{row}", class_name=CLASSES[row % 2]) for row in range(len(sizes))]
    images = [rng.normal(size=(1, *size)).astype(np.float16) for size in sizes]
    shard = write_shard(tmp_path / "own", cases, images, [(image > 1.0).astype(np.uint8) for image in images])
    lineage = load_model_file(train(shards=(shard,)).update).lineage
    # Two epochs of 12 patches in batches of 2.
    assert (lineage.num_cases, lineage.num_steps) == (4, 12)
    weights = [load_model_file(train(name, shards=(shard,)).update).weights for name in ("first", "second")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
