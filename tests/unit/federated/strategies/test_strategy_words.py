"""The words for strategies: the config's, those of the job graph and those of the package are the same."""

import pytest
import torch
from fedpedbrain.federated.strategies.cyclic import Cyclic
from fedpedbrain.federated.strategies.strategy import RoundUpdates, SiteRule, SiteUpdate, Strategy, build_strategy
from fedpedbrain.study.arms import build_arms
from fedpedbrain.study.schema import load_schema
from fedpedbrain.study.strategy_facts import STRATEGIES as FACTS
from fedpedbrain.study.strategy_facts import WITHOUT_EXCHANGE
from torch import nn


@pytest.fixture
def strategy_schema(schema_path):
    """The schema of a ``strategy`` block."""
    return load_schema(schema_path)["$defs"]["strategy"]["properties"]


def test_the_schema_takes_words_and_options_from_the_table(strategy_schema):
    assert strategy_schema["name"]["enum"] == list(FACTS)
    options = {option for facts in FACTS.values() for option in facts.options}
    assert set(strategy_schema) == {"name", *options}
    assert strategy_schema["trim_fraction"]["exclusiveMaximum"] == 0.5


def test_options_of_one_name_take_the_same_values_whatever_the_strategy():
    schemas = {}
    for facts in FACTS.values():
        for name, option in facts.declared.items():
            assert schemas.setdefault(name, option.schema) == option.schema, name


@pytest.mark.parametrize("name", FACTS)
def test_a_strategy_is_made_from_its_default_options_and_needs_each(name):
    options = FACTS[name].options
    assert isinstance(build_strategy({"name": name, **options}), Strategy)
    for left_out in options:
        with pytest.raises((TypeError, KeyError), match=left_out):
            build_strategy({"name": name} | {key: value for key, value in options.items() if key != left_out})


@pytest.mark.parametrize("name", FACTS)
def test_an_arm_gives_its_strategy_every_option(name):
    block = {"name": "arm", "participants": "sites", "strategy": {"name": name}}
    arm = build_arms([block], WITHOUT_EXCHANGE | {"optimizer_state": "kept"}, ["north", "south"], dict)["arm"]
    assert arm.site_settings["strategy"] == arm.server_settings["strategy"] == {"name": name, **FACTS[name].options}
    assert isinstance(build_strategy(arm.site_settings["strategy"]), Strategy)


@pytest.mark.parametrize("name", FACTS)
def test_facts_say_for_which_strategies_the_mean_of_the_updates_is_enough(name):
    options = FACTS[name].options | ({"num_byzantine": 0} if name == "krum" else {})
    strategy = build_strategy({"name": name, **options})
    rows = {"a": (4.0, 3), "b": (8.0, 1), "c": (1.0, 2)}
    sent = {group: {"weight": torch.ones(1)} for group in strategy.sends}
    updates = [
        SiteUpdate(site, float(number), number, {"weight": torch.tensor([value])}, sent)
        for site, (value, number) in rows.items()
    ]
    parent = {"weight": torch.zeros(1)}
    each = RoundUpdates(updates, ["weight"], 4)
    mean = each.mean()
    alike = RoundUpdates([SiteUpdate(site, 1.0, 1, mean, sent) for site in rows], ["weight"], 3)
    found, expected = (strategy.combine(parent, of, {}) for of in (each, alike))
    is_enough = torch.equal(found.weights["weight"], expected.weights["weight"]) and not strategy.sends
    assert is_enough is not FACTS[name].needs_each_update


@pytest.mark.parametrize("name", FACTS)
def test_facts_say_what_strategies_do_at_the_sites(name):
    made = build_strategy({"name": name, **FACTS[name].options})
    assert len(made.sends) == FACTS[name].copies_sent
    is_corrected = type(made.site_rule({}, {}, {})).correct is not SiteRule.correct
    assert (is_corrected or made.personal_pull is not None) == FACTS[name].corrects_gradients
    assert (made.personal_pull is not None) == FACTS[name].has_second_model
    assert isinstance(made, Cyclic) == FACTS[name].is_cyclic


@pytest.mark.parametrize("name", FACTS)
def test_facts_say_how_many_tensors_like_the_models_are_sent_and_kept(name):
    options = FACTS[name].options | ({"num_byzantine": 0} if name == "krum" else {})
    made, start = build_strategy({"name": name, **options}), {"weight": torch.ones(2)}
    rule, weight = made.site_rule(start, {}, {}), nn.Parameter(torch.ones(2))
    weight.grad = torch.ones(2)
    rule.correct({"weight": weight})
    kept, sent = rule.finish({"weight": torch.zeros(2)})
    updates = [SiteUpdate(site, 1.0, 1, {"weight": torch.zeros(2)}, sent) for site in "abc"]
    at_server = made.combine(start, RoundUpdates(updates, ["weight"], 3), {}).kept
    sizes = [sum(sum(map(len, group.values())) for group in held.values()) for held in (sent, kept, at_server)]
    facts = FACTS[name]
    assert sizes == [2 * facts.copies_sent, 2 * facts.copies_at_site, 2 * facts.copies_at_server]


def test_facts_say_by_which_strategies_sites_keep_weights_of_their_own(spec):
    from fedpedbrain.models.files import ModelSpec

    model = ModelSpec(**spec).build()
    for name, facts in FACTS.items():
        made = build_strategy({"name": name, **facts.options})
        assert bool(made.personal_names(model) or made.personal_pull is not None) == facts.is_personal, name


@pytest.mark.parametrize("name", FACTS)
def test_only_strategies_that_broadcast_read_what_the_server_knows(name):
    class Asked(dict):
        is_asked = False

        def get(self, key, default=None):
            self.is_asked = True
            return super().get(key, default)

    broadcast = Asked()
    build_strategy({"name": name, **FACTS[name].options}).site_rule({}, {}, broadcast)
    assert broadcast.is_asked == FACTS[name].broadcasts
