import copy
import math
import subprocess
import sys

import pytest
import torch
from fedpedbrain.study.schema import load_schema
from fedpedbrain.study.study import load_study
from fedpedbrain.study.training_facts import OPTIMIZERS, SCHEDULES
from fedpedbrain.training.optimizers import (
    begin_training,
    build_optimizer,
    end_training,
    restore_site_state,
    site_state_of,
)
from fedpedbrain.training.schedules import learning_rate_of_round

OPTIMIZER = {"name": "sgd", "learning_rate": 2.0, "weight_decay": 0.0, "momentum": 0.0}
SCHEDULE_FREE = {"name": "schedule_free_adamw"}
SCHEDULE = {
    "name": "constant",
    "step_rounds": 2,
    "step_factor": 0.5,
    "horizon_rounds": 4,
    "final_factor": 0.1,
    "polynomial_power": 2.0,
    "warmup_rounds": 0,
}


def rates(name: str, rounds, **changes) -> list[float]:
    return [
        learning_rate_of_round(OPTIMIZER["learning_rate"], SCHEDULE | {"name": name} | changes, number)
        for number in rounds
    ]


def test_a_constant_rate_stays():
    assert rates("constant", [1, 2, 500]) == [2.0, 2.0, 2.0]


def test_a_stepped_rate_falls_every_few_rounds():
    assert rates("step", range(1, 7)) == [2.0, 2.0, 1.0, 1.0, 0.5, 0.5]


def test_a_cosine_falls_to_its_end_and_stays_there():
    # Half way down lies the middle of 1 and 0.1.
    assert rates("cosine", [1, 3, 5, 6, 500]) == pytest.approx([2.0, 1.1, 0.2, 0.2, 0.2])


def test_a_polynomial_falls_to_its_end_and_stays_there():
    # 3/4, 1/2 and 1/4 of the way left, squared, between 1 and 0.1.
    expected = [2.0, 2 * (0.1 + 0.9 * 0.5625), 2 * (0.1 + 0.9 * 0.25), 2 * (0.1 + 0.9 * 0.0625), 0.2, 0.2]
    assert rates("polynomial", [1, 2, 3, 4, 5, 500]) == pytest.approx(expected)


def test_a_polynomial_of_power_1_is_a_straight_line():
    assert rates("polynomial", range(1, 6), polynomial_power=1.0) == pytest.approx([2.0, 1.55, 1.1, 0.65, 0.2])


def test_a_rate_warms_up_in_equal_steps():
    assert rates("constant", range(1, 6), warmup_rounds=3) == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0])


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_after_the_warm_up_a_rate_is_as_without(name):
    rounds = range(4, 9)
    assert rates(name, rounds, warmup_rounds=3) == rates(name, rounds)
    assert rates(name, [1], warmup_rounds=3) == pytest.approx([0.25 * rates(name, [1])[0]])


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_a_rounds_rate_does_not_depend_on_the_number_of_rounds(config, schema_path, name):
    found = []
    for num_rounds in (6, 60):
        config["study"]["rounds"] = num_rounds
        config["training"]["schedule"] |= {"name": name, "warmup_rounds": 2}
        settings = load_study(config, schema_path).recipes["fedavg"].training_settings
        found.append(
            [
                learning_rate_of_round(settings["optimizer"]["learning_rate"], settings["schedule"], number)
                for number in range(1, 7)
            ]
        )
    assert found[0] == found[1]


@pytest.mark.parametrize(("table", "key"), [(OPTIMIZERS, "optimizer"), (SCHEDULES, "schedule")])
def test_the_configs_words_are_those_of_the_schema(schema_path, table, key):
    words = load_schema(schema_path)["properties"]["training"]["properties"][key]["properties"]["name"]["enum"]
    assert words == list(table)


