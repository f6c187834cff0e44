"""The form in which weights travel: whole or as a difference, in 32, 16 or 8 bits."""

from collections.abc import Callable, Mapping
from types import EllipsisType
from typing import Any

import torch
from torch import Tensor

from fedpedbrain.base.errors import StudyError

_HALF = {"bfloat16": torch.bfloat16, "float16": torch.float16}
# Shape and dtype.
Form = tuple[torch.Size, torch.dtype]
# What tensors may have, beside the parent's dtype, by the config's word.
DTYPES = {"float32": None, **_HALF, "int8": torch.int8}
_SCALES = "scales"
_LARGEST_INT8 = 127


def is_plain(settings: Mapping[str, Any]) -> bool:
    """Whether weights travel as they are."""
    return settings["dtype"] == "float32" and settings["content"] == "weights"


def expected_dtype(tensor: Tensor, settings: Mapping[str, Any]) -> torch.dtype:
    """The dtype in which a tensor travels: counters in their own, and in int8 only what has rows."""
    wanted = DTYPES[settings["dtype"]]
    if wanted is None or not tensor.is_floating_point() or (wanted == torch.int8 and tensor.dim() < 2):
        return tensor.dtype
    return wanted


def expected_beside(start: Mapping[str, Tensor], settings: Mapping[str, Any]) -> dict[str, dict[str, Form]]:
    """What ``encode`` sends beside the tensors: in int8 a scale for every row of each that is rounded, else nothing."""
    scales = {
        name: (tensor.shape[:1], tensor.dtype)
        for name, tensor in start.items()
        if tensor.is_floating_point() and expected_dtype(tensor, settings) == torch.int8
    }
    return {_SCALES: scales} if scales else {}


def _row_scales(tensor: Tensor) -> Tensor:
    """float32 (rows,): what one step of int8 stands for; 1 where a row is zero."""
    largest = tensor.flatten(1).abs().amax(1)
    return torch.where(largest > 0, largest / _LARGEST_INT8, 1.0)


def _spread(scales: Tensor, tensor: Tensor) -> Tensor:
    """Scales in a shape that multiplies rows."""
    return scales.view(-1, *[1] * (tensor.dim() - 1))


def encode(
    weights: Mapping[str, Tensor],
    start: Mapping[str, Tensor],
    settings: Mapping[str, Any],
    residual: Mapping[str, Tensor],
) -> tuple[dict[str, Tensor], dict[str, dict[str, Tensor]], dict[str, Tensor]]:
    """Put weights into the form in which they travel.

    Parameters
    ----------
    weights, start : after and before the round's training, of the same keys, shapes and dtypes
    settings : the arm's ``exchange`` block: ``dtype``, ``content``, ``error_feedback``
    residual : what rounding took from the site's update before, empty for none (Seide et al., "1-Bit Stochastic
        Gradient Descent", Interspeech 2014)

    Returns
    -------
    tensors, what has to be sent beside them, and the new residual (empty without error feedback)

    Raises
    ------
    StudyError : a number is too large for float16
    """
    tensors, scales, left = {}, {}, {}
    for name, tensor in weights.items():
        dtype = expected_dtype(tensor, settings)
        if not tensor.is_floating_point():
            tensors[name] = tensor
            continue
        exact = tensor - start[name] if settings["content"] == "difference" else tensor
        exact = exact + residual[name] if name in residual else exact
        if dtype == torch.int8:
            scales[name] = _row_scales(exact)
            tensors[name] = (exact / _spread(scales[name], exact)).round().to(dtype)
        else:
            tensors[name] = exact.to(dtype)
            if not torch.isfinite(tensors[name]).all() and torch.isfinite(exact).all():
                raise StudyError(f"{name}: a number is too large for {settings['dtype']}; exchange bfloat16")
        if settings["error_feedback"]:
            left[name] = exact - _exact(tensors[name], scales.get(name), exact.dtype)
    return tensors, {_SCALES: scales} if scales else {}, left


def _exact(tensor: Tensor, scale: Tensor | None, dtype: torch.dtype) -> Tensor:
    return tensor.to(dtype) if scale is None else tensor.to(dtype) * _spread(scale, tensor)


def itself(part: Tensor) -> Tensor:
    """The part as it is: how parts of tensors in memory are read."""
    return part


class ReceivedTensor:
    """A tensor in the form in which it travelled, of which parts are decoded when they are asked for.

    Parameters
    ----------
    tensor, scale : as ``encode`` made them; no scale but for int8
    start : the tensor before the round's training
    settings : the arm's ``exchange`` block
    take : called with every part of ``tensor`` that is read, gives the part
    """

    def __init__(
        self,
        tensor: Tensor,
        scale: Tensor | None,
        start: Tensor,
        settings: Mapping[str, Any],
        take: Callable[[Tensor], Tensor] = itself,
    ) -> None:
        self.shape, self.dtype = start.shape, start.dtype
        self._tensor, self._scale, self._start, self._take = tensor, scale, start, take
        is_counter = not tensor.is_floating_point() and tensor.dtype == start.dtype
        self._is_whole = is_plain(settings) or is_counter
        self._is_difference = settings["content"] == "difference"

    def __getitem__(self, part: slice | EllipsisType) -> Tensor:
        """Some rows, or all of it, in the dtype of ``start``."""
        taken = self._take(self._tensor[part])
        if self._is_whole:
            return taken
        value = _exact(taken, None if self._scale is None else self._scale[part], self.dtype)
        return self._start[part] + value if self._is_difference else value


def receive(
    tensors: Mapping[str, Tensor],
    sent: Mapping[str, Mapping[str, Tensor]],
    start: Mapping[str, Tensor],
    settings: Mapping[str, Any],
    take: Callable[[Tensor], Tensor] = itself,
) -> dict[str, ReceivedTensor]:
    """What travelled, to be decoded part by part; see ``ReceivedTensor``."""
    scales = sent.get(_SCALES, {})
    return {
        name: ReceivedTensor(tensor, scales.get(name), start[name], settings, take) for name, tensor in tensors.items()
    }


def decode(
    tensors: Mapping[str, Tensor],
    sent: Mapping[str, Mapping[str, Tensor]],
    start: Mapping[str, Tensor],
    settings: Mapping[str, Any],
) -> dict[str, Tensor]:
    """Weights, in the dtypes of ``start``, from the form in which they travelled."""
    return {name: received[...] for name, received in receive(tensors, sent, start, settings).items()}
