"""Chunk engines: a policy is asked on a thread of its own in C, and its actions are there when the robot needs them."""

from __future__ import annotations

import itertools
import os
import threading
import time
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Iterable, NamedTuple, Sequence, TypeVar

from service_clients._axon._ffi import check, failure, ffi, lib, new_error, raise_pending
from service_clients._axon.base_policy import act_of
from service_clients._axon.errors import AxonTypeError, AxonValueError
from service_clients._axon.options import fill, milliseconds, one_of, strings
from service_clients._axon.plain import as_float
from service_clients._axon.policy import Policy, _words
from service_clients._axon.policy_client import PolicyClient
from service_clients._axon.values import array_of, read, write

if TYPE_CHECKING:
    import numpy

__all__ = ["ChunkField", "ChunkInfo", "ChunkStats", "Chunks"]

_MODES = _words("axon_chunk_mode", "AXON_CHUNK_")
_EMPTY = _words("axon_chunk_empty", "AXON_CHUNK_")
_ON_ERROR = {"raise": lib.AXON_CHUNK_REPORT, "retry": lib.AXON_CHUNK_RETRY}
_DIMENSIONS = _words("axon_chunk_dimension", "AXON_DIM_")
_ROOM: int = lib.AXON_CHUNK_MAX_WIDTH
_NOW: int = lib.AXON_CHUNK_NOW
_TICKET = "ticket"

_Chunks = TypeVar("_Chunks", bound="Chunks")


class ChunkInfo(NamedTuple):
    """Where an action came from."""

    chunk: int  # the number of its chunk (in an ensemble the newest), 1 for the first one; 0: none yet
    step: float  # its place in that chunk: 3.25 lies between the steps 3 and 4
    starved: bool  # nothing was left, and on_empty said what to do
    wants: bool  # an observation is asked for


class ChunkField(NamedTuple):
    """One array of the policy's replies whose rows are steps: its part of an action."""

    key: str  # "actions", "arm.joints"
    dtype: str  # of what the policy sends: "float32"
    offset: int  # its first number in an action
    width: int  # its numbers in an action
    shape: tuple[int, ...]  # of one step
    path: tuple[str, ...]  # the keys that lead to it: ("arm", "joints")


class ChunkStats(NamedTuple):
    """What became of steps, chunks and observations; latencies are over the last 32 inferences."""

    steps: int  # actions that were handed out
    starved: int  # of these, when nothing was left
    chunks: int  # that the policy made and that were not discarded
    late: int  # of these, that came when the one before was used up
    stale: int  # of these, that came when all their steps had passed
    skipped: int  # steps that had passed when their chunk came
    observations: int  # that were taken
    failures: int  # of inferences and resets
    discarded: int  # inferences that a reset made void
    rtc: bool  # the policy is told what is still to be executed
    delay_steps: int  # p90 of the steps that the controller made while the policy worked
    latency_ms: float  # p90 of an inference
    latency_p50_ms: float
    latency_max_ms: float
    failure: str  # the last one; "" when there was none


# ---- a policy in Python ----------------------------------------------------------------------------------


