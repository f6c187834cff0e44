import itertools
import math

import numpy as np
import pytest
from fedpedbrain.evaluation.significance import (
    INFERIOR,
    NON_INFERIOR,
    NOT_SHOWN,
    fewest_patients_for_test,
    holm_p_values,
    judge_margin,
    largest_unseen_share,
    signed_rank_p_value,
)
from scipy.stats import binomtest, rankdata


@pytest.mark.parametrize("num_patients", [1, 33, 400])
def test_who_all_agree_bound_how_many_others_do_not_as_scipys_exact_interval_does(num_patients):
    bound = binomtest(0, num_patients).proportion_ci(0.95, method="exact").high
    assert largest_unseen_share(num_patients) == pytest.approx(bound)


def test_of_33_patients_alike_a_tenth_could_still_differ():
    assert largest_unseen_share(33) == pytest.approx(0.106, abs=5e-4)


def by_all_signs(differences) -> float:
    """The signed-rank test by its definition: every pattern of signs is as probable as any other."""
    differences = np.array([value for value in differences if value != 0.0])
    ranks = rankdata(abs(differences))
    sums = np.array([np.dot(signs, ranks) for signs in itertools.product((-1, 1), repeat=len(ranks))])
    return float(np.mean(abs(sums) >= abs(np.dot(np.sign(differences), ranks)) - 1e-9))


def test_patients_who_all_differ_the_same_way_give_the_smallest_p_value():
    assert signed_rank_p_value(np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])) == pytest.approx(2 / 64)


def test_no_difference_at_all_is_no_evidence():
    assert signed_rank_p_value(np.zeros(20)) == 1.0


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("step", [1e-9, 0.5], ids=["untied", "tied"])
def test_p_values_agree_with_all_patterns_of_signs(seed, step):
    values = np.random.default_rng(seed).normal(0.4, 1.0, 11)
    values = np.round(values / step) * step
    assert signed_rank_p_value(values) == pytest.approx(by_all_signs(values))


def test_patients_without_a_difference_do_not_sharpen_the_test():
    # Five patients of forty differ, all the same way: the test of these five.
    values = np.concatenate([np.full(5, -1.0), np.zeros(35)])
    assert signed_rank_p_value(values) == pytest.approx(2 / 32)


def test_differences_that_are_equal_but_for_rounding_are_ties():
    values = np.array([0.3, 0.1 + 0.2, -0.3, 0.6, 0.5, 0.4, 0.9])
    assert signed_rank_p_value(values) == pytest.approx(by_all_signs(np.round(values, 9)))


def test_holm_worked():
    # 4 x 0.005; 3 x 0.011; 2 x 0.02 = 0.04; 0.04 too, which may not be smaller than the one before.
    assert holm_p_values([0.011, 0.04, 0.005, 0.02]) == pytest.approx([0.033, 0.04, 0.02, 0.04])
    assert holm_p_values([0.6, 0.7]) == [1.0, 1.0]
    assert holm_p_values([0.03]) == [0.03]
    assert holm_p_values([]) == []


@pytest.mark.parametrize("num_tests", [1, 2, 4, 10])
def test_the_fewest_patients_can_reach_the_level_and_one_fewer_cannot(num_tests):
    fewest = fewest_patients_for_test(num_tests, 0.05)
    smallest = [num_tests * signed_rank_p_value(np.arange(1.0, number + 1)) for number in (fewest - 1, fewest)]
    assert smallest[0] > 0.05 >= smallest[1]


@pytest.mark.parametrize(
    ("low", "high", "better", "verdict"),
    [
        (-0.04, 0.01, "higher", NON_INFERIOR),
        (0.01, 0.03, "higher", NON_INFERIOR),
        (-0.06, 0.01, "higher", NOT_SHOWN),
        (-0.05, 0.01, "higher", NOT_SHOWN),
        (-0.2, -0.06, "higher", INFERIOR),
        (-0.01, 0.04, "lower", NON_INFERIOR),
        (-0.01, 0.06, "lower", NOT_SHOWN),
        (0.06, 0.2, "lower", INFERIOR),
        (math.nan, math.nan, "higher", ""),
    ],
)
def test_a_margin_is_judged_by_the_worse_end_of_the_interval(low, high, better, verdict):
    assert judge_margin(low, high, 0.05, better) == verdict


def test_corrected_tests_seldom_find_a_difference_where_there_is_none(simulated):
    assert simulated.false_findings(30, 200) <= 0.09
