import pytest
import torch
from fedpedbrain.federated.exchange.averaging import average_weights, combine_pieces, weighted_mean


def average(*updates: tuple[dict, float]) -> dict[str, torch.Tensor]:
    return average_weights(updates)


def test_two_updates_average_element_by_element():
    first = {"weight": torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])}
    second = {"weight": torch.tensor([[3.0, 2.0, 1.0], [0.0, -5.0, 6.0]])}
    found = average((first, 0.5), (second, 0.5))["weight"]
    assert found.tolist() == [[2.0, 2.0, 2.0], [2.0, 0.0, 6.0]]


def test_updates_count_by_their_factors():
    # 3 of 4 parts.
    found = average(({"weight": torch.tensor([8.0, 0.0])}, 0.75), ({"weight": torch.tensor([0.0, 4.0])}, 0.25))
    assert found["weight"].tolist() == [6.0, 1.0]


def test_three_updates_average():
    updates = [({"bias": torch.tensor([float(value)])}, factor) for value, factor in ((1, 0.5), (2, 0.25), (4, 0.25))]
    assert average(*updates)["bias"].tolist() == [2.0]


def test_one_update_is_returned_bit_for_bit():
    generator = torch.Generator().manual_seed(0)
    weights = {
        "float32": torch.randn(1000, generator=generator) * 1e-30,
        "float16": torch.randn(1000, generator=generator).half(),
        "bfloat16": torch.randn(1000, generator=generator).bfloat16(),
        "negative_zero": torch.tensor([-0.0]),
        "steps": torch.tensor(7),
    }
    found = average((weights, 1.0))
    for name, tensor in weights.items():
        assert found[name].dtype == tensor.dtype
        assert (
            found[name].numpy(force=True).tobytes() == tensor.numpy().tobytes()
            if name != "bfloat16"
            else torch.equal(found[name], tensor)
        )


def test_equal_updates_average_to_themselves():
    weights = {"weight": torch.randn(1000, generator=torch.Generator().manual_seed(0))}
    found = average(*[(weights, 1 / 3)] * 3)["weight"]
    assert torch.equal(found, weights["weight"])


def test_integer_buffers_take_the_maximum():
    found = average(
        ({"steps": torch.tensor([3, 9])}, 0.9),
        ({"steps": torch.tensor([5, 2])}, 0.1),
        ({"steps": torch.tensor([4, 4])}, 0.0),
    )
    assert found["steps"].dtype == torch.int64
    assert found["steps"].tolist() == [5, 9]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_the_average_has_the_updates_dtype_and_shape(dtype):
    update = {"weight": torch.ones(2, 3, dtype=dtype), "scalar": torch.tensor(1.0, dtype=dtype)}
    found = average((update, 0.5), (update, 0.5))
    assert {name: (tensor.dtype, tensor.shape) for name, tensor in found.items()} == {
        "weight": (dtype, (2, 3)),
        "scalar": (dtype, ()),
    }


def test_half_precision_updates_are_summed_in_double_precision():
    # 2048 + 1 is 2048 in float16, so that a sum kept there would stay.
    updates = [({"weight": torch.tensor([2048.0]).half()}, 0.5)] + [
        ({"weight": torch.tensor([2.0]).half()}, 0.5 / 64)
    ] * 64
    assert average(*updates)["weight"].item() == 1025.0


def test_updates_are_summed_in_the_given_order():
    # In double precision 1e16 + 1 is 1e16: the small one survives only where it comes last.
    big, one, minus = ({"weight": torch.tensor([value], dtype=torch.float64)} for value in (1e16, 1.0, -1e16))
    assert average((big, 1.0), (minus, 1.0), (one, 1.0))["weight"].item() == 1.0 / 3.0
    assert average((big, 1.0), (one, 1.0), (minus, 1.0))["weight"].item() == 0.0


def test_the_updates_themselves_stay_as_they_are():
    first, second = (
        {"weight": torch.ones(2), "steps": torch.tensor(1)},
        {"weight": torch.zeros(2), "steps": torch.tensor(2)},
    )
    found = average((first, 0.5), (second, 0.5))
    found["steps"] += 1
    assert first["weight"].tolist() == [1.0, 1.0]
    assert (first["steps"].item(), second["steps"].item()) == (1, 2)


class Watched:
    """Gives parts of a tensor, and remembers how many elements each had."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.shape, self.dtype = tensor.shape, tensor.dtype
        self.taken: list[int] = []
        self._tensor = tensor

    def __getitem__(self, part) -> torch.Tensor:
        self.taken.append(self._tensor[part].numel())
        return self._tensor[part]


def test_updates_are_taken_in_pieces_of_which_none_is_large():
    tensors = [torch.full((64, 100, 100), value) for value in (1.0, 3.0)]
    watched = [Watched(tensor) for tensor in tensors]
    found = combine_pieces(
        [{"weight": one} for one in watched], lambda name, rows: weighted_mean(rows, [1.0, 1.0]), {"weight": torch.half}
    )
    assert torch.equal(found["weight"], torch.full((64, 100, 100), 2.0).half())
    for one in watched:
        assert sum(one.taken) == 640_000
        assert max(one.taken) <= 1 << 18


def test_factors_need_not_sum_to_one():
    found = average(({"weight": torch.tensor([8.0, 0.0])}, 3.0), ({"weight": torch.tensor([0.0, 4.0])}, 1.0))
    assert found["weight"].tolist() == [6.0, 1.0]


def test_tensors_larger_than_a_block_are_averaged_whole():
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(3, 100_003, generator=generator) for _ in range(2))
    found = average(({"weight": first}, 1.0), ({"weight": second}, 3.0))["weight"]
    assert torch.equal(found, ((first.double() + 3.0 * second.double()) / 4.0).float())


def test_tensors_in_another_order_in_memory_are_averaged():
    first = torch.randn(2, 3, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    found = average(({"weight": first.to(memory_format=torch.channels_last_3d)}, 1.0), ({"weight": first}, 1.0))
    assert torch.equal(found["weight"], first)
