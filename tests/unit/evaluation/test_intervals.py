import math

import numpy as np
import pytest
from fedpedbrain.evaluation.intervals import (
    MIN_PATIENTS_FOR_INTERVAL,
    bootstrap_interval,
    draw_patients,
    group_patients,
    score_interval,
)
from scipy.stats import norm, t


def interval(values, patients=None, sites=None, num_samples=2000, level=0.95, seed=0) -> tuple[float, float]:
    values = np.array(values, dtype=float)
    patients = np.arange(len(values)) if patients is None else np.array(patients)
    sites = np.zeros(len(values)) if sites is None else np.array(sites)
    return bootstrap_interval(values, patients, sites, num_samples, level, seed)


# Where there is none.


@pytest.mark.parametrize("num_patients", range(1, MIN_PATIENTS_FOR_INTERVAL))
def test_few_patients_have_no_interval_however_many_their_cases(num_patients):
    patients = list("abcdef"[:num_patients])
    assert all(map(math.isnan, interval(np.linspace(0.0, 1.0, 4 * num_patients), patients * 4)))


def test_nobody_has_no_interval():
    assert all(map(math.isnan, interval([])))


def test_the_fewest_patients_with_an_interval_are_those_of_whom_a_sign_test_can_reach_5_percent():
    one_sided = 0.5**MIN_PATIENTS_FOR_INTERVAL
    assert 2 * one_sided < 0.05 < 4 * one_sided
    values = np.linspace(0.1, 0.6, MIN_PATIENTS_FOR_INTERVAL)
    low, high = interval(values)
    assert 0.1 <= low < values.mean() < high <= 0.6


def test_patients_who_are_all_alike_have_no_interval():
    assert all(map(math.isnan, interval([0.7] * 30)))
    # One has two cases, and no case differs.
    assert all(map(math.isnan, interval([0.7] * 31, [*range(30), 0])))


def test_sites_whose_patients_are_all_alike_have_no_interval():
    assert all(map(math.isnan, interval([0.2] * 4 + [0.6] * 4, sites=list("aaaabbbb"))))


# How wide it is.


def test_at_one_site_it_is_the_expanded_percentile_interval():
    values = np.random.default_rng(3).normal(size=12)
    draws = values[np.random.default_rng(0).integers(0, 12, (2000, 12))].mean(1)
    tail = norm.cdf(t.ppf(0.025, 11) * math.sqrt(12 / 11))
    assert interval(values) == pytest.approx(tuple(np.quantile(draws, [tail, 1.0 - tail])))
    assert tail < 0.015


def test_the_interval_of_a_normal_sample_is_the_textbooks():
    values = np.random.default_rng(1).normal(0.0, 1.0, 400)
    low, high = interval(values)
    half = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - half, abs=0.02)
    assert high == pytest.approx(values.mean() + half, abs=0.02)


def test_differences_between_sites_do_not_widen_it():
    values, sites = np.random.default_rng(2).normal(size=60), np.repeat([0, 1, 2], 20)
    low, high = interval(values, sites=sites)
    apart = interval(values + 5.0 * (sites - 1.0), sites=sites)
    assert apart == pytest.approx((low, high))
    assert np.ptp(interval(values + 5.0 * (sites - 1.0))) > 3 * (high - low)


def test_a_stratified_interval_is_as_wide_as_the_standard_error_of_a_stratified_mean():
    sites = np.repeat([0, 1], [30, 10])
    values = np.random.default_rng(4).normal(size=40) * np.where(sites == 0, 1.0, 9.0)
    variance = (30 * values[:30].var(ddof=1) + 10 * values[30:].var(ddof=1)) / 40**2
    # Nearly all of the variance is the second site's, of whose ten patients nine are free to differ.
    half = np.ptp(interval(values, sites=sites, num_samples=50_000)) / 2
    assert half == pytest.approx(t.ppf(0.975, 9.5) * math.sqrt(variance), rel=0.05)


