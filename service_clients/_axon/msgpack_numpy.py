"""msgpack with numpy arrays, as policy servers speak it: openpi_client's msgpack_numpy on the C core.

What travels is said in values.py. Arrays that are read are writable and the caller's own.
"""

from __future__ import annotations

import contextlib
from typing import Any, BinaryIO, Iterable, Iterator

import numpy as np

from service_clients._axon import values
from service_clients._axon._ffi import check, ffi, lib, new_error
from service_clients._axon.errors import AxonProtocolError, AxonTooBig, AxonValueError

__all__ = ["OutOfData", "Packer", "UnpackError", "Unpacker", "pack_array", "packb", "unpack_array", "unpackb"]

_UNPACKABLE = "VOc"  # structured, object, complex
_READ_SIZE = 64 << 10
_MAX_BUFFER_SIZE = 100 << 20
_NO_LIMIT = (1 << 31) - 1  # what msgpack takes max_buffer_size=0 for
_ANYTHING = object()

Packed = bytes  # by a name that Packer.bytes does not hide


class UnpackError(AxonProtocolError, ValueError):
    """The bytes are not what they should be."""


class OutOfData(Exception):
    """No whole message is there yet."""


def pack_array(obj: Any) -> Any:
    """The map that an array or a numpy scalar travels as; any other object as it is.

    Raises:
        ValueError: an object, structured or complex dtype.
    """
    if not isinstance(obj, (np.ndarray, np.generic)):
        return obj
    if obj.dtype.kind in _UNPACKABLE:
        raise ValueError(f"dtype {obj.dtype} does not travel")
    if isinstance(obj, np.generic):
        return {b"__npgeneric__": True, b"data": obj.item(), b"dtype": obj.dtype.str}
    return {b"__ndarray__": True, b"data": obj.tobytes(), b"dtype": obj.dtype.str, b"shape": obj.shape}


def unpack_array(obj: Any) -> Any:
    """What pack_array() made a map of; any other map as it is. An array is writable."""
    if b"__ndarray__" in obj:
        dtype = np.dtype(obj[b"dtype"])
        if dtype.kind in _UNPACKABLE:
            raise ValueError(f"dtype {dtype} does not travel")
        return np.frombuffer(bytearray(obj[b"data"]), dtype).reshape(obj[b"shape"])
    if b"__npgeneric__" in obj:
        return np.dtype(obj[b"dtype"]).type(obj[b"data"])
    return obj


# msgpack's own options, which the originals hand on, each with the values that say what is done here anyway.
_PACKING: dict[str, tuple[Any, ...]] = {
    "default": (None, pack_array),
    "use_bin_type": (True,),
    "use_single_float": (False,),
    "strict_types": (False,),
    "datetime": (False,),
    "unicode_errors": (None, "strict"),
    "buf_size": (_ANYTHING,),
}
_UNPACKING: dict[str, tuple[Any, ...]] = {
    "raw": (False,),
    "object_hook": (None, unpack_array),
    "object_pairs_hook": (None,),
    "list_hook": (None,),
    "ext_hook": (None,),
    "timestamp": (0,),
    "strict_map_key": (True, False),
    "unicode_errors": (None, "strict"),
}
_LIMITS = ("max_str_len", "max_bin_len", "max_array_len", "max_map_len", "max_ext_len")


def packb(obj: Any, *, autoreset: bool = True, **options: Any) -> bytes:
    """The message that an object travels as.

    Args:
        obj: see values.py.
        autoreset: makes no difference here.
        options: msgpack's, as far as they ask for nothing else than is done without them.

    Raises:
        ValueError: something in it does not travel: its path and the reason; also a TypeError when its type is
            the reason. An option that asks for something else.
    """
    _look_through(options, _PACKING)
    return values.packb(obj)


