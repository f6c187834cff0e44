import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from fedpedbrain.base.cases import UNKNOWN_CLASS_INDEX
from fedpedbrain.base.choices import Choices, defaults_of
from fedpedbrain.models.outputs import Logits
from fedpedbrain.study.schema import load_schema
from fedpedbrain.study.training_facts import CLASSIFICATION_LOSSES, SEGMENTATION_LOSSES
from fedpedbrain.training.losses.batch_dice_cross_entropy import batch_dice_cross_entropy
from fedpedbrain.training.losses.cross_entropy import cross_entropy
from fedpedbrain.training.losses.dice import dice_loss
from fedpedbrain.training.losses.dice_cross_entropy import dice_cross_entropy
from fedpedbrain.training.losses.dice_focal import dice_focal
from fedpedbrain.training.losses.dice_label_cross_entropy import dice_label_cross_entropy
from fedpedbrain.training.losses.focal_cross_entropy import focal_cross_entropy
from fedpedbrain.training.losses.joint import JointLoss, class_weights
from fedpedbrain.training.losses.reference_dice import reference_dice
from fedpedbrain.training.losses.voxel_terms import soft_dice
from torch import Tensor, nn

SURE = 50.0
GAMMA = 2.0
UNKNOWN = UNKNOWN_CLASS_INDEX


def volume(*values: float) -> Tensor:
    """One case, one region, one row of voxels."""
    return torch.tensor(values).reshape(1, 1, 1, 1, -1)


def load(table: Choices, name: str) -> Callable[[Tensor, Tensor], Tensor]:
    """A loss of a table with the defaults of its options."""
    return partial(table.load(name), **defaults_of(table[name].options))


# Segmentation.


def test_soft_dice_of_half_sure_voxels():
    # Probabilities 1/2, 1/2 of the mask 1, 0: (2 x 1/2 + 1) / (1 + 1 + 1).
    assert soft_dice(volume(0.0, 0.0), volume(1.0, 0.0)).item() == pytest.approx(2 / 3)


@pytest.mark.parametrize("mask", [(1.0, 1.0, 0.0), (0.0, 0.0, 0.0)], ids=["tumour", "nothing"])
def test_soft_dice_of_the_truth_is_1(mask):
    logits = (volume(*mask) * 2 - 1) * SURE
    assert soft_dice(logits, volume(*mask)).item() == pytest.approx(1.0)


def test_soft_dice_of_a_miss():
    # Nothing of 3 voxels: 1 / (0 + 3 + 1).
    assert soft_dice(volume(-SURE, -SURE, -SURE), volume(1.0, 1.0, 1.0)).item() == pytest.approx(1 / 4)


def test_dice_alone_is_1_less_the_coefficient():
    assert dice_loss(volume(0.0, 0.0), volume(1.0, 0.0)).item() == pytest.approx(1 / 3)


def test_dice_of_a_batch_adds_up_its_samples():
    # A sure hit of one voxel and a sure miss of another: (2 x 1 + 1) / (1 + 2 + 1); each alone has 1 and 1 / 2.
    logits = torch.cat([volume(SURE, -SURE), volume(-SURE, -SURE)])
    masks = torch.cat([volume(1.0, 0.0), volume(1.0, 0.0)])
    found = batch_dice_cross_entropy(logits, masks)
    missed = SURE / 2
    assert found.tolist() == pytest.approx([1 / 4, 1 / 4 + missed])


def test_labels_have_a_softmax_with_the_background():
    # Two regions with logits 0 and the background's 0: a third each, of one voxel of region 1 and one of none.
    logits, masks = torch.zeros(1, 2, 1, 1, 2), torch.zeros(1, 2, 1, 1, 2)
    masks[0, 0, 0, 0, 0] = 1.0
    dice = ((2 / 3 + 1) / (2 / 3 + 1 + 1) + 1 / (2 / 3 + 0 + 1)) / 2
    assert dice_label_cross_entropy(logits, masks).item() == pytest.approx(1 - dice + math.log(3))


