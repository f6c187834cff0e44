"""Worked answers: two sites (or three) and one parameter of 2 x 3 elements, beside a buffer."""

import pytest
import torch
from fedpedbrain.base.errors import StudyError
from fedpedbrain.federated.strategies.fednova import counted_gradients
from fedpedbrain.federated.strategies.strategy import RoundUpdates, SiteUpdate, build_strategy
from fedpedbrain.study.strategy_facts import STRATEGIES as FACTS
from fedpedbrain.study.strategy_facts import fewest_for_trimmed_mean
from torch import Tensor, nn

START = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
NORTH = torch.tensor([[2.0, 2.0, 5.0], [4.0, 1.0, 6.0]])
SOUTH = torch.tensor([[4.0, 0.0, 3.0], [0.0, 5.0, 10.0]])
PARENT = {"weight": START, "running_var": torch.tensor([1.0]), "steps": torch.tensor(5)}


def make_update(site: str, weight: Tensor, count=1.0, num_steps=2, var=1.0, steps=5, **sent) -> SiteUpdate:
    weights = {"weight": weight, "running_var": torch.tensor([var]), "steps": torch.tensor(steps)}
    return SiteUpdate(site, count, num_steps, weights, {key: {"weight": value} for key, value in sent.items()})


def combine(name: str, *updates: SiteUpdate, parent=PARENT, state=(), num_sites=0, **options):
    """Combine updates by a strategy with its default options but for those given."""
    strategy = build_strategy({"name": name, **FACTS[name].options, **options})
    combined = strategy.combine(parent, RoundUpdates(updates, {"weight"}, num_sites or len(updates)), dict(state))
    return combined.weights, combined.kept


def close(found: Tensor, expected: list | Tensor) -> bool:
    return torch.allclose(found, torch.as_tensor(expected, dtype=found.dtype), rtol=1e-6, atol=1e-6)


def one_step(name: str, weight: Tensor, gradient: Tensor, kept=(), broadcast=(), **options):
    """The gradient that a strategy makes of a loss's gradient, and its rule."""
    strategy = build_strategy({"name": name, **FACTS[name].options, **options})
    rule = strategy.site_rule({"weight": START}, dict(kept), dict(broadcast))
    parameter = nn.Parameter(weight.clone())
    parameter.grad = gradient.clone()
    rule.correct({"weight": parameter})
    return parameter.grad, rule


# Combining.


def test_fedavg_takes_the_mean_by_counts():
    weights, state = combine(
        "fedavg", make_update("north", NORTH, 3.0, var=2.0), make_update("south", SOUTH, 1.0, var=6.0)
    )
    assert weights["weight"].tolist() == [[2.5, 1.5, 4.5], [3.0, 2.0, 7.0]]
    assert weights["running_var"].tolist() == [3.0]
    assert state == {}


@pytest.mark.parametrize("name", ["fedprox", "fedbn", "ditto"])
def test_strategies_of_the_sites_leave_the_server_as_it_is(name):
    weights, _ = combine(name, make_update("north", NORTH, 3.0), make_update("south", SOUTH, 1.0))
    assert weights["weight"].tolist() == [[2.5, 1.5, 4.5], [3.0, 2.0, 7.0]]


def test_fednova_counts_directions_not_steps():
    # North goes (1, 0, 2, 0, -4, 0) in 2 steps, south (3, -2, 0, -4, 0, 4) in 4; mean number of steps 3.
    weights, _ = combine("fednova", make_update("north", NORTH, num_steps=2), make_update("south", SOUTH, num_steps=4))
    directions = ((NORTH - START) / 2 + (SOUTH - START) / 4) / 2
    assert close(weights["weight"], START + 3 * directions)
    assert close(weights["weight"][0], [1.0 + 3 * 0.625, 2.0 - 3 * 0.25, 3.0 + 3 * 0.5])


