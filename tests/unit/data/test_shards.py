import hashlib
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from fedpedbrain.base.cases import Shard, read_cases
from fedpedbrain.base.errors import CohortError
from fedpedbrain.base.files import read_table, write_table
from fedpedbrain.data.formats.volumes import Volume
from fedpedbrain.data.grid.dataset import ShardDataset
from fedpedbrain.data.grid.frame_table import Geometry, read_frames
from fedpedbrain.data.grid.geometry import grid_frame
from fedpedbrain.data.index import index_site_files
from fedpedbrain.data.shards import (
    build_shard_files,
    measure_outlines,
    preprocess_images,
    preprocess_mask,
    split_shard_files,
)
from fedpedbrain.data.sources.source_files import settings_of_site

SPLITS = {"sub-01": "train", "sub-02": "test", "sub-03": "train", "sub-04": "validation", "sub-00": "train"}


@pytest.fixture
def preprocessing(config) -> dict:
    return config["preprocessing"] | {"grid": [4, 6, 5], "field_of_view": "image"}


@pytest.fixture
def build(tmp_path, source_settings, preprocessing):
    """Index the folder ``bids`` and build one site's shard, ``shard.tsv`` and arrays; returns the shard's folder."""

    def _build(site: str, name: str = "shard") -> Path:
        settings = settings_of_site(source_settings, site)
        index_site_files(settings, tmp_path / "index.tsv")
        folder = tmp_path / name
        paths = [folder / part for part in ("images.npy", "masks.npy", "shard.tsv", "outlines.tsv", "frames.tsv")]
        build_shard_files(tmp_path / "index.tsv", *paths, settings, preprocessing)
        return folder

    return _build


@pytest.fixture
def write_splits(tmp_path):
    """``write_splits(changes, without)``: the table of ``SPLITS`` with some changed and one patient left out."""

    def _write_splits(changes: dict[str, str] | None = None, without: str = "") -> Path:
        splits = SPLITS | (changes or {})
        rows = [{"patient": patient, "split": splits[patient]} for patient in splits if patient != without]
        write_table(tmp_path / "splits.tsv", ["patient", "split"], rows)
        return tmp_path / "splits.tsv"

    return _write_splits


def test_a_shard_has_the_sites_cases_in_the_order_of_the_index(bids, build):
    # Added last, but first in the index.
    bids.add("sub-00", "south", "dipg")
    folder = build("south")
    cases = read_cases(folder / "shard.tsv")
    assert [(case.case, case.split) for case in cases] == [("sub-00", ""), ("sub-03", ""), ("sub-04", "")]
    images, masks = np.load(folder / "images.npy"), np.load(folder / "masks.npy")
    assert (images.shape, images.dtype) == ((3, 1, 4, 6, 5), np.uint8)
    assert (masks.shape, masks.dtype) == ((3, 1, 4, 6, 5), np.uint8)


def test_a_case_carries_the_digests_of_its_rows(build):
    folder = build("south")
    arrays = [np.load(folder / part) for part in ("images.npy", "masks.npy")]
    for row, case in enumerate(read_cases(folder / "shard.tsv")):
        assert case.grid_sha256 == tuple(hashlib.sha256(array[row].tobytes()).hexdigest() for array in arrays)


def test_a_case_carries_the_spacing_of_its_grid(build, preprocessing):
    preprocessing |= {"grid": [2, 3, 5], "field_of_view": "image"}
    (case, _) = read_cases(build("north") / "shard.tsv")
    # 16 x 12 x 10 mm of the image in 2 x 3 x 5 voxels.
    assert case.grid_spacing_mm == pytest.approx((8.0, 4.0, 2.0))


def test_row_n_of_the_arrays_is_row_n_of_the_cases(bids, build, write_volume):
    dark = np.zeros(bids.shape, np.uint8)
    write_volume(bids.mask("sub-04"), dark)
    folder = build("south")
    rows = dict(
        zip((case.case for case in read_cases(folder / "shard.tsv")), np.load(folder / "masks.npy"), strict=True)
    )
    assert rows["sub-03"].any()
    assert not rows["sub-04"].any()