def test_coarser_stages_count_half_as_much_each():
    """Constant stages cost what they cost alone, so the loss is their weighted mean."""
    mask = torch.zeros(1, 1, 1, 4, 4)
    mask[..., :2, :2] = 1.0
    stages = [torch.full((1, 1, 1, size, size), value) for size, value in ((4, 0.0), (2, 1.0), (1, -2.0))]
    coarse = [mask[..., ::step, ::step] for step in (1, 2, 4)]
    # The voxel nearest to the middle of 4 x 4 is outside of the region.
    coarse[2] = torch.zeros(1, 1, 1, 1, 1)
    alone = [dice_cross_entropy(stage, part).item() for stage, part in zip(stages, coarse, strict=True)]
    settings = {"segmentation": "dice_cross_entropy", "classification": "cross_entropy"}
    settings |= {"segmentation_weight": 1.0, "classification_weight": 1.0}
    loss = JointLoss(settings, torch.ones(1))
    found = loss(Logits(stages[0], None, tuple(stages[1:])), mask, torch.tensor([UNKNOWN])).item()
    assert found == pytest.approx((4 * alone[0] + 2 * alone[1] + alone[2]) / 7)


def test_soft_dice_has_one_value_a_case_and_region():
    logits, masks = torch.zeros(2, 3, 1, 2, 2), torch.zeros(2, 3, 1, 2, 2)
    masks[1, 2] = 1.0
    found = soft_dice(logits, masks)
    assert found.shape == (2, 3)
    # Four half-sure voxels: 1 / 3 beside nothing, (2 x 2 + 1) / (2 + 4 + 1) on the tumour.
    expected = torch.full((2, 3), 1 / 3)
    expected[1, 2] = 5 / 7
    torch.testing.assert_close(found, expected)


def test_dice_cross_entropy_of_half_sure_voxels():
    found = dice_cross_entropy(volume(0.0, 0.0), volume(1.0, 0.0))
    assert found.item() == pytest.approx(1 - 2 / 3 + math.log(2))


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_dice_focal_of_half_sure_voxels(gamma):
    found = dice_focal(volume(0.0, 0.0), volume(1.0, 0.0), gamma)
    assert found.item() == pytest.approx(1 - 2 / 3 + 0.5**gamma * math.log(2))


def test_dice_focal_of_voxels_of_several_difficulties():
    # Probabilities 3/4 and 1/4 of the truth.
    sure = math.log(3.0)
    found = dice_focal(volume(sure, sure), volume(1.0, 0.0), GAMMA)
    focal = (0.25**2 * math.log(4 / 3) + 0.75**2 * math.log(4)) / 2
    assert found.item() == pytest.approx(1 - (2 * 0.75 + 1) / (1.5 + 1 + 1) + focal)


def test_reference_loss_of_half_sure_voxels():
    assert reference_dice(volume(0.0, 0.0), volume(1.0, 0.0)).item() == pytest.approx(-0.5 * math.log(2 / 3))


def test_reference_loss_averages_the_logarithms_of_the_regions():
    # The second region is perfect: log 1 = 0.
    logits, masks = torch.cat([volume(0.0, 0.0), volume(SURE, -SURE)], 1), volume(1.0, 0.0).repeat(1, 2, 1, 1, 1)
    assert reference_dice(logits, masks).item() == pytest.approx(-0.25 * math.log(2 / 3), abs=1e-6)