def test_fednova_weighs_by_counts():
    updates = [make_update("north", NORTH, 3.0, 2, var=1.0), make_update("south", SOUTH, 1.0, 6, var=5.0)]
    weights, _ = combine("fednova", *updates)
    steps = 0.75 * 2 + 0.25 * 6
    assert close(weights["weight"], START + steps * (0.75 * (NORTH - START) / 2 + 0.25 * (SOUTH - START) / 6))
    assert close(weights["running_var"], [2.0])


def walk(num_steps: int, momentum: float, rate: float = 0.5) -> Tensor:
    """Where SGD leads from the start along a loss whose gradient is 1 everywhere."""
    weight = nn.Parameter(START.clone())
    optimizer = torch.optim.SGD([weight], rate, momentum=momentum)
    for _ in range(num_steps):
        weight.grad = torch.ones(2, 3)
        optimizer.step()
    return weight.detach()


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("num_steps", [1, 2, 7])
def test_the_gradients_that_steps_count_are_those_that_they_go(num_steps, momentum):
    assert close(START - walk(num_steps, momentum), torch.full((2, 3), 0.5 * counted_gradients(num_steps, momentum)))


def test_the_gradients_of_two_steps_with_momentum_by_hand():
    # The first gradient counts 1 + 0.5, the second 1.
    assert counted_gradients(2, 0.5) == 2.5


def test_fednova_sees_the_same_direction_however_many_steps_with_momentum_sites_take():
    updates = [make_update("north", walk(1, 0.9), num_steps=1), make_update("south", walk(9, 0.9), num_steps=9)]
    strategy = build_strategy({"name": "fednova"})
    found = strategy.combine(PARENT, RoundUpdates(updates, {"weight"}, 2, momentum=0.9), {}).weights["weight"]
    lengths = [counted_gradients(number, 0.9) for number in (1, 9)]
    assert close(found, START - 0.5 * sum(lengths) / 2)
    # Both went along one line: so far as the mean. By numbers of steps it would be another way.
    by_steps = strategy.combine(PARENT, RoundUpdates(updates, {"weight"}, 2), {}).weights["weight"]
    assert not close(found, by_steps)


def test_server_momentum_adds_the_rounds_before():
    update = make_update("north", NORTH)
    first, state = combine("fedavgm", update, momentum=0.5, server_learning_rate=2.0)
    assert close(first["weight"], START + 2.0 * (NORTH - START))
    second, _ = combine("fedavgm", update, state=state, momentum=0.5, server_learning_rate=2.0)
    assert close(second["weight"], START + 2.0 * 1.5 * (NORTH - START))


ADAPTIVE = {"server_learning_rate": 0.1, "tau": 0.01}
BETAS = {"beta1": 0.9, "beta2": 0.99}


@pytest.mark.parametrize(
    ("name", "options", "second_of"),
    [
        ("fedadagrad", ADAPTIVE, lambda second, square: second + square),
        ("fedadam", ADAPTIVE | BETAS, lambda second, square: 0.99 * second + 0.01 * square),
        (
            "fedyogi",
            ADAPTIVE | BETAS,
            lambda second, square: second - 0.01 * square * torch.sign(second - square),
        ),
    ],
)
def test_adaptive_servers_step_by_both_moments(name, options, second_of):
    beta1 = options.get("beta1", 0.0)
    first, second, parent, state = torch.zeros(2, 3), torch.full((2, 3), 1e-4), START, {}
    for sent in (NORTH, SOUTH, NORTH):
        step = sent - parent
        first, second = beta1 * first + (1 - beta1) * step, second_of(second, step**2)
        expected = parent + 0.1 * first / (second.sqrt() + 0.01)
        weights, state = combine(
            name, make_update("x", sent), parent=PARENT | {"weight": parent}, state=state, **options
        )
        assert close(weights["weight"], expected)
        parent = expected


def test_fedadam_by_hand():
    # Step 2 from 0: first moment 0.2, second 0.01 * 4 + 0.99 * 0.0001.
    update = make_update("north", torch.full((2, 3), 2.0))
    weights, _ = combine("fedadam", update, parent=PARENT | {"weight": torch.zeros(2, 3)}, **ADAPTIVE, **BETAS)
    assert weights["weight"][0, 0].item() == pytest.approx(0.1 * 0.2 / (0.040099**0.5 + 0.01), rel=1e-6)


