"""Which job goes first, and what a study gains by it."""

import heapq
import itertools
from types import SimpleNamespace

import pytest
from fedpedbrain.base.cases import SPLITS
from fedpedbrain.base.errors import StudyError
from fedpedbrain.base.files import write_table
from fedpedbrain.planning.priorities import (
    OFF_THE_CRITICAL_PATH,
    UNBLOCKS_TRAINING,
    known_sizes,
    length_of_round,
    training_priority,
    validation_priority,
    work_of,
)
from fedpedbrain.study.study import load_study

SIZES = {"north": 30, "east": 20, "south": 10}


@pytest.fixture
def arm(config, schema_path):
    """``arm(participants, block)``: an arm of the three training sites."""

    def _arm(participants: str = "sites", **block):
        config["arms"] = [{"name": "arm", "participants": participants, **block}]
        config["evaluation"]["reference_arm"] = "arm"
        config["reporting"]["video"]["arms"] = ["arm"]
        return load_study(config, schema_path, lambda settings: SIZES).arms["arm"]

    return _arm


def test_a_site_with_more_cases_goes_first_within_a_round(arm):
    priorities = {site: training_priority(arm(), site, 2, 3, SIZES) for site in SIZES}
    # Its own cases, and a round of the largest site that is still to come.
    assert priorities == {"north": 60, "east": 50, "south": 40}


def test_an_arm_with_more_work_to_do_goes_first(arm):
    assert training_priority(arm("pooled"), "pooled", 1, 3, SIZES) == 3 * 60
    assert training_priority(arm(), "north", 1, 3, SIZES) == 3 * 30
    # Until what is left of it is as little.
    assert training_priority(arm("pooled"), "pooled", 3, 3, SIZES) == training_priority(arm(), "north", 2, 3, SIZES)


def test_a_participant_of_a_random_share_has_as_many_cases_as_its_site(arm):
    assert work_of(arm("iid"), "east", SIZES) == 20
    assert work_of(arm("pooled"), "pooled", SIZES) == 60


def test_sites_that_wait_for_each_other_make_a_round_as_long_as_all_of_them(arm):
    assert length_of_round(arm(), SIZES) == 30
    assert length_of_round(arm(strategy={"name": "cyclic"}), SIZES) == 60


@pytest.mark.parametrize(("start", "expected"), [("best", 2 * 30), ("last", OFF_THE_CRITICAL_PATH)])
def test_training_goes_before_a_validation_unless_a_phase_waits_for_that(arm, start, expected):
    phased = arm(phases=[{"rounds": 2}, {"start": start}])
    assert [validation_priority(phased, number, 4, SIZES) for number in (1, 2)] == [expected] * 2
    assert validation_priority(phased, 3, 4, SIZES) == OFF_THE_CRITICAL_PATH
    assert min(training_priority(phased, site, 4, 4, SIZES) for site in SIZES) > OFF_THE_CRITICAL_PATH
    # A phase that no round of the study reaches keeps nobody waiting.
    assert validation_priority(phased, 2, 2, SIZES) == OFF_THE_CRITICAL_PATH


def test_averaging_goes_before_training_in_the_largest_study(arm):
    sizes = dict.fromkeys(SIZES, 10**4)
    assert training_priority(arm("pooled"), "pooled", 1, 999, sizes) < UNBLOCKS_TRAINING


def refuse():
    raise StudyError("not counted before they are read")


def test_sizes_are_those_of_the_splits_then_of_the_source_then_all_alike(tmp_path):
    splits = tmp_path / "splits.tsv"
    assert known_sizes(splits, refuse, ["north", "east"]) == {"north": 1, "east": 1}
    assert known_sizes(splits, lambda: {"north": 7}, ["north", "east"]) == {"north": 7, "east": 1}
    rows = [{"patient": str(number), "site": "east", "split": split} for number, split in enumerate(SPLITS[:3])]
    write_table(splits, ("patient", "site", "split"), rows)
    assert known_sizes(splits, refuse, ["north", "east"]) == {"north": 1, "east": 3}
    assert known_sizes(splits, lambda: {"north": 7, "east": 9}, ["north", "east"]) == {"north": 7, "east": 3}


# A schedule of the greedy kind: whenever a GPU is free, the waiting job of the highest priority takes it.


def time_of_study(arms, num_rounds, num_gpus, priority):
    """When the last round of arms ends whose jobs take as long as they have cases; averaging takes no time."""
    running, waiting, left, now = [], [], {}, 0
    order = itertools.count()

    def begin(arm, number):
        left[arm.name] = len(arm.participants)
        waiting.extend((arm, site, number) for site in arm.participants)

    for arm in arms:
        begin(arm, 1)
    while waiting or running:
        while waiting and len(running) < num_gpus:
            job = max(waiting, key=lambda job: priority(*job))
            waiting.remove(job)
            heapq.heappush(running, (now + work_of(job[0], job[1], SIZES), next(order), job))
        now, _, (arm, _, number) = heapq.heappop(running)
        left[arm.name] -= 1
        if not left[arm.name] and number < num_rounds:
            begin(arm, number + 1)
    return now


def make_arm(name, *sites):
    shards_of = {"pooled": list(SIZES)} if sites == ("pooled",) else {site: [site] for site in sites}
    return SimpleNamespace(
        name=name, shards_of=shards_of, participants=sorted(shards_of), is_repartitioned=False, is_cyclic=False
    )


def test_longest_first_ends_a_study_as_early_as_its_longest_arm_allows():
    local = [make_arm(site, site) for site in SIZES]
    arms = [*local, make_arm("fedavg", *SIZES), make_arm("centralized", "pooled")]
    longest_first = time_of_study(arms, 6, 3, lambda arm, site, number: training_priority(arm, site, number, 6, SIZES))
    in_turn = time_of_study(arms, 6, 3, lambda arm, site, number: 0)
    # Six rounds of sixty cases one after the other, and three GPUs for three times as many in all.
    assert longest_first == 6 * 60
    assert in_turn == 450
