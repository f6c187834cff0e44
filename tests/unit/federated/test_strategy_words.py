"""The words for strategies: the config's, those of the job graph and those of the package are the same."""

import pytest
import yaml
from fedpedbrain.arm_settings import STRATEGIES as FACTS
from fedpedbrain.arm_settings import WITHOUT_EXCHANGE
from fedpedbrain.arms import build_arms
from fedpedbrain.federated.strategies import STRATEGIES, build_strategy
from fedpedbrain.federated.strategies.robust import ElementWise, Krum
from fedpedbrain.federated.strategies.strategy import Strategy


@pytest.fixture
def strategy_schema(schema_path):
    """The schema of a ``strategy`` block."""
    return yaml.safe_load(schema_path.read_text(encoding="utf-8"))["$defs"]["strategy"]["properties"]


def test_config_job_graph_and_package_know_the_same_strategies(strategy_schema):
    assert set(strategy_schema["name"]["enum"]) == set(FACTS) == set(STRATEGIES)


def test_the_config_allows_the_options_of_the_strategies_and_no_others(strategy_schema):
    options = {option for facts in FACTS.values() for option in facts.options}
    assert set(strategy_schema) == {"name", *options}


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


def test_facts_say_which_strategies_do_not_average():
    robust = {name for name, facts in FACTS.items() if facts.is_robust}
    built = {name: build_strategy({"name": name, **facts.options}) for name, facts in FACTS.items()}
    # The median and the trimmed mean share a base class.
    assert robust == {name for name, made in built.items() if isinstance(made, Krum | ElementWise)}


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
