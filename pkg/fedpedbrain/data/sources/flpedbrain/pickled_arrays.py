"""Reading a pickled dict of arrays without running what a pickle may ask for, and without loading its large arrays.

Python's own pickle machine does the reading, cut down to a list of what it may do: build plain values, and call the
few NumPy names that arrays are written with, each of them a function of this module. What calls or loads anything else
is no part of it. The raw data of a large array stays in the file and comes back as a read-only memory map.
"""

import math
import os
import pickle
import pickletools
import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fedpedbrain.base.errors import StudyError

# Raw data from this size on stays in the file: what Python's pickler writes outside its frames.
_LEAST_MAPPED_BYTES = 1 << 16
# All else is read whole. Protocol 2, which has raw data as text, is bound by this too.
_MOST_READ_BYTES = 64 << 20
# Letters of a name that are read, and that a message shows.
_LONGEST_NAME, _LONGEST_SHOWN = 1024, 80
_NPY_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_NUMBER = re.compile(r"[biuf]\d{1,2}")
_OBJECT = np.dtype("O")
# NumPy's own limit was 32 for long.
_MOST_AXES = 32
_OPERATIONS = re.findall(
    r"\w+",
    "PROTO FRAME STOP MARK MEMOIZE BINPUT LONG_BINPUT NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT "
    "SHORT_BINUNICODE BINUNICODE BINUNICODE8 SHORT_BINBYTES EMPTY_DICT EMPTY_LIST EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 "
    "TUPLE3 APPEND APPENDS GLOBAL STACK_GLOBAL REDUCE",
)
# Stands for NumPy's class where a pickle hands it on.
_NDARRAY = object()
# To hash or to print a tuple of tuples that each hold the one before twice takes for ever, and so do entries of a dict
# under numbers that were chosen to have one hash.
_KEYS = (str, bytes, int, float, bool, type(None))
_MOST_KEYS = 1 << 12
_PLAIN = (str, bytes, int, float, bool, type(None), np.ndarray)


class _Refusal(Exception):
    """What a file holds or asks for and may not."""


@dataclass(frozen=True)
class _Span:
    """Raw data that stays in the file."""

    offset: int
    size: int


