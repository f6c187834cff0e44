import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fedpedbrain.base.cases import UNKNOWN_CLASS_INDEX, read_cases
from fedpedbrain.base.errors import StudyError
from fedpedbrain.base.files import sha256_of_file
from fedpedbrain.base.lineage import digest_of
from fedpedbrain.base.seeds import derive_seed
from fedpedbrain.data.grid.dataset import ShardDataset
from fedpedbrain.models.files import (
    load_model_file,
    load_tensors,
)
from fedpedbrain.models.placement import to_device
from fedpedbrain.models.pretrained import initialize_model_files
from fedpedbrain.training.augmentation import Augmentation
from fedpedbrain.training.batches import SiteRound, epoch_batches
from fedpedbrain.training.epochs import refresh_batch_statistics, train_model
from fedpedbrain.training.optimizers import build_optimizer

CPU = torch.device("cpu")
CLASSES = ["normal", "dipg"]
SITE_ROUND = SiteRound("fedavg", 0, 1, "north")
DITTO = {"strategy": {"name": "ditto", "lambda": 0.1}}


def weights_differ(first: Path, second: Path) -> bool:
    one, other = load_model_file(first).weights, load_model_file(second).weights
    assert one.keys() == other.keys()
    return any(not torch.equal(one[name], other[name]) for name in one)


def test_an_update_states_where_it_comes_from(train, start, shard):
    lineage = load_model_file(train().update).lineage
    assert (lineage.kind, lineage.arm, lineage.seed, lineage.round, lineage.site) == ("update", "fedavg", 0, 1, "north")
    assert lineage.num_cases == 5
    # Two epochs of batches of 2, 2 and 1.
    assert lineage.num_steps == 6
    assert lineage.settings_digest == "digest"
    assert lineage.parent_sha256 == sha256_of_file(start)
    assert lineage.cases_sha256 == digest_of({f"case-{n}": f"sha-of-case-{n}" for n in range(5)})


def test_an_update_has_other_weights_and_the_same_network(train, start):
    update = train().update
    assert weights_differ(start, update)
    assert load_model_file(update).spec == load_model_file(start).spec


def test_metrics_say_what_was_done(train, settings):
    paths = train()
    metrics = json.loads(paths.metrics.read_text())
    assert {key: metrics[key] for key in ("arm", "seed", "round", "site", "num_cases", "num_steps")} == {
        "arm": "fedavg",
        "seed": 0,
        "round": 1,
        "site": "north",
        "num_cases": 5,
        "num_steps": 6,
    }
    assert metrics["learning_rate"] == 0.01
    assert metrics["update_bytes"] == paths.update.stat().st_size
    assert len(metrics["epoch_losses"]) == 2
    assert all(0 < loss < 10 for loss in metrics["epoch_losses"])


def test_two_runs_give_the_same_bytes(train):
    first, second = train("first", keep=True), train("second", keep=True)
    assert first.update.read_bytes() == second.update.read_bytes()
    assert first.state.read_bytes() == second.state.read_bytes()
    assert json.loads(first.metrics.read_text()) == json.loads(second.metrics.read_text())


def test_two_runs_with_dropout_give_the_same_bytes(train, tmp_path, spec):
    spec["options"]["dropout"] = 0.5
    initialize_model_files(tmp_path / "dropout.pth", spec, 0, 7, None, {})
    first = train("first", start=tmp_path / "dropout.pth")
    torch.rand(5)
    assert train("second", start=tmp_path / "dropout.pth").update.read_bytes() == first.update.read_bytes()


@pytest.mark.parametrize("work", [{"seed": 1}, {"site": "south"}], ids=["seed", "site"])
def test_another_seed_or_site_goes_through_the_cases_in_another_way(train, tmp_path, spec, work):
    initialize_model_files(tmp_path / "other.pth", spec, work.get("seed", 0), 7, None, {})
    assert weights_differ(train("first").update, train("second", start=tmp_path / "other.pth", **work).update)


