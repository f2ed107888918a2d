"""axon's binding: the C core as Python classes. The clients beside this folder are built on it."""

from __future__ import annotations

from service_clients._axon.base_policy import BasePolicy
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
from service_clients._axon.messages import (
    ActionPlanStatus,
    CameraFrame,
    ChannelStats,
    Fault,
    Gap,
    ImuSample,
    Message,
    RobotStatus,
    StreamStats,
)
from service_clients._axon.pacing import PacerStats, Tick, percentiles_of
from service_clients._axon.plain import given, stack
from service_clients._axon.policy_client import PolicyClient
from service_clients._axon.reply import Percentiles, PolicyStats, Reply, Timing
from service_clients._axon.simulator_errors import (
    BackendError,
    InternalError,
    InvalidParams,
    NoSimulatorSelected,
    NoTaskLoaded,
    NotReset,
    SimulatorAlreadySelected,
    SimulatorError,
    TaskNotFound,
    UnknownMethod,
    UnknownSimulator,
)
from service_clients._axon.stream_client import StreamClient

TYPE_CHECKING = False
if TYPE_CHECKING:
    from service_clients._axon.images import Image as Image

try:
    from service_clients._axon import _ffi
except ImportError as missing:
    _missing: ImportError | None = missing
else:
    _missing = None

if TYPE_CHECKING or not _missing:
    from service_clients._axon.images import deliver_picture
    from service_clients._axon.options import explicit, numbers
    from service_clients._axon.pace import Pacer, StopEvent
    from service_clients._axon.policy import Policy
    from service_clients._axon.service import Service, ServiceClient
    from service_clients._axon.simulator import Simulator
    from service_clients._axon.stream import Stream, Subscription, read_message

    __version__: str = _ffi.ffi.string(_ffi.lib.axon_version()).decode()
else:
    from service_clients._axon.fallback import (
        Policy,
        Service,
        ServiceClient,
        Simulator,
        Stream,
        Subscription,
        __version__,
        deliver_picture,
        explicit,
        numbers,
        read_message,
        warn,
    )
    from service_clients._axon.pace_fallback import Pacer, StopEvent

    warn(_missing)

__all__ = [
    "ActionPlanStatus",
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
    "BackendError",
    "BasePolicy",
    "CameraFrame",
    "ChannelStats",
    "Fault",
    "Gap",
    "ImuSample",
    "InternalError",
    "InvalidParams",
    "Message",
    "NoSimulatorSelected",
    "NoTaskLoaded",
    "NotReset",
    "Pacer",
    "PacerStats",
    "Percentiles",
    "Policy",
    "PolicyClient",
    "PolicyStats",
    "Reply",
    "RobotStatus",
    "Service",
    "ServiceClient",
    "Simulator",
    "SimulatorAlreadySelected",
    "SimulatorError",
    "StopEvent",
    "Stream",
    "StreamClient",
    "StreamStats",
    "Subscription",
    "TaskNotFound",
    "Tick",
    "Timing",
    "UnknownMethod",
    "UnknownSimulator",
    "__version__",
    "deliver_picture",
    "explicit",
    "given",
    "numbers",
    "percentiles_of",
    "read_message",
    "stack",
]
