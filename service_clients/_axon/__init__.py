"""axon's binding: the C core as Python classes. The clients beside this folder are built on it."""

from __future__ import annotations

from service_clients._axon._ffi import ffi, lib
from service_clients._axon.errors import (
    AxonAuthError,
    AxonCanceled,
    AxonConnectionError,
    AxonError,
    AxonFileError,
    AxonFileNotFound,
    AxonProtocolError,
    AxonServerError,
    AxonTimeout,
    AxonTooBig,
    AxonTypeError,
    AxonValueError,
)
from service_clients._axon.images import deliver_picture
from service_clients._axon.options import explicit, given, numbers
from service_clients._axon.policy import Policy
from service_clients._axon.service import Service, ServiceClient
from service_clients._axon.values import stack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from service_clients._axon.images import Image as Image

__all__ = [
    "AxonAuthError",
    "AxonCanceled",
    "AxonConnectionError",
    "AxonError",
    "AxonFileError",
    "AxonFileNotFound",
    "AxonProtocolError",
    "AxonServerError",
    "AxonTimeout",
    "AxonTooBig",
    "AxonTypeError",
    "AxonValueError",
    "Policy",
    "Service",
    "ServiceClient",
    "__version__",
    "deliver_picture",
    "explicit",
    "given",
    "numbers",
    "stack",
]

__version__: str = ffi.string(lib.axon_version()).decode()