def test_the_arm_does_not_change_what_is_drawn(train):
    assert not weights_differ(train("first", arm="fedavg").update, train("second", arm="local-north").update)


def test_training_lowers_the_loss(train, settings):
    settings["epochs_per_round"] = 25
    losses = json.loads(train().metrics.read_text())["epoch_losses"]
    assert np.mean(losses[-5:]) < 0.75 * losses[0]


@pytest.mark.parametrize("num_cases", [1, 3])
def test_a_site_smaller_than_one_batch_trains(train, tmp_path, make_case, write_shard, start, settings, num_cases):
    settings["batch_size"] = 4
    cases = [make_case(f"case-{n}") for n in range(num_cases)]
    update = train(shards=[write_shard(tmp_path / "small", cases)]).update
    lineage = load_model_file(update).lineage
    assert (lineage.num_cases, lineage.num_steps) == (num_cases, 2)
    assert weights_differ(start, update)


def test_the_cases_of_the_last_smaller_batch_are_learnt_from(train, shard, settings, write_shard):
    settings |= {"batch_size": 4, "epochs_per_round": 1}
    first = train("first").update
    assert [len(batch.images) for batch in batches_of(shard, settings)] == [4, 1]
    last = np.random.default_rng(derive_seed(0, "order", 1, 1, "north")).permutation(5)[-1]
    images = np.load(shard.folder / "images.npy")
    images[last] = 255 - images[last]
    write_shard(shard.folder, read_cases(shard.cases), images, np.load(shard.folder / "masks.npy"))
    assert weights_differ(first, train("second").update)


def test_a_pooled_site_trains_on_all_its_shards(train, shard, tmp_path, make_case, write_shard):
    other = write_shard(tmp_path / "south", [make_case("other", "south"), make_case("test", "south", "test")])
    lineage = load_model_file(train(shards=[shard, other], site="pooled").update).lineage
    assert lineage.num_cases == 6
    assert lineage.cases_sha256 == digest_of(
        {f"case-{n}": f"sha-of-case-{n}" for n in range(5)} | {"other": "sha-of-other"}
    )


def test_a_site_without_any_known_class_trains_its_segmentation(train, tmp_path, make_case, write_shard, start):
    cases = [make_case(str(n), class_name="") for n in range(2)]
    update = train(shards=[write_shard(tmp_path / "unknown", cases)]).update
    assert weights_differ(start, update)
    assert all(tensor.isfinite().all() for tensor in load_model_file(update).weights.values())


@pytest.mark.parametrize("missing", ["regions", "classes"])
def test_a_study_of_one_task_trains(train, tmp_path, make_case, write_shard, spec, missing):
    spec[missing] = []
    initialize_model_files(tmp_path / "start.pth", spec, 0, 7, None, {})
    cases = [make_case("a", class_name="normal"), make_case("b")]
    masks = None if spec["regions"] else np.zeros((2, 0, 4, 8, 8), np.uint8)
    update = train(start=tmp_path / "start.pth", shards=[write_shard(tmp_path / "one-task", cases, masks=masks)]).update
    assert weights_differ(tmp_path / "start.pth", update)


def test_long_gradients_are_shortened(train, settings, start):
    settings["optimizer"] |= {"name": "sgd", "momentum": 0.0, "weight_decay": 0.0, "learning_rate": 1.0}
    settings |= {"max_gradient_norm": 1e-3, "batch_size": 5, "epochs_per_round": 1}
    before, after = load_model_file(start).weights, load_model_file(train().update).weights
    # One step at rate 1 has the gradient's length.
    length = sum(((after[name] - before[name]).double() ** 2).sum() for name in before).sqrt()
    assert length.item() == pytest.approx(1e-3, rel=0.02)


# Batches.


def batches_of(shard: Path, settings: dict, round_number: int = 1, epoch: int = 1) -> list:
    dataset = ShardDataset([shard], {"train"})
    indices = dataset.class_indices(CLASSES, UNKNOWN_CLASS_INDEX)
    work = SiteRound("fedavg", 0, round_number, "north")
    return list(epoch_batches(dataset, indices, settings, work, epoch, CPU))