def test_scaffold_moves_to_the_mean_and_sums_what_control_variates_changed():
    change = torch.ones(2, 3)
    north, south = (
        make_update("north", NORTH, control_change=change),
        make_update("south", SOUTH, control_change=3 * change),
    )
    weights, state = combine("scaffold", north, south, num_sites=4)
    assert close(weights["weight"], (NORTH + SOUTH) / 2)
    # Mean change 2, and 2 of 4 sites were there.
    assert close(state["control"]["weight"], torch.ones(2, 3))
    _, state = combine("scaffold", north, south, num_sites=4, state=state)
    assert close(state["control"]["weight"], 2 * torch.ones(2, 3))


def test_scaffold_goes_a_part_of_the_way():
    update = make_update("north", NORTH, control_change=torch.zeros(2, 3))
    weights, _ = combine("scaffold", update, server_learning_rate=0.5)
    assert close(weights["weight"], (START + NORTH) / 2)


def test_feddyn_leaves_the_mean_by_its_drift():
    north, south = make_update("north", NORTH), make_update("south", SOUTH)
    weights, state = combine("feddyn", north, south, alpha=0.5, num_sites=4)
    step = (NORTH + SOUTH) / 2 - START
    assert close(state["drift"]["weight"], -0.5 * 0.5 * step)
    # mean - h / alpha = mean + part * step.
    assert close(weights["weight"], START + 1.5 * step)


def test_cyclic_takes_what_the_last_site_made():
    weights, _ = combine("cyclic", make_update("north", NORTH, 100.0), make_update("south", SOUTH, 1.0, steps=9))
    assert torch.equal(weights["weight"], SOUTH)
    assert weights["steps"].item() == 9


def test_the_median_of_three_and_of_two():
    far = torch.full((2, 3), 1000.0)
    three, _ = combine("median", make_update("a", NORTH), make_update("b", SOUTH), make_update("c", far))
    assert torch.equal(three["weight"], torch.maximum(NORTH, SOUTH))
    two, _ = combine("median", make_update("a", NORTH), make_update("b", SOUTH))
    assert close(two["weight"], (NORTH + SOUTH) / 2)


def test_a_trimmed_mean_leaves_out_the_extremes():
    rows = [torch.full((2, 3), value) for value in (-1000.0, 1.0, 2.0, 3.0, 1000.0)]
    updates = [make_update(str(number), row) for number, row in enumerate(rows)]
    weights, _ = combine("trimmed_mean", *updates, trim_fraction=0.2)
    assert close(weights["weight"], torch.full((2, 3), 2.0))


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.25, 0.3, 1 / 3, 0.34, 0.49])
def test_a_trimmed_mean_bears_a_wrong_update_from_its_fewest_sites_on(fraction):
    for count in range(2, 20):
        updates = [make_update(str(number), START) for number in range(count - 1)]
        weights, _ = combine("trimmed_mean", *updates, make_update("z", START + 100.0), trim_fraction=fraction)
        assert close(weights["weight"], START) == (count >= fewest_for_trimmed_mean(fraction))


def test_krum_takes_the_update_nearest_to_its_neighbours():
    values = {"a": 1.0, "b": 1.1, "c": 1.3, "d": 1.6, "e": 50.0}
    updates = [make_update(site, torch.full((2, 3), value)) for site, value in values.items()]
    chosen, _ = combine("krum", *updates, num_byzantine=1, num_selected=1)
    # Two neighbours count: from a 0.1 and 0.3 away, from b 0.1 and 0.2, from c 0.2 and 0.3.
    assert close(chosen["weight"], torch.full((2, 3), 1.1))
    several, _ = combine("krum", *updates, num_byzantine=1, num_selected=3)
    assert close(several["weight"], torch.full((2, 3), 3.4 / 3))


