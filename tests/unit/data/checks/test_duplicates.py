import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from fedpedbrain.base.files import read_table
from fedpedbrain.data.checks.duplicates import (
    Pair,
    find_duplicates_files,
    find_pairs,
    perceptual_hashes,
    sample_pictures,
    slice_parts,
)
from fedpedbrain.data.formats.volumes import Volume
from fedpedbrain.data.shards import preprocess_images
from fedpedbrain.data.sources.phantom.cases import PhantomSource
from PIL import Image

PICTURES = Path(__file__).resolve().parents[5] / "shared" / "data" / "kaggle_mri_2d"
SETTINGS = {"near_duplicate_bits": 10, "near_duplicate_correlation": 0.95}
HEIGHT, WIDTH = 96, 80


def head(seed: int) -> np.ndarray:
    """A picture of a head with a texture of its own, uint8 (96, 80)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j]
    radius = np.hypot(y / 0.85, x / 0.7)
    coarse = Image.fromarray(rng.uniform(10, 250, (9, 8)).astype(np.float32))
    texture = np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))
    return np.where(radius < 0.9, texture, np.where(radius < 1.0, 230, 0)).clip(0, 255).astype(np.uint8)


def with_scaled_intensity(picture):
    return (255.0 * (picture / 255.0) ** 0.8 * 0.9).astype(np.uint8)


def shifted_by_a_pixel(picture):
    return np.roll(picture, (1, 1), axis=(0, 1))


def cropped_by_four_percent(picture):
    kept = Image.fromarray(picture[2:-2, 2:-2])
    return np.asarray(kept.resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR))


def saved_as_jpeg(picture):
    with io.BytesIO() as file:
        Image.fromarray(picture).save(file, "JPEG", quality=40)
        return np.asarray(Image.open(file))


def pictures_of(*pictures) -> np.ndarray:
    """What is compared of pictures that were preprocessed as cases of one slice."""
    settings = {
        "grid": [1, 64, 64],
        "field_of_view": "foreground",
        "voxel_spacing_mm": None,
        "intensity": {"name": "percentile", "percentile": {"lower_percentile": 1.0, "upper_percentile": 99.5}},
    }
    volumes = [Volume((sitk.GetImageFromArray(picture[None]),), None) for picture in pictures]
    return np.stack([sample_pictures(preprocess_images(volume, settings)[0], slice_parts(1)) for volume in volumes])


def cases_of(make_case, count: int) -> list:
    return [make_case(f"case-{n:03d}") for n in range(count)]


@pytest.mark.parametrize(
    "change", [with_scaled_intensity, shifted_by_a_pixel, cropped_by_four_percent, saved_as_jpeg, np.array]
)
def test_a_changed_copy_is_found_among_other_heads(make_case, change):
    heads = [head(seed) for seed in range(12)]
    (pair,) = find_pairs(cases_of(make_case, 13), pictures_of(*heads, change(heads[5])), SETTINGS)
    assert (pair.kind, pair.a.case, pair.b.case) == ("near", "case-005", "case-012")
    assert pair.correlation > 0.95


def test_other_heads_are_no_duplicates(make_case):
    assert find_pairs(cases_of(make_case, 60), pictures_of(*map(head, range(60))), SETTINGS) == []


def test_simulated_patients_of_one_template_are_no_duplicates(config, make_case):
    """They share their anatomy: the nearest that different patients come."""
    settings = config["phantom"] | {"cases": {"north": 4}}
    source = PhantomSource(["north"], config["cohort"]["classes"], "normal", settings)
    images = [preprocess_images(source.read_case(case), config["preprocessing"])[0] for case in source.find_cases()]
    pictures = [sample_pictures(image, slice_parts(image.shape[1])) for image in images]
    assert find_pairs(cases_of(make_case, 4), np.stack(pictures), SETTINGS) == []


def test_one_slice_that_differs_keeps_volumes_apart(make_case):
    volume = np.stack([head(seed) for seed in range(10)])
    changed = volume.copy()
    changed[5] = head(77)
    pictures = np.stack([sample_pictures(array[None], slice_parts(10)) for array in (volume, changed)])
    assert find_pairs(cases_of(make_case, 2), pictures, SETTINGS) == []
    assert len(find_pairs(cases_of(make_case, 2), pictures[[0, 0]], SETTINGS)) == 1


def test_every_channel_is_compared(make_case):
    pictures = np.stack(
        [sample_pictures(np.stack([head(0), head(other)])[:, None], slice_parts(1)) for other in (1, 2)]
    )
    assert pictures.shape == (2, 2, 32, 32)
    assert find_pairs(cases_of(make_case, 2), pictures, SETTINGS) == []


def test_blank_cases_are_no_duplicates(make_case):
    blank = np.zeros((HEIGHT, WIDTH), np.uint8)
    assert find_pairs(cases_of(make_case, 2), pictures_of(blank, blank), SETTINGS) == []


def test_the_bits_are_those_of_the_lowest_frequencies():
    """A wave along W alone has its energy in one coefficient of the constant row, which no bit stands for."""
    wave = np.cos(np.pi * (np.arange(32) + 0.5) * 3 / 32)
    both = np.outer(np.cos(np.pi * (np.arange(32) + 0.5) * 2 / 32), wave)
    negative, positive = perceptual_hashes(np.stack([-both, both]).astype(np.float32))
    # Coefficient (2, 3) is the second row and the third column of bits, the most significant first.
    bits = [np.unpackbits(np.array([value]).view(np.uint8)) for value in (negative, positive)]
    assert bits[1][8 * 1 + 2] == 1
    assert bits[0][8 * 1 + 2] == 0


def test_thresholds_are_those_of_the_settings(make_case):
    pictures = pictures_of(head(0), cropped_by_four_percent(head(0)))
    (pair,) = find_pairs(cases_of(make_case, 2), pictures, SETTINGS)
    exactly = {"near_duplicate_bits": pair.bits, "near_duplicate_correlation": pair.correlation}
    assert len(find_pairs(cases_of(make_case, 2), pictures, exactly)) == 1
    assert find_pairs(cases_of(make_case, 2), pictures, exactly | {"near_duplicate_correlation": 0.99999}) == []
    assert pair.bits > 0
    assert find_pairs(cases_of(make_case, 2), pictures, exactly | {"near_duplicate_bits": pair.bits - 1}) == []


def test_cases_that_share_voxels_are_exact_copies_however_the_grid_shows_them(make_case):
    a, b, c = cases_of(make_case, 3)
    cases = [replace(a, voxel_sha256=("1", "2")), replace(b, voxel_sha256=("3",)), replace(c, voxel_sha256=("2",))]
    (pair,) = find_pairs(cases, pictures_of(head(0), head(1), head(2)), SETTINGS)
    assert (pair.kind, pair.a.case, pair.b.case) == ("exact", "case-000", "case-002")
    assert pair.correlation < 0.95


@pytest.mark.parametrize(
    ("first", "second", "is_leak"),
    [
        ("train", "test", True),
        ("train", "validation", True),
        ("validation", "external", True),
        ("train", "train", False),
        # Nothing learns from either.
        ("test", "external", False),
    ],
)
def test_a_pair_leaks_where_a_model_learns_from_one_and_is_tested_on_the_other(make_case, first, second, is_leak):
    assert Pair("near", 0, 1.0, make_case("a", split=first), make_case("b", split=second)).is_leak == is_leak


def test_classes_differ_only_where_both_are_known(make_case):
    dipg, normal, unknown = (make_case(name, class_name=name) for name in ("dipg", "normal", ""))
    assert Pair("near", 0, 1.0, dipg, normal).classes_differ
    assert not Pair("near", 0, 1.0, dipg, unknown).classes_differ


def test_duplicates_are_found_across_sites_and_leaks_stand_first(tmp_path, make_case, write_shard):
    volumes = np.stack([np.stack([head(10 * seed + n)[::4, ::4] for n in range(4)]) for seed in range(3)])[:, None]
    masks = np.zeros((3, 0, *volumes.shape[2:]), np.uint8)
    north = [make_case("n0"), make_case("n1"), make_case("n2")]
    south = [make_case("s0", "south"), make_case("s1", "south", "test"), make_case("s2", "south", class_name="normal")]
    shards = [
        write_shard(tmp_path / "north", north, volumes, masks),
        write_shard(tmp_path / "south", south, volumes, masks),
    ]
    find_duplicates_files(shards, tmp_path / "duplicates.tsv", SETTINGS)
    rows = read_table(tmp_path / "duplicates.tsv")
    assert [(row["case_a"], row["case_b"]) for row in rows] == [("n1", "s1"), ("n2", "s2"), ("n0", "s0")]
    assert [row["is_leak"] for row in rows] == ["yes", "no", "no"]
    assert [row["classes_differ"] for row in rows] == ["no", "yes", "no"]
    assert (rows[0]["site_a"], rows[0]["site_b"], rows[0]["bits"], rows[0]["correlation"]) == (
        "north",
        "south",
        "0",
        "1.0000",
    )


@pytest.mark.skipif(not PICTURES.is_dir(), reason=f"no real pictures at ../{Path(*PICTURES.parts[-3:])}")
def test_real_pictures_that_two_public_collections_share_are_found(make_case):
    """Of 80 pictures each; all 14 pairs are one picture to the eye."""
    places = ("hospital_a/Testing/meningioma_tumor", "hospital_a/Testing/no_tumor")
    others = ("hospital_b/Testing/meningioma", "hospital_b/Testing/notumor")
    files = [path for place in (*places, *others) for path in sorted((PICTURES / place).iterdir())]
    pictures = pictures_of(*(np.asarray(Image.open(path).convert("L")) for path in files))
    cases = [make_case(str(path), path.relative_to(PICTURES).parts[0]) for path in files]
    pairs = find_pairs(cases, pictures, SETTINGS)
    assert sum(pair.a.site != pair.b.site for pair in pairs) == 14


@pytest.mark.parametrize(
    ("depth", "slices"), [(1, [0]), (2, [0, 1]), (3, [0, 1, 2]), (5, [1, 2, 3]), (10, [3, 4, 5, 6, 7])]
)
def test_slices_are_spread_along_the_volume_and_none_is_compared_twice(depth, slices):
    volume = np.stack([np.full((8, 8), number, np.uint8) for number in range(depth)])
    assert [picture[0, 0] for picture in sample_pictures(volume[None], slice_parts(depth))] == slices


def test_cases_of_their_own_size_are_compared_on_as_many_slices(tmp_path, make_case, write_shard):
    rng = np.random.default_rng(0)
    sizes = [(3, 40, 30), (12, 30, 40), (1, 25, 25), (12, 30, 40)]
    images = [rng.normal(size=(1, *size)).astype(np.float16) for size in sizes]
    # Another scale of one image: of half precision it is another image, not another sight.
    images[3] = (2.0 * images[1] + 1.0).astype(np.float16)
    masks = [np.zeros((0, *size), np.uint8) for size in sizes]
    shard = write_shard(tmp_path / "north", cases_of(make_case, 4), images, masks)
    find_duplicates_files([shard], tmp_path / "duplicates.tsv", SETTINGS)
    (pair,) = read_table(tmp_path / "duplicates.tsv")
    assert (pair["case_a"], pair["case_b"], pair["bits"]) == ("case-001", "case-003", "0")
