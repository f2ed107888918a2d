"""Python values to msgpack and back: byte for byte what openpi-client sends, value for value what it receives."""

from __future__ import annotations

import collections
import inspect
import json
import struct
import subprocess
import types
import weakref
from typing import Any, Callable

import numpy as np
import pytest

from service_clients._axon import AxonProtocolError, AxonTypeError, AxonValueError
from service_clients._axon._ffi import lib
from service_clients._axon.values import packb, unpackb

# Expressions, so that the peers' environment can make the same values with its own numpy.
VALUES = [
    "None",
    "True",
    "False",
    *(
        f"{n}"
        for n in (0, 1, 127, 128, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1)
    ),
    *(f"{n}" for n in (-1, -32, -33, -128, -129, -32768, -32769, -(2**31), -(2**31) - 1, -(2**63))),
    "0.0",
    "-0.0",
    "1.5",
    "1e300",
    "float('inf')",
    "float('nan')",
    "''",
    "'prompt'",
    "'grüß 🤖 \\0 zero'",
    "'x' * 31",
    "'x' * 32",
    "'x' * 256",
    "'x' * 70000",
    "b''",
    "bytes(range(256))",
    "bytes(70000)",
    "bytearray(b'abc')",
    "memoryview(b'abcdef')[2:4]",
    "[]",
    "()",
    "(1, 'two', 3.0)",
    "[1, 2, 3]",
    "[1.0, 2.0, 3.0]",
    "[1, 2.0]",
    "[1.0, 2]",
    "[True, 1]",
    "[2**63, 1]",
    "list(range(16))",
    "list(range(70000))",
    "[0.5] * 70000",
    "['a', b'b', None, [1, [2.5, [True]]]]",
    "{}",
    "{'a': 1, 'b': {'c': [1, {'d': None}]}}",
    "{f'k{n}': n for n in range(16)}",
    "{f'k{n}': n for n in range(70000 // 64)}",
    "{f'k{n}': [n, 'x'] * 20 for n in range(2000)}",
    "[None, True] * 40000",
    "{'a': [['x', 1], {'b': 'y'}] * 20000, 'c': 2}",
    "{'': 0, 'ключ': 1, 'k' * 300: 2}",
    *(
        f"np.arange(6).astype('{code}').reshape(2, 3)"
        for code in ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8")
    ),
    *(f"np.linspace(-1, 1, 6).astype('{code}')" for code in ("f2", "f4", "f8", ">f4", ">f8")),
    "np.arange(4, dtype='>i2')",
    "np.array(3.5, np.float32)",
    "np.array(True)",
    "np.zeros(0, np.float32)",
    "np.zeros((3, 0, 2), np.int16)",
    "np.array(['ab', 'c', 'é🤖'])",
    "np.array([b'ab', b'c'])",
    "np.array('text')",
    "np.array(['ab', 'c']).astype('>U2')",
    "np.arange(24).reshape(4, 6)[::-1, ::2]",
    "np.arange(24, dtype=np.float32).reshape(2, 3, 4).transpose(2, 0, 1)",
    "np.asfortranarray(np.arange(12, dtype=np.uint8).reshape(3, 4))",
    "np.broadcast_to(np.float32(3), (2, 3))",
    "np.broadcast_to(np.arange(3), (2, 3))",
    "np.arange(2**9, dtype=np.uint16).reshape((2,) * 9)",
    "np.float16(0.5)",
    "np.float32(0.1)",
    "np.float64(0.1)",
    "np.bool_(True)",
    "np.int8(-1)",
    "np.uint8(200)",
    "np.int64(-5)",
    "np.uint64(2**64 - 1)",
    "np.str_('text')",
    "np.bytes_(b'bytes')",
    "{'actions': np.ones((50, 7), np.float32), 'server_timing': {'infer_ms': 12.5}}",
    "[np.float32(1.5), np.arange(3), {'deep': np.zeros((1, 1))}]",
]