def test_of_equal_scores_krum_takes_the_earlier_name():
    # On a line of equal steps the two in the middle score alike.
    updates = [make_update(site, torch.full((2, 3), value)) for site, value in zip("abcd", (1, 2, 3, 4), strict=True)]
    chosen, _ = combine("krum", *updates, num_byzantine=0, num_selected=1)
    assert close(chosen["weight"], torch.full((2, 3), 2.0))


@pytest.mark.parametrize(("num_byzantine", "num_selected", "needed"), [(1, 1, 5), (1, 4, 5), (1, 5, 6), (2, 1, 7)])
def test_krum_refuses_too_few_updates(num_byzantine, num_selected, needed):
    updates = [make_update(str(number), NORTH + number) for number in range(needed)]
    options = {"num_byzantine": num_byzantine, "num_selected": num_selected}
    combine("krum", *updates, **options)
    match = rf"krum has {needed - 1} updates, needs at least {needed} with num_byzantine {num_byzantine} and"
    with pytest.raises(StudyError, match=match):
        combine("krum", *updates[1:], **options)


def test_krum_bears_as_many_wrong_updates_that_agree_as_it_says():
    right, wrong = (torch.full((2, 3), value) for value in (1.0, 9.0))
    jitter = torch.tensor([[0.01, -0.02, 0.0], [0.03, 0.0, 0.01]])
    updates = [make_update(f"a{number}", wrong) for number in range(2)]
    updates += [make_update(f"b{number}", right + number * jitter) for number in range(5)]
    weights, _ = combine("krum", *updates, num_byzantine=2, num_selected=5)
    assert (weights["weight"] < 1.5).all()


@pytest.mark.parametrize("name", ["median", "trimmed_mean"])
def test_robust_averages_count_sites_alike(name):
    light, _ = combine(name, make_update("a", NORTH, 1.0), make_update("b", SOUTH, 1.0))
    heavy, _ = combine(name, make_update("a", NORTH, 99.0), make_update("b", SOUTH, 1.0))
    assert torch.equal(light["weight"], heavy["weight"])


@pytest.mark.parametrize("name", sorted(FACTS))
def test_counters_take_the_largest_and_keep_their_dtype(name):
    change = {"control_change": torch.zeros(2, 3)} if name == "scaffold" else {}
    updates = [make_update(site, NORTH, steps=steps, **change) for site, steps in (("a", 3), ("b", 7), ("c", 9))]
    weights, _ = combine(name, *updates, **({"num_byzantine": 0, "num_selected": 3} if name == "krum" else {}))
    assert weights["steps"].dtype == torch.int64
    assert weights["steps"].item() == 9
    assert {key: tensor.shape for key, tensor in weights.items()} == {
        key: tensor.shape for key, tensor in PARENT.items()
    }


@pytest.mark.parametrize("name", ["fedadam", "fedyogi", "fedadagrad", "fedavgm", "scaffold", "feddyn", "fednova"])
def test_a_running_variance_stays_positive_over_200_rounds(name):
    generator = torch.Generator().manual_seed(0)
    parent, state = dict(PARENT), {}
    for _ in range(200):
        change = {"control_change": torch.randn(2, 3, generator=generator)} if name == "scaffold" else {}
        variances = torch.rand(2, generator=generator) * 1e-3
        updates = [
            make_update(site, parent["weight"] + torch.randn(2, 3, generator=generator), var=float(var), **change)
            for site, var in zip("ab", variances, strict=True)
        ]
        parent, state = combine(name, *updates, parent=parent, state=state)
        assert close(parent["running_var"], [float(variances.mean())])
    assert torch.isfinite(parent["weight"]).all()


@pytest.mark.parametrize("name", ["fedavg", "scaffold", "fedadam", "fednova"])
def test_a_round_that_weighs_nothing_is_refused(name):
    update = make_update("north", NORTH, 0.0, control_change=torch.zeros(2, 3))
    with pytest.raises(StudyError, match="all updates weigh nothing"):
        combine(name, update)


# Correcting gradients.


def test_fedprox_pulls_to_the_start():
    gradient, _ = one_step("fedprox", NORTH, torch.ones(2, 3), mu=0.1)
    assert close(gradient, 1.0 + 0.1 * (NORTH - START))


