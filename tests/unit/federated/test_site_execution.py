import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from fedpedbrain.base.cases import UNKNOWN_CLASS_INDEX
from fedpedbrain.models.files import (
    ModelSpec,
    load_model_file,
)
from fedpedbrain.models.pretrained import initialize_model_files
from fedpedbrain.study.training_facts import OPTIMIZERS
from fedpedbrain.training.batches import Batch
from fedpedbrain.training.epochs import refresh_batch_statistics, train_epochs
from fedpedbrain.training.losses.joint import JointLoss
from torch import nn

# Parts of a batch.


def make_batch(class_indices: list[int]) -> Batch:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(len(class_indices), 1, 4, 8, 8, generator=generator)
    return Batch(images, (images > 0.5).byte(), torch.tensor(class_indices))


@pytest.mark.parametrize(("size", "expected"), [(None, [5]), (5, [5]), (9, [5]), (2, [2, 2, 1]), (1, [1] * 5)])
def test_a_batch_is_cut_into_parts_of_at_most_so_many_cases(size, expected):
    batch = make_batch([0, 1, 0, UNKNOWN_CLASS_INDEX, 1])
    parts = list(batch.parts(size))
    assert [len(part.images) for part in parts] == expected
    for name in ("images", "masks", "class_indices"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(batch, name))


def test_a_batch_without_regions_is_cut_into_parts():
    batch = replace(make_batch([0, 1, 0]), masks=torch.zeros(3, 0, 4, 8, 8))
    assert [part.masks.shape[:2] for part in batch.parts(2)] == [(2, 0), (1, 0)]


@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.2, 3.0)], ids=["equal classes", "weighted classes"])
@pytest.mark.parametrize(
    "class_indices", [[0, 1, 1, 0, 1], [UNKNOWN_CLASS_INDEX, UNKNOWN_CLASS_INDEX, 1, 0, 1], [UNKNOWN_CLASS_INDEX] * 5]
)
def test_parts_of_a_batch_give_the_gradients_of_the_whole(spec, settings, weights, class_indices):
    def gradients_and_losses(size: int | None) -> tuple[list[torch.Tensor], list[float]]:
        torch.manual_seed(0)
        model = ModelSpec(**spec).build().train()
        optimizer = torch.optim.SGD(model.parameters(), 0.0)
        loss = JointLoss(settings["loss"], torch.tensor(weights))
        changes = {"micro_batch_size": size, "max_gradient_norm": 1e9}
        losses = train_epochs(model, optimizer, loss, [[make_batch(class_indices)]], settings | changes)
        return [weight.grad for weight in model.parameters()], losses

    expected, expected_losses = gradients_and_losses(None)
    for size in (1, 2, 4):
        found, losses = gradients_and_losses(size)
        torch.testing.assert_close(found, expected)
        assert losses == pytest.approx(expected_losses)


@pytest.mark.parametrize(("size", "expected"), [(None, [5]), (2, [2, 2, 1])])
def test_no_more_cases_are_computed_at_once_than_a_part_has(spec, settings, size, expected):
    model, computed = ModelSpec(**spec).build().train(), []
    model.register_forward_hook(lambda model, inputs, logits: computed.append(len(inputs[0])))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    loss = JointLoss(settings["loss"], torch.ones(2))
    train_epochs(model, optimizer, loss, [[make_batch([0, 1, 0, 1, 0])]], settings | {"micro_batch_size": size})
    assert computed == expected


def test_a_site_that_computes_in_parts_sends_the_same_but_for_rounding(train, settings):
    settings |= {"batch_size": 5, "epochs_per_round": 1}
    whole = load_model_file(train("whole").update).weights
    settings["micro_batch_size"] = 2
    parts = load_model_file(train("parts").update)
    assert parts.lineage.num_steps == 1
    torch.testing.assert_close(parts.weights, whole, rtol=1e-4, atol=1e-5)


# How it is computed.


def test_a_frozen_encoder_stays_as_it_starts(train, settings, i3d_start, i3d_shard):
    settings["freeze_encoder"] = True
    before = load_model_file(i3d_start).weights
    after = load_model_file(train(start=i3d_start, shards=[i3d_shard], keep=True).update).weights
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if not name.startswith("encoder.")}


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_a_site_with_a_frozen_encoder_continues(train, settings, make_global, name):
    settings["freeze_encoder"] = True
    settings["optimizer"]["name"] = name
    first = train(keep=True)
    second = train(start=make_global(first.update), round_number=2, state=first.state, keep=True)
    before, after = load_model_file(first.update).weights, load_model_file(second.update).weights
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert changed == {key for key in before if not key.startswith("encoder.")}


def test_checkpointed_activations_give_the_same_bytes(train, settings, i3d_start, i3d_shard):
    plain = train("plain", start=i3d_start, shards=[i3d_shard])
    settings["checkpoint_activations"] = True
    thrifty = train("thrifty", start=i3d_start, shards=[i3d_shard])
    assert thrifty.update.read_bytes() == plain.update.read_bytes()


