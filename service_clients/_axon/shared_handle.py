"""What Stream and StreamServer share: a C handle that any number of threads use at once."""

from __future__ import annotations

import os
import threading
from typing import Any, Callable, Mapping, TypeVar

from service_clients._axon._ffi import check, ffi, lib, new_error, raise_pending
from service_clients._axon.errors import AxonTypeError, AxonValueError
from service_clients._axon.values import write

_T = TypeVar("_T", bound="SharedHandle")


class SharedHandle:
    """A C handle whose calls may be made side by side. The last one to leave it after close() frees it.

    A signal handler may call close() while its own thread is in a call.
    """

    def __init__(
        self, pointer: Any, name: str, cancel: Callable[[Any], None], free: Callable[[Any], None]
    ) -> None:
        self._pointer: Any = ffi.gc(pointer, free)
        self._name = name
        self._cancel = cancel
        self._process = os.getpid()
        self._gate = threading.RLock()  # guards what is below
        self._users = 0  # calls that are under way
        self._closing = False

    @property
    def closed(self) -> bool:
        """Whether close() was called."""
        return self._closing

    def close(self) -> None:
        """Ends it; calls that wait end with AxonCanceled. May be repeated, in signal handlers, too."""
        if os.getpid() != self._process:  # a fork's child: the threads that are in calls are not here
            self._gate, self._users = threading.RLock(), 0
        with self._gate:
            self._closing = True
            if self._pointer is not None:
                self._cancel(self._pointer)
        self._free_if_unused()
        raise_pending()

    def __enter__(self: _T) -> _T:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._name!r})"

    def __reduce_ex__(self, _protocol: Any) -> Any:
        raise AxonTypeError(f"{self._name}: a connection cannot be copied or pickled; open another")

    def _enter(self) -> Any:
        """The C handle, which lives until _leave()."""
        if os.getpid() != self._process:
            raise AxonValueError(f"{self._name}: was opened before fork(); open another in the child")
        with self._gate:
            if self._closing:
                raise AxonValueError(f"{self._name}: is closed")
            self._users += 1
            return self._pointer

    def _do(self, function: Callable[..., int], *arguments: Any) -> int:
        """The status of a C function that takes the handle first."""
        pointer = self._enter()
        try:
            return function(pointer, *arguments)
        finally:
            self._leave()

    def _send(self, value: Mapping[str, Any], subject: str, send: Callable[[Any, Any, Any], int]) -> None:
        """Has `send` called with the handle, the value as a tree of C, and an error; raises what it says."""
        keep: list[Any] = []
        error = new_error()
        tree = write(value, subject, keep)
        try:
            status = self._do(send, tree, error)
        finally:
            lib.axon_value_free(tree)
        check(status, error)

    def _leave(self) -> None:
        with self._gate:
            self._users -= 1
        if self._closing:
            self._free_if_unused()

    def _free_if_unused(self) -> None:
        with self._gate:
            if self._users > 0:
                return
            pointer, self._pointer = self._pointer, None
        if pointer is not None:
            ffi.release(pointer)
