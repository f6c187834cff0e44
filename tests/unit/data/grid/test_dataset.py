from dataclasses import replace

import numpy as np
import pytest
from fedpedbrain.base.cases import read_cases, write_cases
from fedpedbrain.base.errors import StudyError
from fedpedbrain.data.grid.dataset import ShardDataset


@pytest.fixture
def shards(tmp_path, make_case, write_shard):
    """Two shards whose images are filled with 10 times the shard's number plus the row."""
    shards = []
    for number, (site, splits) in enumerate({"north": ["train", "test", "train"], "south": ["test", "train"]}.items()):
        cases = [make_case(f"{site}-{row}", site, split) for row, split in enumerate(splits)]
        images = np.zeros((len(cases), 1, 4, 8, 8), np.uint8)
        images += np.arange(len(cases), dtype=np.uint8).reshape(-1, 1, 1, 1, 1) + np.uint8(10 * number)
        shards.append(write_shard(tmp_path / site, cases, images, images % 2))
    return shards


def test_only_cases_of_the_asked_splits_are_kept(shards):
    dataset = ShardDataset(shards[:1], {"train"})
    assert len(dataset) == 2
    assert [case.case for case in dataset.cases] == ["north-0", "north-2"]
    assert [int(dataset.image(row).max()) for row in range(2)] == [0, 2]


def test_rows_run_on_over_several_shards(shards):
    dataset = ShardDataset(shards, {"train", "test"})
    assert [case.case for case in dataset.cases] == ["north-0", "north-1", "north-2", "south-0", "south-1"]
    assert [int(dataset.image(row).max()) for row in range(5)] == [0, 1, 2, 10, 11]
    assert [int(dataset.mask(row).max()) for row in range(5)] == [0, 1, 0, 0, 1]


def test_the_order_of_the_shards_is_the_order_of_the_rows(shards):
    dataset = ShardDataset(shards[::-1], {"test"})
    assert [case.case for case in dataset.cases] == ["south-0", "north-1"]
    assert [int(dataset.image(row).max()) for row in range(2)] == [10, 1]


@pytest.mark.parametrize("kind", ["image", "mask"])
def test_a_case_is_a_copy_that_leaves_the_file_as_it_is(shards, kind):
    dataset = ShardDataset(shards, {"train"})
    array = getattr(dataset, kind)(1)
    assert array.shape == (1, 4, 8, 8)
    assert array.dtype == np.uint8
    before = array.copy()
    array += 1
    assert np.array_equal(getattr(dataset, kind)(1), before)


@pytest.mark.parametrize("kind", ["image", "mask"])
def test_reading_a_case_maps_no_more_than_that_case(shards, kind):
    # Mapped pages that were read would count as memory in use for as long as the mapping lasts.
    array = getattr(ShardDataset(shards, {"train"}), kind)(1)
    assert type(array) is np.ndarray
    assert array.flags.owndata


@pytest.mark.parametrize("kind", ["image", "mask"])
def test_a_case_that_was_changed_since_it_was_preprocessed_is_refused(shards, kind):
    path = shards[0].folder / f"{kind}s.npy"
    array = np.load(path)
    array[2, 0, 1, 2, 3] += 1
    np.save(path, array)
    dataset = ShardDataset(shards, {"train"})
    assert getattr(dataset, kind)(0).shape == (1, 4, 8, 8)
    with pytest.raises(
        StudyError, match=f"^{path}: case north-2: expected SHA-256 .*; delete {shards[0].folder} and run again$"
    ):
        getattr(dataset, kind)(1)


def test_a_case_without_digests_is_refused(shards):
    cases = [replace(case, grid_sha256=()) for case in read_cases(shards[0].cases)]
    write_cases(shards[0].cases, cases)
    with pytest.raises(StudyError, match="case north-0: expected SHA-256 no digest, found "):
        ShardDataset(shards, {"train"}).image(0)


# Maps.


@pytest.mark.parametrize("kind", ["image", "mask"])
def test_a_map_is_the_case_and_reads_no_more_than_what_is_used(shards, kind):
    dataset = ShardDataset(shards, {"train"})
    for row in (0, 1, 1):
        mapped = getattr(dataset, f"{kind}_map")(row)
        assert isinstance(mapped, np.memmap)
        assert mapped.shape[1:] == dataset.grid_shape(row) == (4, 8, 8)
        assert np.array_equal(mapped, getattr(dataset, kind)(row))


@pytest.mark.parametrize("kind", ["image", "mask"])
def test_a_map_of_a_case_that_was_changed_is_refused(shards, kind):
    path = shards[0].folder / f"{kind}s.npy"
    array = np.load(path)
    array[2, 0, 1, 2, 3] += 1
    np.save(path, array)
    dataset = ShardDataset(shards, {"train"})
    with pytest.raises(StudyError, match=f"^{path}: case north-2: expected SHA-256 "):
        getattr(dataset, f"{kind}_map")(1)