def test_training_in_bfloat16_sends_float32_weights_and_learns_as_in_float32(train, settings):
    exact = train("exact")
    settings["precision"] = "bfloat16"
    rounded, again = train("rounded"), train("again")
    assert {tensor.dtype for tensor in load_model_file(rounded.update).weights.values()} == {torch.float32}
    assert rounded.update.read_bytes() != exact.update.read_bytes()
    assert rounded.update.read_bytes() == again.update.read_bytes()
    exact_losses, losses = (json.loads(paths.metrics.read_text())["epoch_losses"] for paths in (exact, rounded))
    assert losses == pytest.approx(exact_losses, rel=0.02)


def test_two_threads_give_the_same_bytes_twice(train, tmp_path, make_case, write_shard, settings):
    settings["epochs_per_round"] = 1
    # Large enough to be shared out.
    images = np.random.default_rng(0).integers(0, 256, (2, 1, 8, 64, 64), dtype=np.uint8)
    shard = write_shard(tmp_path / "large", [make_case("a"), make_case("b")], images)
    torch.set_num_threads(2)
    try:
        first, second = (train(name, shards=[shard]) for name in ("first", "second"))
    finally:
        torch.set_num_threads(1)
    assert first.update.read_bytes() == second.update.read_bytes()


def test_deterministic_algorithms_change_nothing_on_the_cpu(train, settings):
    usual = train("usual")
    settings["deterministic"] = True
    try:
        deterministic = train("deterministic")
    finally:
        torch.use_deterministic_algorithms(False)
    assert deterministic.update.read_bytes() == usual.update.read_bytes()


# A site of 10 cases, then one of 300: kB of memory that no file is behind, after each. A job on the CPU keeps what it
# frees, so this is the most that it held at once. Resident memory also counts pages of files, which the kernel decides.
TRAIN_TWO_SITES = """
import json, sys
from pathlib import Path
from fedpedbrain.base.cases import Shard
from fedpedbrain.jobs.devices import take_device
from fedpedbrain.federated.site import SitePlan
from fedpedbrain.federated.site_files import SiteFiles, train_site_files
from fedpedbrain.training.batches import SiteRound
folder, plan, device = Path(sys.argv[1]), SitePlan(**json.loads(sys.argv[2])), take_device(0, 1)
for site in ("small", "large"):
    paths = [folder / f"{site}.{suffix}" for suffix in ("pth", "state.pth", "json")]
    files = SiteFiles(folder / "start.pth", [Shard(folder / site, folder / site / "cases.tsv")], *paths)
    train_site_files(files, SiteRound("fedavg", 0, 1, site), plan, device)
    counts = dict(line.split(":") for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:])
    print(sum(int(counts[kind].split()[0]) for kind in ("Anonymous", "Swap")))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads memory from /proc")
@pytest.mark.parametrize("patch", [None, {"size": [4, 32, 32], "per_case": 1, "foreground_share": 0.5}])
def test_a_sites_number_of_cases_does_not_decide_its_memory(
    tmp_path, settings, make_plan, spec, make_case, write_shard, patch
):
    settings |= {"epochs_per_round": 1, "batch_size": 4, "patch": patch}
    # 0.2 MB a case with its mask: 60 MB of 300.
    grid = (16, 64, 96)
    spec["options"]["strides"] = [[2, 8, 8], [2, 2, 2]]
    spec["preprocessing"]["grid"] = list(grid)
    initialize_model_files(tmp_path / "start.pth", spec, 0, 7, None, {})
    for site, num_cases in (("small", 10), ("large", 300)):
        images = np.random.default_rng(0).integers(0, 256, (num_cases, 1, *grid), dtype=np.uint8)
        write_shard(tmp_path / site, [make_case(f"{site}-{number}", "north") for number in range(num_cases)], images)
    command = [sys.executable, "-c", TRAIN_TWO_SITES, str(tmp_path), json.dumps(vars(make_plan()))]
    answer = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    small_kb, large_kb = map(int, answer.stdout.split())
    assert load_model_file(tmp_path / "large.pth").lineage.num_cases == 300
    assert large_kb - small_kb < 15_000


# Batch statistics.


def test_batch_statistics_are_taken_anew_as_the_mean_over_the_batches():
    norm = nn.BatchNorm3d(1, momentum=0.3).train()
    norm.running_mean.fill_(100.0)
    batches = [
        Batch(torch.tensor(values).reshape(2, 1, 1, 1, 1), torch.zeros(2), torch.zeros(2))
        for values in ([1.0, 3.0], [5.0, 11.0])
    ]
    refresh_batch_statistics(norm, batches)
    # Means 2 and 8, unbiased variances 2 and 18.
    assert norm.running_mean.item() == pytest.approx(5.0)
    assert norm.running_var.item() == pytest.approx(10.0)
    assert norm.momentum == 0.3
    assert norm.training


def test_frozen_batch_statistics_are_not_taken_anew():
    norm = nn.BatchNorm3d(1).eval()
    norm.running_mean.fill_(100.0)
    refresh_batch_statistics(norm, [make_batch([0, 1])])
    assert norm.running_mean.item() == 100.0
