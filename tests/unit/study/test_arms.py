"""Who trains in which round, from whose files, and which settings of an arm contradict each other."""

from collections import Counter

import pytest
from fedpedbrain.base.errors import StudyError
from fedpedbrain.study.arm_checks import check_arm
from fedpedbrain.study.arms import Arm, build_arms
from fedpedbrain.study.strategy_facts import STRATEGIES, WITHOUT_EXCHANGE, merged_block

SITES = ["north", "east", "south", "west"]
SIZES = {"north": 20, "east": 30, "south": 20, "west": 10}
DEFAULTS = WITHOUT_EXCHANGE | {"optimizer_state": "kept"}
FEDERATED = ["sites", "all_but_one", "iid"]


def arms_of(participants: str, defaults=DEFAULTS, sites=SITES, name: str = "arm", **block) -> dict[str, Arm]:
    return build_arms([{"name": name, "participants": participants, **block}], defaults, sites, lambda: SIZES)


def arm_of(name: str = "arm", participants: str = "sites", **block) -> Arm:
    return arms_of(participants, name=name, **block)[name]


def refusal(function, *arguments) -> str:
    with pytest.raises(StudyError) as caught:
        function(*arguments)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


def check_refusal(num_rounds: int = 3, seeds=(0,), **block) -> str:
    return refusal(check_arm, arm_of(**block), num_rounds, seeds)


# Who takes part in an arm.


def test_a_pooled_arm_is_one_participant_with_every_shard():
    assert {name: arm.shards_of for name, arm in arms_of("pooled").items()} == {"arm": {"pooled": SITES}}


def test_an_arm_alone_is_one_arm_a_site():
    assert {name: arm.shards_of for name, arm in arms_of("alone").items()} == {
        f"arm-{site}": {site: [site]} for site in SITES
    }


def test_a_federated_arm_is_one_participant_a_site():
    arm = arm_of()
    assert arm.shards_of == {site: [site] for site in SITES}
    assert arm.participants == arm.sites == sorted(SITES)


def test_all_but_one_is_one_arm_for_each_site_that_is_left_out():
    arms = arms_of("all_but_one")
    assert list(arms) == [f"arm-{site}" for site in SITES]
    for site in SITES:
        assert arms[f"arm-{site}"].participants == sorted(set(SITES) - {site})
        assert arms[f"arm-{site}"].sites == sorted(set(SITES) - {site})


def test_all_but_one_of_two_sites_is_refused():
    message = refusal(arms_of, "all_but_one", DEFAULTS, ["north", "east"])
    assert message == "arms.arm: all_but_one needs three training sites, found 2"


def test_every_participant_of_an_iid_arm_reads_every_shard():
    arm = arm_of(participants="iid")
    assert arm.shards_of == dict.fromkeys(SITES, SITES)
    assert arm.is_repartitioned
    assert not any(other.is_repartitioned for kind in ("pooled", "alone", "sites") for other in arms_of(kind).values())


# Where its settings come from.


def test_blocks_are_laid_over_the_defaults_key_by_key():
    defaults = {"a": {"x": 1, "y": {"p": 1, "q": 2}}, "b": 3}
    assert merged_block(defaults, {"a": {"y": {"q": 5}}, "b": 4}) == {"a": {"x": 1, "y": {"p": 1, "q": 5}}, "b": 4}
    assert defaults == {"a": {"x": 1, "y": {"p": 1, "q": 2}}, "b": 3}


def test_a_strategy_replaces_that_of_the_defaults_whole():
    defaults = DEFAULTS | {"strategy": {"name": "fedprox", "mu": 0.5}}
    assert arms_of("sites", defaults)["arm"].strategy == {"name": "fedprox", "mu": 0.5}
    assert arms_of("sites", defaults, strategy={"name": "fedavg"})["arm"].strategy == {"name": "fedavg"}
    mu = STRATEGIES["fedprox"].options["mu"]
    assert arms_of("sites", defaults, strategy={"name": "fedprox"})["arm"].strategy == {"name": "fedprox", "mu": mu}