def test_an_epoch_takes_every_case_once(shard, settings):
    settings["augmentation"] = dict.fromkeys(settings["augmentation"], 0.0) | {"name": "in_plane", "crop_fraction": 1.0}
    batches = batches_of(shard, settings)
    assert [len(batch.images) for batch in batches] == [2, 2, 1]
    dataset = ShardDataset([shard], {"train"})
    expected = sorted(float(dataset.image(row).mean()) / 255 for row in range(5))
    found = sorted(image.mean().item() for batch in batches for image in batch.images)
    assert found == pytest.approx(expected, rel=1e-4)
    assert sorted(index for batch in batches for index in batch.class_indices.tolist()) == [0, 0, 0, 1, 1]


def test_image_mask_and_class_of_a_batch_belong_together(tmp_path, make_case, write_shard, settings):
    settings["augmentation"] = dict.fromkeys(settings["augmentation"], 0.0) | {"name": "in_plane", "crop_fraction": 1.0}
    cases = [make_case(str(n), class_name=("normal", "dipg")[n % 2]) for n in range(4)]
    masks = np.zeros((4, 1, 4, 8, 8), np.uint8)
    masks[1::2] = 1
    shard = write_shard(tmp_path / "alternating", cases, masks * np.uint8(255), masks)
    for batch in batches_of(shard, settings):
        for image, mask, index in zip(batch.images, batch.masks, batch.class_indices, strict=True):
            assert (image == index).all()
            assert (mask == index).all()


@pytest.mark.parametrize(("round_number", "epoch"), [(1, 2), (2, 1)], ids=["epoch", "round"])
def test_every_epoch_and_round_has_its_own_order(shard, settings, round_number, epoch):
    first = torch.cat([batch.images for batch in batches_of(shard, settings)])
    other = torch.cat([batch.images for batch in batches_of(shard, settings, round_number, epoch)])
    assert not torch.equal(first, other)


def test_images_turn_in_mm(tmp_path, make_case, write_shard, settings):
    settings["augmentation"] |= {"rotation_degrees": 90.0, "crop_fraction": 1.0, "gamma_spread": 0.0}
    # Twice as wide as high.
    case = replace(make_case("a"), grid_spacing_mm=(5.0, 10.0, 20.0))
    shard = write_shard(tmp_path / "wide", [case])
    (batch,) = batches_of(shard, settings)
    dataset = ShardDataset([shard], {"train"})
    image, mask = (torch.from_numpy(read(0)[None]) for read in (dataset.image, dataset.mask))
    augmentation = Augmentation(settings["augmentation"])
    change = augmentation.draw(0, 1, 1, "a", shape=image.shape[1:], spacing_mm=case.grid_spacing_mm)
    assert change.aspect == 0.5
    expected, _ = augmentation(image, mask, [change])
    assert torch.equal(batch.images, expected)


# Losses.


@pytest.mark.parametrize(
    ("weight", "is_known", "expected"), [(0.0, True, True), (1.0, True, False), (1.0, False, True)]
)
def test_classes_without_weight_cost_nothing(
    train, settings, tmp_path, make_case, write_shard, weight, is_known, expected
):
    settings["loss"] |= {"segmentation_weight": 0.0, "class_weights": dict.fromkeys(CLASSES, weight)}
    cases = [make_case(name, class_name="dipg" if is_known else "") for name in "ab"]
    paths = train(shards=[write_shard(tmp_path / "site", cases)])
    assert (json.loads(paths.metrics.read_text())["epoch_losses"] == [0.0, 0.0]) is expected