def test_the_tumour_is_where_the_image_is_bright(bids, build):
    folder = build("north")
    images, masks = np.load(folder / "images.npy"), np.load(folder / "masks.npy").astype(bool)
    assert images[masks].min() > np.median(images[~masks])


def test_building_again_gives_the_same_bytes(build):
    first, second = build("north", "first"), build("north", "second")
    for part in ("images.npy", "masks.npy", "shard.tsv"):
        assert (first / part).read_bytes() == (second / part).read_bytes()


def test_a_cohort_without_regions_has_shards_without_masks(build, write_splits, source_settings):
    source_settings["cohort"]["regions"] = []
    folder = build("north")
    assert np.load(folder / "masks.npy").shape == (2, 0, 4, 6, 5)
    split_shard_files(folder / "shard.tsv", write_splits(), folder / "cases.tsv")
    assert ShardDataset([Shard(folder, folder / "cases.tsv")], {"train"}).mask(0).shape == (0, 4, 6, 5)


def test_other_splits_read_the_same_shard(build, write_splits, tmp_path):
    folder = build("south")
    one, other = tmp_path / "one.tsv", tmp_path / "other.tsv"
    split_shard_files(folder / "shard.tsv", write_splits(), one)
    split_shard_files(folder / "shard.tsv", write_splits({"sub-03": "test"}), other)
    images = np.load(folder / "images.npy")
    first, second = (ShardDataset([Shard(folder, path)], {"train"}) for path in (one, other))
    assert [case.case for case in first.cases] == ["sub-03"]
    assert [case.case for case in second.cases] == []
    tested = ShardDataset([Shard(folder, other)], {"test"})
    assert [case.case for case in tested.cases] == ["sub-03"]
    np.testing.assert_array_equal(tested.image(0), images[0])


def test_a_case_whose_patient_has_no_split_is_refused(build, write_splits, tmp_path):
    folder = build("south")
    splits = write_splits(without="sub-03")
    with pytest.raises(CohortError) as caught:
        split_shard_files(folder / "shard.tsv", splits, tmp_path / "cases.tsv")
    assert str(caught.value) == f"{splits}: patient sub-03 has no split; delete the file and run again"
    assert not (tmp_path / "cases.tsv").exists()


def test_two_channels_are_two_images_in_order(bids, build, source_settings, config):
    bids.rows.clear()
    for subject in ("sub-01", "sub-02"):
        bids.add(subject, "north", "dipg", suffixes=("T1w", "T2w"))
    source_settings["sites"] = ["north"]
    source_settings["cohort"] |= {"channels": ["T1w", "T2w"], "sites": {"training": ["north"], "external": []}}
    source_settings["bids"] = config["bids"] | {"image_suffixes": ["T1w", "T2w"]}
    images = np.load(build("north") / "images.npy")
    assert images.shape == (2, 2, 4, 6, 5)
    # The folder's second image has twice the noise under the same tumour.
    assert not np.array_equal(images[:, 0], images[:, 1])


def test_a_region_is_the_union_of_its_labels():
    labels = np.zeros((2, 4, 8), np.uint8)
    labels[:, :, 2:4] = 1
    labels[:, :, 4:6] = 2
    labels[:, :, 6:] = 3
    mask = sitk.GetImageFromArray(labels)
    regions = [
        {"name": "whole", "labels": [1, 2, 3]},
        {"name": "ends", "labels": [1, 3]},
        {"name": "none", "labels": [9]},
    ]
    masks = preprocess_mask(mask, grid_frame(mask, (2, 4, 4), "image"), regions)
    assert masks.dtype == np.uint8
    expected = [[0, 1, 1, 1], [0, 1, 0, 1], [0, 0, 0, 0]]
    np.testing.assert_array_equal(masks, np.broadcast_to(np.array(expected)[:, None, None], (3, 2, 4, 4)))


