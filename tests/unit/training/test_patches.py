"""Where patches lie, what is read of a case, and what an epoch is made of."""

import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from fedpedbrain.base.cases import UNKNOWN_CLASS_INDEX, Shard
from fedpedbrain.base.choices import defaults_of
from fedpedbrain.data.grid.dataset import ShardDataset
from fedpedbrain.study.augmentation_facts import AUGMENTATIONS
from fedpedbrain.training.batches import SiteRound
from fedpedbrain.training.patches import CasePatches, patch_batches

CPU = torch.device("cpu")
GRID = (6, 20, 24)
PATCH = {"size": [2, 8, 8], "per_case": 3, "foreground_share": 0.5}
IN_PLACE = {
    "name": "in_plane",
    "crop_fraction": 1.0,
    "rotation_degrees": 0.0,
    "zoom_spread": 0.0,
    "flip_probability": 0.0,
    "gamma_spread": 0.0,
}


@pytest.fixture
def make_dataset(tmp_path, make_case, write_shard):
    """``make_dataset(num_cases, grid)``: images of noise from 1 on, and two regions, a box and a single voxel."""

    def _make(num_cases: int = 4, grid=GRID, folder: str = "north", first: int = 0) -> ShardDataset:
        names = [f"case-{first + number}" for number in range(num_cases)]
        cases = [make_case(name, class_name=("normal", "dipg")[number % 2]) for number, name in enumerate(names)]
        images = np.random.default_rng(first).integers(1, 256, (num_cases, 2, *grid), dtype=np.uint8)
        masks = np.zeros((num_cases, 2, *grid), np.uint8)
        masks[:, 0, : grid[0] // 2, 4:8, 5:9] = 1
        masks[:, 1, -1, -1, -1] = 1
        return ShardDataset([write_shard(tmp_path / folder, cases, images, masks)], {"train"})

    return _make


def volume_settings(**changes) -> dict:
    return {"name": "volume"} | defaults_of(AUGMENTATIONS["volume"].options) | changes


def starts_of(dataset: ShardDataset, settings: dict, num: int = 200, row: int = 0) -> np.ndarray:
    """Starts of patches of a case, int (num, 3), over many epochs."""
    patches = CasePatches(dataset, settings)
    return np.array([patches.draw(row, 0, 0, 1, epoch) for epoch in range(num)])


def batches_of(dataset, settings, arm="fedavg", seed=0, round_number=1, site="north", epoch=1, context=0) -> list:
    indices = dataset.class_indices(["normal", "dipg"], UNKNOWN_CLASS_INDEX)
    work = SiteRound(arm, seed, round_number, site)
    return list(patch_batches(dataset, indices, settings, work, epoch, CPU, context=context))


@pytest.fixture
def patch_settings(settings) -> dict:
    """The training block of a study of patches that are not augmented."""
    return settings | {"patch": dict(PATCH), "augmentation": dict(IN_PLACE), "batch_size": 5}


# Where they lie.


def test_patches_lie_anywhere_on_the_grid(make_dataset):
    starts = starts_of(make_dataset(1), PATCH | {"foreground_share": 0.0})
    assert starts.min(0).tolist() == [0, 0, 0]
    assert starts.max(0).tolist() == [4, 12, 16]
    assert len(np.unique(starts[:, 0])) == 5


def test_patches_with_foreground_lie_around_a_voxel_of_either_region_within_the_grid(make_dataset):
    starts = starts_of(make_dataset(1), PATCH | {"foreground_share": 1.0})
    of_voxel = (starts == [4, 12, 16]).all(1)
    # Regions count alike, however large they are.
    assert 0.4 < of_voxel.mean() < 0.6
    of_box = starts[~of_voxel]
    assert of_box.min(0).tolist() == [0, 0, 1]
    assert of_box.max(0).tolist() == [1, 3, 4]


@pytest.mark.parametrize("size", [[2, 8, 8], [1, 5, 7], [6, 20, 24], [8, 8, 30]])
def test_a_patch_with_foreground_holds_foreground(make_dataset, size):
    dataset = make_dataset(1)
    patches = CasePatches(dataset, PATCH | {"size": size, "foreground_share": 1.0})
    for epoch in range(50):
        _, masks = patches.read(0, patches.draw(0, 0, 0, 1, epoch), size, 0)
        assert masks.any()


def test_a_case_without_a_region_has_patches_anywhere(tmp_path, make_case, write_shard):
    images = np.ones((1, 1, *GRID), np.uint8)
    for num_regions in (0, 1):
        masks = np.zeros((1, num_regions, *GRID), np.uint8)
        dataset = ShardDataset([write_shard(tmp_path / str(num_regions), [make_case("a")], images, masks)], {"train"})
        starts = starts_of(dataset, PATCH | {"foreground_share": 1.0})
        assert starts.max(0).tolist() == [4, 12, 16]


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0.0), (0.5, 1.5), (1 / 3, 1.0), (0.8, 2.4), (1.0, 3.0)])
def test_the_share_with_foreground_is_kept_case_by_case(make_dataset, monkeypatch, share, expected):
    dataset = make_dataset(1)
    patches = CasePatches(dataset, PATCH | {"foreground_share": share})
    asked = []
    monkeypatch.setattr(patches, "_draw_foreground", lambda rng, row: asked.append(row) or (0, 0, 0))
    counts = []
    for epoch in range(300):
        asked.clear()
        for number in range(3):
            patches.draw(0, number, 0, 1, epoch)
        counts.append(len(asked))
    assert set(counts) == {int(np.floor(expected)), int(np.ceil(expected))}
    assert np.mean(counts) == pytest.approx(expected, abs=0.1)