def test_a_split_that_nobody_is_in_is_empty(shards):
    assert len(ShardDataset(shards, {"external"})) == 0


def test_selected_rows_are_read_from_where_they_were(shards):
    dataset = ShardDataset(shards, {"train", "test"})
    selected = dataset.select([4, 0, 2])
    assert [case.case for case in selected.cases] == ["south-1", "north-0", "north-2"]
    assert [int(selected.image(row).max()) for row in range(3)] == [11, 0, 2]
    assert len(selected) == len(selected.class_indices(["dipg"], -1)) == 3


def test_a_selection_leaves_the_data_set_as_it_is_and_may_be_selected_from_again(shards):
    dataset = ShardDataset(shards, {"train", "test"})
    selected = dataset.select([1, 3]).select([1])
    assert [case.case for case in selected.cases] == ["south-0"]
    assert int(selected.image(0).max()) == 10
    assert len(dataset) == 5
    assert int(dataset.image(1).max()) == 1


def test_class_indices_follow_the_order_of_the_classes_and_mark_the_unknown(tmp_path, make_case, write_shard):
    names = ["dipg", "", "normal", "of another study"]
    cases = [make_case(str(row), class_name=name) for row, name in enumerate(names)]
    dataset = ShardDataset([write_shard(tmp_path / "north", cases)], {"train"})
    indices = dataset.class_indices(["normal", "dipg"], -1)
    assert indices.dtype == np.int64
    assert indices.tolist() == [1, -1, 0, -1]


SIZES = [(2, 6, 5), (4, 3, 7), (1, 2, 2)]


@pytest.fixture
def own_sizes(tmp_path, make_case, write_shard):
    """A shard of three cases of their own size, two channels in half precision and one region."""
    rng = np.random.default_rng(0)
    cases = [make_case(f"case-{row}", "north", split) for row, split in enumerate(["train", "test", "train"])]
    images = [rng.normal(size=(2, *size)).astype(np.float16) for size in SIZES]
    return write_shard(tmp_path / "own", cases, images, [(image[:1] > 0).astype(np.uint8) for image in images]), images


def test_cases_of_their_own_size_are_read_by_their_row(own_sizes):
    shard, images = own_sizes
    dataset = ShardDataset([shard], {"train"})
    assert [dataset.grid_shape(row) for row in range(2)] == [SIZES[0], SIZES[2]]
    for row, image in enumerate((images[0], images[2])):
        np.testing.assert_array_equal(dataset.image(row), image)
        np.testing.assert_array_equal(dataset.mask(row), image[:1] > 0)
    np.testing.assert_array_equal(dataset.select([1]).image(0), images[2])


@pytest.mark.parametrize("kind", ["image", "mask"])
def test_a_map_is_the_case_and_cannot_be_written(shards, own_sizes, kind):
    for shard in (shards[0], own_sizes[0]):
        dataset = ShardDataset([shard], {"train"})
        mapped = getattr(dataset, f"{kind}_map")(1)
        assert isinstance(mapped, np.memmap)
        np.testing.assert_array_equal(mapped, getattr(dataset, kind)(1))
        with pytest.raises(ValueError, match="read-only"):
            mapped[:] = 0


def test_a_map_of_a_changed_case_is_refused_and_others_are_not_read(own_sizes):
    shard, images = own_sizes
    flat = np.load(shard.folder / "images.npy")
    flat[-1] += 1
    np.save(shard.folder / "images.npy", flat)
    dataset = ShardDataset([shard], {"train"})
    np.testing.assert_array_equal(dataset.image_map(0), images[0])
    with pytest.raises(StudyError, match="case case-2: expected SHA-256"):
        dataset.image_map(1)


def test_a_case_is_checked_once(own_sizes, monkeypatch):
    checks = []
    monkeypatch.setattr(
        ShardDataset, "_check", staticmethod(lambda case, part, *found: checks.append((case.case, part)))
    )
    dataset = ShardDataset([own_sizes[0]], {"train"})
    for _ in range(2):
        dataset.image(0), dataset.image_map(0), dataset.select([0]).image_map(0), dataset.mask_map(0)
    assert checks == [("case-0", "images"), ("case-0", "masks")]


def test_a_table_that_says_nothing_of_sizes_is_read(shards):
    cases = read_cases(shards[0].cases)
    write_cases(shards[0].cases, [replace(case, grid_shape=()) for case in cases])
    assert ShardDataset(shards[:1], {"train"}).grid_shape(1) == (4, 8, 8)
