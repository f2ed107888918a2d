"""The one place that knows the native module: `ffi` and `lib`, C errors, and Ctrl-C.

Round trip: a wrapper builds C arguments, calls `lib` (cffi releases the GIL for the length of the call), and
hands the status to `check`, which turns it into an exception. A call that waits asks `axb_look_up` below about
four times a second, so that signal handlers run; what they raise ends the call and comes out of `check`.
"""

from __future__ import annotations

import atexit
import threading
from contextlib import contextmanager
from typing import Any, Callable, Iterator

from service_clients._axon import errors

try:
    from service_clients._axon._native import ffi, lib
except ImportError as error:
    raise ImportError(
        f"axon's native module cannot be loaded ({error}); install axon for this Python, with cffi: pip install ."
    ) from error

__all__ = ["check", "failure", "ffi", "lib", "looking_up", "new_error", "raise_pending"]

_CLASSES = {
    lib.AXON_EINVAL: errors.AxonValueError,
    lib.AXON_ECANCELED: errors.AxonCanceled,
    lib.AXON_ETIMEOUT: errors.AxonTimeout,
    lib.AXON_ECONNECT: errors.AxonConnectionError,
    lib.AXON_EPROTOCOL: errors.AxonProtocolError,
    lib.AXON_ESERVER: errors.AxonServerError,
    lib.AXON_EAUTH: errors.AxonAuthError,
    lib.AXON_ETOOBIG: errors.AxonTooBig,
    lib.AXON_EIO: errors.AxonFileError,
}
_ERROR = ffi.typeof("axon_error *")


def new_error() -> Any:
    """Room for what a C call has to say."""
    return ffi.new(_ERROR)


def check(status: int, error: Any) -> None:
    """Raises what a C call reported; does nothing when it succeeded."""
    if status:
        raise_pending()
        raise failure(status, error)


def failure(status: int, error: Any) -> Exception:
    """The exception for a status that is not AXON_OK."""
    text = ffi.string(error.message).decode("utf-8", "replace")
    if status == lib.AXON_ENOMEM:
        return MemoryError(text)
    exception = _CLASSES.get(status, errors.AxonError)(text)
    exception.status = status
    exception.http_status = error.http_status
    return exception


# ---- Ctrl-C ----------------------------------------------------------------------------------------------


class _Waiting(threading.local):
    """What a thread that waits in C is to do when it looks up, and what came of it."""

    on_look_up: Callable[[], None] | None = None
    raised: BaseException | None = None


_waiting = _Waiting()


def _keep(kind: type, exception: BaseException, traceback: Any) -> None:
    _waiting.raised = exception


@ffi.def_extern(error=1, onerror=_keep)  # type: ignore[untyped-decorator]
def axb_look_up(_user: Any) -> int:
    """Called by C in the middle of a wait. Python runs pending signal handlers on the way."""
    for _ in range(2):  # the jump back is where the interpreter looks for signals
        pass
    if _waiting.on_look_up is not None:
        _waiting.on_look_up()
    return 0


def raise_pending() -> None:
    """Raises what a signal handler raised while this thread was waiting in C, if any did."""
    raised, _waiting.raised = _waiting.raised, None
    if raised is not None:
        raise raised


@contextmanager
def looking_up(function: Callable[[], None] | None) -> Iterator[None]:
    """Has `function` called about four times a second while this thread waits in C; raising ends the wait."""
    if function is None:
        yield
        return
    _waiting.on_look_up = function
    lib.axb_watch_thread(1)
    try:
        yield
    finally:
        lib.axb_watch_thread(0)
        _waiting.on_look_up = None


lib.axb_install()
atexit.register(lib.axon_set_interrupt, ffi.NULL, ffi.NULL)  # handles that are closed later find no Python