def test_a_draw_depends_on_case_and_seed_parts_alone(make_dataset):
    dataset = make_dataset(3)
    alone, among = CasePatches(dataset.select([1]), PATCH), CasePatches(dataset, PATCH)
    assert alone.draw(0, 2, 0, 1, 1) == among.draw(1, 2, 0, 1, 1)
    others = {among.draw(1, number, seed, round_number, epoch) for number, seed, round_number, epoch in
              [(2, 0, 1, 1), (1, 0, 1, 1), (2, 1, 1, 1), (2, 0, 2, 1), (2, 0, 1, 2)]}  # fmt: skip
    assert len(others) == 5


# What is read.


def test_what_is_read_is_the_case_there(make_dataset):
    dataset = make_dataset(2)
    images, masks = CasePatches(dataset, PATCH).read(1, (3, 5, 7), (4, 10, 12), 0)
    # One voxel more on either side of D and H, two of W.
    assert np.array_equal(images, dataset.image(1)[:, 2:6, 4:14, 5:17])
    assert np.array_equal(masks, dataset.mask(1)[:, 2:6, 4:14, 5:17])
    assert images.dtype == np.uint8


def test_around_a_case_lies_air_the_least_intensity_of_each_channel(tmp_path, make_case, write_shard):
    images = np.full((1, 2, 2, 4, 4), 9, np.uint8)
    images[0, :, 1, 2, 2] = 3, 5
    shard = write_shard(tmp_path / "small", [make_case("a")], images, np.ones((1, 1, 2, 4, 4), np.uint8))
    patches = CasePatches(ShardDataset([shard], {"train"}), PATCH | {"size": [4, 7, 4]})
    start = patches.draw(0, 0, 0, 1, 1)
    # The case lies in the middle.
    assert start == (-1, -1, 0)
    found, masks = patches.read(0, start, (4, 7, 4), 0)
    assert np.array_equal(found[:, 1:3, 1:5], images[0])
    for channel, air in enumerate((3, 5)):
        assert (found[channel, [0, 3]] == air).all()
        assert (found[channel, :, [0, 5, 6]] == air).all()
    assert masks.sum() == 32


def test_a_network_that_sees_neighbours_reads_them_and_at_the_edge_the_last_slice_again(make_dataset):
    dataset = make_dataset(1)
    patches, image = CasePatches(dataset, PATCH), dataset.image(0)
    for first, slices in ((2, [0, 1, 2, 3, 4, 5]), (0, [0, 0, 0, 1, 2, 3]), (4, [2, 3, 4, 5, 5, 5])):
        images, masks = patches.read(0, (first, 5, 7), (6, 8, 8), 2)
        assert np.array_equal(images, image[:, slices, 5:13, 7:15])
        assert np.array_equal(masks, dataset.mask(0)[:, slices, 5:13, 7:15])