@pytest.mark.parametrize("participants", ["pooled", "alone"])
@pytest.mark.parametrize(
    ("key", "block"),
    [
        *((key, {key: value}) for key, value in WITHOUT_EXCHANGE.items() if key not in ("batch_norm", "privacy")),
        ("batch_norm", {"batch_norm": "local"}),
        *((f"privacy.{key}", {"privacy": {key: 1.0}}) for key in ("clip_norm", "noise_multiplier", "secure_sum")),
    ],
)
def test_an_arm_without_exchange_refuses_what_speaks_of_one(participants, key, block):
    with pytest.raises(StudyError) as caught:
        arms_of(participants, **block)
    assert str(caught.value) == f"arms.arm.{key}: has no meaning with participants {participants}; drop it"


OTHER_DEFAULTS = {
    "strategy": {"name": "fedbn"},
    "weighting": "uniform",
    "batch_norm": "local",
    "participation": {"fraction": 0.5, "minimum_sites": 2, "absent": {"north": [1]}, "allow_missing_sites": True},
    "exchange": {"dtype": "int8", "content": "difference", "error_feedback": True},
    "privacy": WITHOUT_EXCHANGE["privacy"] | {"clip_norm": 1.0, "noise_multiplier": 1.0},
    "phases": [{"largest": 1, "rounds": 1}, {}],
}


def test_the_other_defaults_differ_in_every_block():
    assert OTHER_DEFAULTS.keys() == WITHOUT_EXCHANGE.keys()
    assert all(OTHER_DEFAULTS[key] != WITHOUT_EXCHANGE[key] for key in WITHOUT_EXCHANGE)


@pytest.mark.parametrize("participants", ["pooled", "alone"])
def test_federated_defaults_leave_an_arm_without_exchange_as_it_is(participants):
    changed, plain = (arms_of(participants, DEFAULTS | other) for other in (OTHER_DEFAULTS, {}))
    assert [arm.settings for arm in changed.values()] == [arm.settings for arm in plain.values()]


@pytest.mark.parametrize("participants", ["pooled", "alone", *FEDERATED])
def test_the_default_optimizer_state_holds_for_every_kind_of_arm(participants):
    for state, keeps in (("kept", True), ("fresh", False)):
        arms = arms_of(participants, DEFAULTS | {"optimizer_state": state})
        assert {arm.keeps_optimizer_state for arm in arms.values()} == {keeps}
        other = arms_of(participants, DEFAULTS | {"optimizer_state": state}, optimizer_state="fresh")
        assert not any(arm.keeps_optimizer_state for arm in other.values())


@pytest.mark.parametrize(
    ("block", "is_personal"),
    [
        ({"strategy": {"name": "fedbn"}}, True),
        ({"strategy": {"name": "ditto"}}, True),
        ({"batch_norm": "local"}, True),
        ({"batch_norm": "frozen"}, False),
        ({"strategy": {"name": "scaffold"}}, False),
    ],
    ids=["fedbn", "ditto", "local", "frozen", "scaffold"],
)
def test_an_arm_is_personal_where_sites_keep_weights_of_their_own(block, is_personal):
    assert arm_of(**block).is_personal is is_personal


@pytest.mark.parametrize(
    ("privacy", "is_private"),
    [
        ({"clip_norm": 1.0}, False),
        ({"clip_norm": 1.0, "noise_multiplier": 0.5}, True),
        ({"example_level": {"noise_multiplier": 0.5}}, True),
        ({"secure_sum": True}, False),
    ],
    ids=["clipping", "server noise", "noise at the sites", "secure sum"],
)
def test_an_arm_is_private_where_noise_is_added(privacy, is_private):
    assert arm_of(privacy=privacy).is_private is is_private


# Who takes part in a round.


def rounds(arm: Arm, count: int, seed: int = 0) -> list[list[str]]:
    return [arm.sites_in_round(seed, number) for number in range(1, count + 1)]


def test_without_more_words_everybody_takes_part_in_every_round_in_sorted_order():
    assert rounds(arm_of(), 3) == [sorted(SITES)] * 3