@pytest.mark.parametrize("name", sorted(SEGMENTATION_LOSSES))
def test_what_a_sample_costs_depends_on_the_others_where_the_facts_say_so(name):
    logits = torch.randn(3, 2, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    masks = (logits.flip(0) > 0).float()
    # No voxel belongs to two regions, which losses over labels need.
    masks[:, 1] *= 1.0 - masks[:, 0]
    loss = load(SEGMENTATION_LOSSES, name)
    alone = torch.cat([loss(logits[case : case + 1], masks[case : case + 1]) for case in range(3)])
    assert torch.allclose(loss(logits, masks), alone) != SEGMENTATION_LOSSES[name].is_over_batch


@pytest.mark.parametrize("name", sorted(SEGMENTATION_LOSSES))
def test_a_perfect_segmentation_costs_nothing_and_a_better_one_costs_less(name):
    mask = volume(1.0, 1.0, 0.0, 0.0)
    loss = load(SEGMENTATION_LOSSES, name)
    worse, better, perfect = (loss((mask * 2 - 1) * sure, mask).item() for sure in (-1.0, 1.0, SURE))
    assert worse > better > perfect
    assert perfect == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize("name", sorted(SEGMENTATION_LOSSES))
def test_half_precision_logits_lose_nothing_in_the_sums(name):
    # 100 000 voxels do not fit the integers of float16.
    logits, mask = torch.zeros(1, 1, 10, 100, 100), torch.zeros(1, 1, 10, 100, 100)
    mask[..., :50] = 1.0
    loss = load(SEGMENTATION_LOSSES, name)
    assert loss(logits.half(), mask).item() == pytest.approx(loss(logits, mask).item(), rel=1e-5)


# Classification.

# Probabilities 1/2 and 1/2, 3/4 and 1/4.
TWO_CASES = torch.tensor([[0.0, 0.0], [math.log(3.0), 0.0]])


def test_cross_entropy_has_one_value_a_case_and_0_for_an_unknown_class():
    found = cross_entropy(TWO_CASES.repeat(2, 1), torch.tensor([1, 0, UNKNOWN, 1]))
    torch.testing.assert_close(found, torch.tensor([math.log(2), math.log(4 / 3), 0.0, math.log(4)]))


def test_focal_cross_entropy_counts_sure_cases_less():
    found = focal_cross_entropy(TWO_CASES.repeat(2, 1), torch.tensor([1, 0, UNKNOWN, 1]), GAMMA)
    expected = [0.25 * math.log(2), 0.25**2 * math.log(4 / 3), 0.0, 0.75**2 * math.log(4)]
    torch.testing.assert_close(found, torch.tensor(expected))


# Focal losses.


def test_focal_losses_with_gamma_0_are_cross_entropies():
    generator = torch.Generator().manual_seed(0)
    logits, scores = torch.randn(3, 2, 2, 4, 4, generator=generator), torch.randn(3, 4, generator=generator)
    masks, classes = (logits.flip(0) > 0).float(), torch.tensor([2, UNKNOWN, 0])
    assert torch.equal(dice_focal(logits, masks, 0.0), dice_cross_entropy(logits, masks))
    assert torch.equal(focal_cross_entropy(scores, classes, 0.0), cross_entropy(scores, classes))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("logit", [0.0, 10.0, 20.0, 200.0])
def test_focal_losses_of_the_surest_have_finite_gradients(gamma, logit):
    voxels = volume(logit, -logit).requires_grad_()
    dice_focal(voxels, volume(1.0, 0.0), gamma).sum().backward()
    assert voxels.grad.isfinite().all()
    scores = torch.tensor([[logit, 0.0], [logit, 0.0]], requires_grad=True)
    focal_cross_entropy(scores, torch.tensor([0, UNKNOWN]), gamma).sum().backward()
    assert scores.grad.isfinite().all()


# Class weights.


@pytest.fixture
def settings(config) -> dict:
    """The loss block of the config with values that these tests speak of."""
    return config["training"]["loss"] | {
        "segmentation": "dice_cross_entropy",
        "classification": "cross_entropy",
        "segmentation_weight": 1.0,
        "classification_weight": 1.0,
        "class_weights": {},
        "balance_classes": False,
    }


CLASSES = ["normal", "dipg", "ependymoma"]


def test_classes_have_weight_1_unless_they_are_named(settings):
    settings["class_weights"] = {"dipg": 2.5, "normal": 0.0}
    assert class_weights(settings, CLASSES, np.array([0, 1, 1])).tolist() == [0.0, 2.5, 1.0]


@pytest.mark.parametrize(
    ("class_indices", "expected"),
    [
        # 4 cases, an even share of 4/3 each.
        ([0, 0, 1, 2], [2 / 3, 4 / 3, 4 / 3]),
        # The site has no third class, whose weight no case takes: an even share of 2 each.
        ([0, 0, 0, 1], [2 / 3, 2.0, 2.0]),
        ([0, UNKNOWN, 1, 2, UNKNOWN], [1.0, 1.0, 1.0]),
    ],
    ids=["three classes", "two of three", "unknown"],
)
def test_balanced_classes_have_even_shares(settings, class_indices, expected):
    settings["balance_classes"] = True
    found = class_weights(settings, CLASSES, np.array(class_indices))
    assert found.tolist() == pytest.approx(expected)
    assert found.dtype == torch.float32


def test_balanced_classes_add_up_to_the_number_of_cases(settings):
    settings["balance_classes"] = True
    class_indices = np.array([0] * 7 + [1] * 2 + [2])
    shares = class_weights(settings, CLASSES, class_indices)[class_indices]
    assert shares.sum() == pytest.approx(10.0)
    assert [shares[class_indices == index].sum().item() for index in range(3)] == pytest.approx([10 / 3] * 3)


def test_given_weights_come_on_top_of_the_balance(settings):
    settings |= {"balance_classes": True, "class_weights": {"dipg": 3.0}}
    assert class_weights(settings, CLASSES, np.array([0, 0, 1, 2])).tolist() == pytest.approx([2 / 3, 4.0, 4 / 3])


@pytest.mark.parametrize("class_indices", [[UNKNOWN, UNKNOWN], []], ids=["unknown", "no case"])
def test_without_a_known_class_the_weights_are_numbers(settings, class_indices):
    settings["balance_classes"] = True
    assert class_weights(settings, CLASSES, np.array(class_indices, np.int64)).isfinite().all()


# Both together.


@pytest.fixture
def joint(settings):
    """``joint(weights, **changes)``: a joint loss of two classes."""

    def _joint(weights=(1.0, 1.0), **changes) -> JointLoss:
        return JointLoss(settings | changes, torch.tensor(weights))

    return _joint


def test_classification_is_the_mean_cross_entropy(joint):
    found = joint()(Logits(None, TWO_CASES), None, torch.tensor([1, 0]))
    assert found.item() == pytest.approx((math.log(2) + math.log(4 / 3)) / 2)


def test_classification_is_the_weighted_mean_of_the_known_classes(joint):
    found = joint((3.0, 1.0))(Logits(None, TWO_CASES), None, torch.tensor([1, 0]))
    assert found.item() == pytest.approx((math.log(2) + 3 * math.log(4 / 3)) / 4)


def test_weighted_classification_is_that_of_torch(joint):
    scores = torch.randn(20, 2, generator=torch.Generator().manual_seed(0))
    class_indices = torch.tensor([0, 1, UNKNOWN, 0, 1] * 4)
    weights = torch.tensor([0.3, 2.0])
    expected = nn.functional.cross_entropy(scores, class_indices, weights, ignore_index=UNKNOWN)
    found = joint(weights.tolist())(Logits(None, scores), None, class_indices)
    torch.testing.assert_close(found, expected)


def test_a_case_of_unknown_class_does_not_count(joint):
    found = joint()(Logits(None, TWO_CASES), None, torch.tensor([1, UNKNOWN]))
    assert found.item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("class_index", [UNKNOWN, 0], ids=["unknown", "of weight 0"])
def test_a_batch_whose_cases_do_not_count_costs_nothing_and_moves_nothing(joint, class_index):
    scores = TWO_CASES.clone().requires_grad_()
    loss = joint((0.0, 1.0))(Logits(None, scores), None, torch.tensor([class_index] * 2))
    loss.backward()
    assert loss.item() == 0.0
    assert not scores.grad.any()


def test_segmentation_is_the_mean_of_the_cases(joint):
    logits, masks = torch.cat([volume(0.0, 0.0), volume(SURE, -SURE)]), volume(1.0, 0.0).repeat(2, 1, 1, 1, 1)
    found = joint()(Logits(logits, None), masks, torch.tensor([UNKNOWN, UNKNOWN]))
    assert found.item() == pytest.approx((1 / 3 + math.log(2)) / 2)


def test_both_parts_add_up_with_their_weights(joint):
    logits = Logits(volume(0.0, 0.0), torch.zeros(1, 2))
    loss = joint(segmentation_weight=2.0, classification_weight=10.0)
    found = loss(logits, volume(1.0, 0.0), torch.tensor([1]))
    assert found.item() == pytest.approx(2 * (1 / 3 + math.log(2)) + 10 * math.log(2))


def test_a_missing_classifier_adds_nothing(joint):
    found = joint()(Logits(volume(0.0, 0.0), None), volume(1.0, 0.0), torch.tensor([UNKNOWN]))
    assert found.item() == pytest.approx(1 / 3 + math.log(2))


def test_masks_of_whole_numbers_are_taken_as_they_are(joint):
    logits, mask = Logits(volume(0.5, -2.0), None), volume(1.0, 0.0)
    unknown = torch.tensor([UNKNOWN])
    assert joint()(logits, mask.byte(), unknown) == joint()(logits, mask, unknown)


@pytest.mark.parametrize("weights", [(1.0, 1.0), (3.0, 0.5)], ids=["equal", "weighted"])
@pytest.mark.parametrize("class_indices", [[0, 1, 1, 0, 1], [UNKNOWN, UNKNOWN, 1, 0, UNKNOWN], [UNKNOWN] * 5])
@pytest.mark.parametrize("size", [1, 2, 5])
def test_the_shares_of_the_parts_of_a_batch_add_up_to_its_loss(joint, weights, class_indices, size):
    generator = torch.Generator().manual_seed(0)
    logits, scores = torch.randn(5, 2, 1, 4, 4, generator=generator), torch.randn(5, 2, generator=generator)
    masks, classes = (logits.flip(0) > 0).byte(), torch.tensor(class_indices)
    loss = joint(weights)
    cuts = [slice(first, first + size) for first in range(0, 5, size)]
    shares = [loss(Logits(logits[cut], scores[cut]), masks[cut], classes[cut], classes) for cut in cuts]
    assert len(shares) == math.ceil(5 / size)
    torch.testing.assert_close(torch.stack(shares).sum(), loss(Logits(logits, scores), masks, classes))


@pytest.mark.parametrize("name", sorted(SEGMENTATION_LOSSES))
def test_the_configs_word_is_the_segmentation_loss(joint, name):
    logits, mask = volume(0.5, 2.0), volume(1.0, 0.0)
    loss = joint(segmentation=name, **defaults_of(SEGMENTATION_LOSSES[name].options))
    found = loss(Logits(logits, None), mask, torch.tensor([UNKNOWN]))
    assert found == load(SEGMENTATION_LOSSES, name)(logits, mask)


@pytest.mark.parametrize("name", sorted(CLASSIFICATION_LOSSES))
def test_the_configs_word_is_the_classification_loss(joint, name):
    loss = joint(classification=name, **defaults_of(CLASSIFICATION_LOSSES[name].options))
    found = loss(Logits(None, TWO_CASES[1:]), None, torch.tensor([1]))
    assert found == load(CLASSIFICATION_LOSSES, name)(TWO_CASES[1:], torch.tensor([1]))


def test_losses_get_the_configs_options(joint):
    loss = joint(segmentation="dice_focal", classification="focal", focal_gamma=1.5)
    voxels, mask, classes = volume(0.5, 2.0), volume(1.0, 0.0), torch.tensor([1])
    assert loss(Logits(voxels, None), mask, classes) == dice_focal(voxels, mask, 1.5)
    scores = TWO_CASES[1:]
    assert loss(Logits(None, scores), None, classes) == focal_cross_entropy(scores, classes, 1.5)


@pytest.mark.parametrize(
    ("key", "table"), [("segmentation", SEGMENTATION_LOSSES), ("classification", CLASSIFICATION_LOSSES)]
)
def test_the_configs_words_are_those_of_the_schema(schema_path, key, table):
    words = load_schema(schema_path)["properties"]["training"]["properties"]["loss"]["properties"][key]["enum"]
    assert words == list(table)


# Cases apart from each other.


def make_loss(config: dict, weights: tuple = (1.0, 1.0), **changes) -> JointLoss:
    return JointLoss(config["training"]["loss"] | changes, torch.tensor(weights))


def three_cases() -> tuple[Logits, Tensor]:
    generator = torch.Generator().manual_seed(2)
    logits = Logits(torch.randn(3, 1, 4, 8, 8, generator=generator), torch.randn(3, 2, generator=generator))
    return logits, torch.rand(3, 1, 4, 8, 8, generator=generator) > 0.7


@pytest.mark.parametrize("missing", [None, "segmentation", "classification"])
def test_losses_of_cases_average_to_that_of_the_batch(config, missing):
    logits, masks = three_cases()
    logits = logits._replace(**{missing: None} if missing else {})
    found = make_loss(config).of_cases(logits, masks, torch.tensor([0, 1, 0]))
    assert found.shape == (3,)
    expected = make_loss(config)(logits, masks, torch.tensor([0, 1, 0]))
    assert found.mean().item() == pytest.approx(expected.item(), rel=1e-6)


def test_the_loss_of_a_case_does_not_depend_on_the_others(config):
    logits, masks = three_cases()
    loss = make_loss(config, (0.5, 3.0))
    together = loss.of_cases(logits, masks, torch.tensor([0, 1, UNKNOWN]))
    changed = Logits(logits.segmentation.clone(), logits.classification.clone())
    changed.segmentation[1:] += 1
    changed.classification[1:] += torch.tensor([1.0, 0.0])
    beside_others = loss.of_cases(changed, masks, torch.tensor([0, UNKNOWN, 0]))
    assert beside_others[0] == together[0]
    assert (beside_others[1:] != together[1:]).all()


def test_for_single_cases_class_weights_are_factors_and_an_unknown_class_counts_for_segmentation_alone(config):
    loss = make_loss(config, (0.5, 3.0), segmentation_weight=0.0, classification_weight=2.0)
    logits = Logits(torch.zeros(3, 1, 4, 8, 8), torch.zeros(3, 2))
    losses = loss.of_cases(logits, three_cases()[1], torch.tensor([0, 1, UNKNOWN]))
    # Two equally probable classes: log 2.
    assert losses.tolist() == pytest.approx([2 * 0.5 * math.log(2), 2 * 3 * math.log(2), 0.0])
