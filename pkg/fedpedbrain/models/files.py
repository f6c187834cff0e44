"""Model files: tensors and plain values only, read with ``weights_only=True``, always."""

import ctypes
import hashlib
import mmap
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from fedpedbrain.base.errors import StudyError
from fedpedbrain.base.files import replacing
from fedpedbrain.base.lineage import Lineage
from fedpedbrain.models.networks import build_model
from fedpedbrain.models.packing import pack, unpack

FORMAT = 1
# Of a mapped file, in memory at once: of 16 updates together half a model of 131 MB.
_KEPT_BYTES = 1 << 22


@dataclass(frozen=True)
class ModelSpec:
    """Everything needed to build a network and to name what goes in and out.

    Attributes
    ----------
    name, options : arguments of ``build_model``
    channels, regions, classes : names, in the order of the network's inputs and outputs
    preprocessing : the settings that its images went through, ``grid`` (D, H, W) among them
    patch : voxels (D, H, W) of the patches that it was trained on; None where it was trained on whole grids
    """

    name: str
    options: dict[str, Any]
    channels: list[str]
    regions: list[str]
    classes: list[str]
    preprocessing: dict[str, Any]
    patch: list[int] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values; of a network that was trained on whole grids without any word of patches."""
        values = asdict(self)
        return values if self.patch else {key: value for key, value in values.items() if key != "patch"}

    def build(self) -> nn.Module:
        """Build the network with fresh weights."""
        return build_model(self.name, len(self.channels), len(self.regions), len(self.classes), **self.options)


@dataclass(frozen=True)
class ModelFile:
    """A model file in memory.

    Attributes
    ----------
    weights : state dict; of an update in the form in which it travels
    sent : what an update holds beside its weights, groups of tensors by name
    """

    spec: ModelSpec
    lineage: Lineage
    weights: dict[str, Tensor]
    sent: dict[str, dict[str, Tensor]] = field(default_factory=dict)

    def to_model(self) -> nn.Module:
        """Build the network with this file's weights."""
        model = self.spec.build()
        model.load_state_dict(self.weights)
        return model