@pytest.mark.parametrize(("fraction", "count"), [(0.01, 1), (0.25, 1), (0.26, 2), (0.5, 2), (0.75, 3), (0.8, 4)])
def test_a_fraction_of_the_sites_is_rounded_up(fraction, count):
    for sites in rounds(arm_of(participation={"fraction": fraction}), 5):
        assert len(sites) == count
        assert sites == sorted(set(sites))


def test_a_fraction_that_is_no_binary_number_is_not_rounded_up_past_itself():
    names = [f"s{number}" for number in range(100)]
    arm = arms_of("sites", sites=names, participation={"fraction": 0.07})["arm"]
    assert 0.07 * 100 > 7
    assert len(arm.sites_in_round(0, 1)) == 7


def test_the_fewest_sites_are_drawn_where_the_fraction_gives_fewer():
    arm = arm_of(participation={"fraction": 0.25, "minimum_sites": 3})
    assert [len(sites) for sites in rounds(arm, 4)] == [3] * 4


def test_an_absent_site_is_not_drawn():
    arm = arm_of(participation={"absent": {"south": [2], "west": [2, 3]}})
    assert rounds(arm, 4) == [sorted(SITES), ["east", "north"], ["east", "north", "south"], sorted(SITES)]


def test_the_fraction_is_of_those_that_are_not_absent():
    arm = arm_of(participation={"fraction": 0.5, "absent": {"south": [1], "west": [1]}})
    assert len(arm.sites_in_round(0, 1)) == 1
    assert len(arm.sites_in_round(0, 2)) == 2


def test_two_arms_of_the_same_sites_draw_the_same():
    half = {"fraction": 0.5}
    one = arm_of("one", participation=half)
    other = arm_of("other", "iid", participation=half, strategy={"name": "scaffold"}, weighting="uniform")
    assert rounds(one, 20) == rounds(other, 20)


def test_rounds_and_seeds_draw_differently():
    arm = arm_of(participation={"fraction": 0.5})
    assert len({tuple(sites) for sites in rounds(arm, 20)}) > 1
    assert rounds(arm, 20, seed=0) != rounds(arm, 20, seed=1)


def test_every_site_is_drawn_about_as_often_as_any_other():
    counts = Counter(site for sites in rounds(arm_of(participation={"fraction": 0.5}), 400) for site in sites)
    assert counts == {site: pytest.approx(200, abs=50) for site in SITES}


def test_a_round_with_too_few_sites_is_refused_with_arm_and_round():
    arm = arm_of("fedprox", participation={"minimum_sites": 4, "absent": {"west": [3]}})
    assert rounds(arm, 2) == [sorted(SITES)] * 2
    message = refusal(arm.sites_in_round, 0, 3)
    assert message.startswith("arms.fedprox.participation: round 3 has 3 of at least 4 sites; ")


def test_a_round_without_any_site_is_refused():
    arm = arm_of(participation={"absent": {site: [2] for site in SITES}})
    assert "round 2 has 0 of at least 1 sites" in refusal(arm.sites_in_round, 0, 2)


# Phases.


def test_without_phases_there_is_one_of_all_sites():
    (phase,) = arm_of().phases
    assert (phase.first_round, phase.last_round, phase.learning_rate, phase.start) == (1, None, None, "last")
    assert phase.sites == tuple(sorted(SITES))


def test_phases_follow_each_other_and_the_last_takes_the_rounds_that_are_left():
    arm = arm_of(
        phases=[{"sites": ["west", "east"], "rounds": 2}, {"sites": ["south"], "rounds": 1}, {"learning_rate": 0.5}]
    )
    assert [(phase.first_round, phase.last_round) for phase in arm.phases] == [(1, 2), (3, 3), (4, None)]
    assert rounds(arm, 5) == [["east", "west"], ["east", "west"], ["south"], sorted(SITES), sorted(SITES)]
    assert [arm.phase_of(number).learning_rate for number in (3, 4, 99)] == [None, 0.5, 0.5]


