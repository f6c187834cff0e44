"""Which rounds a site validates in one job."""

import pytest
from fedpedbrain.planning.kept_rounds import kept_rounds
from fedpedbrain.planning.validation_blocks import BLOCK, validation_blocks
from fedpedbrain.study.arms import Arm, build_arms
from fedpedbrain.study.strategy_facts import WITHOUT_EXCHANGE


def arm_of(**block) -> Arm:
    defaults = WITHOUT_EXCHANGE | {"optimizer_state": "kept"}
    return build_arms([{"name": "arm", "participants": "sites", **block}], defaults, ["east", "north"], dict)["arm"]


def test_a_block_is_of_as_many_rounds_as_it_may_be_and_the_last_of_what_is_left():
    blocks = validation_blocks(arm_of(), range(1, 2 * BLOCK + 4))
    assert blocks == {
        1: list(range(1, BLOCK + 1)),
        BLOCK + 1: list(range(BLOCK + 1, 2 * BLOCK + 1)),
        2 * BLOCK + 1: [2 * BLOCK + n for n in (1, 2, 3)],
    }


def test_a_block_begins_with_its_phase_and_never_crosses_its_border():
    arm = arm_of(phases=[{"sites": ["east"], "rounds": 3}, {"rounds": BLOCK + 1}, {"start": "best"}])
    second, third = 4, BLOCK + 5
    assert validation_blocks(arm, range(1, third + 2)) == {
        1: [1, 2, 3],
        second: list(range(second, second + BLOCK)),
        second + BLOCK: [second + BLOCK],
        third: [third, third + 1],
    }


def test_a_block_is_named_after_its_first_round_though_that_does_not_stay():
    assert validation_blocks(arm_of(), [1, BLOCK + 3, BLOCK + 9]) == {1: [1], BLOCK + 1: [BLOCK + 3, BLOCK + 9]}


def test_a_block_without_a_kept_round_is_left_out():
    assert validation_blocks(arm_of(), [1, 3 * BLOCK]) == {1: [1], 2 * BLOCK + 1: [3 * BLOCK]}


@pytest.mark.parametrize("keep_every", [1, 7, 40])
def test_with_more_rounds_all_blocks_before_the_last_stay_as_they_are(keep_every):
    arm = arm_of(phases=[{"rounds": 4}, {}])
    for before in range(1, 80):
        fewer, more = (validation_blocks(arm, kept_rounds(arm, last, keep_every)) for last in (before, before + 30))
        assert dict(list(fewer.items())[:-1]).items() <= more.items()
