"""Pickles of arrays: what NumPy writes is read and left in the file, what asks for more is refused and never run."""

import os
import pickle
import pickletools
import struct

import numpy as np
import pytest
from fedpedbrain.base.errors import StudyError
from fedpedbrain.data.sources.flpedbrain.pickled_arrays import read_pickled_arrays

LARGE = (np.arange(3 * 40 * 40 * 20) % 251).astype(np.uint8).reshape(3, 40, 40, 20)
CONTENT = {
    "large": LARGE,
    "fortran": np.asfortranarray(LARGE[0].astype(np.float64)),
    "strided": np.arange(160_000).reshape(400, 400)[::2, ::2],
    "transposed": LARGE[0].transpose(1, 0, 2),
    "labels": np.array([3, 0, 4]),
    "big_endian": np.arange(5, dtype=">i4"),
    "big_endian_too": np.arange(7, dtype=">i4"),
    "flags": np.array([True, False]),
    "plain": [1, -70_000, 2.5, None, True, b"raw", "säure", (1, 2, 3, 4), {"nested": [np.int64(3), np.float32(0.5)]}],
    "large again": LARGE,
}


@pytest.fixture
def read(tmp_path):
    """``read(bytes)``: what the reader makes of a file of these bytes."""

    def _read(content: bytes):
        (tmp_path / "site.npy").write_bytes(content)
        return read_pickled_arrays(tmp_path / "site.npy")

    return _read


@pytest.fixture
def assert_refused(read, tmp_path):
    """Refused in one line that names the file and has these words."""

    def _assert_refused(content: bytes, *words: str):
        with pytest.raises(StudyError) as refusal:
            read(content)
        message = str(refusal.value)
        assert message.startswith(f"{tmp_path / 'site.npy'}: ")
        assert len(message.splitlines()) == 1
        for word in words:
            assert word in message

    return _assert_refused


def assert_equal(found: dict, expected: dict) -> None:
    assert list(found) == list(expected)
    for name, value in expected.items():
        if isinstance(value, np.ndarray):
            assert found[name].dtype == value.dtype, name
            assert found[name].shape == value.shape, name
            assert np.array_equal(found[name], value), name
            assert not found[name].flags.writeable, name
        else:
            assert found[name] == value


def saved(path, value) -> bytes:
    np.save(path, value, allow_pickle=True)
    return path.read_bytes()


# What NumPy and pickle write.


@pytest.mark.parametrize("write", [pickle.dumps, pickle._dumps], ids=["C", "Python"])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("form", [dict, lambda content: np.array(content, dtype=object)], ids=["dict", "0-d array"])
def test_every_protocol_is_read(read, write, protocol, form):
    assert_equal(read(write(form(CONTENT), protocol=protocol)), CONTENT)


def test_what_numpy_saves_is_read(read, tmp_path):
    assert_equal(read(saved(tmp_path / "saved.npy", CONTENT)), CONTENT)


def without_frames(content: bytes) -> bytes:
    """The same operations with no frames around them."""
    operations = [(operation.name, start) for operation, _, start in pickletools.genops(content)]
    ends = [start for _, start in operations[1:]] + [len(content)]
    parts = zip(operations, ends, strict=True)
    return b"".join(content[start:end] for (name, start), end in parts if name != "FRAME")


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_the_names_of_numpy_1_and_2_are_both_read(read, protocol):
    content = {"labels": CONTENT["labels"], "large": LARGE}
    # Written without frames, whose lengths a shorter name would change; from protocol 4 on a name has its own length.
    written = without_frames(pickle.dumps(content, protocol=protocol))
    for module in (b"multiarray", b"numeric"):
        old, new = b"numpy.core." + module, b"numpy._core." + module
        written = written.replace(bytes([len(new)]) + new, bytes([len(old)]) + old).replace(new, old)
    assert b"numpy.core." in written
    assert b"numpy._core." not in written
    assert_equal(read(written), content)


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_large_arrays_stay_in_the_file(read, protocol):
    found = read(pickle.dumps(CONTENT, protocol=protocol))
    mapped = {name for name, value in found.items() if isinstance(value, np.memmap)}
    assert mapped == {"large", "fortran", "strided", "large again"}


def test_a_large_array_is_not_read(read, tmp_path):
    # Of a gigabyte of zeros nothing is written and nothing is read.
    content = pickle.dumps({"large": np.zeros(1 << 16, np.uint8)}, protocol=4)
    size, more = 1 << 16, 1 << 30
    start = content.rindex(bytes(size))
    head, tail = content[:start], content[start + size :]
    head = head.replace(b"B" + struct.pack("<I", size), b"B" + struct.pack("<I", more))
    head = head.replace(b"J" + struct.pack("<I", size), b"J" + struct.pack("<I", more))
    path = tmp_path / "sparse.npy"
    with open(path, "wb") as file:
        file.write(head)
        file.seek(more, os.SEEK_CUR)
        file.write(tail)
    assert read_pickled_arrays(path)["large"].shape == (more,)