def test_the_largest_sites_are_those_of_most_cases_and_of_equals_the_first_name():
    for count, sites in ((1, ["east"]), (2, ["east", "north"]), (3, ["east", "north", "south"])):
        arm = arm_of(phases=[{"largest": count, "rounds": 1}, {}])
        assert arm.sites_in_round(0, 1) == sites


def test_the_largest_sites_are_those_of_the_arm():
    arm = arms_of("all_but_one", phases=[{"largest": 1, "rounds": 1}, {}])["arm-east"]
    assert arm.sites_in_round(0, 1) == ["north"]


def test_sizes_are_asked_for_only_where_phases_speak_of_the_largest():
    def fail():
        raise AssertionError("asked for sizes")

    block = {"name": "arm", "participants": "sites", "phases": [{"sites": ["north"], "rounds": 1}, {}]}
    assert build_arms([block], DEFAULTS, SITES, fail)["arm"].sites_in_round(0, 1) == ["north"]


@pytest.mark.parametrize(
    ("phases", "message"),
    [
        ([{"rounds": 2}], "phase 1 of 1 takes the rounds that are left; leave its rounds out"),
        ([{"rounds": 2}, {"rounds": 3}], "phase 2 of 2 takes the rounds that are left; leave its rounds out"),
        ([{}, {}], "phase 1 of 2 needs its rounds"),
        ([{"rounds": 1}, {}, {}], "phase 2 of 3 needs its rounds"),
        ([{"sites": ["north"], "largest": 1}], "phase 1 has both sites and largest; keep one of them"),
        ([{"largest": 5}], "phase 1 wants 5 sites, there are 4; lower it"),
        ([{"sites": ["norht"]}], "phase 1: 'norht' does not train in this arm (east, north, south, west)"),
        ([{"start": "best", "rounds": 1}, {}], "phase 1 has no phase before it; leave its start out"),
    ],
    ids=["only", "last", "first", "middle", "both", "too many", "unknown", "start"],
)
def test_phases_that_cannot_be_are_refused_with_arm_and_phase(phases, message):
    assert check_refusal(name="warm", phases=phases) == f"arms.warm.phases: {message}"


def test_phases_and_absences_pass_over_the_site_that_is_left_out():
    phases = [{"sites": ["east", "north"], "rounds": 1}, {}]
    arms = arms_of("all_but_one", phases=phases, participation={"absent": {"north": [2]}})
    assert arms["arm-east"].phases[0].sites == ("north",)
    assert arms["arm-north"].phases[0].sites == ("east",)
    assert arms["arm-east"].sites_in_round(0, 2) == ["south", "west"]
    assert arms["arm-north"].sites_in_round(0, 2) == ["east", "south", "west"]


def test_a_phase_of_the_left_out_site_alone_is_refused():
    arms = arms_of("all_but_one", phases=[{"sites": ["north"], "rounds": 1}, {}])
    assert "phase 1 has no site left in this arm" in refusal(check_arm, arms["arm-north"], 3, [0])


# What a round goes on from.

WARM = [{"sites": ["east", "north"], "rounds": 3}, {"rounds": 2}, {"start": "best"}]


def test_the_first_round_starts_from_the_initial_model():
    assert arm_of().start_of("north", 0, 1) == {"kind": "initial", "rounds": [0], "site": ""}


def test_a_round_starts_from_the_one_before_also_over_a_phases_border():
    arm = arm_of(phases=WARM)
    for number in (2, 3, 4, 5, 7):
        assert not arm.starts_from_best(number)
        assert arm.start_of("north", 0, number) == {"kind": "global", "rounds": [number - 1], "site": ""}


def test_a_phase_may_start_from_the_best_round_of_the_phase_before_alone():
    arm = arm_of(phases=WARM)
    assert arm.starts_from_best(6)
    assert arm.rounds_of_phase_before(6) == [4, 5]
    assert arm.start_of("north", 0, 6) == {"kind": "global", "rounds": [4, 5], "site": ""}


def test_a_site_goes_on_from_its_state_after_the_last_round_that_it_took_part_in():
    arm = arm_of(participation={"absent": {"north": [2, 3]}})
    states = [arm.state_round("north", 0, number) for number in (1, 2, 4, 5)]
    assert states == [None, 1, 1, 4]


