"""A site's round on cases of one slice, with classes alone."""

import numpy as np
import pytest
from fedpedbrain.models.files import load_model_file

GRID = (1, 16, 16)


@pytest.fixture
def spec(spec) -> dict:
    options = spec["options"] | {"strides": [[1, 2, 2], [1, 2, 2]]}
    return spec | {
        "options": options,
        "regions": [],
        "preprocessing": spec["preprocessing"] | {"grid": list(GRID)},
    }


@pytest.fixture
def shard(tmp_path, make_case, write_shard):
    cases = [make_case(f"case-{n}", class_name=("normal", "dipg")[n % 2]) for n in range(4)]
    images = np.random.default_rng(0).integers(0, 256, (4, 1, *GRID), dtype=np.uint8)
    return write_shard(tmp_path / "north", cases, images, np.zeros((4, 0, *GRID), np.uint8))


def test_a_site_learns_from_single_slices(train, start, settings):
    settings["augmentation"] |= {"crop_fraction": 0.9, "rotation_degrees": 10.0, "zoom_spread": 0.1}
    before, after = load_model_file(start).weights, load_model_file(train().update).weights
    assert before.keys() == after.keys()
    assert all((before[name] != after[name]).any() for name in before if name.startswith("encoder"))
