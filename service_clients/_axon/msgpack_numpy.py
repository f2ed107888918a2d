"""msgpack with numpy arrays, as policy servers speak it: openpi_client's msgpack_numpy on the C core.

What travels is said in values.py. Arrays that are read are writable and the caller's own.
"""

from __future__ import annotations

from typing import Any, BinaryIO, Iterator

import numpy as np

from service_clients._axon import values
from service_clients._axon._ffi import check, ffi, lib, new_error
from service_clients._axon.errors import AxonProtocolError, AxonTooBig

__all__ = ["OutOfData", "Packer", "UnpackError", "Unpacker", "pack_array", "packb", "unpack_array", "unpackb"]

_UNPACKABLE = "VOc"  # structured, object, complex
_READ_SIZE = 64 << 10
_MAX_BUFFER_SIZE = 100 << 20


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


def packb(obj: Any) -> bytes:
    """The message that an object travels as.

    Raises:
        ValueError: something in it does not travel: its path and the reason; also a TypeError when its type is
            the reason.
    """
    return values.packb(obj)


def unpackb(packed: bytes | bytearray | memoryview) -> Any:
    """The object that a message holds.

    Raises:
        ValueError: anything but one whole, well-formed message.
    """
    try:
        return values.unpackb(packed)
    except AxonProtocolError as error:
        raise UnpackError(*error.args) from None


class Packer:
    """packb() as an object."""

    def pack(self, obj: Any) -> bytes:
        """See packb()."""
        return values.packb(obj)


class Unpacker:
    """Reads messages that follow one another, from what feed() is given or from a file; iterate over it."""

    def __init__(
        self,
        file_like: BinaryIO | None = None,
        read_size: int = _READ_SIZE,
        max_buffer_size: int = _MAX_BUFFER_SIZE,
    ) -> None:
        """
        Args:
            file_like: read from, with its read(), when a message is asked for.
            read_size: bytes that are read at a time.
            max_buffer_size: the most bytes that wait to be unpacked, so also of one message; default 100 MiB.
        """
        self._file = file_like
        self._read_size = read_size
        self._limit = max_buffer_size
        self._buffer = bytearray()
        self._at = 0

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
                return value
            data = self._file.read(self._read_size) if self._file is not None else b""
            if not data:
                raise OutOfData("no whole message is there")
            self._add(data)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            return self.unpack()
        except OutOfData:
            raise StopIteration from None

    def _add(self, data: bytes | bytearray | memoryview) -> None:
        del self._buffer[: self._at]
        self._at = 0
        waiting = len(self._buffer) + memoryview(data).nbytes
        if waiting > self._limit:
            raise AxonTooBig(f"{waiting} bytes wait to be unpacked, at most {self._limit} (max_buffer_size)")
        self._buffer += data

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
