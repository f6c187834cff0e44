"""Which rounds' models and site states stay on the disk."""

import re

import pytest
from fedpedbrain.planning.kept_rounds import arms_in_rounds, kept_rounds, rounds_of_kept_states
from fedpedbrain.study.arms import Arm, build_arms
from fedpedbrain.study.strategy_facts import WITHOUT_EXCHANGE

SITES = ["east", "north", "south"]


def arm_of(**block) -> Arm:
    defaults = WITHOUT_EXCHANGE | {"optimizer_state": "kept"}
    return build_arms([{"name": "arm", "participants": "sites", **block}], defaults, SITES, dict)["arm"]


@pytest.mark.parametrize(
    ("num_rounds", "keep_every", "expected"),
    [
        (5, 1, [1, 2, 3, 4, 5]),
        (5, 2, [1, 2, 4, 5]),
        (12, 5, [1, 5, 10, 12]),
        (3, 7, [1, 3]),
        (1, 5, [1]),
    ],
)
def test_the_first_the_last_and_every_so_many_rounds_stay(num_rounds, keep_every, expected):
    assert kept_rounds(arm_of(), num_rounds, keep_every) == expected


def test_the_last_round_of_each_phase_stays():
    arm = arm_of(phases=[{"sites": ["east"], "rounds": 2}, {"rounds": 2}, {"start": "best"}])
    assert kept_rounds(arm, 9, 5) == [1, 2, 4, 5, 9]
    # Of phases that these rounds do not reach, nothing.
    assert kept_rounds(arm, 3, 5) == [1, 2, 3]


@pytest.mark.parametrize("keep_every", range(1, 8))
def test_with_more_rounds_no_round_stays_that_did_not_before_but_new_ones(keep_every):
    arm = arm_of(phases=[{"rounds": 4}, {}])
    for before in range(1, 12):
        for after in range(before, 14):
            assert {n for n in kept_rounds(arm, after, keep_every) if n <= before} <= set(
                kept_rounds(arm, before, keep_every)
            )


@pytest.mark.parametrize("personal", [{"strategy": {"name": "ditto"}}, {"batch_norm": "local"}], ids=str)
def test_states_of_which_personal_models_are_made_stay_with_the_models(personal):
    arm = arm_of(phases=[{"sites": ["east"], "rounds": 2}, {}], **personal)
    kept = kept_rounds(arm, 9, 4)
    assert rounds_of_kept_states(arm, [0, 1], 9, kept) == kept == [1, 2, 4, 8, 9]


def test_of_other_arms_the_states_of_the_last_round_stay():
    assert rounds_of_kept_states(arm_of(), [0, 1], 9, [1, 4, 8, 9]) == [9]
    absent = arm_of(participation={"absent": {"north": [8, 9]}})
    assert rounds_of_kept_states(absent, [0], 9, [1, 4, 8, 9]) == [7, 9]


def test_where_all_rounds_stay_so_do_all_states():
    assert rounds_of_kept_states(arm_of(), [0], 3, [1, 2, 3]) == [1, 2, 3]


def test_of_a_site_that_took_no_part_in_a_kept_round_its_last_state_stays():
    arm = arm_of(batch_norm="local", participation={"absent": {"north": [4, 5, 6, 8], "south": [4]}})
    # North's state of round 3 stands for rounds 4 to 6, its state of round 7 for round 8.
    assert rounds_of_kept_states(arm, [0], 8, [1, 4, 8]) == [1, 3, 4, 7, 8]


def test_no_state_of_the_phase_before_stays_for_a_site_that_has_none_in_this_one():
    arm = arm_of(batch_norm="local", phases=[{"rounds": 3}, {"sites": ["east", "south"]}])
    assert rounds_of_kept_states(arm, [0], 6, [1, 3, 6]) == [1, 3, 6]


def test_the_states_that_stay_are_those_that_any_seed_needs():
    arm = arm_of(participation={"fraction": 1 / 3})
    of_each = [rounds_of_kept_states(arm, [seed], 9, [1, 9]) for seed in (0, 1)]
    assert of_each[0] != of_each[1]
    assert rounds_of_kept_states(arm, [0, 1], 9, [1, 9]) == sorted({*of_each[0], *of_each[1]})
    for seed, rounds in enumerate(of_each):
        assert {arm.last_round_with(site, seed, 9) for site in SITES} - {None} <= set(rounds)


def test_a_path_is_of_a_kept_round_or_of_another_and_never_both():
    rounds_of = {"fedavg": [1, 4], "fedavg2": [1, 4], "warm": [1, 2, 4]}
    patterns = [arms_in_rounds(rounds_of), arms_in_rounds(rounds_of, others=True)]
    kept, others = (re.compile(f"models/(?P<arm>{arms})/seed-(?P<seed>.+)/round-(?P<round>.+)/x") for arms in patterns)
    for arm, rounds in rounds_of.items():
        for number in range(1, 6):
            path = f"models/{arm}/seed-12/round-{number:03d}/x"
            assert bool(kept.fullmatch(path)) == (number in rounds)
            assert bool(others.fullmatch(path)) == (number not in rounds)
    assert kept.fullmatch("models/fedavg2/seed-0/round-001/x")["arm"] == "fedavg2"
    assert not kept.fullmatch("models/other/seed-0/round-001/x")
    assert not others.fullmatch("models/other/seed-0/round-003/x")
