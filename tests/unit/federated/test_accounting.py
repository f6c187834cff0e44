import json
import math
from pathlib import Path

import pytest
from fedpedbrain.federated.accounting import account_cases, account_privacy_files, account_sites
from fedpedbrain.federated.exchange.privacy import epsilon_of
from fedpedbrain.federated.site_metrics import SiteMetrics, write_round_metrics
from round_metrics import make_metrics

DELTA = 1e-5
PRIVACY = {
    "clip_norm": 0.5,
    "noise_multiplier": 4.0,
    "secure_sum": False,
    "example_level": {"clip_norm": 1.0, "noise_multiplier": 2.0},
    "delta": DELTA,
}


def epsilon_of_gaussian(noise_multiplier: float, num_steps: int) -> float:
    """Renyi divergences of the plain Gaussian mechanism add up; their conversion is that of Balle et al., 2020."""
    orders = [1 + step / 100 for step in range(1, 5000)]
    return min(
        num_steps * order / (2 * noise_multiplier**2)
        - (math.log(DELTA) + math.log(order)) / (order - 1)
        + math.log((order - 1) / order)
        for order in orders
    )


# Sites.


def test_a_site_spends_a_gaussian_step_in_every_round():
    metrics = [make_metrics(site, number) for number in range(1, 13) for site in ("north", "south")]
    found = account_sites(metrics, PRIVACY)
    assert (found["noise_multiplier"], found["clip_norm"], found["sample_rate"]) == (4.0, 0.5, 1.0)
    assert found["num_steps"] == 12
    assert found["epsilon"] == pytest.approx(epsilon_of_gaussian(4.0, 12), rel=1e-3)
    assert found["epsilon"] == pytest.approx(4.01, abs=0.01)
    assert "one site's update" in found["neighbours"]


def test_rounds_of_a_part_of_the_sites_count_in_full():
    of_all = [make_metrics(site, number) for number in (1, 2, 3) for site in ("north", "south")]
    of_one = [make_metrics("north", 1), make_metrics("south", 2), make_metrics("north", 3)]
    assert account_sites(of_one, PRIVACY)["epsilon"] == account_sites(of_all, PRIVACY)["epsilon"]


def test_few_sites_are_warned_of_by_the_smallest_round():
    metrics = [make_metrics(f"site{n}", 1) for n in range(10)]
    assert account_sites(metrics, PRIVACY)["warnings"] == []
    (warning,) = account_sites([*metrics, *(make_metrics(f"site{n}", 2) for n in range(4))], PRIVACY)["warnings"]
    assert warning == (
        "a round of 4 sites, of which the weightiest is at least 25% of the average: too few to hide in; "
        "noise that hides a site hides as much of what all have learnt"
    )


# Cases.


def test_a_site_of_one_batch_spends_a_gaussian_step_in_every_step():
    found = account_cases([make_metrics("north", number, 2, 3) for number in (1, 2)], PRIVACY, 4)
    assert found["sites"]["north"] == {
        "num_cases": 2,
        "sample_rate": 1.0,
        "num_steps": 6,
        "epsilon": pytest.approx(epsilon_of_gaussian(2.0, 6), rel=1e-3),
    }


def test_cases_drawn_by_chance_spend_less():
    metrics = [make_metrics("north", number, 8, 4) for number in (1, 2)]
    found = account_cases(metrics, PRIVACY, 2)["sites"]["north"]
    assert (found["sample_rate"], found["num_steps"]) == (0.25, 8)
    assert found["epsilon"] == epsilon_of(2.0, 0.25, 8, DELTA)
    assert found["epsilon"] < epsilon_of_gaussian(2.0, 8)


def test_the_arms_epsilon_is_that_of_the_site_that_spends_most():
    metrics = [make_metrics("large", 1, 40, 20), make_metrics("small", 1, 4, 2), make_metrics("large", 2, 40, 20)]
    found = account_cases(metrics, PRIVACY, 2)
    epsilons = {site: values["epsilon"] for site, values in found["sites"].items()}
    assert list(epsilons) == ["large", "small"]
    assert epsilons["small"] == epsilon_of(2.0, 0.5, 2, DELTA) > epsilons["large"] == epsilon_of(2.0, 0.05, 40, DELTA)
    assert found["epsilon"] == epsilons["small"]
    assert (found["noise_multiplier"], found["clip_norm"]) == (2.0, 1.0)
    assert found["warnings"] == []


def test_a_delta_that_lets_a_case_be_given_away_is_warned_of():
    (warning,) = account_cases([make_metrics("north", 1, 50)], PRIVACY | {"delta": 0.02}, 2)["warnings"]
    assert warning.startswith("delta 0.02 is no less than one in 50 cases of a site")


# Files.


@pytest.fixture
def account(tmp_path):
    """Account for rows of metrics with settings laid over the arm's; returns what was written."""

    def _account(rows: list[SiteMetrics], **changes) -> dict:
        paths = [tmp_path / f"{number}.json" for number in range(1, 4)]
        for number, path in enumerate(paths, start=1):
            write_round_metrics(path, [row for row in rows if row.round == number])
        account_privacy_files(paths, "fedavg", 3, PRIVACY | changes, 2, tmp_path / "privacy.json")
        return json.loads(Path(tmp_path / "privacy.json").read_text())

    return _account


ROWS = [make_metrics(site, number) for number in (1, 2) for site in ("north", "south")]
NO_CASE_NOISE = {"example_level": {"clip_norm": 1.0, "noise_multiplier": 0.0}}


def test_both_levels_stand_side_by_side(account):
    found = account(ROWS)
    assert (found["arm"], found["seed"], found["delta"]) == ("fedavg", 3, DELTA)
    assert found["site_level"] == account_sites(ROWS, PRIVACY)
    assert found["example_level"] == account_cases(ROWS, PRIVACY, 2)
    assert any("add up" in text for text in found["not_covered"])


def test_a_level_without_noise_has_no_epsilon(account):
    found = account(ROWS, noise_multiplier=0.0)
    assert found["site_level"] is None
    assert found["example_level"]["epsilon"] > 0
    found = account(ROWS, **NO_CASE_NOISE)
    assert found["example_level"] is None
    assert found["site_level"]["epsilon"] > 0


def test_a_site_whose_training_failed_spent_nothing(account):
    missing = make_metrics("south", 3, 0, 0, missing=True)
    found = account([*ROWS, make_metrics("north", 3), missing])
    assert found["example_level"]["sites"]["south"]["num_steps"] == 8
    assert found["example_level"]["sites"]["north"]["num_steps"] == 12
    assert found["site_level"]["num_steps"] == 3
    assert found["site_level"]["warnings"][0].startswith("a round of 1 sites, of which the weightiest is at least 100%")
