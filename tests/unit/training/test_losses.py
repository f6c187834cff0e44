import math

import pytest
import torch
from fedpedbrain.models.outputs import Logits
from fedpedbrain.training.losses import UNKNOWN_CLASS_INDEX, JointLoss, dice_cross_entropy, reference_dice, soft_dice

SURE = 50.0


def volume(*values: float) -> torch.Tensor:
    """One case, one region, one row of voxels."""
    return torch.tensor(values).reshape(1, 1, 1, 1, -1)


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


def test_reference_loss_of_half_sure_voxels():
    assert reference_dice(volume(0.0, 0.0), volume(1.0, 0.0)).item() == pytest.approx(-0.5 * math.log(2 / 3))


def test_reference_loss_averages_the_logarithms():
    logits = torch.cat([volume(0.0, 0.0), volume(SURE, -SURE)])
    masks = torch.cat([volume(1.0, 0.0), volume(1.0, 0.0)])
    # The second case is perfect: log 1 = 0.
    assert reference_dice(logits, masks).item() == pytest.approx(-0.25 * math.log(2 / 3), abs=1e-6)


@pytest.mark.parametrize("loss", [dice_cross_entropy, reference_dice])
def test_a_perfect_segmentation_costs_nothing_and_a_better_one_costs_less(loss):
    mask = volume(1.0, 1.0, 0.0, 0.0)
    worse, better, perfect = (loss((mask * 2 - 1) * sure, mask).item() for sure in (-1.0, 1.0, SURE))
    assert worse > better > perfect
    assert perfect == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize("loss", [dice_cross_entropy, reference_dice])
def test_half_precision_logits_lose_nothing_in_the_sums(loss):
    # 100 000 voxels do not fit the integers of float16.
    logits, mask = torch.zeros(1, 1, 10, 100, 100), torch.zeros(1, 1, 10, 100, 100)
    mask[..., :50] = 1.0
    assert loss(logits.half(), mask.half()).item() == pytest.approx(loss(logits, mask).item(), rel=1e-5)


def joint(segmentation_weight: float = 1.0, classification_weight: float = 1.0) -> JointLoss:
    return JointLoss("dice_cross_entropy", segmentation_weight, classification_weight)


TWO_CASES = torch.tensor([[0.0, 0.0], [math.log(3.0), 0.0]])


def test_classification_is_the_mean_cross_entropy():
    # Probabilities 1/2 and 3/4 of the true classes.
    found = joint()(Logits(None, TWO_CASES), None, torch.tensor([1, 0]))
    assert found.item() == pytest.approx((math.log(2) + math.log(4 / 3)) / 2)


def test_a_case_of_unknown_class_does_not_count():
    found = joint()(Logits(None, TWO_CASES), None, torch.tensor([1, UNKNOWN_CLASS_INDEX]))
    assert found.item() == pytest.approx(math.log(2))


def test_a_batch_of_unknown_classes_alone_costs_nothing_and_moves_nothing():
    scores = TWO_CASES.clone().requires_grad_()
    loss = joint()(Logits(None, scores), None, torch.tensor([UNKNOWN_CLASS_INDEX] * 2))
    loss.backward()
    assert loss.item() == 0.0
    assert not scores.grad.any()


def test_both_parts_add_up_with_their_weights():
    logits = Logits(volume(0.0, 0.0), torch.zeros(1, 2))
    found = joint(2.0, 10.0)(logits, volume(1.0, 0.0), torch.tensor([1]))
    assert found.item() == pytest.approx(2 * (1 / 3 + math.log(2)) + 10 * math.log(2))


def test_a_missing_classifier_adds_nothing():
    found = joint()(Logits(volume(0.0, 0.0), None), volume(1.0, 0.0), torch.tensor([UNKNOWN_CLASS_INDEX]))
    assert found.item() == pytest.approx(1 / 3 + math.log(2))


def test_the_configs_words_are_the_losses():
    logits, mask = Logits(volume(0.0, 0.0), None), volume(1.0, 0.0)
    unknown = torch.tensor([UNKNOWN_CLASS_INDEX])
    assert JointLoss("reference", 1.0, 1.0)(logits, mask, unknown) == reference_dice(logits.segmentation, mask)
    assert JointLoss("dice_cross_entropy", 1.0, 1.0)(logits, mask, unknown) == dice_cross_entropy(
        logits.segmentation, mask
    )