def test_neighbours_of_a_case_that_is_not_deep_enough_are_its_air(tmp_path, make_case, write_shard):
    images = np.full((1, 1, 2, 8, 8), 9, np.uint8)
    images[0, 0, 0, 0, 0] = 3
    shard = write_shard(tmp_path / "thin", [make_case("a")], images, np.zeros((1, 1, 2, 8, 8), np.uint8))
    patches = CasePatches(ShardDataset([shard], {"train"}), PATCH | {"size": [4, 8, 8]})
    found, _ = patches.read(0, patches.draw(0, 0, 0, 1, 1), (6, 8, 8), 1)
    assert found[0, :, 4, 4].tolist() == [3, 3, 9, 9, 3, 3]


def test_other_numbers_than_uint8_keep_their_dtype(make_dataset, monkeypatch):
    dataset = make_dataset(1)
    scores = (dataset.image(0).astype(np.float16) - 128) / 50
    monkeypatch.setattr(dataset, "image_map", lambda row: scores)
    images, _ = CasePatches(dataset, PATCH).read(0, (4, 12, 16), (4, 8, 8), 0)
    assert images.dtype == np.float16
    assert (images[0, -1] == scores[0].min()).all()


# Epochs.


def test_an_epoch_takes_as_many_patches_of_every_case(make_dataset, patch_settings):
    dataset = make_dataset(4)
    batches = batches_of(dataset, patch_settings)
    assert [len(batch.images) for batch in batches] == [5, 5, 2]
    assert batches[0].images.shape == (5, 2, 2, 8, 8)
    assert batches[0].masks.shape == (5, 2, 2, 8, 8)
    found = sorted(image.flatten().tolist() for batch in batches for image in batch.images)
    patches = CasePatches(dataset, PATCH)
    drawn = [patches.read(row, patches.draw(row, number, 0, 1, 1), PATCH["size"], 0)[0]
             for row in range(4) for number in range(3)]  # fmt: skip
    expected = sorted(torch.from_numpy(image).div(255).flatten().tolist() for image in drawn)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_image_mask_and_class_of_a_patch_belong_together(tmp_path, make_case, write_shard, patch_settings):
    names = ("normal", "dipg")
    cases = [make_case(str(number), class_name=names[number % 2]) for number in range(4)]
    masks = np.zeros((4, 1, *GRID), np.uint8)
    masks[1::2] = 1
    shard = write_shard(tmp_path / "alternating", cases, masks * np.uint8(255), masks)
    for batch in batches_of(ShardDataset([shard], {"train"}), patch_settings):
        for image, mask, index in zip(batch.images, batch.masks, batch.class_indices, strict=True):
            assert (image == index).all()
            assert (mask == index).all()


def patches_by_case(batches: list) -> set[tuple]:
    return {tuple(image.flatten().tolist()) for batch in batches for image in batch.images}


@pytest.mark.parametrize("augmentation", ["in_plane", "volume"])
def test_every_arm_draws_the_same_patches_of_a_case(tmp_path, make_dataset, patch_settings, augmentation):
    patch_settings["augmentation"] = {"name": augmentation}
    if augmentation == "in_plane":
        patch_settings["augmentation"] = IN_PLACE | {
            "rotation_degrees": 30.0,
            "gamma_spread": 0.3,
            "crop_fraction": 0.8,
        }
    else:
        # The same to the last bit where no rotation samples the whole batch at once.
        patch_settings["augmentation"] = volume_settings(rotation_probability=0.0, scaling_probability=0.0)
    north, south = make_dataset(3), make_dataset(2, folder="south", first=3)
    shards = [Shard(tmp_path / site, tmp_path / site / "cases.tsv") for site in ("north", "south")]
    pooled = ShardDataset(shards, {"train"})
    of_sites = [batches_of(dataset, patch_settings, "fedavg", site=site)
                for site, dataset in (("north", north), ("south", south))]  # fmt: skip
    together = patches_by_case(batches_of(pooled, patch_settings, "centralized", site="pooled"))
    assert len(together) == 15
    assert patches_by_case(of_sites[0]) | patches_by_case(of_sites[1]) == together