def unpackb(packed: bytes | bytearray | memoryview, *, use_list: bool = True, **options: Any) -> Any:
    """The object that a message holds.

    Args:
        packed: one message.
        use_list: False: tuples in place of lists.
        options: as for packb(). Map keys are str or bytes, whatever strict_map_key says.

    Raises:
        ValueError: anything but one whole, well-formed message. An option that asks for something else.
    """
    _look_through(_without_limits(options, memoryview(packed).nbytes), _UNPACKING)
    try:
        value = values.unpackb(packed)
    except AxonProtocolError as error:
        raise UnpackError(*error.args) from None
    return value if use_list else _tuples(value)


def _look_through(options: dict[str, Any], known: dict[str, tuple[Any, ...]]) -> None:
    """Refuses an option that is unknown, or asks for something that is not done here."""
    for name, value in options.items():
        if name not in known:
            raise TypeError(f"unexpected keyword argument {name!r}")
        if not any(usual is _ANYTHING or value is usual or value == usual for usual in known[name]):
            raise AxonValueError(f"{name}={value!r:.80} is not possible, only {known[name][0]!r}")


def _without_limits(options: dict[str, Any], most: int) -> dict[str, Any]:
    """The options that are no limits on what a message of at most `most` bytes may hold."""
    for name in _LIMITS:
        limit = options.get(name, -1)
        if 0 <= limit < most:
            raise AxonValueError(
                f"{name}={limit} is not possible, only limits that {most} bytes do not reach"
            )
    return {name: value for name, value in options.items() if name not in _LIMITS}


def _tuples(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_tuples(child) for child in value)
    if isinstance(value, dict):
        return {key: _tuples(child) for key, child in value.items()}
    return value


