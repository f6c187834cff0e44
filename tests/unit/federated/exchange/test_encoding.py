import pytest
import torch
from fedpedbrain.base.errors import StudyError
from fedpedbrain.federated.exchange.encoding import DTYPES, decode, encode

START = {
    "weight": torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]),
    "bias": torch.tensor([0.5]),
    "steps": torch.tensor(5),
}
AFTER = {
    "weight": torch.tensor([[1.5, 2.0, 2.0], [4.0, 5.01, 6.02]]),
    "bias": torch.tensor([0.25]),
    "steps": torch.tensor(7),
}


def form(dtype="float32", content="weights", error_feedback=False) -> dict:
    return {"dtype": dtype, "content": content, "error_feedback": error_feedback}


def there_and_back(weights, settings, residual=()):
    tensors, sent, left = encode(weights, START, settings, dict(residual))
    return decode(tensors, sent, START, settings), tensors, left


def test_plain_weights_travel_bit_for_bit():
    found, tensors, left = there_and_back(AFTER, form())
    assert all(torch.equal(found[name], AFTER[name]) and torch.equal(tensors[name], AFTER[name]) for name in AFTER)
    assert left == {}


@pytest.mark.parametrize("content", ["weights", "difference"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_has_half_the_bytes_and_its_rounding(dtype, content):
    found, tensors, _ = there_and_back(AFTER, form(dtype, content))
    assert {name: tensor.dtype for name, tensor in tensors.items()} == {
        "weight": DTYPES[dtype],
        "bias": DTYPES[dtype],
        "steps": torch.int64,
    }
    for name in ("weight", "bias"):
        travelled = AFTER[name] - START[name] if content == "difference" else AFTER[name]
        rounded = travelled.to(DTYPES[dtype]).float()
        assert torch.equal(found[name], START[name] + rounded if content == "difference" else rounded)
        assert found[name].dtype == torch.float32


def test_a_difference_loses_less_than_weights():
    errors = [
        (there_and_back(AFTER, form("bfloat16", content))[0]["weight"] - AFTER["weight"]).abs().max()
        for content in ("weights", "difference")
    ]
    assert errors[1] < errors[0] / 10


def test_eight_bits_by_hand():
    # The largest difference of the first row, 1, is 127 steps; 0.5 is 63.5 steps, rounded to even.
    found, tensors, _ = there_and_back(AFTER, form("int8", "difference"))
    assert tensors["weight"].dtype == torch.int8
    assert tensors["weight"].tolist() == [[64, 0, -127], [0, 64, 127]]
    assert found["weight"][0].tolist() == pytest.approx([1.0 + 64 / 127, 2.0, 2.0])
    # What has no rows travels whole.
    assert tensors["bias"].dtype == torch.float32
    assert torch.equal(found["bias"], AFTER["bias"])


def test_a_row_without_a_difference_stays():
    found, _, _ = there_and_back(START, form("int8", "difference"))
    assert torch.equal(found["weight"], START["weight"])


def test_counters_travel_as_they_are():
    for dtype in DTYPES:
        found, _, _ = there_and_back(AFTER, form(dtype, "difference"))
        assert found["steps"].item() == 7
        assert found["steps"].dtype == torch.int64


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "int8"])
def test_error_feedback_makes_up_for_rounding_over_rounds(dtype):
    settings, residual = form(dtype, "difference", error_feedback=True), {}
    step = {"weight": torch.tensor([[1.0, 1e-3, 1e-3], [1.0, 1e-3, 1e-3]])}
    start = {"weight": torch.zeros(2, 3)}
    sums = {True: torch.zeros(2, 3), False: torch.zeros(2, 3)}
    for _ in range(64):
        tensors, sent, residual = encode(step, start, settings, residual)
        sums[True] += decode(tensors, sent, start, settings)["weight"]
        tensors, sent, _ = encode(step, start, form(dtype, "difference"), {})
        sums[False] += decode(tensors, sent, start, form(dtype, "difference"))["weight"]
    errors = {feedback: (total - 64 * step["weight"]).abs().max().item() for feedback, total in sums.items()}
    # What is left is one rounding, not 64.
    assert errors[True] < errors[False] / 10


def test_the_residual_is_what_rounding_took():
    settings = form("bfloat16", "difference", error_feedback=True)
    found, _, left = there_and_back(AFTER, settings)
    torch.testing.assert_close(found["weight"] + left["weight"], AFTER["weight"])
    assert set(left) == {"weight", "bias"}


def test_what_float16_cannot_hold_is_refused_by_name():
    with pytest.raises(StudyError, match="weight: a number is too large for float16; exchange bfloat16"):
        encode(AFTER | {"weight": torch.full((2, 3), 1e6)}, START, form("float16"), {})


def test_a_weight_that_is_no_number_is_left_to_the_server_to_refuse():
    tensors, _, _ = encode(AFTER | {"weight": torch.full((2, 3), float("nan"))}, START, form("float16"), {})
    assert tensors["weight"].isnan().all()
