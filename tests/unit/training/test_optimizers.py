import subprocess
import sys

import pytest
import torch
import yaml
from fedpedbrain.study import load_study
from fedpedbrain.training.optimizers import OPTIMIZERS, SCHEDULES, build_optimizer, learning_rate_of_round

OPTIMIZER = {"name": "sgd", "learning_rate": 2.0, "weight_decay": 0.0, "momentum": 0.0}
SCHEDULE = {"name": "constant", "step_rounds": 2, "step_factor": 0.5, "horizon_rounds": 4, "final_factor": 0.1}


def rates(name: str, rounds) -> list[float]:
    return [learning_rate_of_round(OPTIMIZER, SCHEDULE | {"name": name}, number) for number in rounds]


def test_a_constant_rate_stays():
    assert rates("constant", [1, 2, 500]) == [2.0, 2.0, 2.0]


def test_a_stepped_rate_falls_every_few_rounds():
    assert rates("step", range(1, 7)) == [2.0, 2.0, 1.0, 1.0, 0.5, 0.5]


def test_a_cosine_falls_to_its_end_and_stays_there():
    # Half way down lies the middle of 1 and 0.1.
    assert rates("cosine", [1, 3, 5, 6, 500]) == pytest.approx([2.0, 1.1, 0.2, 0.2, 0.2])


@pytest.mark.parametrize("name", ["constant", "step", "cosine"])
def test_a_rounds_rate_does_not_depend_on_the_number_of_rounds(config, schema_path, name):
    found = []
    for num_rounds in (6, 60):
        config["study"]["rounds"] = num_rounds
        config["training"]["schedule"]["name"] = name
        settings = load_study(config, schema_path).training_settings
        found.append(
            [learning_rate_of_round(settings["optimizer"], settings["schedule"], number) for number in range(1, 7)]
        )
    assert found[0] == found[1]


@pytest.mark.parametrize(("table", "key"), [(OPTIMIZERS, "optimizer"), (SCHEDULES, "schedule")])
def test_the_configs_words_are_those_of_the_schema(schema_path, table, key):
    schema = yaml.safe_load(schema_path.read_text())
    words = schema["properties"]["training"]["properties"][key]["properties"]["name"]["enum"]
    assert set(words) == set(table)


def step(settings: dict, gradients: list[float]) -> float:
    """The weight 1 after steps with these gradients at rate 0.1."""
    weight = torch.nn.Parameter(torch.tensor(1.0))
    optimizer = build_optimizer([weight], OPTIMIZER | settings, 0.1)
    for gradient in gradients:
        weight.grad = torch.tensor(gradient)
        optimizer.step()
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


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_an_optimizer_takes_the_steps_of_torchs_own(name):
    weights = [torch.nn.Parameter(torch.linspace(-1.0, 1.0, 5)) for _ in range(2)]
    settings = OPTIMIZER | {"name": name, "weight_decay": 0.1, "momentum": 0.9}
    ours = build_optimizer([weights[0]], settings, 0.1)
    options = {"lr": 0.1, "weight_decay": 0.1, "fused": True} | ({"momentum": 0.9} if name == "sgd" else {})
    theirs = OPTIMIZERS[name]([weights[1]], **options)
    for _ in range(3):
        for weight, optimizer in zip(weights, (ours, theirs), strict=True):
            optimizer.zero_grad()
            (weight**3).sum().backward()
            optimizer.step()
    assert torch.equal(*weights)
    assert weights[0].requires_grad


def test_training_does_not_load_the_compiler():
    lines = [
        "import sys, torch",
        "from fedpedbrain.training.optimizers import build_optimizer",
        "settings = {'weight_decay': 0.1, 'momentum': 0.9}",
        "for name in ('adamw', 'adam', 'sgd'):",
        "    layer = torch.nn.Linear(2, 2)",
        "    optimizer = build_optimizer(layer.parameters(), settings | {'name': name}, 0.1)",
        "    optimizer.zero_grad()",
        "    layer(torch.ones(1, 2)).sum().backward()",
        "    optimizer.step()",
        "    optimizer.load_state_dict(optimizer.state_dict())",
        "sys.exit('torch._dynamo' in sys.modules)",
    ]
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True)