def step(settings: dict, gradients: list[float]) -> float:
    """The weight 1 after steps with these gradients at rate 0.1."""
    weight = torch.nn.Parameter(torch.tensor(1.0))
    optimizer = build_optimizer([weight], OPTIMIZER | settings, 0.1)
    begin_training(optimizer)
    for gradient in gradients:
        weight.grad = torch.tensor(gradient)
        optimizer.step()
    end_training(optimizer)
    return weight.item()


def test_sgd_goes_against_the_gradient():
    assert step({"name": "sgd"}, [2.0]) == pytest.approx(0.8)


def test_sgd_keeps_its_momentum():
    # 1 - 0.1 x 2 - 0.1 x (0.5 x 2 + 0)
    assert step({"name": "sgd", "momentum": 0.5}, [2.0, 0.0]) == pytest.approx(0.7)


def test_adams_first_step_has_the_length_of_the_rate():
    assert step({"name": "adam"}, [123.0]) == pytest.approx(0.9)


def test_adamw_shrinks_weights_apart_from_the_gradient():
    # 1 x (1 - 0.1 x 0.5) - 0.1
    assert step({"name": "adamw", "weight_decay": 0.5}, [123.0]) == pytest.approx(0.85)
    assert step({"name": "adam", "weight_decay": 0.5}, [123.0]) == pytest.approx(0.9)


@pytest.mark.parametrize("num_steps", [1, 2, 3])
def test_schedule_free_weights_are_the_mean_of_the_points_that_the_steps_lead_to(num_steps):
    # Under one and the same gradient each step has the length of the rate: points 0.9, 0.8 and 0.7.
    points = [0.9, 0.8, 0.7][:num_steps]
    assert step(SCHEDULE_FREE, [123.0] * num_steps) == pytest.approx(sum(points) / num_steps)


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_an_optimizer_takes_the_steps_of_torchs_own(name):
    weights = [torch.nn.Parameter(torch.linspace(-1.0, 1.0, 5)) for _ in range(2)]
    settings = OPTIMIZER | {"name": name, "weight_decay": 0.1, "momentum": 0.9}
    ours = build_optimizer([weights[0]], settings, 0.1)
    optimizer_class, options = OPTIMIZERS.load(name), dict(OPTIMIZERS[name].arguments)
    options = options | {"lr": 0.1, "weight_decay": 0.1} | ({"momentum": 0.9} if name == "sgd" else {})
    theirs = optimizer_class([weights[1]], **options)
    for weight, optimizer in zip(weights, (ours, theirs), strict=True):
        begin_training(optimizer)
        for _ in range(3):
            optimizer.zero_grad()
            (weight**3).sum().backward()
            optimizer.step()
    assert torch.equal(*weights)
    assert weights[0].requires_grad


def test_training_does_not_load_the_compiler():
    lines = [
        "import sys, torch",
        "from fedpedbrain.study.training_facts import OPTIMIZERS",
        "from fedpedbrain.training.optimizers import begin_training, build_optimizer, end_training",
        "settings = {'weight_decay': 0.1, 'momentum': 0.9}",
        "for name in OPTIMIZERS:",
        "    layer = torch.nn.Linear(2, 2)",
        "    optimizer = build_optimizer(layer.parameters(), settings | {'name': name}, 0.1)",
        "    begin_training(optimizer)",
        "    optimizer.zero_grad()",
        "    layer(torch.ones(1, 2)).sum().backward()",
        "    optimizer.step()",
        "    end_training(optimizer)",
        "    optimizer.load_state_dict(optimizer.state_dict())",
        "sys.exit('torch._dynamo' in sys.modules)",
    ]
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True)


# What a site keeps.


def train_round(weights: list[torch.nn.Parameter], optimizer: torch.optim.Optimizer, num_steps: int = 5) -> None:
    """Take steps towards (1, 2, ...), each weight by itself."""
    begin_training(optimizer)
    for _ in range(num_steps):
        optimizer.zero_grad()
        sum(((weight - number) ** 2).sum() for number, weight in enumerate(weights, start=1)).backward()
        optimizer.step()
    end_training(optimizer)