def test_no_mask_file_means_empty_regions():
    frame = grid_frame(sitk.Image([8, 6, 4], sitk.sitkUInt8), (2, 3, 4), "image")
    masks = preprocess_mask(None, frame, [{"name": "whole", "labels": [1]}])
    assert masks.shape == (1, 2, 3, 4)
    assert not masks.any()


def test_outlines_are_measured_in_the_scan_and_where_the_box_cuts_them():
    image = np.zeros((8, 8, 8), np.float32)
    image[:, :, :6] = 100.0
    labels = np.zeros((8, 8, 8), np.uint8)
    labels[0, 0, 4:8] = 1
    labels[0, 1, 2] = 2
    scan, mask = sitk.GetImageFromArray(image), sitk.GetImageFromArray(labels)
    for volume in (scan, mask):
        volume.SetSpacing((5.0, 5.0, 40.0))
    regions = [{"name": "whole", "labels": [1, 2]}, {"name": "core", "labels": [2]}, {"name": "none", "labels": [9]}]
    # Voxels of 1 ml; the head ends before the last two columns.
    head = measure_outlines(mask, grid_frame(scan, (4, 4, 4), "foreground"), regions)
    assert head == {"whole": (pytest.approx(5.0), pytest.approx(2.0)), "core": (pytest.approx(1.0), 0.0)}
    everything = measure_outlines(mask, grid_frame(scan, (4, 4, 4), "image"), regions)
    assert everything["whole"] == (pytest.approx(5.0), 0.0)
    assert measure_outlines(None, grid_frame(scan, (4, 4, 4), "foreground"), regions) == {}


def test_a_shard_says_what_its_masks_outline(build):
    rows = read_table(build("north") / "outlines.tsv")
    assert [(row["case"], row["region"]) for row in rows] == [("sub-01", "whole_tumour"), ("sub-02", "whole_tumour")]
    # 8 voxels of 2 x 2 x 4 mm.
    assert [float(row["scan_ml"]) for row in rows] == pytest.approx([0.128, 0.128])
    assert {row["cut_ml"] for row in rows} == {"0.0"}


def test_each_channel_is_scaled_by_itself(preprocessing):
    array = np.random.default_rng(0).gamma(2.0, 50.0, (4, 6, 5)).astype(np.float32)
    first, second = sitk.GetImageFromArray(array), sitk.GetImageFromArray(array * 16.0)
    images, frame = preprocess_images(Volume((first, second), None), preprocessing)
    assert images.shape == (2, 4, 6, 5)
    assert frame.GetSize() == (5, 6, 4)
    np.testing.assert_array_equal(images[0], images[1])


def test_a_shard_says_where_each_grid_and_its_scan_lie(bids, build):
    frames = read_frames(build("north") / "frames.tsv")
    assert list(frames) == ["sub-01", "sub-02"]
    scan = sitk.ReadImage(str(bids.image("sub-02")))
    assert frames["sub-02"].scan == Geometry.of(scan)
    assert frames["sub-02"].grid == Geometry.of(grid_frame(scan, (4, 6, 5), "image"))


def test_the_grid_is_the_middle_of_the_whole_frame_voxel_by_voxel(preprocessing):
    noise = np.random.default_rng(0).gamma(2.0, 50.0, (9, 14, 12)).astype(np.float32)
    # Brighter outside the grid, so that the scale would differ if it were measured there.
    noise[:, :3] *= 20.0
    volume = Volume((sitk.GetImageFromArray(noise),), None)
    settings = preprocessing | {"voxel_spacing_mm": [1.0, 1.0, 1.0]}
    (images, _), (whole, frame) = (preprocess_images(volume, settings, whole) for whole in (False, True))
    assert images.shape == (1, 4, 6, 5)
    # Even numbers of voxels on both sides: 9, 14 and 12 voxels are covered from 4, 6 and 5.
    assert whole.shape == (1, 10, 14, 13) == (1, *frame.GetSize()[::-1])
    np.testing.assert_array_equal(whole[:, 3:7, 4:10, 4:9], images)


