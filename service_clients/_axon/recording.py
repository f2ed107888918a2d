"""Recordings of policy sessions, read: docs/recordings.md has the format."""

from __future__ import annotations

import mmap
import os
from typing import Any, Iterator, NamedTuple

from service_clients._axon._ffi import check, ffi, lib, new_error
from service_clients._axon.errors import AxonError, AxonProtocolError, AxonTooBig
from service_clients._axon.values import read, unpackb

__all__ = ["Entry", "Recording"]

_KINDS = ("metadata", "request", "reply", "late")


class Entry(NamedTuple):
    """One message of a session."""

    kind: str
    """ "metadata", "request", "reply", or "late": a reply that came when nobody waited for it any more."""
    seconds: float
    """Since the session began, on a monotonic clock."""
    message: Any
    """bytes, as they were on the wire (msgpack); str when it was text."""

    def read(self) -> Any:
        """What the message says; raises AxonProtocolError when it is no msgpack."""
        return self.message if isinstance(self.message, str) else unpackb(self.message)


class Recording:
    """A recording on disk; iterate over its entries, as often as you like.

    A recording that was cut off, because the robot was switched off for instance, is read up to its last whole
    entry; `is_cut` says so then.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Opens a recording and reads its head.

        Raises:
            OSError: the file cannot be read; AxonProtocolError: it is no recording, or of a later version.
        """
        self.path = os.fspath(path)
        self.is_cut = False
        with open(self.path, "rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                raise AxonProtocolError(f"{self.path}: no recording: it is empty")
            self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        try:
            head, self._begin = self._read_at(0)
        except AxonError as error:
            raise AxonProtocolError(f"{self.path}: no recording: {error}") from None
        if not isinstance(head, dict) or head.get("format") != "axon-recording":
            raise AxonProtocolError(f"{self.path}: no recording: it does not begin as one")
        if head.get("version") != 1:
            raise AxonProtocolError(
                f"{self.path}: a recording of version {head.get('version')!r:.40}, this reads 1"
            )
        self.url = str(head.get("url", ""))
        self.started = head.get("started")

    def __iter__(self) -> Iterator[Entry]:
        at, number = self._begin, 0
        while at < len(self._bytes):
            value, end = self._read_at(at)
            if end == at:
                self.is_cut = True
                return
            yield self._check(value, number)
            at, number = end, number + 1

    def close(self) -> None:
        """Lets go of the file. May be repeated."""
        self._bytes.close()

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def _read_at(self, at: int) -> tuple[Any, int]:
        """The object at an offset and where it ends; where it began when it is not whole."""
        view = memoryview(self._bytes)[at:]
        data = ffi.from_buffer(view)
        used, tree, error = ffi.new("size_t *"), ffi.new("axon_value **"), new_error()
        try:
            check(lib.axon_value_read_msgpack(data, len(data), used, tree, error), error)
            if used[0] == 0:
                return None, at
            try:
                return read(tree[0]), at + used[0]
            finally:
                lib.axon_value_free(tree[0])
        except (AxonProtocolError, AxonTooBig) as problem:
            raise AxonProtocolError(f"{self.path}: byte {at}: {problem}") from None
        finally:
            ffi.release(data)
            view.release()

    def _check(self, value: Any, number: int) -> Entry:
        is_entry = (
            isinstance(value, list)
            and len(value) == 3
            and value[0] in _KINDS
            and isinstance(value[1], float)
            and isinstance(value[2], (bytes, str))
        )
        if not is_entry:
            raise AxonProtocolError(f"{self.path}: entry {number}: it is no [kind, seconds, message]")
        return Entry(*value)