def begin(
    name: str, *values: torch.Tensor, rate: float = 0.1
) -> tuple[list[torch.nn.Parameter], torch.optim.Optimizer]:
    """Weights with these values and an optimizer of them."""
    weights = [torch.nn.Parameter(value.clone()) for value in values]
    return weights, build_optimizer(weights, OPTIMIZER | {"name": name, "weight_decay": 0.1, "momentum": 0.9}, rate)


START = (torch.linspace(-1.0, 1.0, 4), torch.tensor(5.0))


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_a_kept_state_continues_as_if_it_had_never_stopped(name):
    weights, optimizer = begin(name, *START)
    train_round(weights, optimizer)
    state = copy.deepcopy(site_state_of(optimizer))
    others, restored = begin(name, *weights)
    restore_site_state(restored, state, 0.1)
    for _ in range(2):
        train_round(weights, optimizer)
        train_round(others, restored)
    for weight, other in zip(weights, others, strict=True):
        torch.testing.assert_close(other, weight)


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_a_fresh_optimizer_does_not_continue(name):
    weights, optimizer = begin(name, *START)
    train_round(weights, optimizer)
    others, fresh = begin(name, *weights)
    train_round(weights, optimizer)
    train_round(others, fresh)
    assert (others[0] - weights[0]).abs().max() > 1e-3


def test_the_second_point_of_a_schedule_free_optimizer_moves_along_with_other_weights():
    weights, optimizer = begin("schedule_free_adamw", *START)
    train_round(weights, optimizer)
    points = [optimizer.state[weight]["z"].clone() for weight in weights]
    assert all((point - weight).abs().max() > 1e-3 for point, weight in zip(points, weights, strict=True))
    state = copy.deepcopy(site_state_of(optimizer))
    # What averaging over the sites moved the two weights by.
    moves = (torch.tensor([1.0, -2.0, 3.0, 0.0]), torch.tensor(-7.0))
    averaged = [weight.detach() + move for weight, move in zip(weights, moves, strict=True)]
    others, restored = begin("schedule_free_adamw", *averaged)
    restore_site_state(restored, state, 0.1)
    for other, point, move, average in zip(others, points, moves, averaged, strict=True):
        torch.testing.assert_close(restored.state[other]["z"], point + move)
        assert torch.equal(other, average)


def test_keeping_a_state_leaves_the_optimizer_as_it_is():
    weights, optimizer = begin("schedule_free_adamw", *START)
    train_round(weights, optimizer)
    point, weight = optimizer.state[weights[0]]["z"].clone(), weights[0].detach().clone()
    site_state_of(optimizer)
    assert torch.equal(optimizer.state[weights[0]]["z"], point)
    assert torch.equal(weights[0], weight)


def test_a_schedule_free_weight_that_was_never_trained_is_kept_and_restored():
    weights, optimizer = begin("schedule_free_adamw", *START)
    train_round(weights[1:], optimizer)
    assert torch.equal(weights[0], START[0])
    others, restored = begin("schedule_free_adamw", *weights)
    restore_site_state(restored, copy.deepcopy(site_state_of(optimizer)), 0.1)
    train_round(weights, optimizer)
    train_round(others, restored)
    torch.testing.assert_close(others[0], weights[0])


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_a_restored_optimizer_takes_the_rounds_rate(name):
    weights, optimizer = begin(name, *START)
    train_round(weights, optimizer)
    _, restored = begin(name, *weights, rate=0.03)
    assert [group["lr"] for group in restored.param_groups] == [0.03]
    restore_site_state(restored, copy.deepcopy(site_state_of(optimizer)), 0.02)
    assert [group["lr"] for group in restored.param_groups] == [0.02]


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_schedule_free_optimizers_alone_say_that_they_moved_the_weights(name):
    weights, optimizer = begin(name, *START)
    begin_training(optimizer)
    assert end_training(optimizer) is (name == "schedule_free_adamw")
    assert math.isclose(weights[1].item(), 5.0)
