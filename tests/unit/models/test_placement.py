import pytest
import torch
from fedpedbrain.models.placement import to_unit


def test_steps_of_a_shard_become_parts_of_one_and_other_numbers_stay():
    steps = torch.arange(256, dtype=torch.uint8)
    found = to_unit(steps)
    assert found[[0, 51, 255]].tolist() == pytest.approx([0.0, 0.2, 1.0])
    scores = torch.tensor([-2.5, 0.0, 3.0], dtype=torch.float16)
    assert to_unit(scores).dtype == found.dtype == torch.float32
    assert to_unit(scores).tolist() == [-2.5, 0.0, 3.0]


def test_steps_are_multiplied_as_models_of_before_were_trained_with():
    steps = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_unit(steps), steps * (1.0 / 255.0))
    assert not torch.equal(to_unit(steps), steps / 255.0)
