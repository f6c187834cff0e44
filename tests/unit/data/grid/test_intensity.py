import numpy as np
import pytest
from fedpedbrain.data.grid.intensity import dtype_of_intensity, scale_intensity, to_grey_levels

REFERENCE = {"name": "reference"}


def percentiles(lower: float, upper: float) -> dict:
    return {"name": "percentile", "percentile": {"lower_percentile": lower, "upper_percentile": upper}}


def deviations(largest: float) -> dict:
    return {"name": "z_score", "z_score": {"largest_deviation": largest}}


def test_percentiles_of_the_head_become_0_and_255():
    # The 99th percentile is 99.01, so that the head is 10 to 100.
    image = np.arange(1, 101, dtype=np.float32).reshape(4, 5, 5)
    found = scale_intensity(image, percentiles(0.0, 100.0)).ravel()
    assert found.dtype == np.uint8
    # (28 - 10) / 90 of 255 is 51.
    assert [int(found[value - 1]) for value in (1, 9, 10, 28, 46, 100)] == [0, 0, 0, 51, 102, 255]


def test_intensities_beyond_the_percentiles_are_cut_off():
    image = np.full((4, 10, 10), 50.0, np.float32)
    image[1:, 0, 0] = 5000.0
    image[0] = 100.0
    found = scale_intensity(image, percentiles(0.0, 50.0))
    assert found[1, 0, 0] == found[1, 5, 5] == 255


def test_air_stays_near_zero_where_the_whole_head_is_bright():
    image = np.zeros((2, 10, 10), np.float32)
    image[:, 2:8, 2:8] = np.linspace(900.0, 1000.0, 72).reshape(2, 6, 6)
    found = scale_intensity(image, percentiles(1.0, 99.5))
    assert found[0, 0, 0] == 0
    assert found[:, 2:8, 2:8].min() > 200


def test_the_unit_of_the_intensities_does_not_matter():
    image = np.random.default_rng(0).gamma(2.0, 100.0, (4, 8, 8)).astype(np.float32)
    np.testing.assert_array_equal(
        scale_intensity(image, percentiles(1.0, 99.5)), scale_intensity(image * 8.0, percentiles(1.0, 99.5))
    )


@pytest.mark.parametrize("settings", [percentiles(1.0, 99.5), deviations(4.0), REFERENCE])
def test_a_blank_image_stays_blank(settings):
    found = scale_intensity(np.zeros((2, 3, 4), np.float32), settings)
    assert found.dtype == np.uint8
    assert not found.any()


def test_an_image_of_negative_values_is_not_taken_for_blank():
    image = np.random.default_rng(0).normal(-50.0, 10.0, (4, 8, 8)).astype(np.float32)
    assert len(np.unique(scale_intensity(image, percentiles(1.0, 99.5)))) > 100


def test_settings_of_a_model_from_before_the_choice_are_percentiles():
    image = np.random.default_rng(0).gamma(2.0, 100.0, (4, 8, 8)).astype(np.float32)
    found = scale_intensity(image, {"lower_percentile": 2.0, "upper_percentile": 90.0})
    np.testing.assert_array_equal(found, scale_intensity(image, percentiles(2.0, 90.0)))
    assert len(np.unique(found)) > 50


def test_deviations_from_the_heads_mean_fill_the_256_steps():
    image = np.zeros((2, 5, 10), np.float32)
    # The head: mean 100, standard deviation 20.
    image[0] = np.resize([80.0, 120.0], (5, 10))
    found = scale_intensity(image, deviations(2.0))
    # One deviation below and above is a quarter and three quarters of 255; air is five below.
    assert [int(value) for value in found[0, 0, :2]] == [64, 191]
    assert not found[1].any()


def test_intensities_beyond_the_largest_deviation_are_cut_off():
    image = np.resize([80.0, 120.0], (2, 5, 10)).astype(np.float32)
    assert set(np.unique(scale_intensity(image, deviations(0.5)))) == {0, 255}