class _Caller:
    """Asks a policy that is a Python object, on the engine's thread. C knows observations by a number."""

    def __init__(self, policy: Any) -> None:
        try:
            self.act = act_of(policy)
        except TypeError as error:
            raise AxonTypeError(str(error)) from None
        self.reset = getattr(policy, "reset", None)
        self.observations: dict[int, Any] = {}
        self.tickets = 0
        self.calls = 0
        self.raised: tuple[int, BaseException | None] = (0, None)  # by which call
        self.keep: list[Any] = []  # what the last reply borrows from

    def ticket_for(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        """What C is given in place of an observation."""
        self.tickets += 1
        self.observations[self.tickets] = _snapshot(observation)
        return {_TICKET: self.tickets}

    def ask(self, kind: int, value: Any, actions: Any) -> None:
        told = {} if value == ffi.NULL else read(value)
        if kind == lib.AXON_REQUEST_RESET:
            if self.reset is not None:
                self.reset(told) if told else self.reset()
            return
        ticket = told.pop(_TICKET)
        for other in [number for number in self.observations if number < ticket]:
            del self.observations[other]
        observation = dict(self.observations[ticket])
        observation.update(told)
        reply = self.act(observation)
        if not isinstance(reply, Mapping):
            raise AxonTypeError(f"the policy returned {type(reply).__name__}, not a dict")
        self.keep = []
        actions[0] = write(_arrays_in(reply), "action", self.keep)


@ffi.def_extern(error=lib.AXON_ESERVER)  # type: ignore[untyped-decorator]
def axb_ask_policy(user: Any, kind: int, value: Any, actions: Any, err: Any) -> int:
    """Called by C on the engine's thread."""
    caller: _Caller = ffi.from_handle(user)
    caller.calls = caller.calls % 0x7FFFFFFF + 1
    try:
        caller.ask(kind, value, actions)
    except BaseException as problem:
        caller.raised = caller.calls, problem
        text = f"{type(problem).__name__}: {problem}".replace("\0", "?").encode("utf-8", "replace")
        text = text[: len(err.message) - 1]
        err.code = getattr(problem, "status", 0) or lib.AXON_ESERVER
        err.http_status = caller.calls  # which finds the exception again
        ffi.memmove(err.message, text, len(text))
        return int(err.code)
    return int(lib.AXON_OK)


def _snapshot(value: Any) -> Any:
    """A copy whose arrays the caller may change afterwards."""
    if isinstance(value, Mapping):
        return {key: _snapshot(child) for key, child in value.items()}
    if isinstance(value, (list, tuple)):
        return [_snapshot(child) for child in value]
    if hasattr(type(value), "__array_interface__") and hasattr(value, "copy"):
        return value.copy()
    return value


def _arrays_in(reply: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays of a reply: nothing else of it can be a chunk, and need not travel."""
    found: dict[str, Any] = {}
    for key, value in reply.items():
        if isinstance(value, Mapping):
            found[str(key)] = _arrays_in(value)
        elif getattr(value, "ndim", 0) and hasattr(type(value), "__array__"):
            found[str(key)] = value
    return found


def _session_of(policy: Any) -> Policy | None:
    """The session behind a policy, if there is nothing in Python between it and its actions."""
    if isinstance(policy, PolicyClient):
        kind = type(policy)
        if kind.infer is PolicyClient.infer and kind.step is PolicyClient.step:
            policy = policy._policy
    return policy if isinstance(policy, Policy) else None


def _finish(engine: Any, session: Policy | None) -> None:
    lib.axon_chunk_close(engine)
    if session is not None:
        session._take_back()


# ---- the engine ------------------------------------------------------------------------------------------


class Chunks:
    """A chunk engine: observations in on one thread, actions out on another; see include/axon/chunk.h.

    A session with a server (Policy, the clients of openpi and webpolicy) is asked without the GIL, and is the
    engine's alone until close(); any other policy is called back on the engine's thread. It is a context manager.
    """

    def __init__(
        self,
        policy: Any,
        mode: str = "prefetch",
        *,
        action_horizon: int | None = None,
        action_hz: float | None = None,
        control_hz: float | None = None,
        prefetch_steps: int | None = None,
        on_empty: str = "hold",
        on_error: str = "raise",
        dimensions: Sequence[str] | None = None,
        keys: Sequence[str] | None = None,
        ensemble_m: float | None = None,
        allow_nan: bool = False,
        wait_first: bool = True,
        wait: float | None = None,
        reuse_array: bool = False,
        rtc_actions_key: str | None = None,
        rtc_delay_key: str | None = None,
    ) -> None:
        """
        Args:
            policy: a session, or anything with `infer` or `step`, which is then called on the engine's thread.
            mode: when the policy is asked, and which step of its answer belongs to now: "blocking", "prefetch",
                "aligned", "ensemble", "rtc"; docs/control.md has a table.
            action_horizon: steps of a chunk that are used; default all that it has.
            action_hz: steps per second of a chunk, 0.001 to 10 000: actions go by time, and are interpolated;
                default: one step per call.
            control_hz: for "blocking" with action_hz: calls of next_action() per second; default action_hz.
            prefetch_steps: an observation is asked for when so many steps are left, or as many as the policy needed
                lately and one, when that is more; default half a chunk.
            on_empty: when nothing is left: "hold" (the last action, 0 in dimensions that are velocities), "repeat",
                "zero" (but the last number of dimensions that are stepped), "raise".
            on_error: what next_action() does about a policy that failed: "raise" (once), or "retry".
            dimensions: for each number of an action "linear", "stepped" or "angle" (radians), and "+velocity" where it is
                a velocity or a delta: "linear+velocity". Default all linear.
            keys: which arrays of a reply are chunks, "arm.joints" in a dict; default `actions`, `action`, and the
                arrays that are as long.
            ensemble_m: m of the ensemble's weights exp(-m i), 0 for the oldest; default 0.01.
            allow_nan: actions may hold NaN and infinity.
            wait_first: next_action() waits for the first chunk of an episode; otherwise it raises AxonTimeout.
            wait: the longest wait of next_action(), in seconds; default 60.
            reuse_array: next_action() returns the same array each time.
            rtc_actions_key, rtc_delay_key: what the observation has more in "rtc"; default "prev_chunk_left_over" and
                "inference_delay".

        Raises:
            AxonTypeError, AxonValueError: an argument that cannot be, naming it.
        """
        options, keep = fill(
            "axon_chunk_options",
            mode=one_of(_MODES, mode, "mode"),
            on_empty=one_of(_EMPTY, on_empty, "on_empty"),
            on_error=one_of(_ON_ERROR, on_error, "on_error"),
            action_horizon=_at_least_one(action_horizon, "action_horizon"),
            prefetch_steps=_at_least_one(prefetch_steps, "prefetch_steps"),
            action_hz=_rate(action_hz, "action_hz"),
            control_hz=_rate(control_hz, "control_hz"),
            ensemble_m=None if ensemble_m is None else _weight(ensemble_m),
            allow_nan=allow_nan,
            no_wait=not wait_first,
            wait_ms=milliseconds(wait, "wait"),
            rtc_actions_key=rtc_actions_key,
            rtc_delay_key=rtc_delay_key,
        )
        if keys is not None:
            _, more = strings(keys, "keys")
            options.keys = ended = ffi.new("char *[]", [*more, ffi.NULL])
            keep += [more, ended]
        if dimensions is not None:
            options.dimensions = kinds = ffi.new("int32_t[]", _kinds(dimensions))
            options.dimension_count = len(kinds)
            keep.append(kinds)
        self._mode, self._closing = mode, False
        self._process = os.getpid()
        self._interpolates = action_hz is not None
        self._open(policy, options)
        self._numbers = ffi.new("double[]", _ROOM)
        self._info = ffi.new("axon_chunk_info *")
        self._error, self._submit_error = new_error(), new_error()
        self._action: Any = None  # a view of _numbers, once the width is known
        self._reuses = reuse_array
        self._in_next = self._in_submit = 0  # the thread that is inside, so that close() can wait for it

    def _open(self, policy: Any, options: Any) -> None:
        out, error = ffi.new("axon_chunk_engine **"), new_error()
        session = _session_of(policy)
        self._caller: _Caller | None = None
        if session is not None:
            pointer = session._lend(self)
            try:
                session._set_timeout(pointer, session._usual_ms)
                check(lib.axon_chunk_open(out, pointer, options, error), error)
            except BaseException:
                session._take_back()
                raise
        else:
            self._caller = _Caller(policy)
            self._handle = ffi.new_handle(self._caller)  # not the finalizer's: a policy may hold its engine
            check(lib.axon_chunk_open_function(out, lib.axb_ask_policy, self._handle, options, error), error)
        self._engine: Any = out[0]
        self._finalizer = weakref.finalize(self, _finish, out[0], session)

    # ---- the slow side

    @property
    def wants(self) -> bool:
        """Whether an observation is asked for: submit() would take one."""
        return bool(lib.axon_chunk_wants(self._engine))

    def submit(self, observation: Mapping[str, Any], now: float | None = None) -> bool:
        """Hands over an observation when one is asked for; otherwise does nothing, so that it may be called for each.

        Args:
            observation: copied when it is taken; for a session what Policy.infer() takes.
            now: when it was taken, in seconds on the clock of next_action(), of 0 or more; default now, on
                CLOCK_MONOTONIC.

        Returns:
            Whether it was taken.

        Raises:
            AxonValueError: it does not travel, naming the place; or a time before that of the last one.
        """
        if not isinstance(observation, Mapping):
            raise AxonTypeError(f"observation is {type(observation).__name__}, not a dict")
        if not lib.axon_chunk_wants(self._engine):
            self._check_open()
            return False
        at = _NOW if now is None else _nanoseconds(now)
        if self._caller is not None:
            observation = self._caller.ticket_for(observation)
        keep: list[Any] = []
        taken = ffi.new("int32_t *")
        tree = write(observation, "observation", keep)
        self._in_submit = threading.get_ident()
        try:
            status = lib.axon_chunk_submit(self._engine, tree, at, taken, self._submit_error)
        finally:
            self._in_submit = 0
            lib.axon_value_free(tree)
        if status:
            self._check_open()
            check(status, self._submit_error)
        return bool(taken[0])

    def wait(self, timeout: float = 60.0) -> None:
        """Waits until no inference is under way: what was submitted has become a chunk, or failed.

        Raises:
            AxonTimeout
        """
        error = new_error()
        self._check_open()
        check(lib.axon_chunk_wait(self._engine, milliseconds(timeout, "timeout"), error), error)

    def reset(self, payload: Mapping[str, Any] | None = None) -> None:
        """Begins an episode: what is left and what is under way is discarded, and the policy is reset before it is
        asked again, on the engine's thread. Does not wait.

        Args:
            payload: goes along with the policy's reset.
        """
        if payload is not None and not isinstance(payload, Mapping):
            raise AxonTypeError(f"payload is {type(payload).__name__}, not a dict")
        self._check_open()
        keep: list[Any] = []
        error = new_error()
        tree = write(payload, "payload", keep) if payload else ffi.NULL
        try:
            check(lib.axon_chunk_reset(self._engine, tree, error), error)
        finally:
            lib.axon_value_free(tree)

    # ---- the fast side

    def next_action(self, now: float | None = None) -> numpy.ndarray[Any, Any]:
        """The action for now.

        Args:
            now: seconds, of 0 or more, on any clock that does not go back; default CLOCK_MONOTONIC, which is
                time.monotonic().

        Returns:
            float64 (width,): the numbers of all chunks' fields one behind the other, see fields(). A copy, or with
            reuse_array the same array each time, which the next call overwrites.

        Raises:
            What a policy in Python raised; AxonServerError, AxonConnectionError, AxonTimeout...: what asking the
            server came to; AxonProtocolError: a reply without chunks, of another width, too short or with a NaN.
            AxonTimeout also when nothing is left (on_empty="raise") or nothing came in time.
            AxonValueError: a time before that of the last call.
        """
        self._in_next = threading.get_ident()
        try:
            status = lib.axon_chunk_next(
                self._engine,
                _NOW if now is None else int(now * 1e9) if now >= 0 else _nanoseconds(now),
                self._numbers,
                _ROOM,
                self._info,
                self._error,
            )
        except (TypeError, OverflowError):
            _nanoseconds(now)
            raise
        finally:
            self._in_next = 0
        if status:
            self._fail(status)
        if self._reuses and self._action is not None:
            return self._action  # type: ignore[no-any-return]
        if self._action is None:
            self._action = _doubles(self._numbers, lib.axon_chunk_width(self._engine))
            if self._reuses:
                return self._action  # type: ignore[no-any-return]
        return self._action.copy()  # type: ignore[no-any-return]

    @property
    def info(self) -> ChunkInfo:
        """Where the last action came from."""
        told = self._info
        return ChunkInfo(told.chunk, told.step, bool(told.starved), bool(told.wants))

    def _fail(self, status: int) -> None:
        if self._closing:
            self.close()
        self._check_open()
        raise_pending()
        if self._caller is not None and self._error.http_status:
            call, raised = self._caller.raised
            if raised is not None and call == self._error.http_status:
                self._caller.raised = 0, None
                raise raised
            self._error.http_status = 0
        raise failure(status, self._error)

    # ---- what it knows

    @property
    def mode(self) -> str:
        """As it was opened with."""
        return self._mode

    @property
    def width(self) -> int:
        """The numbers of an action; 0 until the first chunk is here."""
        return int(lib.axon_chunk_width(self._engine))

    def fields(self) -> list[ChunkField]:
        """What an action is made up of; empty until the first chunk is here."""
        return list(self._fields())

    def _fields(self) -> Iterable[ChunkField]:
        for index in range(lib.AXON_CHUNK_MAX_WIDTH):
            field = lib.axon_chunk_get_field(self._engine, index)
            if field == ffi.NULL:
                return
            shape = tuple(ffi.unpack(field.shape, field.ndim)) if field.ndim else ()
            path = itertools.takewhile(
                lambda key: key != ffi.NULL, (field.path[at] for at in itertools.count())
            )
            array = ffi.new("axon_array *", {"dtype": field.dtype, "ndim": 1, "shape": [0]})
            yield ChunkField(
                _text_of(field.key),
                str(array_of(array).dtype),
                field.offset,
                field.count,
                shape,
                tuple(map(_text_of, path)),
            )

    def stats(self) -> ChunkStats:
        """The counters."""
        self._check_open()
        told, error = ffi.new("axon_chunk_stats *"), new_error()
        check(lib.axon_chunk_get_stats(self._engine, told, error), error)
        found = {name: getattr(told, name) for name in ChunkStats._fields}
        found["rtc"] = bool(told.rtc)
        found["failure"] = (
            ffi.string(told.failure.message).decode("utf-8", "replace") if told.failure.code else ""
        )
        return ChunkStats(**found)

    # ---- ending

    def close(self) -> None:
        """Ends what is under way and the engine's thread; a session stays open. May be repeated.

        A next_action() that is waiting ends with AxonValueError. It waits for a Python policy that is computing.
        """
        self._closing = True
        engine, self._engine = self._engine, ffi.NULL
        here = threading.get_ident()
        while os.getpid() == self._process and (self._in_next or self._in_submit):
            if engine == ffi.NULL:
                return  # somebody else is at it
            lib.axon_chunk_cancel(engine)
            if here in (
                self._in_next,
                self._in_submit,
            ):  # a signal handler, in the middle of its thread's call
                self._engine = engine
                return
            time.sleep(0.001)
        self._finalizer()

    @property
    def closed(self) -> bool:
        """Whether close() was called."""
        return self._closing

    def _check_open(self) -> None:
        if self._closing:
            raise AxonValueError("the chunk engine is closed")

    def __enter__(self: _Chunks) -> _Chunks:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def __reduce_ex__(self, _protocol: Any) -> Any:
        raise AxonTypeError("a chunk engine cannot be copied or pickled; open another")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._mode}{', closed' if self._closing else ''}>"


def _doubles(numbers: Any, count: int) -> Any:
    import numpy

    return numpy.frombuffer(ffi.buffer(numbers, count * 8), numpy.float64)


def _text_of(key: Any) -> str:
    return str(ffi.string(key).decode("utf-8", "replace"))


def _nanoseconds(seconds: Any) -> int:
    """A time as C has it.

    Raises:
        AxonValueError: it is none.
    """
    try:
        number = int(seconds * 1e9)
    except (TypeError, ValueError, OverflowError):
        number = -1
    if not 0 <= number < 1 << 62:
        raise AxonValueError(f"now is {seconds!r:.80}, not a number of seconds of 0 or more")
    return number


def _at_least_one(number: Any, name: str) -> Any:
    if number is None:
        return None
    if isinstance(number, bool) or not hasattr(number, "__index__"):
        raise AxonTypeError(f"{name} is {number!r:.80}, not a whole number")
    if number < 1:
        raise AxonValueError(f"{name} is {number}, not 1 or more")
    return int(number)


def _rate(rate: Any, name: str) -> Any:
    if rate is None:
        return None
    if isinstance(rate, (bool, str, bytes)) or not hasattr(rate, "__float__"):
        raise AxonTypeError(f"{name} is {rate!r:.80}, not a number")
    hertz = as_float(rate)
    if not hertz > 0:
        raise AxonValueError(f"{name} is {hertz:g}, not a positive number")
    return hertz


def _weight(m: Any) -> float:
    if isinstance(m, (bool, str, bytes)) or not hasattr(m, "__float__"):
        raise AxonTypeError(f"ensemble_m is {m!r:.80}, not a number")
    weight = as_float(m)
    if not weight >= 0:
        raise AxonValueError(f"ensemble_m is {weight:g}, not 0 or more")
    return weight or -1.0  # in C 0 means the default


def _kinds(dimensions: Sequence[str]) -> list[int]:
    if isinstance(dimensions, (str, bytes)) or not hasattr(dimensions, "__iter__"):
        raise AxonTypeError(f"dimensions is {dimensions!r:.80}, not a list of str")
    return [
        sum(one_of(_DIMENSIONS, word, f"dimensions[{index}]") for word in _words_of(kind, index))
        for index, kind in enumerate(dimensions)
    ]


def _words_of(kind: Any, index: int) -> list[str]:
    if not isinstance(kind, str):
        raise AxonTypeError(f"dimensions[{index}] is {kind!r:.80}, not a str")
    return kind.split("+")