def test_scaffold_adds_the_servers_and_takes_its_own_control_variate():
    own, server = torch.full((2, 3), 0.25), torch.full((2, 3), 1.0)
    gradient, rule = one_step(
        "scaffold", NORTH, torch.ones(2, 3), {"control": {"weight": own}}, {"control": {"weight": server}}
    )
    assert close(gradient, torch.full((2, 3), 1.75))
    kept, sent = rule.finish({"weight": NORTH})
    # The loss's own gradient, 1 in its only step, is the next control variate.
    assert close(kept["control"]["weight"], torch.ones(2, 3))
    assert close(sent["control_change"]["weight"], torch.full((2, 3), 0.75))


def test_scaffolds_next_control_variate_is_the_papers_option_two_for_plain_sgd():
    """c_i - c + (start - w) / (steps * rate)."""
    own, server, rate = torch.full((2, 3), 0.25), torch.full((2, 3), -0.5), 0.1
    strategy = build_strategy({"name": "scaffold", "server_learning_rate": 1.0})
    rule = strategy.site_rule({"weight": START}, {"control": {"weight": own}}, {"control": {"weight": server}})
    parameter = nn.Parameter(START.clone())
    optimizer = torch.optim.SGD([parameter], rate)
    for _ in range(3):
        parameter.grad = 2.0 * parameter.detach().clone()
        rule.correct({"weight": parameter})
        optimizer.step()
    kept, _ = rule.finish({"weight": parameter.detach()})
    assert close(kept["control"]["weight"], own - server + (START - parameter.detach()) / (3 * rate))


def test_feddyn_regularises_by_its_gradient():
    before = torch.full((2, 3), 0.5)
    gradient, rule = one_step("feddyn", NORTH, torch.ones(2, 3), {"gradient": {"weight": before}}, alpha=0.1)
    assert close(gradient, 1.0 - 0.5 + 0.1 * (NORTH - START))
    kept, sent = rule.finish({"weight": SOUTH})
    assert close(kept["gradient"]["weight"], before - 0.1 * (SOUTH - START))
    assert sent == {}


@pytest.mark.parametrize("name", ["fedavg", "fednova", "fedadam", "fedbn", "ditto", "median", "cyclic"])
def test_other_strategies_leave_gradients_alone(name):
    gradient, rule = one_step(name, NORTH, SOUTH)
    assert torch.equal(gradient, SOUTH)
    assert rule.finish({"weight": NORTH}) == ({}, {})


def test_fedbn_keeps_normalisation_layers_at_home():
    model = nn.Sequential(nn.Conv3d(1, 2, 3), nn.BatchNorm3d(2), nn.InstanceNorm3d(2, affine=True), nn.GroupNorm(1, 2))
    names = build_strategy({"name": "fedbn"}).personal_names(model)
    assert names == {key for key in model.state_dict() if not key.startswith("0.")}
    assert "1.running_var" in names


# Reductions to FedAvg.

REDUCTIONS = {
    "fedprox": {"mu": 0.0},
    "fedavgm": {"server_learning_rate": 1.0, "momentum": 0.0},
    "scaffold": {"server_learning_rate": 1.0},
    "fednova": {},
    "fedbn": {},
    "ditto": {},
}


@pytest.mark.parametrize("name", sorted(REDUCTIONS))
def test_with_these_options_the_server_does_as_in_fedavg(name):
    generator = torch.Generator().manual_seed(0)
    parent = PARENT | {"weight": torch.randn(2, 3, generator=generator)}
    change = {"control_change": torch.zeros(2, 3)} if name == "scaffold" else {}
    updates = [
        # Sites of as many steps as cases: equal for FedNova.
        make_update(site, parent["weight"] + 0.1 * torch.randn(2, 3, generator=generator), count, **change)
        for site, count in (("a", 3.0), ("b", 1.0))
    ]
    found, _ = combine(name, *updates, parent=parent, **REDUCTIONS[name])
    expected, _ = combine("fedavg", *updates, parent=parent)
    assert torch.equal(found["weight"], expected["weight"])
    assert torch.equal(found["running_var"], expected["running_var"])