def test_the_ends_stay_within_the_range_of_the_values():
    low, high = interval([1.0] * 9 + [0.0], level=0.999)
    assert 0.0 <= low < 0.9 < high <= 1.0


def test_no_end_of_a_score_beside_one_that_is_always_right_says_that_it_is_better_or_surely_worse():
    # Of seven patients five are recognised, and the reference recognises all; some draws recognise all, too.
    right, stratum = np.array([1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0]), np.zeros(7, dtype=int)
    recalls = draw_patients(stratum, 2000, 0) @ right / 7
    without_one = (right.sum() - right) / 6
    arm = score_interval(5 / 7, recalls, without_one, stratum, 0.95)
    assert arm == pytest.approx((2 / 7, 1.0))
    assert score_interval(5 / 7 - 1, recalls - 1, without_one - 1, stratum, 0.95) == pytest.approx((2 / 7 - 1, 0.0))


def test_a_score_that_drawing_makes_larger_is_moved_back():
    draws, stratum = np.linspace(0.2, 0.4, 101), np.zeros(7, dtype=int)
    low, high = score_interval(0.05, draws, np.linspace(0.0, 0.1, 7), stratum, 0.95, drawing_bias=True)
    assert low == 0.0, "the draws' mean of 0.3 is 0.25 too much, and nothing is below 0"
    assert 0.14 < high < 0.15


def test_a_higher_level_is_wider():
    narrow, wide = interval(np.arange(10.0), level=0.5), interval(np.arange(10.0), level=0.99)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


# Who is drawn with whom.


def test_cases_of_a_patient_are_drawn_together():
    values, patients = [0.0, 0.1, 0.2, 0.4, 0.5, 0.9], list("abcdef")
    alone = interval(values, patients)
    assert interval(values * 2, patients * 2) == pytest.approx(alone)
    apart = interval(values * 2, list("abcdefghijkl"))
    assert alone[0] < apart[0] < apart[1] < alone[1]


def test_a_patient_with_more_cases_weighs_more():
    # The middle of the draws is near a's five cases beside five others. Counted by patients it would be 5/6.
    low, high = interval([0.0] * 5 + [1.0] * 5, list("aaaaabcdef"), level=0.2)
    assert low == 0.5
    assert high == 0.5


def test_a_site_with_one_patient_counts_with_the_smallest_other():
    grouped = group_patients(np.arange(8.0), np.arange(8), np.array(list("aaabbcdd")))
    assert grouped.stratum.tolist() == [0, 0, 0, 1, 1, 1, 2, 2]


def test_sites_with_one_patient_each_count_as_one():
    assert group_patients(np.arange(6.0), np.arange(6), np.array(list("abcdef"))).stratum.tolist() == [0] * 6


def test_the_interval_is_a_function_of_the_seed():
    values = np.arange(10.0)
    assert interval(values, seed=1) == interval(values, seed=1)
    assert interval(values, num_samples=100, seed=1) != interval(values, num_samples=100, seed=2)


def test_the_order_of_the_cases_does_not_change_the_interval():
    values, patients, sites = np.arange(10.0), list("abcdefghij"), list("xxxxxyyyyy")
    turned = interval(values[::-1], patients[::-1], sites[::-1])
    assert interval(values, patients, sites) == pytest.approx(turned)


# How often it is right; tests/benchmarks/coverage.py does the same at length.


@pytest.mark.parametrize("scenario", ["pairs of Dice", "sites unlike each other"])
def test_intervals_hold_the_true_difference_about_as_often_as_they_say(simulated, scenario):
    found = simulated.coverages(scenario, 30, 300, {"study": simulated.study_interval})
    assert 0.91 <= found["study"] <= 0.985


def test_plain_percentiles_of_draws_within_sites_hold_it_too_seldom(simulated):
    found = simulated.coverages("pairs of Dice", 20, 300, {"plain": simulated.percentile_by_site})
    assert found["plain"] < 0.91