@pytest.mark.parametrize("num_cases", [(4, 1), (2, 2)], ids=["uneven", "even"])
def test_balancing_changes_a_site_whose_classes_are_uneven(
    train, settings, tmp_path, make_case, write_shard, num_cases
):
    names = [name for name, count in zip(CLASSES, num_cases, strict=True) for _ in range(count)]
    cases = [make_case(f"case-{number}", class_name=name) for number, name in enumerate(names)]
    shard = write_shard(tmp_path / "site", cases)
    plain = train("plain", shards=[shard])
    settings["loss"]["balance_classes"] = True
    balanced = train("balanced", shards=[shard])
    assert weights_differ(plain.update, balanced.update) is (num_cases == (4, 1))


def test_a_balanced_site_without_any_known_class_trains_its_segmentation(
    train, settings, start, tmp_path, make_case, write_shard
):
    settings["loss"]["balance_classes"] = True
    shard = write_shard(tmp_path / "unknown", [make_case(name, class_name="") for name in "ab"])
    update = train(shards=[shard]).update
    assert weights_differ(start, update)
    assert all(tensor.isfinite().all() for tensor in load_model_file(update).weights.values())


# Optimizer state.


@pytest.mark.parametrize(("name", "is_exact"), [("adamw", True), ("sgd", True), ("schedule_free_adamw", False)])
def test_a_kept_optimizer_continues_as_if_it_had_never_stopped(
    train, start, shard, settings, make_global, name, is_exact
):
    settings["optimizer"]["name"] = name
    first = train(keep=True)
    second = train(start=make_global(first.update), round_number=2, state=first.state, keep=True)

    model = to_device(load_model_file(start).to_model(), CPU)
    optimizer = build_optimizer(model.parameters(), settings["optimizer"], 0.01)
    dataset = ShardDataset([shard], {"train"})
    for number in (1, 2):
        train_model(model, optimizer, dataset, CLASSES, settings, SiteRound("fedavg", 0, number, "north"), CPU)
    for name, tensor in load_model_file(second.update).weights.items():
        # Schedule-free, what lies between the weights and the second point is rounded when it is kept.
        torch.testing.assert_close(tensor, model.state_dict()[name], rtol=1e-5, atol=0 if is_exact else 1e-5)
        assert not is_exact or torch.equal(tensor, model.state_dict()[name]), name


@pytest.mark.parametrize("name", ["adamw", "schedule_free_adamw"])
def test_a_fresh_optimizer_forgets(train, settings, make_global, name):
    settings["optimizer"]["name"] = name
    first = train(keep=True)
    start = make_global(first.update)
    kept = train("kept", start=start, round_number=2, state=first.state, keep=True)
    fresh = train("fresh", start=start, round_number=2, state=first.state, keep=False)
    without = train("without", start=start, round_number=2, state=None, keep=True)
    assert weights_differ(kept.update, fresh.update)
    assert not weights_differ(fresh.update, without.update)


def test_a_kept_optimizer_takes_the_rounds_learning_rate(train, settings, make_global):
    settings["schedule"] |= {"name": "step", "step_rounds": 1, "step_factor": 0.5}
    first = train(keep=True)
    second = train(start=make_global(first.update), round_number=2, state=first.state, keep=True)
    assert json.loads(second.metrics.read_text())["learning_rate"] == 0.005
    assert load_tensors(second.state)["optimizer"]["param_groups"][0]["lr"] == 0.005


def test_an_optimizer_that_is_not_kept_is_not_stored(train):
    assert load_tensors(train(keep=False).state)["optimizer"] is None


def test_a_schedule_free_site_sends_the_weights_to_be_used(train, start, shard, settings):
    settings["optimizer"]["name"] = "schedule_free_adamw"
    update = train(keep=True).update
    model = to_device(load_model_file(start).to_model(), CPU)
    optimizer = build_optimizer(model.parameters(), settings["optimizer"], 0.01)
    train_model(model, optimizer, ShardDataset([shard], {"train"}), CLASSES, settings, SITE_ROUND, CPU)
    used = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer.train()
    sent = load_model_file(update).weights
    assert all(torch.equal(sent[name], used[name]) for name in used)
    assert not any(torch.equal(sent[name], trained) for name, trained in model.state_dict().items())