# Steps are nothing against tau, so that all elements go at one rate: the server's over twice tau, or over tau where the
# second moment has forgotten its start.
OUT_OF_REACH = {"beta1": 0.0, "beta2": 0.0, "tau": 1e6}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("fedadagrad", {"tau": 1e6, "server_learning_rate": 2e6}),
        ("fedadam", OUT_OF_REACH | {"server_learning_rate": 1e6}),
        ("fedyogi", OUT_OF_REACH | {"server_learning_rate": 2e6}),
    ],
)
def test_an_adaptive_server_that_adapts_to_nothing_is_fedavg(name, options):
    parent, state, plain = PARENT, {}, PARENT
    for north, south in ((NORTH, SOUTH), (SOUTH, START)):
        updates = [make_update("a", north, 3.0, var=2.0), make_update("b", south, 1.0, var=6.0)]
        parent, state = combine(name, *updates, parent=parent, state=state, **options)
        plain, _ = combine("fedavg", *updates, parent=plain)
        torch.testing.assert_close(parent, plain, rtol=1e-5, atol=1e-5)


def test_feddyn_is_fedavg_where_a_round_is_a_vanishing_part_of_all_sites():
    updates = [make_update("a", NORTH, 3.0), make_update("b", SOUTH, 1.0)]
    found, _ = combine("feddyn", *updates, num_sites=10**9, alpha=0.5)
    expected, _ = combine("fedavg", *updates)
    torch.testing.assert_close(found, expected)


def test_without_alpha_a_feddyn_site_trains_as_in_fedavg():
    gradient, rule = one_step("feddyn", NORTH, SOUTH, alpha=0.0)
    assert torch.equal(gradient, SOUTH)
    kept, sent = rule.finish({"weight": NORTH})
    assert not kept["gradient"]["weight"].any()
    assert sent == {}


@pytest.mark.parametrize(("name", "sites"), [("cyclic", 1), ("median", 1), ("median", 2)])
def test_of_so_few_sites_that_count_alike_it_is_fedavg(name, sites):
    updates = [make_update("a", NORTH, var=2.0), make_update("b", SOUTH, var=6.0)][:sites]
    found, _ = combine(name, *updates)
    expected, _ = combine("fedavg", *updates)
    assert all(torch.equal(found[key], expected[key]) for key in PARENT)


def test_a_trimmed_mean_of_nothing_is_the_mean():
    updates = [make_update("a", NORTH), make_update("b", SOUTH)]
    found, _ = combine("trimmed_mean", *updates, trim_fraction=0.0)
    expected, _ = combine("fedavg", *updates)
    assert torch.equal(found["weight"], expected["weight"])


def test_krum_that_selects_all_is_the_mean():
    updates = [make_update(site, weight) for site, weight in zip("abc", (NORTH, SOUTH, START), strict=True)]
    found, _ = combine("krum", *updates, num_byzantine=0, num_selected=3)
    expected, _ = combine("fedavg", *updates)
    assert torch.equal(found["weight"], expected["weight"])


NEEDS_THREE = {"krum": {"num_byzantine": 0, "num_selected": 1}}


@pytest.mark.parametrize("name", ["fedavg", "fednova", "fedadam", "median", "trimmed_mean", "krum"])
def test_a_weight_that_is_no_number_is_refused_by_its_site(name):
    broken = NORTH.clone()
    broken[1, 2] = float("nan")
    updates = [make_update("east", NORTH), make_update("north", broken), make_update("south", SOUTH)]
    with pytest.raises(StudyError, match="update of site north: weight of the weights holds NaN or infinite values"):
        combine(name, *updates, **NEEDS_THREE.get(name, {}))


def test_a_chain_whose_last_update_is_no_number_is_refused():
    broken = torch.full((2, 3), float("inf"))
    with pytest.raises(StudyError, match="update of site south: weight of the weights"):
        combine("cyclic", make_update("north", NORTH), make_update("south", broken))