@pytest.mark.parametrize("change", [{"seed": 1}, {"round_number": 2}, {"epoch": 2}], ids=["seed", "round", "epoch"])
def test_other_epochs_draw_others(make_dataset, patch_settings, change):
    patch_settings["patch"]["foreground_share"] = 0.0
    dataset = make_dataset(3)
    first, other = (patches_by_case(batches_of(dataset, patch_settings, **own)) for own in ({}, change))
    assert not first & other


def test_a_rotated_patch_shows_what_lies_around_it(tmp_path, make_case, write_shard, patch_settings):
    # In an image of one intensity, with a dark rim that no patch of the middle looks at, no patch holds anything else.
    images = np.full((1, 1, 5, 60, 60), 200, np.uint8)
    images[..., 0] = 0
    masks = np.zeros((1, 1, 5, 60, 60), np.uint8)
    masks[0, 0, 2, 30, 30] = 1
    patch_settings["patch"] = {"size": [1, 16, 16], "per_case": 20, "foreground_share": 1.0}
    names = ("rotation_probability", "scaling_probability")
    nothing = {name: 0.0 for name in volume_settings() if name.endswith("_probability")}
    patch_settings["augmentation"] = volume_settings(**nothing | dict.fromkeys(names, 1.0))
    dataset = ShardDataset([write_shard(tmp_path / "even", [make_case("a")], images, masks)], {"train"})
    for batch in batches_of(dataset, patch_settings):
        torch.testing.assert_close(batch.images, torch.full_like(batch.images, 200 / 255))


@pytest.mark.parametrize("depth", [1, 2])
def test_images_have_the_neighbouring_slices_and_masks_their_own(make_dataset, patch_settings, depth):
    dataset = make_dataset(2)
    patch_settings["patch"] |= {"size": [depth, 8, 8], "foreground_share": 1.0}
    plain, seen = batches_of(dataset, patch_settings), batches_of(dataset, patch_settings, context=2)
    for one, other in zip(plain, seen, strict=True):
        assert other.images.shape[2] == depth + 4
        torch.testing.assert_close(other.images[:, :, 2:-2], one.images)
        assert torch.equal(other.masks, one.masks)


# Memory.


def resident_kb(folder: Path) -> int:
    """Memory that maps of a folder's files take of this process (proc(5), smaps)."""
    maps = re.split(r"\n(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text())
    return sum(int(re.search(r"^Rss: +(\d+)", block, re.MULTILINE)[1]) for block in maps if str(folder) in block)


def test_what_an_epoch_holds_does_not_grow_with_the_number_of_cases(make_dataset, patch_settings, tmp_path):
    grid, peaks = (16, 96, 96), {}
    patch_settings["augmentation"] = volume_settings()
    for num_cases in (3, 24):
        dataset = make_dataset(num_cases, grid, folder=str(num_cases))
        batches_of(dataset.select([0]), patch_settings)
        tracemalloc.start()
        for _ in range(2):
            mapped = max(resident_kb(tmp_path) for _ in patch_batches(
                dataset, np.zeros(num_cases, np.int64), patch_settings, SiteRound("a", 0, 1, "b"), 1, CPU
            ))  # fmt: skip
            assert mapped == 0
        peaks[num_cases] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    # 21 more cases, of which two would be more than that.
    assert peaks[24] < peaks[3] + 600_000


def test_a_patch_of_a_case_of_its_own_size_is_read_without_the_rest_of_it(tmp_path, make_case, write_shard):
    images = [np.zeros((1, depth, 128, 128), np.float16) for depth in (40, 80)]
    masks = [np.zeros((0, *image.shape[1:]), np.uint8) for image in images]
    dataset = ShardDataset([write_shard(tmp_path / "own", [make_case("a"), make_case("b")], images, masks)], {"train"})
    patches = CasePatches(dataset, {"size": [2, 16, 16], "per_case": 1, "foreground_share": 0.0})
    start = patches.draw(1, 0, 0, 1, 1)
    # What is done once per case: its digest, and what is air in it.
    patches.read(1, start, (2, 16, 16), 0)
    tracemalloc.start()
    patches.read(1, start, (2, 16, 16), 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(dataset.image_map(1), np.memmap)
    # The case has 2.6 MB, the patch 1 kB.
    assert peak < 100_000