def test_a_site_that_comes_late_has_no_state():
    arm = arm_of(participation={"absent": {"north": [1, 2]}})
    assert [arm.state_round("north", 0, number) for number in (3, 4)] == [None, 3]


def test_no_site_state_crosses_the_border_of_a_phase():
    arm = arm_of(phases=WARM, participation={"absent": {"north": [4]}})
    assert [arm.state_round("east", 0, number) for number in range(1, 8)] == [None, 1, 2, None, 4, None, 6]
    assert arm.state_round("north", 0, 5) is None


@pytest.mark.parametrize("participants", ["sites", "iid"])
def test_states_follow_the_draw(participants):
    arm = arm_of(participants=participants, participation={"fraction": 0.5})
    for number in range(2, 12):
        for site in SITES:
            last = arm.state_round(site, 3, number)
            before = [earlier for earlier in range(1, number) if site in arm.sites_in_round(3, earlier)]
            assert last == (before[-1] if before else None)


def test_personal_weights_are_those_of_the_last_round_that_a_site_took_part_in():
    arm = arm_of(batch_norm="local", participation={"absent": {"north": [2], "west": [1, 2]}})
    assert arm.personal_rounds(0, 2) == {"east": 2, "north": 1, "south": 2}
    assert arm.personal_rounds(0, 3) == dict.fromkeys(sorted(SITES), 3)


def test_personal_weights_are_of_the_phase_that_a_round_belongs_to():
    arm = arm_of(strategy={"name": "fedbn"}, phases=[{"rounds": 2}, {"sites": ["south"]}])
    assert set(arm.personal_rounds(0, 2)) == set(SITES)
    assert arm.personal_rounds(0, 4) == {"south": 4}


def test_an_arm_of_one_model_has_no_personal_rounds():
    assert arm_of().personal_rounds(0, 3) == {}


def test_a_cyclic_round_goes_from_site_to_site():
    arm = arm_of(strategy={"name": "cyclic"}, participation={"absent": {"north": [2]}})
    assert [arm.site_before(site, 0, 1) for site in sorted(SITES)] == [None, "east", "north", "south"]
    assert [arm.site_before(site, 0, 2) for site in ("east", "south", "west")] == [None, "east", "south"]
    assert arm.start_of("south", 0, 2) == {"kind": "update", "rounds": [2], "site": "east"}
    assert arm.start_of("east", 0, 2) == {"kind": "global", "rounds": [1], "site": ""}
    assert arm.start_of("north", 0, 1) == {"kind": "update", "rounds": [1], "site": "east"}
    assert arm.start_of("east", 0, 1) == {"kind": "initial", "rounds": [0], "site": ""}


def test_in_other_arms_no_site_comes_before_another():
    assert {arm_of().site_before(site, 0, 2) for site in SITES} == {None}


# What may not be said together.

