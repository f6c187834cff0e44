import numpy as np
import pytest
import torch
from fedpedbrain.models.sliding_window import Window, blend_windows, gaussian_weights, window_starts


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
    weights = gaussian_weights((3, 8, 16))
    assert weights.shape == (3, 8, 16)
    # One voxel from the middle of three is 1 / (0.125 * 3) standard deviations away.
    assert weights[0, 4, 8] / weights[1, 4, 8] == pytest.approx(np.exp(-0.5 * (1 / 0.375) ** 2), rel=1e-5)
    torch.testing.assert_close(weights, weights.flip((0, 1, 2)))
    assert weights.min() > 0


IMAGE = np.random.default_rng(0).integers(0, 256, (2, 7, 20, 11), dtype=np.uint8)


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.9])
def test_a_constant_network_gives_a_constant(overlap):
    found = blend_windows(IMAGE, Window((4, 8, 8), overlap), lambda part: torch.full((3, *part.shape[1:]), 0.7))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.full((3, 7, 20, 11), 0.7))


@pytest.mark.parametrize("window", [(4, 8, 8), (7, 20, 11), (1, 20, 3)])
def test_of_a_network_that_sees_single_voxels_the_windows_are_the_whole(window):
    def square(part):
        return (torch.from_numpy(part.astype(np.float32)) / 255.0) ** 2

    torch.testing.assert_close(blend_windows(IMAGE, Window(window, 0.5), square), square(IMAGE))


def test_where_two_windows_overlap_their_weighted_mean_is_taken():
    answers = iter([0.0, 1.0])
    image = np.zeros((1, 1, 1, 6), np.uint8)
    found = blend_windows(image, Window((1, 1, 4), 0.5), lambda part: torch.full((1, 1, 1, 4), next(answers)))
    # At voxel 2 the first window is half a voxel from its middle, the second one and a half: sigma is half a voxel.
    near, far = np.exp(-0.5 * 1.0**2), np.exp(-0.5 * 3.0**2)
    expected = [0.0, 0.0, far / (near + far), near / (near + far), 1.0, 1.0]
    np.testing.assert_allclose(found.flatten(), expected, rtol=1e-5)
