"""Observations that both clients send, one after the other: what comes up in the field, and the corners.

Needs numpy alone, any version, so that the peers' environment and ours read the same table.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np

DTYPES = ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"]


class Pose(NamedTuple):
    """A tuple with names, which travels as a list."""

    x: float
    y: float


def table() -> dict[str, dict[str, Any]]:
    """Every observation by its name. The same call gives the same bytes, in every process."""
    random = np.random.RandomState(7)
    picture = random.randint(0, 256, (48, 64, 3)).astype(np.uint8)
    numbers = np.arange(-6, 6)
    observations: dict[str, dict[str, Any]] = {
        f"array of {np.dtype(code).name}": {"a": numbers.astype(code).reshape(3, 4)} for code in DTYPES
    }
    observations.update({f"scalar {np.dtype(code).name}": {"s": np.dtype(code).type(1)} for code in DTYPES})
    observations.update(
        {
            "droid": {
                "observation/image": random.randint(0, 256, (224, 224, 3)).astype(np.uint8),
                "observation/wrist_image": random.randint(0, 256, (224, 224, 3)).astype(np.uint8),
                "observation/state": np.linspace(-1, 1, 7, dtype=np.float32),
                "prompt": "pick up the helmet",
            },
            "aloha, nested": {
                "images": {
                    name: random.randint(0, 256, (3, 32, 32)).astype(np.uint8)
                    for name in ("cam_high", "cam_low")
                },
                "state": np.ones(14),
                "prompt": "",
            },
            "strided": {
                "every second": picture[::2, 1::2],
                "one channel": picture[:, :, 1],
                "flipped": picture[::-1],
            },
            "transposed": {"chw": picture.transpose(2, 0, 1), "T": numbers.reshape(3, 4).T},
            "Fortran order": {"f": np.asfortranarray(numbers.reshape(2, 6).astype(np.float32))},
            "broadcast": {"b": np.broadcast_to(np.float32(1.5), (3, 2))},
            "big-endian": {
                "f4": numbers.astype(">f4"),
                "i2": numbers.astype(">i2"),
                "u8": np.array([1], ">u8"),
            },
            "big-endian, strided": {"f8": numbers.astype(">f8")[::3]},
            "0-d": {"float32": np.array(3.5, np.float32), "bool": np.array(True), "text": np.array("hello")},
            "empty": {"one": np.zeros(0, np.float32), "three": np.zeros((2, 0, 3), np.uint8)},
            "one element": {"a": np.ones((1, 1, 1, 1), np.int64)},
            "fixed text": {
                "words": np.array(["left", "re\u0301al", "\U0001f916"]),
                "bytes": np.array([b"ab", b"c"]),
            },
            "many dimensions": {"nine": np.arange(512, dtype=np.uint16).reshape((2,) * 9)},
            "not a number": {"a": np.array([np.nan, np.inf, -np.inf, -0.0], np.float32), "f": float("inf")},
            "numpy's own float and str": {
                "f": np.float64(0.1),
                "s": np.str_("t"),
                "b": np.bytes_(b"\x00\xff"),
            },
            "numbers": {
                "small": [0, 1, 127, 128, 255, 256, 65535, 65536],
                "float": [0.1, -0.0, 1e300, 5e-324],
            },
            "big numbers": {"up": [2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1]},
            "negative numbers": {"down": [-1, -32, -33, -128, -129, -32768, -32769, -(2**31) - 1, -(2**63)]},
            "truth and nothing": {"yes": True, "no": False, "none": None},
            "text": {"": "", "ASCII": "a" * 31, "str8": "a" * 32, "str16": "b" * 256, "str32": "c" * 65536},
            "unicode": {"\u63e1\u308b": "gr\u00fc\u00df dich, \U0001f916", "zero": "a\x00b"},
            "bytes": {
                "empty": b"",
                "bin8": bytes(range(256)[:255]),
                "bin16": bytes(256),
                "bin32": bytes(65536),
            },
            "bytes-like": {"bytearray": bytearray(b"abc"), "memoryview": memoryview(b"abcd")[1:3]},
            "tuples": {"pair": (1, "two"), "named": Pose(1.0, 2.0), "nested": ((), ((),))},
            "lists": {
                "empty": [],
                "fixarray": list(range(15)),
                "array16": list(range(16)),
                "mixed": [1, "a", None],
            },
            "long list": {"array32": [0.5] * 65536},
            "maps": {"empty": {}, "map16": {f"k{n}": n for n in range(16)}, "ordered": OrderedDict(z=1, a=2)},
            "arrays in lists": {"l": [np.arange(3), {"deep": [np.float32(1.0), np.zeros((0, 2))]}]},
            "deep": {"1": {"2": {"3": {"4": {"5": [[[[{"6": np.int8(-1)}]]]]}}}}},
        }
    )
    return observations