# What is refused.


class Call:
    """Pickles as a call of ``function``."""

    def __init__(self, function, *arguments) -> None:
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("place", [lambda call: call, lambda call: {"xs": call}, lambda call: {"xs": [(call,)]}])
def test_code_is_refused_by_its_name_and_not_run(assert_refused, tmp_path, protocol, place):
    content = pickle.dumps(place(Call(os.mkdir, str(tmp_path / "made"))), protocol=protocol)
    assert_refused(content, "it asks for posix.mkdir", "do not use it")
    assert not (tmp_path / "made").exists()


def test_code_in_what_numpy_saves_is_refused(assert_refused, tmp_path):
    content = saved(tmp_path / "saved.npy", {"xs": Call(os.mkdir, str(tmp_path / "made"))})
    assert_refused(content, "it asks for posix.mkdir")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (Call(Call, print), "it asks for"),
        (Call(getattr, "", "join"), "it asks for builtins.getattr"),
        (Call(eval, "1"), "it asks for builtins.eval"),
        (Call(np.load, "other.npy"), "it asks for numpy.load"),
        (Call(np.memmap, "other.npy"), "it asks for numpy.memmap"),
        ({1, 2}, "it asks for EMPTY_SET"),
        (1 + 2j, "it asks for builtins.complex"),
        (np.array(["a", "b"]), "type U1"),
        (np.array([1 + 2j]), "type c16"),
        (np.zeros(2, [("a", "i4")]), "type V4"),
        (np.array(["2020-01-01"], "M8[D]"), "type M8"),
        (np.array(["a", "b"], object), "an array of Python objects of shape (2,)"),
        (np.array(3, object), "an array of Python objects of shape ()"),
        (np.dtype("i4"), "more than arrays and plain values"),
        (np.ndarray, "holds more than arrays"),
        (b"x" * 100_000, "holds more than arrays"),
    ],
)
def test_anything_but_numbers_and_plain_values_is_refused(assert_refused, value, words):
    assert_refused(pickle.dumps({"xs": value}, protocol=4), words)


def pickled(*operations: bytes) -> bytes:
    """A pickle of these operations."""
    return b"\x80\x04" + b"".join(operations) + b"."


def text(value: str) -> bytes:
    """The operation that puts a short text onto the stack."""
    return b"\x8c" + bytes([len(value)]) + value.encode()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (pickled(b"}", text("xs"), text("id"), b"Q", b"s"), "it asks for BINPERSID"),
        (b"Pid\n.", "it asks for PERSID"),
        (b"(S'ls'\nios\nsystem\n.", "it asks for STRING"),
        (b"(ios\nsystem\n.", "it asks for INST"),
        (pickled(b"(cos\nsystem\n", text("ls"), b"o"), "it asks for os.system"),
        (pickled(b"cnumpy\ndtype\n)\x81"), "it asks for NEWOBJ"),
        (pickled(b"\x82\x01"), "it asks for EXT1"),
        (pickled(b"\x97"), "it asks for NEXT_BUFFER"),
        (pickled(b"}", text("xs"), b"\xff"), "it asks for operation 255"),
        # A name that is there, called in ways that NumPy never does.
        (pickled(b"cnumpy\nndarray\n)R"), "not callable"),
        (pickled(b"cnumpy\ndtype\n", text("O8"), b"\x85R"), "missing 2 required"),
        (pickled(b"}", text("xs"), b"s"), "not a pickled dict of arrays"),
        (pickled(b"}}b"), "it fills an object of another kind"),
        # What was named is taken again: before it is there, and as something that it is not.
        (pickled(b"}h\x07s"), "not a pickled dict of arrays"),
        (pickled(b"cnumpy\ndtype\n\x94h\x00"), "holds more than arrays"),
        (pickled(b"}\x94", text("xs"), b"cnumpy\ndtype\n", b"s"), "holds more than arrays"),
        # Lengths that no file has.
        (pickled(b"}", text("xs"), b"\x8e" + b"\xff" * 8), "18446744073709551615 bytes are announced"),
        (pickled(b"}", text("xs"), b"\x96" + struct.pack("<Q", 1 << 60)), "bytes are announced and 1 are left"),
        (pickled(b"}", text("xs"), b"\x8d" + struct.pack("<Q", 1 << 40)), "bytes are announced and 1 are left"),
        (pickled(b"\x95" + struct.pack("<Q", 1 << 62)), "bytes are announced and 1 are left"),
        (b"\x80\x04c" + b"x" * 5000, "it asks for xxx"),
        (b"\x80\x09N.", "unsupported pickle protocol: 9"),
        # Other files.
        (b"", "1 bytes are announced and 0 are left"),
        (b"\x89PNG\r\n", "it asks for PERSID"),
        (b"\x93NUMPY", "not a pickled dict of arrays"),
        (b"\x93NUMPY\x03\x00", "NumPy's file format 3.0"),
        (pickled(b"]"), "a pickled list; a dict of arrays is expected"),
    ],
)
def test_a_pickle_that_nobody_writes_is_refused(assert_refused, content, words):
    assert_refused(content, words)