@pytest.fixture
def own_sizes(preprocessing) -> dict:
    """Cases keep their own voxels."""
    preprocessing |= {"grid": None, "voxel_spacing_mm": "native", "intensity": {"name": "z_score_float16"}}
    return preprocessing


def test_cases_of_their_own_size_lie_one_behind_the_other(bids, build, write_volume, write_splits, own_sizes):
    larger = np.random.default_rng(0).integers(1, 200, (5, 9, 7)).astype(np.uint8)
    write_volume(bids.image("sub-02"), larger)
    write_volume(bids.mask("sub-02"), (larger > 150).astype(np.uint8))
    folder = build("north")
    split_shard_files(folder / "shard.tsv", write_splits(), folder / "cases.tsv")
    dataset = ShardDataset([Shard(folder, folder / "cases.tsv")], {"train", "test"})
    assert [case.grid_shape for case in dataset.cases] == [bids.shape, larger.shape]
    assert [dataset.grid_shape(row) for row in range(2)] == [bids.shape, larger.shape]
    assert [dataset.image(row).shape for row in range(2)] == [(1, *bids.shape), (1, *larger.shape)]
    assert (dataset.image(1).dtype, dataset.mask(1).dtype) == (np.float16, np.uint8)
    np.testing.assert_array_equal(dataset.mask(1)[0], larger > 150)
    foreground = larger[larger > 0.2 * np.percentile(larger, 99.0)]
    expected = (larger - foreground.mean()) / foreground.std()
    np.testing.assert_allclose(dataset.image(1)[0], expected, atol=2e-3)


def test_a_grid_of_a_fixed_size_holds_half_precision_as_well(build, preprocessing):
    preprocessing["intensity"] = {"name": "z_score_float16"}
    images = np.load(build("north") / "images.npy")
    assert (images.shape, images.dtype) == ((2, 1, 4, 6, 5), np.float16)


def test_preprocessing_needs_the_memory_of_one_case(tmp_path, source_settings, bids, build, write_volume, own_sizes):
    shape = (16, 64, 64)
    for subject in ("sub-01", "sub-02"):
        write_volume(bids.image(subject), np.random.default_rng(0).integers(0, 200, shape).astype(np.uint8))
        write_volume(bids.mask(subject), np.zeros(shape, np.uint8))

    def peak_bytes() -> int:
        tracemalloc.start()
        build("north")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    peak_bytes()
    of_two = peak_bytes()
    for number in range(10, 18):
        subject = f"sub-{number}"
        bids.add(subject, "north", "dipg")
        write_volume(bids.image(subject), np.random.default_rng(number).integers(0, 200, shape).astype(np.uint8))
        write_volume(bids.mask(subject), np.zeros(shape, np.uint8))
    # Eight cases more; one in half precision has 131 kB.
    assert peak_bytes() < of_two + 131_072


def test_without_a_grid_a_spacing_holds_all_of_the_field_of_view(preprocessing):
    scan = sitk.GetImageFromArray(np.random.default_rng(0).gamma(2.0, 50.0, (9, 14, 12)).astype(np.float32))
    scan.SetSpacing((1.0, 1.0, 3.0))
    settings = preprocessing | {"grid": None, "voxel_spacing_mm": [3.0, 2.0, 1.6]}
    images, frame = preprocess_images(Volume((scan,), None), settings)
    # 27, 14 and 12 mm.
    assert images.shape == (1, 9, 7, 8) == (1, *frame.GetSize()[::-1])
    assert frame.GetSpacing() == (1.6, 2.0, 3.0)
    # 8 voxels of 1.6 mm are 0.8 mm more than 12 mm, shared by both sides.
    assert frame.GetOrigin() == pytest.approx((-0.5 - 0.4 + 0.8, -0.5 + 1.0, 0.0))