def describe(value: Any) -> Any:
    """A value as JSON, types and bits included; arrays in the machine's byte order."""
    import numpy as np

    kind = type(value).__name__
    if isinstance(value, (np.ndarray, np.generic)) and not isinstance(value, (float, str, bytes)):
        native = np.asarray(value).astype(value.dtype.newbyteorder("="))
        return [
            "array" if isinstance(value, np.ndarray) else "scalar",
            native.dtype.str,
            list(native.shape),
            native.tobytes().hex(),
        ]
    if isinstance(value, dict):
        return [kind, [[describe(key), describe(child)] for key, child in value.items()]]
    if isinstance(value, list):
        return [kind, [describe(child) for child in value]]
    if isinstance(value, bytes):
        return [kind, value.hex()]
    return [kind, repr(value)]


PEER = """
import json, sys
import numpy as np
from openpi_client import msgpack_numpy
answers = []
for expression in json.load(sys.stdin):
    message = msgpack_numpy.packb(eval(expression))
    answers.append([message.hex(), describe(msgpack_numpy.unpackb(message))])
json.dump(answers, sys.stdout)
"""


@pytest.fixture(scope="module")
def theirs(peers_python: str) -> dict[str, tuple[bytes, Any]]:
    """Each expression's message as openpi-client packs it, and what it reads in that."""
    script = (
        f"from __future__ import annotations\nfrom typing import Any\n{inspect.getsource(describe)}\n{PEER}"
    )
    done = subprocess.run(
        [peers_python, "-c", script],
        input=json.dumps(VALUES),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    answers = json.loads(done.stdout)
    return {name: (bytes.fromhex(message), read) for name, (message, read) in zip(VALUES, answers)}


@pytest.mark.parametrize("expression", VALUES)
def test_packs_byte_for_byte_as_openpi_client(expression: str, theirs: dict[str, tuple[bytes, Any]]) -> None:
    assert packb(eval(expression)) == theirs[expression][0]


@pytest.mark.parametrize("expression", VALUES)
def test_reads_what_openpi_client_reads(expression: str, theirs: dict[str, tuple[bytes, Any]]) -> None:
    message, read = theirs[expression]
    assert describe(unpackb(message)) == read


# ---- out: what is refused, and how it is named ---------------------------------------------------


MaskedArray: Any = np.ma.MaskedArray  # numpy has no types for it


class Thing:
    pass


class Cuda:
    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")


def cycle() -> dict[str, Any]:
    tree: dict[str, Any] = {}
    tree["again"] = [tree]
    return tree


def nested(levels: int) -> Any:
    tree: Any = 1
    for _ in range(levels):
        tree = [tree]
    return tree


REFUSED: list[tuple[Any, type[AxonValueError], str]] = [
    ({"images": {"top": np.array([None])}}, AxonTypeError, r'^value "images\.top": object dtype$'),
    ({"a": np.zeros(2, "V8")}, AxonTypeError, '"a": structured dtype'),
    ({"a": np.zeros(2, "i4,f4")}, AxonTypeError, '"a": structured dtype'),
    ({"a": np.zeros(2, complex)}, AxonTypeError, '"a": complex dtype'),
    ({"a": np.zeros(2, "M8[s]")}, AxonTypeError, '"a": datetime64 dtype'),
    ({"a": np.zeros(2, "m8[s]")}, AxonTypeError, '"a": timedelta64 dtype'),
    ({"a": np.zeros(2, np.longdouble)}, AxonTypeError, '"a": float128 dtype'),
    ({"a": np.complex64(1)}, AxonTypeError, '"a": complex dtype'),
    ({"a": np.datetime64("2026-01-01")}, AxonTypeError, '"a": datetime64 dtype'),
    ({"a": MaskedArray([1, 2], [0, 1])}, AxonValueError, '"a": a masked array'),
    ({3: 1}, AxonTypeError, r"^value: key 3 is int, keys must be str$"),
    ({b"a": 1}, AxonTypeError, "key b'a' is bytes"),
    ({"a": [{"b": {None: 1}}]}, AxonTypeError, r'^value "a\[0\]\.b": key None is NoneType'),
    ({"a\0b": 1}, AxonValueError, r"key 'a\\x00b' holds a zero character"),
    ({"a\ud800": 1}, AxonValueError, "key .* lone surrogate at 1"),
    ({"prompt": "ab\udc80"}, AxonValueError, '"prompt": .* lone surrogate at 2'),
    ({"a": [0, {"b": Thing()}]}, AxonTypeError, r'^value "a\[1\]\.b": Thing does not travel$'),
    ({"a": {1, 2}}, AxonTypeError, '"a": set does not travel'),
    ({"a": 1j}, AxonTypeError, '"a": complex does not travel'),
    ({"a": range(3)}, AxonTypeError, '"a": range does not travel'),
    ({"a": np.float32}, AxonTypeError, '"a": type does not travel'),
    ({"a": Cuda()}, AxonTypeError, '"a": Cuda gives no array: can\'t convert cuda:0'),
    ({"a": 2**64}, AxonValueError, '"a": int of 65 bits does not fit 64'),
    ({"a": [1, -(2**63) - 1]}, AxonValueError, r'"a\[1\]": int of 64 bits does not fit 64'),
    (cycle(), AxonValueError, r'"again\[0\]\.again\[0\].*": nested deeper than 32 levels'),
    (nested(33), AxonValueError, "nested deeper than 32 levels"),
]


@pytest.mark.parametrize(("value", "kind", "said"), REFUSED, ids=[said for _, _, said in REFUSED])
def test_what_does_not_travel_is_refused_by_name(value: Any, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said) as caught:
        packb(value)
    assert isinstance(caught.value, (ValueError, RuntimeError))


def test_the_deepest_tree_that_travels_comes_back() -> None:
    assert unpackb(packb(nested(32))) == nested(32)


def test_a_dimension_too_many_is_refused() -> None:
    if np.__version__ < "2":  # where no array has so many
        return
    with pytest.raises(AxonValueError, match="33 dimensions, at most 32"):
        packb({"a": np.zeros((1,) * 33)})


# ---- out: what else is taken ---------------------------------------------------------------------


class Tensor:
    """As torch's and jax's: numpy can see it."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.arange(3, dtype=np.float32)


class Interface:
    """As PIL's pictures: numpy can see it."""

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return {"shape": (2,), "typestr": "|u1", "data": b"\x01\x02", "version": 3}


class Labelled(np.ndarray):  # type: ignore[type-arg]
    pass


Point = collections.namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("given", "same_as"),
    [
        (Tensor(), np.arange(3, dtype=np.float32)),
        (Interface(), np.array([1, 2], np.uint8)),
        (np.arange(3).view(Labelled), np.arange(3)),
        (np.arange(3).view(np.recarray), np.arange(3)),
        (Point(1, 2.5), [1, 2.5]),
        (collections.OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (types.MappingProxyType({"a": 1}), {"a": 1}),
        (collections.ChainMap({"a": 1}), {"a": 1}),
        (memoryview(b"abcdef")[::2], b"ace"),
        (np.arange(3).astype(np.uint8).data, bytes([0, 1, 2])),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_like_something_that_travels_travels_as_that(given: Any, same_as: Any) -> None:
    assert packb({"a": given}) == packb({"a": same_as})


def test_nothing_is_kept_of_what_was_sent() -> None:
    array, data = np.zeros(1000), bytearray(1000)
    gone = weakref.ref(array)
    packb({"array": array, "strided": array[::2], "bytes": data})
    data.extend(b"resizable again")
    del array
    assert gone() is None


def test_nothing_is_kept_of_what_was_refused() -> None:
    array, data = np.zeros(1000), bytearray(1000)
    gone = weakref.ref(array)
    with pytest.raises(AxonTypeError) as caught:
        packb({"array": array, "bytes": data, "bad": object()})
    del caught, array
    data.extend(b"resizable again")
    assert gone() is None


# ---- in ------------------------------------------------------------------------------------------


def test_arrays_that_come_are_the_callers_own() -> None:
    message = bytearray(packb({"a": np.arange(6.0).reshape(2, 3)}))
    array = unpackb(message)["a"]
    message[:] = bytes(len(message))
    assert array.flags.owndata
    assert array.flags.writeable
    assert array.flags.c_contiguous
    assert array.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_the_simulators_marker_is_read_and_written() -> None:
    value = {"a": np.arange(4, dtype=np.float64), "n": 3}
    message = packb(value, lib.AXON_MARKER_SIMULATOR)
    assert b"__type__" in message
    assert describe(unpackb(message)) == describe(value)


def test_keys_of_bytes_stay_bytes_and_the_last_of_two_equal_keys_counts() -> None:
    assert unpackb(b"\x81\xc4\x01k\x01") == {b"k": 1}
    assert unpackb(b"\x82\xa1a\x01\xa1a\x02") == {"a": 2}


WHOLE = packb({"a": np.arange(3, dtype=np.float32), "b": [1.5, None], "c": {"d": b"xyz", "e": "text"}})


@pytest.mark.parametrize("length", range(len(WHOLE)))
def test_a_message_cut_short_is_the_peers_fault(length: int) -> None:
    with pytest.raises(AxonProtocolError):
        unpackb(WHOLE[:length])


def array_message(
    dtype: bytes = b"\xa3<f4", shape: bytes = b"\x91\x03", data: bytes = b"\xc4\x0c" + bytes(12)
) -> bytes:
    return (
        b"\x84\xc4\x0b__ndarray__\xc3\xc4\x04data"
        + data
        + b"\xc4\x05dtype"
        + dtype
        + b"\xc4\x05shape"
        + shape
    )


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (b"\x01\x02", "follow"),
        (b"\xc1", "byte 0"),
        (b"\x81\x01\x02", "key"),
        (b"\xa2\xff\xff", "UTF-8"),
        (array_message(dtype=b"\xa2|O"), "dtype"),
        (array_message(dtype=b"\xa3<c8"), "dtype"),
        (array_message(shape=b"\x91\x04"), "shape|bytes"),
        (array_message(shape=b"\x91\xff"), "shape"),
        (array_message(shape=b"\x92" + (b"\xcf" + b"\xff" * 8) * 2), "shape"),
        (array_message(data=b"\xa3abc"), "data"),
    ],
)
def test_a_lying_message_is_the_peers_fault(message: bytes, said: str) -> None:
    with pytest.raises(AxonProtocolError, match=said):
        unpackb(message)


def test_a_deep_message_is_the_peers_fault() -> None:
    with pytest.raises(AxonProtocolError, match=r"deep|nest"):
        unpackb(b"\x91" * 100_000 + b"\x01")


def test_a_message_that_claims_billions_is_the_peers_fault() -> None:
    with pytest.raises(AxonProtocolError):
        unpackb(b"\xdd" + struct.pack(">I", 2**32 - 1))


def test_without_numpy_an_array_is_a_clear_error_and_all_else_is_read(run_script: Callable[..., Any]) -> None:
    run_script(
        """
import sys
sys.modules["numpy"] = None
from service_clients._axon.values import packb, unpackb
assert unpackb(packb({"a": [1, 2.5, "x", b"y", None]})) == {"a": [1, 2.5, "x", b"y", None]}
try:
    unpackb(bytes.fromhex(sys.argv[1]))
except ImportError as error:
    assert "an array needs numpy, which cannot be imported" in str(error), error
else:
    sys.exit("an array without numpy")
""",
        WHOLE.hex(),
    )