def test_the_z_score_does_not_depend_on_the_unit_or_on_where_air_lies():
    image = np.random.default_rng(0).gamma(2.0, 100.0, (4, 8, 8)).astype(np.float32)
    image[0] = 0.0
    expected = scale_intensity(image, deviations(3.0))
    np.testing.assert_array_equal(scale_intensity(image * 8.0, deviations(3.0)), expected)
    np.testing.assert_allclose(scale_intensity(image - 1000.0, deviations(3.0)).astype(int), expected, atol=1)


def test_the_reference_keeps_values_from_0_to_255_as_they_are():
    image = np.array([-3.0, 0.0, 0.4, 99.6, 255.0, 300.0], np.float32).reshape(1, 2, 3)
    assert scale_intensity(image, REFERENCE).ravel().tolist() == [0, 0, 0, 100, 255, 255]


@pytest.mark.parametrize("settings", [percentiles(1.0, 99.0), deviations(3.0)])
def test_an_image_is_scaled_by_the_part_of_it_that_is_measured(settings):
    image = np.random.default_rng(0).gamma(2.0, 100.0, (4, 8, 12)).astype(np.float32)
    image[:, :, 8:] *= 50.0
    found = scale_intensity(image, settings, image[:, :, :8])
    np.testing.assert_array_equal(found[:, :, :8], scale_intensity(image[:, :, :8], settings))
    assert np.median(found[:, :, 8:]) == 255


def test_half_precision_keeps_deviations_that_the_256_steps_cut_off():
    image = np.zeros((2, 5, 10), np.float32)
    # Foreground: mean 100, standard deviation 20; air is five below.
    image[0] = np.resize([80.0, 120.0], (5, 10))
    found = scale_intensity(image, {"name": "z_score_float16"})
    assert found.dtype == np.float16
    np.testing.assert_array_equal(np.unique(found), [-5.0, -1.0, 1.0])


def test_half_precision_stays_finite():
    image = np.full((1, 10, 10), 100.0, np.float32)
    image[0, 0, 0] = 1e9
    # Of the foreground alone the mean is measured: constant, so that the bright voxel is infinitely far from it.
    found = scale_intensity(image, {"name": "z_score_float16"}, measured=image[:, 1:])
    assert np.isfinite(found).all()
    assert found.max() == np.finfo(np.float16).max


def test_a_blank_image_of_half_precision_is_zero():
    assert not scale_intensity(np.zeros((2, 3, 4), np.float32), {"name": "z_score_float16"}).any()


@pytest.mark.parametrize(
    ("settings", "dtype"),
    [
        (percentiles(1.0, 99.5), np.uint8),
        ({"lower_percentile": 1.0, "upper_percentile": 99.5}, np.uint8),
        (deviations(4.0), np.uint8),
        (REFERENCE, np.uint8),
        ({"name": "z_score_float16"}, np.float16),
    ],
)
def test_the_dtype_of_a_word_is_that_of_its_images(settings, dtype):
    assert dtype_of_intensity(settings) == dtype
    assert scale_intensity(np.ones((1, 2, 2), np.float32), settings).dtype == dtype


def test_grey_levels_are_the_256_steps_as_they_are():
    image = np.arange(8, dtype=np.uint8).reshape(1, 2, 2, 2)
    np.testing.assert_array_equal(to_grey_levels(image), image)


def test_grey_levels_of_half_precision_run_from_air_to_white():
    image = np.linspace(-2.0, 4.0, 1001).astype(np.float16).reshape(1, 1, 7, 143)
    levels = to_grey_levels(np.concatenate([image, np.zeros_like(image)]))
    assert levels.dtype == np.uint8
    # White from the 99.5th percentile on, which is 5.97 above air; 3.0 above air is 128 of 255.
    assert (levels[0].flat[0], levels[0].flat[500], levels[0].flat[995], levels[0].flat[1000]) == (0, 128, 255, 255)
    assert not levels[1].any()