class _BoundedFile:
    """A file of which no more is read than is there, and than memory is meant for."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._end = os.fstat(file.fileno()).st_size
        self._allowance = _MOST_READ_BYTES

    def read(self, size: int) -> bytes:
        """The next bytes, all of them."""
        self._check(size)
        self._allowance -= size
        if self._allowance < 0:
            raise _Refusal(
                f"more than {_MOST_READ_BYTES >> 20} MB would have to be read whole; write it again with numpy.save"
            )
        return self._file.read(size)

    def readline(self) -> bytes:
        """The rest of a line, cut off where no name is that long."""
        return self._file.readline(_LONGEST_NAME)

    def skip(self, size: int) -> _Span:
        """Leave the next bytes where they are."""
        self._check(size)
        span = _Span(self._file.tell(), size)
        self._file.seek(size, os.SEEK_CUR)
        return span

    def _check(self, size: int) -> None:
        left = self._end - self._file.tell()
        if size > left:
            raise _Refusal(f"truncated or damaged, {size} bytes are announced and {left} are left; copy it again")


class _Unfinished:
    """An array or a dtype, which pickles make first and fill afterwards.

    Attributes
    ----------
    finish : gives its value from the state that fills it
    value : None before it is filled
    """

    def __init__(self, finish: Callable[..., Any]) -> None:
        self.finish = finish
        self.value: Any = None


class _KnownOperations(dict):
    """What the machine may do, by its code; anything else is refused by its name."""

    def __missing__(self, code: int) -> Callable:
        name = getattr(pickletools.code2op.get(chr(code)), "name", f"operation {code}")
        raise _Refusal(f"not a dict of arrays and plain values, it asks for {name}; do not use it")


class _ArrayUnpickler(pickle._Unpickler):
    """Python's pickle machine with a short list of operations and names."""

    dispatch = _KnownOperations()
    for _name in _OPERATIONS:
        dispatch[ord(getattr(pickle, _name))] = pickle._Unpickler.dispatch[ord(getattr(pickle, _name))]

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._bounded = _BoundedFile(file)
        super().__init__(self._bounded)
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        """The function of ours that stands for a name of NumPy."""
        place = f"{module.replace('numpy._core.', 'numpy.core.')}.{name}"
        functions = {
            "numpy.core.multiarray._reconstruct": self._array,
            "numpy.core.multiarray.scalar": self._number,
            "numpy.core.numeric._frombuffer": self._array_of_buffer,
            "numpy.dtype": _dtype,
            "_codecs.encode": _bytes_of_text,
            "numpy.ndarray": _NDARRAY,
        }
        if place not in functions:
            asked = f"{module}.{name}"[:_LONGEST_SHOWN]
            raise _Refusal(f"not a dict of arrays and plain values, it asks for {asked}; do not use it")
        return functions[place]

    def _load_raw(self, form: str) -> None:
        (size,) = struct.unpack(form, self.read(struct.calcsize(form)))
        in_file = self._unframer.current_frame is None and size >= _LEAST_MAPPED_BYTES
        self.append(self._bounded.skip(size) if in_file else self.read(size))

    def load_binbytes(self) -> None:
        """Raw data of at most 4 GB."""
        self._load_raw("<I")

    def load_binbytes8(self) -> None:
        """Raw data of any size, also of arrays that could be written to (protocol 5)."""
        self._load_raw("<Q")

    def _recall(self, index: int) -> None:
        found = self.memo[index]
        self.append(found.value if isinstance(found, _Unfinished) and found.value is not None else found)

    def load_binget(self) -> None:
        """A value that was named before."""
        self._recall(self.read(1)[0])

    def load_long_binget(self) -> None:
        """A value that was named before, after 255 others."""
        self._recall(*struct.unpack("<I", self.read(4)))

    def load_build(self) -> None:
        """Fill an array or a dtype."""
        state, unfinished = self.stack.pop(), self.stack[-1]
        if not isinstance(unfinished, _Unfinished):
            raise _Refusal("not a dict of arrays and plain values, it fills an object of another kind; do not use it")
        unfinished.value = self.stack[-1] = unfinished.finish(*state)

    def load_setitem(self) -> None:
        """One entry of a dict."""
        value, key = self.stack.pop(), self.stack.pop()
        self._set_items([key, value])

    def load_setitems(self) -> None:
        """Several entries of a dict."""
        self._set_items(self.pop_mark())

    def _set_items(self, items: Sequence[Any]) -> None:
        target = self.stack[-1]
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, _KEYS):
                raise _Refusal("a dict whose keys are neither text nor numbers; do not use it")
            target[key] = value
            if len(target) > _MOST_KEYS:
                raise _Refusal(f"a dict of more than {_MOST_KEYS} entries; a few arrays by name are expected")

    dispatch |= {
        ord(pickle.SETITEM): load_setitem,
        ord(pickle.SETITEMS): load_setitems,
        ord(pickle.BINBYTES): load_binbytes,
        ord(pickle.BINBYTES8): load_binbytes8,
        ord(pickle.BYTEARRAY8): load_binbytes8,
        ord(pickle.BINGET): load_binget,
        ord(pickle.LONG_BINGET): load_long_binget,
        ord(pickle.BUILD): load_build,
    }

    def _array(self, kind: object, shape: tuple, type_code: bytes) -> _Unfinished:
        return _Unfinished(self._filled_array)

    def _filled_array(self, version: int, shape: tuple, dtype: np.dtype, is_fortran: bool, data: Any) -> Any:
        _check_shape(shape)
        if dtype != _OBJECT:
            return self._array_of_buffer(data, dtype, shape, "F" if is_fortran else "C")
        if shape != () or len(data) != 1 or not isinstance(data[0], dict):
            raise _Refusal(f"an array of Python objects of shape {shape}; arrays of numbers are expected")
        return data[0]

    def _array_of_buffer(
        self, data: bytes | _Span, dtype: np.dtype, shape: tuple, order: str, axes: Sequence[int] | None = None
    ) -> np.ndarray:
        _check_shape(shape)
        if dtype == _OBJECT:
            raise _Refusal("an array of Python objects as raw data; do not use it")
        if order == "K":
            return self._array_of_buffer(data, dtype, shape, "C").transpose(axes)
        expected = math.prod(shape) * dtype.itemsize
        found = data.size if isinstance(data, _Span) else len(data)
        if expected != found:
            raise _Refusal(
                f"damaged, {found} bytes for an array of {shape} {dtype}, expected {expected}; copy it again"
            )
        if isinstance(data, _Span):
            return np.memmap(self._path, dtype, "r", data.offset, shape, order)
        return np.frombuffer(data, dtype).reshape(shape, order=order)

    def _number(self, dtype: np.dtype, data: bytes) -> int | float | bool:
        return self._array_of_buffer(data, dtype, (), "C").item()


