import copy
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from fedpedbrain.base.errors import StudyError
from fedpedbrain.models.networks import build_model, freeze_encoder
from fedpedbrain.models.placement import to_device
from fedpedbrain.training.batches import Batch
from fedpedbrain.training.epochs import train_epochs
from fedpedbrain.training.execution import (
    checkpoint_activations,
    freeze_batch_statistics,
    keep_small_convolutions_exact,
)
from fedpedbrain.training.losses.joint import JointLoss
from fedpedbrain.training.optimizers import begin_training, build_optimizer, end_training
from fedpedbrain.training.private import (
    check_private,
    is_private,
    poisson_order,
    private_epochs,
    sample_rate,
    steps_of_epoch,
)
from torch import Tensor, nn

CPU = torch.device("cpu")
OPTIONS = {"channels": [4, 6], "strides": [[1, 2, 2], [2, 2, 2]], "pooled_grid": [1, 2, 2], "dropout": 0.0}
NO_PRIVACY = {"clip_norm": math.inf, "noise_multiplier": 0.0}
NOISE = {"clip_norm": 1.0, "noise_multiplier": 1.0}
CLIPPED = {"clip_norm": 0.01, "noise_multiplier": 0.0}


@pytest.fixture
def settings(config) -> dict:
    """The training block of the config; steps of length 1 along the gradient."""
    training = config["training"] | {"batch_size": 2, "max_gradient_norm": math.inf, "precision": "float32"}
    training["optimizer"] |= {"name": "sgd", "momentum": 0.0, "weight_decay": 0.0, "learning_rate": 1.0}
    return training


@pytest.fixture
def net() -> nn.Module:
    """A network of all layers there are, channels last in memory, in double precision."""
    torch.manual_seed(0)
    return to_device(build_model("unet", 1, 1, 2, **OPTIONS), CPU).double().train()


def make_batch(num_cases: int = 2, seed: int = 1, grid: tuple = (4, 8, 8)) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(num_cases, 1, *grid, generator=generator, dtype=torch.float64)
    return Batch(
        images.contiguous(memory_format=torch.channels_last_3d),
        (torch.rand(num_cases, 1, *grid, generator=generator) > 0.7).byte(),
        torch.arange(num_cases) % 2,
    )


@pytest.fixture
def normed_net() -> nn.Module:
    """A network with batch normalisation that keeps the statistics it starts with."""
    torch.manual_seed(0)
    net = build_model("i3d_unet", 1, 1, 2, width=0.0625, dropout=0.0).double().train()
    freeze_batch_statistics(net)
    return net


def make_loss(settings: dict) -> JointLoss:
    return JointLoss(settings["loss"], torch.ones(2))


def weights_of(net: nn.Module) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in net.named_parameters()}


def train(net: nn.Module, settings: dict, privacy: dict, *batches: Batch | None, seed=0, num_cases=4) -> nn.Module:
    """Train a copy of the network for an epoch."""
    net = copy.deepcopy(net)
    learning = [weight for weight in net.parameters() if weight.requires_grad]
    optimizer = build_optimizer(learning, settings["optimizer"], settings["optimizer"]["learning_rate"])
    begin_training(optimizer)
    private_epochs(net, optimizer, make_loss(settings), [batches], settings, privacy, num_cases, seed)
    end_training(optimizer)
    return net


def step_of(net: nn.Module, trained: nn.Module) -> dict[str, Tensor]:
    """What a step of rate 1 went along: the gradient."""
    after = weights_of(trained)
    return {name: weight - after[name] for name, weight in weights_of(net).items()}


def gradients_one_by_one(net: nn.Module, loss_of: Callable[[nn.Module, Batch], Tensor], batch: Batch) -> list[dict]:
    """Gradients of each case in a backward pass of its own."""
    found = []
    for case in batch.parts(1):
        net.zero_grad()
        loss_of(net, case).sum().backward()
        found.append({name: weight.grad.clone() for name, weight in net.named_parameters()})
    net.zero_grad()
    return found