DIFFERENCE = {"content": "difference"}
FOR_FOUR_SITES = {"krum": {"num_byzantine": 0}, "trimmed_mean": {"trim_fraction": 0.25}}


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (
            {"exchange": {"dtype": "int8"}},
            "exchange: int8 has no room for whole weights; set content: difference",
        ),
        ({"exchange": {"error_feedback": True}}, "exchange.error_feedback: float32 leaves no error; drop it"),
        (
            {"strategy": {"name": "cyclic"}, "exchange": DIFFERENCE},
            "exchange: a cyclic arm hands on whole float32 weights; drop the block",
        ),
        (
            {"strategy": {"name": "cyclic"}, "exchange": {"dtype": "float16"}},
            "exchange: a cyclic arm hands on whole float32 weights; drop the block",
        ),
        (
            {"strategy": {"name": "cyclic"}, "participation": {"allow_missing_sites": True}},
            "participation.allow_missing_sites: a cyclic arm needs every site; drop it",
        ),
        (
            {"strategy": {"name": "cyclic"}, "privacy": {"clip_norm": 1.0}},
            "privacy: a cyclic arm has no average to protect; drop clip_norm and secure_sum",
        ),
        (
            {"strategy": {"name": "cyclic"}, "privacy": {"secure_sum": True}},
            "privacy: a cyclic arm has no average to protect; drop clip_norm and secure_sum",
        ),
        (
            {"strategy": {"name": "ditto"}, "batch_norm": "local"},
            "batch_norm: sites of ditto train two models and keep statistics of one; set average or frozen",
        ),
        (
            {"privacy": {"noise_multiplier": 1.0}},
            "privacy.noise_multiplier: noise needs clip_norm, the most that a site can change",
        ),
        (
            {"strategy": {"name": "scaffold"}, "privacy": {"clip_norm": 1.0}},
            "privacy: scaffold sends more than weights, which clipping does not cover; use another strategy",
        ),
        (
            {"strategy": {"name": "feddyn"}, "privacy": {"secure_sum": True}},
            "privacy.secure_sum: feddyn needs more than the sum of the updates; use another strategy",
        ),
        (
            {"strategy": {"name": "fednova"}, "privacy": {"secure_sum": True}},
            "privacy.secure_sum: fednova needs more than the sum of the updates; use another strategy",
        ),
        (
            {"strategy": {"name": "fedprox"}, "privacy": {"example_level": {"noise_multiplier": 1.0}}},
            "privacy.example_level: DP-SGD clips gradients that fedprox would change; use another strategy",
        ),
        (
            {"strategy": {"name": "ditto"}, "privacy": {"example_level": {"noise_multiplier": 1.0}}},
            "privacy.example_level: DP-SGD clips gradients that ditto would change; use another strategy",
        ),
        (
            {"strategy": {"name": "median"}, "privacy": {"secure_sum": True}},
            "privacy.secure_sum: median needs more than the sum of the updates; use another strategy",
        ),
        (
            {"strategy": {"name": "trimmed_mean"}, "privacy": {"clip_norm": 1.0, "noise_multiplier": 1.0}},
            "privacy.noise_multiplier: trimmed_mean needs more than a noisy average; use another strategy",
        ),
        (
            {"strategy": {"name": "fednova"}, "privacy": {"clip_norm": 1.0, "noise_multiplier": 1.0}},
            "privacy.noise_multiplier: fednova needs more than a noisy average; use another strategy",
        ),
        (
            {"exchange": DIFFERENCE, "privacy": {"secure_sum": True}},
            "privacy.secure_sum: masked updates have their own form; drop exchange",
        ),
        (
            {"participation": {"allow_missing_sites": True}, "privacy": {"secure_sum": True}},
            "privacy.secure_sum: a sum that lacks a site cannot be read; drop allow_missing_sites",
        ),
        (
            {"participation": {"absent": {"norht": [1]}}},
            "participation.absent: 'norht' does not train in this arm",
        ),
        (
            {"participation": {"absent": {"north": []}}},
            "participation.absent: north is absent in no round; list rounds or drop it",
        ),
        (
            {"strategy": {"name": "krum"}},
            "strategy: krum (num_byzantine 1, num_selected 1) bears no wrong update: "
            "round 1 has 4 of at least 5 sites; let more take part",
        ),
        (
            {"strategy": {"name": "krum", "num_byzantine": 0, "num_selected": 5}},
            "strategy: krum (num_byzantine 0, num_selected 5) bears no wrong update: "
            "round 1 has 4 of at least 5 sites; let more take part",
        ),
        (
            {"strategy": {"name": "krum", "num_byzantine": 1, "num_selected": 5}},
            "strategy: krum (num_byzantine 1, num_selected 5) bears no wrong update: "
            "round 1 has 4 of at least 6 sites; let more take part",
        ),
        (
            {"strategy": {"name": "trimmed_mean"}},
            "strategy: trimmed_mean (trim_fraction 0.1) bears no wrong update: "
            "round 1 has 4 of at least 10 sites; let more take part",
        ),
        (
            {
                "strategy": {"name": "trimmed_mean", "trim_fraction": 0.25},
                "participation": {"absent": {"west": [3]}},
            },
            "strategy: trimmed_mean (trim_fraction 0.25) bears no wrong update: "
            "round 3 has 3 of at least 4 sites; let more take part",
        ),
        (
            {"privacy": {"secure_sum": True}, "participation": {"fraction": 0.25}},
            "privacy.secure_sum: the sum of one site is its update: round 1 has 1 of at least 2 sites; "
            "let more take part",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(block, message):
    assert check_refusal(name="odd", **block) == f"arms.odd.{message}"


@pytest.mark.parametrize(
    "block",
    [
        {"exchange": {"dtype": "int8", "content": "difference", "error_feedback": True}},
        {"exchange": {"dtype": "bfloat16", "error_feedback": True}},
        {"privacy": {"clip_norm": 1.0, "noise_multiplier": 1.0, "secure_sum": True}},
        {"privacy": {"example_level": {"noise_multiplier": 1.0}}},
        {"strategy": {"name": "fedadam"}, "privacy": {"clip_norm": 1.0, "secure_sum": True}},
        {"strategy": {"name": "cyclic"}, "participation": {"fraction": 0.5}},
        {"strategy": {"name": "krum", "num_byzantine": 0}, "participation": {"allow_missing_sites": True}},
        {"strategy": {"name": "median"}, "privacy": {"clip_norm": 1.0}},
        {"strategy": {"name": "feddyn"}, "privacy": {"clip_norm": 1.0}},
        {"privacy": {"secure_sum": True}, "participation": {"fraction": 0.5}},
        {"strategy": {"name": "ditto"}, "phases": WARM},
        {"strategy": {"name": "ditto"}, "batch_norm": "frozen"},
        {"strategy": {"name": "fedbn"}, "batch_norm": "local"},
        {"strategy": {"name": "trimmed_mean", "trim_fraction": 0.0}},
        *({"strategy": {"name": name} | FOR_FOUR_SITES.get(name, {})} for name in STRATEGIES),
    ],
    ids=str,
)
def test_settings_that_work_together_pass(block):
    check_arm(arm_of(**block), 8, [0, 1])


def test_what_a_strategy_needs_is_the_fewest_that_a_round_is_averaged_from():
    arm = arm_of(strategy={"name": "krum", "num_byzantine": 0})
    assert arm.minimum_sites == 3
    assert arm_of(strategy=arm.strategy, participation={"minimum_sites": 4}).minimum_sites == 4
    assert arm_of().minimum_sites == 1


def test_a_phase_that_the_studys_rounds_do_not_reach_is_refused():
    arm = arm_of("warm", phases=WARM)
    check_arm(arm, 6, [0])
    for num_rounds, phase, first in ((5, 3, 6), (3, 2, 4)):
        message = refusal(check_arm, arm, num_rounds, [0])
        assert message == (
            f"arms.warm.phases: phase {phase} would start in round {first} of {num_rounds}; shorten the phases before "
            "it or raise study.rounds"
        )


def test_an_absence_after_the_last_round_is_refused():
    arm = arm_of("gone", participation={"absent": {"west": [2, 4]}})
    check_arm(arm, 4, [0])
    assert refusal(check_arm, arm, 3, [0]) == (
        "arms.gone.participation.absent: west is absent in round 4 of 3; drop it or raise study.rounds"
    )


def test_the_fewest_sites_are_checked_in_every_round_of_the_study():
    arm = arm_of(participation={"minimum_sites": 4, "absent": {"west": [4]}})
    assert "round 4 has 3 of at least 4" in refusal(check_arm, arm, 4, [0])


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        ({"name": "fedavg", "mu": 0.1}, "strategy: fedavg has no option 'mu'; its options: none"),
        ({"name": "fedprox", "alpha": 0.1}, "strategy: fedprox has no option 'alpha'; its options: mu"),
        (
            {"name": "fedadagrad", "beta1": 0.1, "tau": 0.1},
            "strategy: fedadagrad has no option 'beta1'; its options: server_learning_rate, tau",
        ),
    ],
)
def test_an_option_of_another_strategy_is_refused_with_the_known_ones(strategy, message):
    assert check_refusal(strategy=strategy) == f"arms.arm.{message}"