def test_values_that_hold_each_other_come_to_an_end(read):
    ring, doubled = [], []
    ring.append(ring)
    for _ in range(100):
        doubled = [doubled, doubled]
    found = read(pickle.dumps({"ring": ring, "doubled": doubled}))
    assert found["ring"][0] is found["ring"]
    assert found["doubled"][0] is found["doubled"][1]


# A tuple that holds one twice, which holds one twice, and so on, 60 times: no memory, and 2 to the 60 values to visit.
ENDLESS = b")" + b"\x94h\x00\x86" + b"".join(b"\x94h" + bytes([number]) + b"\x86" for number in range(1, 60))
RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n)N\x87R"
BYTES_DTYPE = b"cnumpy\ndtype\n" + text("u1") + b"\x89\x88\x87R(K\x03" + text("|") + b"NNNtb"


@pytest.mark.parametrize("set_items", [ENDLESS + b"Ns", b"(" + ENDLESS + b"Nu"], ids=["one entry", "several"])
def test_a_key_that_takes_for_ever_to_hash_is_refused(assert_refused, set_items):
    assert_refused(pickled(b"}", set_items), "a dict whose keys are neither text nor numbers")


def test_a_dict_of_numbers_that_have_one_hash_is_refused(assert_refused):
    content = pickle.dumps({number * (2**61 - 1): None for number in range(5000)})
    assert_refused(content, "a dict of more than 4096 entries")


@pytest.mark.parametrize(
    "shape",
    [ENDLESS, ENDLESS + b"\x85", text("x") + b"J\xff\xff\xff\x7f\x86", b"(" + b"K\x02" * 1000 + b"t", b"M\x00\x04"],
    ids=["nested", "nested in a tuple", "text many times", "many axes", "a number"],
)
def test_a_shape_that_takes_for_ever_to_multiply_or_to_print_is_refused(assert_refused, shape):
    array = RECONSTRUCT + b"(K\x01" + shape + BYTES_DTYPE + b"\x89C\x03abctb"
    assert_refused(pickled(b"}", text("xs"), array, b"s"), "an array whose shape is no tuple of a few whole numbers")


@pytest.mark.parametrize("shape", [(3,), (70_000, 2), (-70_000, -1), (70_000.0,), (1 << 40,)])
def test_a_shape_that_does_not_fit_its_data_is_refused(assert_refused, shape):
    content = pickle.dumps({"xs": np.zeros(70_000, np.uint8)}, protocol=3)
    state = pickle.dumps((70_000,), protocol=3)[2:-3]
    assert state in content
    assert_refused(content.replace(state, pickle.dumps(shape, protocol=3)[2:-3]), "")


def test_an_array_of_objects_is_no_raw_data(assert_refused):
    # The bytes would be taken for addresses.
    content = pickle.dumps({"xs": np.zeros(3, np.int64)}, protocol=5)
    assert_refused(content.replace(b"\x8c\x02i8", b"\x8c\x02O8"), "an array of Python objects as raw data")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.zeros(3), "an array of shape (3,) and type float64"),
        (np.array([{"xs": 1}, None], object), "an array of shape (2,) and type object"),
        ([1, 2], "an array of shape (2,)"),
    ],
)
def test_a_saved_array_is_no_dict(assert_refused, tmp_path, value, words):
    assert_refused(saved(tmp_path / "saved.npy", value), words)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_file_cut_off_anywhere_is_refused(assert_refused, protocol):
    content = pickle.dumps({"large": LARGE[0, 0], "labels": CONTENT["labels"]}, protocol=protocol)
    for size in {*range(0, 60), *range(60, len(content), 97), *range(len(content) - 60, len(content))}:
        assert_refused(content[:size])


def test_a_mapped_array_cut_off_is_refused(assert_refused):
    content = pickle.dumps({"large": LARGE}, protocol=4)
    assert_refused(content[: LARGE.size // 2], "truncated", "copy it again")


def test_more_than_memory_is_meant_for_is_refused(assert_refused):
    content = pickle.dumps({"xs": np.zeros(65 << 20, np.uint8)}, protocol=2)
    assert_refused(content, "more than 64 MB would have to be read whole", "numpy.save")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(StudyError, match=rf"^{tmp_path}/none\.npy: not readable \(No such file"):
        read_pickled_arrays(tmp_path / "none.npy")
