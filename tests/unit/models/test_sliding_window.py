import math

import numpy as np
import pytest
import torch
from fedpedbrain.models.sliding_window import (
    batches_of,
    cut_window,
    fill_up,
    gaussian_weights,
    lay_windows,
    window_starts,
)


@pytest.mark.parametrize(
    ("size", "overlap", "expected"),
    [
        (8, 0.5, [0]),
        (9, 0.5, [0, 1]),
        (16, 0.0, [0, 8]),
        (16, 0.5, [0, 4, 8]),
        (17, 0.5, [0, 3, 6, 9]),
        (10, 0.99, [0, 1, 2]),
    ],
)
def test_windows_of_8_voxels_begin_evenly_spread_and_end_flush(size, overlap, expected):
    assert window_starts(size, 8, overlap) == expected


def test_the_middle_of_a_window_counts_most_and_its_rim_still_counts():
    weights = gaussian_weights(8)
    # The rim is three and a half voxels from the middle, a standard deviation is one.
    assert weights[0] / weights[3] == pytest.approx(np.exp(-0.5 * 3.5**2) / np.exp(-0.5 * 0.5**2), rel=1e-5)
    torch.testing.assert_close(weights, weights.flip(0))
    assert weights.min() > 0


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("window", [(4, 8, 8), (7, 20, 11), (1, 20, 3)])
def test_at_every_voxel_the_weights_of_all_windows_add_up_to_1(window, overlap):
    total = torch.zeros(7, 20, 11)
    for place in lay_windows((7, 20, 11), window, overlap):
        assert tuple(voxels.stop - voxels.start for voxels in place.voxels) == window
        total[*place.voxels] += place.grid_weights()
    torch.testing.assert_close(total, torch.ones(7, 20, 11))


def test_a_single_window_counts_exactly_1():
    (place,) = lay_windows((3, 20, 11), (3, 20, 11), 0.5)
    assert (place.grid_weights() == 1.0).all()


def test_where_two_windows_overlap_each_counts_by_its_distance():
    first, second = lay_windows((1, 1, 6), (1, 1, 4), 0.5)
    assert (first.voxels[2], second.voxels[2]) == (slice(0, 4), slice(2, 6))
    # At voxel 2 the first window is half a voxel from its middle, the second one and a half: sigma is half a voxel.
    near, far = np.exp(-0.5 * 1.0**2), np.exp(-0.5 * 3.0**2)
    expected = [1.0, 1.0, near / (near + far), far / (near + far)]
    np.testing.assert_allclose(first.grid_weights().flatten(), expected, rtol=1e-5)
    np.testing.assert_allclose(second.grid_weights().flatten(), expected[::-1], rtol=1e-5)


def test_windows_go_through_the_network_in_batches_of_a_number_of_voxels():
    places = lay_windows((7, 20, 11), (1, 20, 11), 0.5)
    assert [len(batch) for batch in batches_of(places, 700)] == [3, 3, 1]
    # A window that is larger goes alone.
    assert [len(batch) for batch in batches_of(places, 1)] == [1] * 7


IMAGE = np.random.default_rng(0).integers(1, 256, (2, 7, 20, 11), dtype=np.uint8)


def test_a_case_smaller_than_the_window_lies_in_the_middle_of_air():
    filled, inside = fill_up(IMAGE, (10, 8, 14))
    assert filled.shape == (2, 10, 20, 14)
    assert inside == (slice(1, 8), slice(0, 20), slice(1, 12))
    np.testing.assert_array_equal(filled[:, *inside], IMAGE)
    beside = np.ones(filled.shape[1:], dtype=bool)
    beside[*inside] = False
    for channel, image in zip(filled, IMAGE, strict=True):
        assert (channel[beside] == image.min()).all()


def test_a_case_as_large_as_the_window_is_taken_as_it_is():
    filled, inside = fill_up(IMAGE, (7, 8, 11))
    assert filled is IMAGE
    assert inside == (slice(0, 7), slice(0, 20), slice(0, 11))


def test_a_window_is_cut_with_the_slices_around_it_and_beyond_the_case_with_the_last_again():
    first, *_, last = lay_windows((7, 20, 11), (3, 8, 11), 0.0)
    np.testing.assert_array_equal(cut_window(IMAGE, first, 0), IMAGE[:, :3, :8])
    np.testing.assert_array_equal(cut_window(IMAGE, first, 2), IMAGE[:, [0, 0, 0, 1, 2, 3, 4], :8])
    np.testing.assert_array_equal(cut_window(IMAGE, last, 1), IMAGE[:, [3, 4, 5, 6, 6], 12:])
    assert math.prod(cut_window(IMAGE, last, 1).shape) == 2 * 5 * 8 * 11