def length(gradient: dict[str, Tensor]) -> float:
    return math.sqrt(sum(part.double().square().sum().item() for part in gradient.values()))


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = 1e-5) -> None:
    assert found.keys() == expected.keys()
    for name in expected:
        assert (found[name] - expected[name]).norm() <= tolerance * expected[name].norm(), name


def same_bits(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


# Which cases a step takes.


def test_an_epoch_has_as_many_steps_as_without_privacy():
    assert [steps_of_epoch(*sizes) for sizes in ((5, 2), (4, 2), (1, 2))] == [3, 2, 1]
    assert len(poisson_order(5, 2, np.random.default_rng(0))) == 3


def test_the_rate_is_the_batch_over_the_cases_and_1_at_most():
    assert [sample_rate(*sizes) for sizes in ((8, 2), (2, 2), (1, 2))] == [0.25, 1.0, 1.0]


def test_a_site_of_one_batch_takes_all_its_cases():
    assert [step.tolist() for step in poisson_order(3, 4, np.random.default_rng(0))] == [[0, 1, 2]]


def test_every_case_is_drawn_for_itself_at_the_rate():
    # 10,000 steps over 40 cases at rate 1/20.
    rng = np.random.default_rng(0)
    steps = [step for _ in range(500) for step in poisson_order(40, 2, rng)]
    drawn = np.zeros((len(steps), 40))
    for row, step in enumerate(steps):
        drawn[row, step] = 1
    assert drawn.mean(0) == pytest.approx(0.05, abs=0.01)
    # The number of cases drawn scatters as independent draws do: 40 x 1/20 x 19/20.
    assert drawn.sum(1).var() == pytest.approx(1.9, rel=0.05)
    assert (drawn.sum(1) == 0).mean() == pytest.approx(0.95**40, rel=0.1)


def test_the_generator_decides_on_the_order():
    first, again, other = (poisson_order(40, 4, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert all(map(np.array_equal, first, again))
    assert not all(map(np.array_equal, first, other))


# Steps.


def loss_of(settings: dict) -> Callable[[nn.Module, Batch], Tensor]:
    return lambda net, batch: make_loss(settings).of_cases(net(batch.images), batch.masks, batch.class_indices)


def test_a_step_warns_of_nothing(settings, net, recwarn):
    train(net, settings, NOISE, make_batch(), None)
    assert [str(warning.message) for warning in recwarn] == []


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "adam", "schedule_free_adamw"])
def test_without_noise_and_clipping_training_is_the_plain_one(settings, net, optimizer):
    settings["optimizer"] |= {"name": optimizer, "momentum": 0.9, "weight_decay": 0.01, "learning_rate": 0.01}
    settings["max_gradient_norm"] = 0.5
    batches = [make_batch(2, seed) for seed in (1, 2, 3)]
    found = train(net, settings, NO_PRIVACY, *batches)
    plain = copy.deepcopy(net)
    rule = build_optimizer(plain.parameters(), settings["optimizer"], 0.01)
    begin_training(rule)
    train_epochs(plain, rule, make_loss(settings), [batches], settings)
    end_training(rule)
    assert_close(step_of(net, found), step_of(net, plain), 1e-3)


def test_a_step_adds_clipped_gradients_and_divides_by_the_expected_number_of_cases(settings, net):
    batch = make_batch(3)
    gradients = gradients_one_by_one(net, loss_of(settings), batch)
    lengths = sorted(map(length, gradients))
    # Between the shortest and the others, so that one stays as it is.
    clip_norm = (lengths[0] + lengths[1]) / 2
    factors = [min(1.0, clip_norm / length(gradient)) for gradient in gradients]
    assert sorted(factors)[2] == 1.0
    assert sorted(factors)[1] < 1.0
    expected = {
        name: sum(factor * gradient[name] for factor, gradient in zip(factors, gradients, strict=True)) / 2
        for name in gradients[0]
    }
    # 3 cases were drawn where 2 are expected.
    trained = train(net, settings, {"clip_norm": clip_norm, "noise_multiplier": 0.0}, batch)
    assert_close(step_of(net, trained), expected)


def test_a_site_smaller_than_its_batch_divides_by_its_cases(settings, net):
    settings["batch_size"] = 8
    of_site = step_of(net, train(net, settings, NO_PRIVACY, make_batch(2), num_cases=2))
    of_more = step_of(net, train(net, settings, NO_PRIVACY, make_batch(2), num_cases=8))
    assert_close({name: part / 4 for name, part in of_site.items()}, of_more)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_one_case_moves_the_weights_by_the_clip_norm_at_most(settings, net, precision):
    settings |= {"precision": precision}
    settings["loss"]["segmentation_weight"] = 1e6
    keep_small_convolutions_exact(net.float())
    batch = make_batch(2)
    batch = Batch(batch.images.float(), batch.masks, batch.class_indices)
    privacy = {"clip_norm": 100.0, "noise_multiplier": 0.0}
    with_case = step_of(net, train(net, settings, privacy, batch))
    without = step_of(net, train(net, settings, privacy, next(batch.parts(1))))
    influence = length({name: with_case[name] - without[name] for name in without})
    # Half of the clip norm: batches of 2.
    assert influence == pytest.approx(50.0, rel=1e-4)


@pytest.mark.parametrize("micro_batch_size", [1, 2])
def test_parts_of_a_batch_are_single_cases_whatever_the_settings(settings, net, micro_batch_size):
    whole = train(net, settings, NOISE, make_batch(3))
    assert same_bits(train(net, settings | {"micro_batch_size": micro_batch_size}, NOISE, make_batch(3)), whole)


def test_the_network_sees_one_case_at_a_time(settings, net):
    sizes = []
    net.register_forward_hook(lambda net, inputs, output: sizes.append(len(inputs[0])))
    train(net, settings, NOISE, make_batch(3), None, make_batch(2))
    assert sizes == [1] * 5


def test_a_batch_gets_noise_once(settings, net):
    noise = step_of(net, train(net, settings, NOISE, None))
    of_cases = step_of(net, train(net, settings, NOISE | {"noise_multiplier": 0.0}, make_batch(3)))
    together = step_of(net, train(net, settings, NOISE, make_batch(3)))
    assert_close(together, {name: noise[name] + of_cases[name] for name in noise})


def test_checkpointed_activations_change_nothing(settings, net):
    expected = step_of(net, train(net, settings, NOISE, make_batch(3), None, make_batch(1)))
    checkpoint_activations(net)
    found = step_of(net, train(net, settings, NOISE, make_batch(3), None, make_batch(1)))
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_compiled_network_trains_as_a_plain_one(settings, net):
    expected = step_of(net, train(net, settings, NOISE, make_batch(3), None, make_batch(1)))
    compiled = copy.deepcopy(net)
    # The parts of a compiler that decide on gradients, without making machine code.
    compiled.compile(backend="aot_eager")
    optimizer = build_optimizer(compiled.parameters(), settings["optimizer"], 1.0)
    batches = [make_batch(3), None, make_batch(1)]
    private_epochs(compiled, optimizer, make_loss(settings), [batches], settings, NOISE, 4, 0)
    assert_close(step_of(net, compiled), expected, 1e-6)


def test_batch_normalisation_with_the_statistics_it_starts_with_trains_and_keeps_them(settings, normed_net):
    batch = make_batch(2, grid=(10, 24, 24))
    # Of every weight, so that none is left without noise.
    assert all(
        gradient.keys() == weights_of(normed_net).keys()
        for gradient in gradients_one_by_one(normed_net, loss_of(settings), batch)
    )
    trained = train(normed_net, settings, NOISE, batch, None)
    assert all(part.abs().sum() > 0 for part in step_of(normed_net, trained).values())
    pairs = zip(trained.buffers(), normed_net.buffers(), strict=True)
    assert all(torch.equal(after, before) for after, before in pairs)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_a_step_without_cases_is_noise_of_the_stated_deviation(settings, net, batch_size):
    settings["batch_size"] = batch_size
    step = step_of(net, train(net, settings, {"clip_norm": 3.0, "noise_multiplier": 2.0}, None))
    noise = torch.cat([part.flatten() for part in step.values()])
    # 2 x 3, over the number of cases expected; over 3,000 numbers.
    assert noise.std().item() == pytest.approx(6.0 / batch_size, rel=0.05)
    assert noise.mean().item() == pytest.approx(0.0, abs=0.4)


def test_an_epoch_without_cases_and_noise_changes_nothing(settings, net):
    assert same_bits(train(net, settings, NO_PRIVACY, None, None), net)


def test_every_step_has_its_own_noise(settings, net):
    one, two = (step_of(net, train(net, settings, NOISE, *[None] * number)) for number in (1, 2))
    assert length({name: two[name] - 2 * one[name] for name in one}) > 0.5 * length(one)


def test_the_seed_decides_on_the_noise(settings, net):
    first = train(net, settings, NOISE, make_batch(), None, make_batch(1), seed=3)
    torch.rand(5)
    assert same_bits(train(net, settings, NOISE, make_batch(), None, make_batch(1), seed=3), first)
    assert not same_bits(train(net, settings, NOISE, make_batch(), None, make_batch(1), seed=4), first)


def test_the_noisy_gradient_is_shortened_as_any_gradient_is(settings, net):
    trained = train(net, settings | {"max_gradient_norm": 0.1}, NOISE, make_batch())
    assert length(step_of(net, trained)) == pytest.approx(0.1, rel=1e-4)


def test_a_frozen_encoder_stays(settings, net):
    freeze_encoder(net)
    step = step_of(net, train(net, settings, NOISE, make_batch(), None))
    moved = {name for name, part in step.items() if part.abs().sum() > 0}
    assert moved == {name for name in step if not name.startswith("encoder.")}


def test_losses_are_means_over_the_cases_drawn(settings, net):
    batches = [make_batch(3), None, make_batch(1, seed=5)]
    with torch.no_grad():
        expected = torch.cat([loss_of(settings)(net, batch) for batch in (batches[0], batches[2])]).mean().item()
    optimizer = torch.optim.SGD(net.parameters(), 0.0)
    losses = private_epochs(net, optimizer, make_loss(settings), [batches, [None]], settings, NOISE, 4, 0)
    assert losses == [pytest.approx(expected, rel=1e-5), 0.0]


# Refusals.


def test_batch_normalisation_is_refused(settings, normed_net):
    normed_net.up1.bn.train()
    with pytest.raises(StudyError) as refusal:
        check_private(normed_net, settings, NOISE)
    assert str(refusal.value) == (
        "example-level privacy: batch normalisation keeps statistics of the cases without noise; set the arm's "
        "batch_norm: frozen, or network.name: unet, which has none"
    )


def test_weights_that_come_from_all_cases_are_refused(settings, net):
    settings["loss"]["balance_classes"] = True
    with pytest.raises(StudyError, match="balance_classes lets every case change"):
        check_private(net, settings, NOISE)


def test_noise_without_a_bound_is_refused(settings, net):
    with pytest.raises(StudyError, match="finite clip_norm, found inf"):
        check_private(net, settings, {"clip_norm": math.inf, "noise_multiplier": 1.0})


def test_training_refuses_too(settings, net):
    settings["loss"]["balance_classes"] = True
    with pytest.raises(StudyError, match="balance_classes"):
        train(net, settings, NOISE, make_batch())


def test_noise_makes_training_private():
    assert [is_private(privacy) for privacy in (None, CLIPPED, NOISE)] == [False, False, True]
