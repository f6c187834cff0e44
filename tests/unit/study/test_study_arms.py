"""What a study makes of its arms: digests of their settings and plans of their rounds."""

import re

import pytest
import yaml
from fedpedbrain.study.strategy_facts import STRATEGIES, WITHOUT_EXCHANGE
from fedpedbrain.study.study import load_study

DEFAULTS = WITHOUT_EXCHANGE | {"optimizer_state": "kept"}


def test_the_documented_arms_are_arms_of_the_default_study(config, schema_path, repository):
    page = repository / "docs" / "reference" / "strategies.md"
    examples = re.findall(r"```yaml\n(arms:.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    assert examples
    for example in examples:
        config["arms"] = yaml.safe_load(example)["arms"]
        load_study(config, schema_path, lambda settings: settings["phantom"]["cases"])


@pytest.fixture
def load(config, schema_path):
    """``load(rounds, block)``: a study of three sites whose arm ``fed`` has the block's settings."""
    config["cohort"]["sites"] = {"training": ["north", "east", "south"], "external": ["west"]}
    config["arm_defaults"] = DEFAULTS
    config["evaluation"]["reference_arm"] = "centralized"
    config["reporting"]["video"]["arms"] = ["fed"]

    def _load(num_rounds: int = 3, **block):
        config["study"]["rounds"] = num_rounds
        own = {"name": "fed", "participants": "sites"} | block
        config["arms"] = [{"name": "centralized", "participants": "pooled"}, own]
        return load_study(config, schema_path, lambda settings: {"north": 3, "east": 2, "south": 1})

    return _load


@pytest.mark.parametrize(
    "block",
    [
        {"participation": {"fraction": 0.5}},
        {"participation": {"absent": {"north": [2]}}},
        {"privacy": {"delta": 0.001}},
    ],
    ids=str,
)
def test_who_takes_part_and_how_privacy_is_stated_leave_the_settings_digest(load, block):
    assert load(**block).settings_digests["fed"] == load().settings_digests["fed"]


def test_a_later_absence_leaves_the_plans_of_earlier_rounds(load):
    before, after = (load(participation={"absent": absent}) for absent in ({}, {"north": [3]}))
    for number in (1, 2):
        for site in ("east", "north", "south"):
            assert before.site_plan("fed", 0, number, site) == after.site_plan("fed", 0, number, site)
    assert after.site_plan("fed", 0, 3, "east")["sites"] == ["east", "south"]


@pytest.mark.parametrize(
    "block",
    [
        {"participants": "iid"},
        {"strategy": {"name": "fedprox"}},
        {"weighting": "uniform"},
        {"optimizer_state": "fresh"},
        {"batch_norm": "frozen"},
        {"exchange": {"dtype": "float16"}},
        {"privacy": {"clip_norm": 1.0}},
        {"phases": [{"largest": 2, "rounds": 1}, {}]},
        {"phases": [{"learning_rate": 0.5}]},
    ],
    ids=str,
)
def test_every_setting_of_an_arm_changes_its_settings_digest_and_no_other_arms(load, block):
    plain, changed = load(), load(**block)
    assert changed.settings_digests["fed"] != plain.settings_digests["fed"]
    assert changed.settings_digests["centralized"] == plain.settings_digests["centralized"]


def test_a_default_written_out_is_the_same_setting(load):
    strategy = {"name": "fedprox"}
    written = strategy | STRATEGIES["fedprox"].options
    assert load(strategy=strategy).settings_digests["fed"] == load(strategy=written).settings_digests["fed"]


@pytest.mark.parametrize(
    "block",
    [
        {},
        {"participation": {"fraction": 0.5}},
        {"phases": [{"largest": 2, "rounds": 2, "learning_rate": 0.5}, {"start": "best"}]},
        {"strategy": {"name": "cyclic"}, "optimizer_state": "fresh"},
        {"participants": "iid"},
    ],
    ids=["plain", "fraction", "phases", "cyclic", "iid"],
)
def test_more_rounds_leave_the_plans_of_the_earlier_ones_as_they_were(load, block):
    few, many = load(3, **block), load(30, **block)
    assert few.settings_digests["fed"] == many.settings_digests["fed"]
    for number in (1, 2, 3):
        assert few.round_plan("fed", number) == many.round_plan("fed", number)
        sites = few.arms["fed"].sites_in_round(0, number)
        assert sites == many.arms["fed"].sites_in_round(0, number)
        for site in sites:
            assert few.site_plan("fed", 0, number, site) == many.site_plan("fed", 0, number, site)


def test_the_plan_of_a_sites_round_says_what_it_goes_on_from(load):
    phases = [{"largest": 2, "rounds": 2, "learning_rate": 0.5}, {"start": "best"}]
    study = load(4, phases=phases)
    plan = study.site_plan("fed", 0, 2, "east")
    assert plan["sites"] == ["east", "north"]
    assert (plan["state_round"], plan["learning_rate"]) == (1, 0.5)
    assert plan["start"] == {"kind": "global", "rounds": [1], "site": ""}
    assert plan["part_of"] is None
    plan = study.site_plan("fed", 0, 3, "south")
    assert plan["sites"] == ["east", "north", "south"]
    assert plan["state_round"] is None
    assert plan["learning_rate"] == study.config["training"]["optimizer"]["learning_rate"]
    assert plan["start"] == {"kind": "global", "rounds": [1, 2], "site": ""}


@pytest.mark.parametrize("name", ["scaffold", "feddyn"])
def test_a_round_counts_the_sites_of_its_phase_whether_they_take_part_or_not(load, name):
    phases = [{"largest": 2, "rounds": 2}, {}]
    study = load(4, strategy={"name": name}, phases=phases, participation={"absent": {"north": [2, 3]}})
    assert [study.round_plan("fed", number)["num_sites"] for number in (1, 2, 3, 4)] == [2, 2, 3, 3]


def test_the_plan_of_an_iid_arm_names_those_who_share_all_cases_out(load):
    assert load(participants="iid").site_plan("fed", 0, 1, "east")["part_of"] == ["east", "north", "south"]


def test_the_plan_of_a_sites_round_names_whose_cases_it_trains_on(load):
    study = load()
    assert study.site_plan("fed", 0, 1, "east")["cases_of"] == ["east"]
    assert study.site_plan("centralized", 0, 1, "pooled")["cases_of"] == ["north", "east", "south"]
    assert sorted(load(participants="iid").site_plan("fed", 0, 1, "east")["cases_of"]) == ["east", "north", "south"]


def test_in_a_study_of_one_training_site_the_pooled_arm_is_planned_as_the_federated_one(load, config):
    def plan_of(arm: str, site: str) -> dict:
        return {key: value for key, value in study.site_plan(arm, 0, 1, site).items() if key not in ("digest", "sites")}

    config["cohort"]["sites"]["training"] = ["north"]
    study = load()
    assert plan_of("centralized", "pooled") == plan_of("fed", "north")


@pytest.mark.parametrize("participation", [{"allow_missing_sites": True}, {"minimum_sites": 3}], ids=str)
def test_leave_for_missing_sites_and_the_fewest_sites_leave_the_plans_of_all_rounds(load, participation):
    before, after = load(), load(participation=participation)
    for number in (1, 2, 3):
        assert before.round_plan("fed", number) == after.round_plan("fed", number)
        for site in ("east", "north", "south"):
            assert before.site_plan("fed", 0, number, site) == after.site_plan("fed", 0, number, site)


@pytest.mark.parametrize(
    ("name", "state", "momentum"), [("sgd", "fresh", 0.8), ("sgd", "kept", 0.0), ("adamw", "fresh", 0.0)]
)
def test_the_plan_of_a_round_knows_momentum_that_begins_anew(load, config, name, state, momentum):
    config["training"]["optimizer"] |= {"name": name, "momentum": 0.8}
    assert load(optimizer_state=state).round_plan("fed", 1)["momentum"] == momentum


@pytest.mark.parametrize("is_frozen", [False, True])
def test_the_plan_of_a_round_says_whether_the_encoder_trains(load, config, is_frozen):
    config["training"]["freeze_encoder"] = is_frozen
    assert load().round_plan("fed", 1)["freezes_encoder"] is is_frozen


def test_a_failed_site_is_tried_again_where_an_arm_may_go_on_without_it(load):
    assert not load().allows_missing_sites
    assert load(participation={"allow_missing_sites": True}).allows_missing_sites
