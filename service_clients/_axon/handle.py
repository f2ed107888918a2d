"""What Service and Policy share: a C handle that threads may share."""

from __future__ import annotations

import math
import os
import threading
import weakref
from typing import Any, ClassVar, TypeVar

from service_clients._axon._ffi import ffi, raise_pending
from service_clients._axon.errors import (
    AxonCanceled,
    AxonError,
    AxonTimeout,
    AxonTypeError,
    AxonValueError,
)

_T = TypeVar("_T", bound="Handle")


class Handle:
    """A connection that C drives: one call at a time, cancelled from any thread, closed once.

    Calls from several threads take turns. close() ends the call that is under way, if there is one; a signal
    handler may call cancel() and close() while its own thread is in a call, and nothing else.
    """

    _C_CANCEL: ClassVar[Any]
    _C_CLOSE: ClassVar[Any]

    def __init__(self, pointer: Any, name: str) -> None:
        self._name = name
        self._pointer: Any = ffi.gc(pointer, self._C_CLOSE)
        self._process = os.getpid()
        self._turn = threading.RLock()  # held by the thread whose call is under way
        self._gate = threading.RLock()  # keeps _pointer alive while cancel() uses it
        self._busy = False
        self._closing = False
        self._borrower: weakref.ref[Any] | None = None  # what has it for itself until its close()

    def __enter__(self: _T) -> _T:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def __reduce_ex__(self, _protocol: Any) -> Any:
        raise AxonTypeError(f"{self._name}: a connection cannot be copied or pickled; open another")

    @property
    def closed(self) -> bool:
        """Whether close() was called."""
        return self._closing

    def cancel(self) -> None:
        """Ends the call that another thread is waiting in with AxonCanceled; does nothing when there is none."""
        with self._gate:
            if self._pointer is not None:
                self._C_CANCEL(self._pointer)

    def close(self) -> None:
        """Ends the connection; a call that another thread is waiting in ends with AxonCanceled. May be repeated.

        What it was lent to, a chunk engine, is closed first.
        """
        borrower = self._borrower() if self._borrower is not None else None
        if borrower is not None:
            borrower.close()
        self._closing = True
        if os.getpid() != self._process:  # a fork's child: the threads that held the locks are not here
            self._turn, self._gate, self._busy = threading.RLock(), threading.RLock(), False
        while not self._turn.acquire(timeout=0.02):
            self.cancel()
        try:
            if (
                self._busy
            ):  # a signal handler's call, in the middle of a call of its own thread, which will free
                self.cancel()
            else:
                self._free()
        finally:
            self._turn.release()
        raise_pending()

    def _free(self) -> None:
        with self._gate:
            pointer, self._pointer = self._pointer, None
        if pointer is not None:
            ffi.release(pointer)

    def _begin(self, patience: float) -> Any:
        """Takes this thread's turn; _end() gives it back.

        Args:
            patience: seconds to wait while other threads have theirs; may be infinite.

        Returns:
            The C handle.
        """
        if not self._turn.acquire(blocking=False):
            self._wait_for_turn(patience)
        if self._busy or self._closing:
            self._turn.release()
            if self._borrower is not None:
                raise AxonValueError(f"{self._name}: is in use by {self._borrower()!r} until that is closed")
            if self._busy:
                raise AxonError(f"{self._name}: a signal handler interrupted a call of it and made another")
            raise AxonValueError(f"{self._name}: is closed")
        self._busy = True
        return self._pointer

    def _end(self) -> None:
        self._busy = False
        if self._closing:
            self._free()
        self._turn.release()

    def _lend(self, borrower: Any) -> Any:
        """Lends the C handle: every call but cancel() and close() is refused until _take_back()."""
        pointer = self._begin(math.inf)
        self._borrower = weakref.ref(borrower)
        self._turn.release()
        return pointer

    def _take_back(self) -> None:
        self._borrower = None
        self._busy = False

    def _wait_for_turn(self, patience: float) -> None:
        if os.getpid() != self._process:
            raise AxonValueError(f"{self._name}: was opened before fork(); open another in the child")
        if not self._turn.acquire(timeout=min(patience, threading.TIMEOUT_MAX)):
            raise AxonTimeout(f"{self._name}: other threads were using it for {patience:g} s (timeout)")
        if self._closing:
            self._turn.release()
            raise AxonCanceled(f"{self._name}: closed by another thread")
