import json

import numpy as np
import pytest
from fedpedbrain.data.checks.training_intensities import (
    LEVELS,
    foreground_quantiles,
    intensity_distance,
    read_intensities,
    summarize_intensities,
    summarize_intensities_files,
)
from fedpedbrain.data.grid.intensity import FOREGROUND, to_grey_levels


def test_quantiles_are_those_of_the_foreground_alone():
    # Air of 0 and 30, tissue of 101 to 200: 20 % of the 99th percentile is 39.
    image = np.concatenate([np.zeros(300), np.full(100, 30), np.arange(101, 201)]).astype(np.uint8).reshape(5, 10, 10)
    assert foreground_quantiles(image, **FOREGROUND) == pytest.approx(100 + 100 * LEVELS, abs=1.0)


def test_another_foreground_has_other_quantiles():
    image = np.concatenate([np.zeros(300), np.full(100, 30), np.arange(101, 201)]).astype(np.uint8).reshape(5, 10, 10)
    # A tenth of 200 is below the 100 voxels of 30, which are half of all above it.
    assert foreground_quantiles(image, 100.0, 0.1)[:9].tolist() == [30.0] * 9


def test_intensities_of_before_there_was_a_choice_have_the_foreground_of_then(tmp_path):
    path = tmp_path / "intensities.json"
    path.write_text('{"num_cases": 1, "channels": {}}')
    assert read_intensities(path) == {"foreground": FOREGROUND, "num_cases": 1, "channels": {}}


def test_a_blank_image_has_quantiles_of_0():
    assert not foreground_quantiles(np.zeros((2, 3, 3), np.uint8), **FOREGROUND).any()


def test_the_distance_of_a_shift_is_the_shift():
    image = np.random.default_rng(0).integers(100, 200, (4, 8, 8)).astype(np.uint8)
    shifted, plain = (foreground_quantiles(item, **FOREGROUND) for item in (image + 7, image))
    assert intensity_distance(shifted, plain) == 7.0


def test_the_summary_has_the_mean_case_and_how_far_the_furthest_lies():
    cases = [np.full((1, 2, 3, 3), value, dtype=np.uint8) for value in (100, 110, 150)]
    summary = summarize_intensities(cases, ["T2w"], FOREGROUND)
    assert summary["foreground"] == FOREGROUND
    assert summary["num_cases"] == 3
    assert summary["channels"]["T2w"]["quantiles"] == [120.0] * 20
    assert summary["channels"]["T2w"]["largest_distance"] == 30.0


def test_channels_are_described_apart():
    case = np.stack([np.full((2, 3, 3), value, dtype=np.uint8) for value in (100, 200)])
    channels = summarize_intensities([case], ["T1w", "T2w"], FOREGROUND)["channels"]
    assert {name: known["quantiles"][0] for name, known in channels.items()} == {"T1w": 100.0, "T2w": 200.0}


def test_training_cases_alone_are_described(tmp_path, make_case, write_shard):
    shards = []
    for site, values in (("north", (100, 250)), ("south", (120, 10))):
        cases = [make_case(f"{site}-{number}", site, split) for number, split in enumerate(("train", "test"))]
        images = np.stack([np.full((1, 4, 8, 8), value, dtype=np.uint8) for value in values])
        shards.append(write_shard(tmp_path / site, cases, images))
    summarize_intensities_files(shards, tmp_path / "intensities.json", ["T2w"], FOREGROUND)
    known = json.loads((tmp_path / "intensities.json").read_text())
    assert known["num_cases"] == 2
    assert known["channels"]["T2w"]["quantiles"] == [110.0] * 20


def test_images_of_half_precision_are_described_by_their_grey_levels():
    image = np.random.default_rng(0).gamma(2.0, 50.0, (2, 4, 8, 8)).astype(np.float32)
    half = ((image - 80.0) / 40.0).astype(np.float16)
    found, expected = (
        summarize_intensities([item], ["T1w", "T2w"], FOREGROUND) for item in (half, to_grey_levels(half))
    )
    assert found == expected
    assert found["channels"]["T1w"]["quantiles"][-1] > 150