class Packer:
    """packb() as an object, which may also put a message together from parts."""

    def __init__(self, default: Any = None, *, autoreset: bool = True, **options: Any) -> None:
        """
        Args:
            default: as in packb().
            autoreset: False: what is packed is kept for bytes(), and nothing is returned.
            options: see packb().
        """
        _look_through({"default": default, **options}, _PACKING)
        self._autoreset = autoreset
        self._kept = bytearray()

    def pack(self, obj: Any) -> Packed | None:
        """See packb()."""
        return self._give(values.packb(obj))

    def pack_array_header(self, size: int) -> Packed | None:
        """Begins a list, whose `size` members are to be packed next."""
        return self._give(_head(size, 0x90, 0xDC, "list"))

    def pack_map_header(self, size: int) -> Packed | None:
        """Begins a map, of which `size` keys, each before its value, are to be packed next."""
        return self._give(_head(size, 0x80, 0xDE, "map"))

    def pack_map_pairs(self, pairs: Iterable[tuple[Any, Any]]) -> Packed | None:
        """A map, of its keys and values."""
        members = [values.packb(part) for pair in pairs for part in pair]
        return self._give(_head(len(members) // 2, 0x80, 0xDE, "map") + b"".join(members))

    def bytes(self) -> Packed:
        """What was packed and kept."""
        return bytes(self._kept)

    def getbuffer(self) -> memoryview:
        """The same, as a view of a copy."""
        return memoryview(self.bytes())

    def reset(self) -> None:
        """Forgets what was kept."""
        self._kept.clear()

    def _give(self, packed: Packed) -> Packed | None:
        if self._autoreset:
            return packed
        self._kept += packed
        return None


def _head(size: int, small: int, large: int, what: str) -> bytes:
    """What a list or a map of `size` members begins with: in one byte, or behind `large` or the code after it."""
    if not 0 <= size < 1 << 32:
        raise AxonValueError(f"a {what} of {size} members, 0 to {(1 << 32) - 1} are possible")
    if size < 16:
        return bytes([small | size])
    if size < 1 << 16:
        return bytes([large]) + size.to_bytes(2, "big")
    return bytes([large + 1]) + size.to_bytes(4, "big")


class Unpacker:
    """Reads messages that follow one another, from what feed() is given or from a file; iterate over it."""

    def __init__(
        self,
        file_like: BinaryIO | None = None,
        *,
        read_size: int = 0,
        use_list: bool = True,
        max_buffer_size: int = _MAX_BUFFER_SIZE,
        **options: Any,
    ) -> None:
        """
        Args:
            file_like: read from, with its read(), when a message is asked for.
            read_size: bytes that are read at a time; 0 is 64 KiB.
            use_list: False: tuples in place of lists.
            max_buffer_size: the most bytes that wait to be unpacked, so also of one message; default 100 MiB; 0
                is 2 GiB.
            options: see unpackb().
        """
        self._limit = max_buffer_size or _NO_LIMIT
        _look_through(_without_limits(options, self._limit), _UNPACKING)
        self._file = file_like
        self._read_size = read_size or _READ_SIZE
        self._use_list = use_list
        self._buffer = bytearray()
        self._at = 0
        self._dropped = 0

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Adds bytes, of any number of messages or of a part of one.

        Raises:
            ValueError: more than max_buffer_size bytes would wait; nothing was added.
        """
        if self._file is not None:
            raise ValueError("this Unpacker reads from a file")
        self._add(data)

    def unpack(self) -> Any:
        """The next message's object.

        Raises:
            OutOfData: it is not whole yet.
            ValueError: the bytes are no message.
        """
        while True:
            found, value = self._next()
            if found:
                return value if self._use_list else _tuples(value)
            self._read_on()

    def skip(self) -> None:
        """Passes over the next message; raises as unpack()."""
        self.unpack()

    def read_bytes(self, n: int) -> bytes:
        """The next `n` bytes as they are, or as many of them as there are."""
        with contextlib.suppress(OutOfData):
            self._wait_for(n)
        data = bytes(self._buffer[self._at : self._at + n])
        self._at += len(data)
        return data

    def read_array_header(self) -> int:
        """How many members the list has that begins here; they are the next messages. Raises as unpack()."""
        return self._read_head(0x90, 0xDC, "list")

    def read_map_header(self) -> int:
        """How many keys the map has that begins here; each is followed by its value. Raises as unpack()."""
        return self._read_head(0x80, 0xDE, "map")

    def tell(self) -> int:
        """How many bytes have been unpacked."""
        return self._dropped + self._at

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            return self.unpack()
        except OutOfData:
            raise StopIteration from None

    def _add(self, data: bytes | bytearray | memoryview) -> None:
        del self._buffer[: self._at]
        self._dropped += self._at
        self._at = 0
        waiting = len(self._buffer) + memoryview(data).nbytes
        if waiting > self._limit:
            raise AxonTooBig(f"{waiting} bytes wait to be unpacked, at most {self._limit} (max_buffer_size)")
        self._buffer += data

    def _read_on(self) -> None:
        data = self._file.read(self._read_size) if self._file is not None else b""
        if not data:
            raise OutOfData("no whole message is there")
        self._add(data)

    def _wait_for(self, count: int) -> None:
        while len(self._buffer) - self._at < count:
            self._read_on()

    def _read_head(self, small: int, large: int, what: str) -> int:
        self._wait_for(1)
        code = self._buffer[self._at]
        if code & 0xF0 == small:
            self._at += 1
            return code & 0x0F
        if code not in (large, large + 1):
            raise UnpackError(f"no {what} begins here, but byte {code:#x}")
        length = 3 if code == large else 5
        self._wait_for(length)
        size = int.from_bytes(self._buffer[self._at + 1 : self._at + length], "big")
        self._at += length
        return size

    def _next(self) -> tuple[bool, Any]:
        """Whether a whole message is there, and what it holds."""
        tree, used, error = ffi.new("axon_value **"), ffi.new("size_t *"), new_error()
        with ffi.from_buffer(self._buffer) as data:
            status = lib.axon_value_read_msgpack(
                data + self._at, len(self._buffer) - self._at, used, tree, error
            )
        try:
            check(status, error)
        except AxonProtocolError as broken:
            raise UnpackError(*broken.args) from None
        if not used[0]:
            return False, None
        self._at += used[0]
        try:
            return True, values.read(tree[0])
        finally:
            lib.axon_value_free(tree[0])