def test_schedule_free_training_sends_the_batch_statistics_of_the_weights_that_it_sends(
    train, settings, i3d_start, i3d_shard
):
    settings["optimizer"]["name"] = "schedule_free_adamw"
    update = load_model_file(train(start=i3d_start, shards=[i3d_shard]).update)
    model = to_device(update.to_model(), CPU).train()
    refresh_batch_statistics(model, batches_of(i3d_shard, settings, epoch=settings["epochs_per_round"]))
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(update.weights[name], tensor, msg=name)


def test_other_training_sends_the_batch_statistics_that_it_went_through(train, settings, i3d_start, i3d_shard):
    weights = load_model_file(train(start=i3d_start, shards=[i3d_shard]).update).weights
    # Two epochs of three batches.
    assert weights["up1.bn.num_batches_tracked"] == 6


# What is refused.


def assert_refused(train: Callable, tmp_path: Path, match: str, **options) -> None:
    with pytest.raises(StudyError, match=match):
        train("refused", **options)
    assert not list(tmp_path.glob("refused*"))


def test_a_start_of_another_round_is_refused(train, tmp_path):
    assert_refused(
        train, tmp_path, r"initial\.pth: expected kind 'global' and site '', found 'initial'", round_number=2
    )


def test_a_start_of_another_seed_is_refused(train, tmp_path):
    assert_refused(train, tmp_path, r"initial\.pth: expected seed 1 and round 0, found 0 and 0", seed=1)


def test_a_start_of_another_arm_is_refused(train, tmp_path, make_global):
    start = make_global(train().update, arm="fedprox")
    match = r"global\.pth: expected a model of arm 'fedavg' .* found arm 'fedprox'"
    assert_refused(train, tmp_path, match, start=start, round_number=2)


def test_a_start_of_other_settings_is_refused(train, tmp_path, make_global):
    start = make_global(train().update, settings_digest="another digest")
    match = (
        r"global\.pth: expected a model of arm 'fedavg' with settings digest, found arm 'fedavg' with another digest"
    )
    assert_refused(train, tmp_path, match[:-4], start=start, round_number=2)


def test_an_update_is_no_start(train, tmp_path):
    assert_refused(train, tmp_path, r"north-1\.pth: ", start=train().update, round_number=2)


def test_a_site_without_training_cases_is_refused_by_name(train, tmp_path, make_case, write_shard):
    shard = write_shard(tmp_path / "tested", [make_case("a", split="test")])
    assert_refused(train, tmp_path, "site north: no training case", shards=[shard])


@pytest.mark.parametrize("site", ["north", "pooled"])
def test_cases_of_a_site_that_is_none_of_the_participants_are_refused_by_name(
    train, tmp_path, shard, make_case, write_shard, site
):
    # South's file in the place of another's.
    shards = [shard, write_shard(tmp_path / "swapped", [make_case("a", "south")])]
    match = rf"^arm fedavg, site {site}, round 1: expected cases of north, east in its shards, found a of south; delete"
    assert_refused(train, tmp_path, match, shards=shards, site=site, plan={"cases_of": ["north", "east"]})


@pytest.mark.parametrize("block", [{}, {"privacy": {"clip_norm": 1.0}}, DITTO], ids=["plain", "clipped", "ditto"])
def test_training_that_diverges_names_the_arm_the_site_and_the_round(train, tmp_path, settings, block):
    settings["optimizer"] |= {"name": "sgd", "learning_rate": 1e38, "momentum": 0.9}
    match = r"^arm fedavg, site north, round 1: training diverged, \S+ holds NaN or infinite values; lower the learning"
    assert_refused(train, tmp_path, match, block=block)


def test_running_out_of_memory_names_the_arm_the_site_and_the_round(train, tmp_path, monkeypatch):
    monkeypatch.setattr("fedpedbrain.federated.site.train_model", lambda *arguments: torch.empty(1 << 50))
    match = r"arm fedavg, site north, round 1: out of memory with 2 cases of 4x8x8 voxels at once; set training\.micro"
    assert_refused(train, tmp_path, match)