def _without_shared_text(value: Any) -> Any:
    """A copy in which equal texts are one object: pickle writes an object once and refers to it afterwards."""
    if isinstance(value, Mapping):
        return {_without_shared_text(key): _without_shared_text(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_shared_text(item) for item in value]
    return sys.intern(value) if type(value) is str else value


def _write_tensors(file: Any, content: Mapping[str, Any]) -> None:
    torch.save(_without_shared_text(dict(content)), file)


def save_tensors(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write tensors and plain values; equal content gives equal bytes, whatever the file's name."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        _write_tensors(file, content)


def load_tensors(path: str | Path, mapped: bool = False, checked: bool = True) -> dict[str, Any]:
    """Read tensors and plain values; anything else in the file is refused.

    Parameters
    ----------
    mapped : leave the tensors in the file until they are used, and out of the memory that the process owns
    checked : read every byte against the file's checksums first; not needed where its SHA-256 is known to be right
    """
    try:
        # Other people's files may be of PyTorch's older form, which is no archive.
        if checked and zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                damaged = archive.testzip()
            if damaged is not None:
                raise StudyError(f"{path}: damaged at {damaged}; delete it and run again")
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except FileNotFoundError:
        raise StudyError(f"{path}: no such model file") from None
    except UnpicklingError:
        raise StudyError(
            f"{path}: holds more than tensors and plain values, which may run code and is not read; where it was made, "
            "save its state dict alone"
        ) from None
    except StudyError:
        raise
    except Exception as error:
        # zipfile and torch raise a dozen kinds, depending on where the damage is.
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise StudyError(f"{path}: not a readable model file, perhaps truncated ({reason})") from None


@cache
def _c_library() -> ctypes.CDLL:
    return ctypes.CDLL(None)


class RecentPartsOnly:
    """Takes parts of one file's tensors, which ``load_tensors`` mapped, one behind the other.

    Only the pages of the parts taken last stay in memory; the others are given back (madvise(2)), many at once, since
    every giving back stops the process's other threads. Parts stay valid: what is used again is read again.
    """

    def __init__(self) -> None:
        self._first = self._end = 0

    def __call__(self, part: Tensor) -> Tensor:
        """The part itself."""
        start = part.data_ptr()
        if self._end - self._first > _KEPT_BYTES or start < self._first:
            self._give_back()
        self._first = self._first or start // mmap.PAGESIZE * mmap.PAGESIZE
        self._end = max(self._end, start + part.nbytes)
        return part

    def _give_back(self) -> None:
        if sys.platform == "linux":
            length = ctypes.c_size_t(self._end - self._first)
            _c_library().madvise(ctypes.c_void_p(self._first), length, mmap.MADV_DONTNEED)
        self._first = self._end = 0


def _stored(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors that own their memory: of a view, ``torch.save`` writes all that it is a view of."""
    return {
        name: tensor
        if tensor.is_contiguous() and tensor.untyped_storage().nbytes() == tensor.nbytes
        else tensor.clone(memory_format=torch.contiguous_format)
        for name, tensor in ((name, tensor.detach().cpu()) for name, tensor in tensors.items())
    }


def _content_of(model_file: ModelFile, packed: bool) -> dict[str, Any]:
    """What a model file holds, tensors on the CPU and contiguous."""
    store = pack if packed else _stored
    content = {
        "format": FORMAT,
        "model": model_file.spec.to_dict(),
        "lineage": model_file.lineage.to_dict(),
        "weights": store(model_file.weights),
    }
    if packed:
        content["packed"] = True
    if model_file.sent:
        content["sent"] = {name: store(group) for name, group in model_file.sent.items()}
    return content


def save_model_file(path: str | Path, model_file: ModelFile, packed: bool = False) -> None:
    """Write a model file.

    Parameters
    ----------
    packed : tensors as ``pack`` lays them, not as state dicts: for files that nobody but this package reads
    """
    save_tensors(path, _content_of(model_file, packed))


class _Digest:
    """A file that is hashed, and not kept, as it is written."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self.hexdigest = self._digest.hexdigest

    def write(self, part: bytes) -> int:
        self._digest.update(part)
        return len(part)

    def flush(self) -> None:
        """Nothing waits to be written."""


def sha256_of_model(model_file: ModelFile, packed: bool = False) -> str:
    """SHA-256 of the file that ``save_model_file`` would write."""
    digest = _Digest()
    _write_tensors(digest, _content_of(model_file, packed))
    return digest.hexdigest()


def first_not_finite(weights: Mapping[str, Tensor]) -> str | None:
    """Name of the first tensor that holds NaN or infinite values; None where none does."""
    return next((name for name, tensor in weights.items() if not torch.isfinite(tensor).all()), None)


def _read_spec(values: Mapping[str, Any]) -> ModelSpec:
    """The specification that a file holds, in today's words."""
    spec = ModelSpec(**values)
    if spec.preprocessing.get("field_of_view") == "head":
        return replace(spec, preprocessing=spec.preprocessing | {"field_of_view": "foreground"})
    return spec


def load_model_file(path: str | Path, mapped: bool = False, checked: bool = True) -> ModelFile:
    """Read a model file, as ``load_tensors``; a ``StudyError`` names the file and what is wrong with it."""
    content = load_tensors(path, mapped, checked)
    expected = {"format", "model", "lineage", "weights"}
    if not isinstance(content, dict) or set(content) - {"sent", "packed"} != expected:
        found = ", ".join(sorted(map(str, content))[:6]) if isinstance(content, dict) else type(content).__name__
        raise StudyError(
            f"{path}: expected the entries {', '.join(sorted(expected))}, found: {found}; of a checkpoint made "
            "elsewhere the target import_model makes a model file (--config checkpoint=PATH)"
        )
    if content["format"] != FORMAT:
        raise StudyError(f"{path}: format {content['format']}, this version reads {FORMAT}")
    try:
        spec, lineage = _read_spec(content["model"]), Lineage.from_dict(content["lineage"])
    except (TypeError, KeyError) as error:
        raise StudyError(f"{path}: entries model or lineage hold other values than expected ({error})") from None
    weights, sent = content["weights"], content.get("sent", {})
    if content.get("packed"):
        try:
            weights, sent = unpack(weights), {name: unpack(group) for name, group in sent.items()}
        except (ValueError, AttributeError) as error:
            raise StudyError(f"{path}: {error}; delete it and run again") from None
    return ModelFile(spec, lineage, weights, sent)