def _check_shape(shape: Any) -> None:
    """Refuse what is no shape, before it is multiplied, compared or printed."""
    if not isinstance(shape, tuple) or len(shape) > _MOST_AXES or not all(type(size) is int for size in shape):
        raise _Refusal("an array whose shape is no tuple of a few whole numbers; do not use it")


def _dtype(name: str, align: bool, copy: bool) -> _Unfinished:
    if name != "O8" and not _NUMBER.fullmatch(name):
        raise _Refusal(f"an array of type {name[:_LONGEST_SHOWN]}; arrays of numbers are expected")

    def finish(version: int, byte_order: str, subarray: None, names: None, fields: None, *others: int) -> np.dtype:
        if (subarray, names, fields) != (None, None, None):
            raise _Refusal("an array of records; arrays of numbers are expected")
        return np.dtype(name).newbyteorder(byte_order)

    return _Unfinished(finish)


def _bytes_of_text(text: str, encoding: str) -> bytes:
    """Raw data as protocol 2 has it."""
    return text.encode("latin-1")


def _check_plain(content: Any) -> None:
    """Refuse what is left of names and raw data that no array was made of."""
    seen: set[int] = set()
    waiting = [content]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict | list | tuple):
            if id(value) not in seen:
                seen.add(id(value))
                waiting += [*value.keys(), *value.values()] if isinstance(value, dict) else value
        elif not isinstance(value, _PLAIN):
            raise _Refusal("a dict that holds more than arrays and plain values; do not use it")


def _skip_npy_header(file: BinaryIO) -> None:
    """Go to the pickle in an ``.npy`` file; a file that is none is a pickle from its start."""
    magic = file.read(len(np.lib.format.MAGIC_PREFIX))
    file.seek(0)
    if magic != np.lib.format.MAGIC_PREFIX:
        return
    version = np.lib.format.read_magic(file)
    if version not in _NPY_HEADERS:
        raise _Refusal(f"NumPy's file format {version[0]}.{version[1]}; write it again with numpy.save")
    shape, _, dtype = _NPY_HEADERS[version](file)
    if dtype != _OBJECT or shape != ():
        raise _Refusal(f"an array of shape {shape} and type {dtype}; a pickled dict of arrays is expected")


def read_pickled_arrays(path: str | Path) -> dict[str, Any]:
    """Read a dict that ``numpy.save`` or ``pickle.dump`` (protocols 2 to 5) wrote, of arrays and plain values.

    Arrays are read-only. From 64 kB on they are memory maps, except of protocol 2, which has raw data as text. A file
    that would need more than 64 MB beside its memory maps is refused.

    Raises
    ------
    StudyError
        If the file is truncated, is no such dict, or asks for anything but arrays of numbers and plain values; nothing
        that it asks for is run.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            _skip_npy_header(file)
            content = _ArrayUnpickler(path, file).load()
        _check_plain(content)
    except _Refusal as refusal:
        raise StudyError(f"{path}: {refusal}") from None
    except OSError as error:
        raise StudyError(f"{path}: not readable ({error.strerror}); correct the path or its permissions") from None
    except Exception as error:
        # A damaged or hostile file can fail at any step of the machine.
        reason = str(error).split("\n")[0] or type(error).__name__
        raise StudyError(f"{path}: not a pickled dict of arrays ({reason}); copy it again") from None
    if not isinstance(content, dict):
        raise StudyError(f"{path}: a pickled {type(content).__name__}; a dict of arrays is expected")
    return content
