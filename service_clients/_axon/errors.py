"""What axon raises: each class is also the builtin that one would catch.

Every error is a RuntimeError; one that the caller can name more closely is that as well: TimeoutError,
ConnectionError, ValueError, TypeError, PermissionError, FileNotFoundError. Memory that ran out is a plain
MemoryError.
"""

from __future__ import annotations


class AxonError(RuntimeError):
    """The base of them all.

    Attributes:
        status: the `axon_status` of the C call, 0 where Python found the fault.
        http_status: of the HTTP reply that caused it, 0 when there was none.
    """

    status: int = 0
    http_status: int = 0


class AxonValueError(AxonError, ValueError):
    """An argument is wrong; nothing was sent."""


class AxonTypeError(AxonValueError, TypeError):
    """An argument is of a type that does not travel; nothing was sent."""


class AxonFileNotFound(AxonValueError, FileNotFoundError):
    """A picture's path leads nowhere, or a str is neither a path nor base64 of a picture."""


class AxonFileError(AxonError, OSError):
    """A local file could not be read or written."""


class AxonTooBig(AxonError, ValueError):
    """A size limit was passed; the message names it."""


class AxonTimeout(AxonError, TimeoutError):
    """The deadline passed; the message says which, and what was waited for."""


class AxonConnectionError(AxonError, ConnectionError):
    """There is no connection: refused, no such host, TLS, or lost on the way."""


class AxonProtocolError(AxonError):
    """The peer sent what its protocol does not allow."""


class AxonServerError(AxonError):
    """The peer understood and answered with an error of its own.

    Attributes:
        traceback: the whole text that a policy server sent; None from other peers.
    """

    traceback: str | None = None


class AxonAuthError(AxonError, PermissionError):
    """The peer refused the credentials (HTTP 401 or 403)."""


class AxonCanceled(AxonError):
    """The call was ended by cancel() or close() from another thread."""
