"""C's errors as Python's, and Python's arguments as C takes them."""

from __future__ import annotations

import copy
import math
import pickle
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import service_clients._axon as axon
from service_clients._axon._ffi import check, failure, ffi, lib, new_error
from service_clients._axon.options import c_string, explicit, fill, milliseconds

INCLUDE = Path(__file__).resolve().parents[2] / "include" / "axon"


def error_of(text: bytes, http_status: int = 0) -> Any:
    error = new_error()
    error.message = text
    error.http_status = http_status
    return error


@pytest.mark.parametrize(
    ("status", "kind", "builtin"),
    [
        ("AXON_EINVAL", axon.AxonValueError, ValueError),
        ("AXON_ECANCELED", axon.AxonCanceled, RuntimeError),
        ("AXON_ETIMEOUT", axon.AxonTimeout, TimeoutError),
        ("AXON_ECONNECT", axon.AxonConnectionError, ConnectionError),
        ("AXON_EPROTOCOL", axon.AxonProtocolError, RuntimeError),
        ("AXON_ESERVER", axon.AxonServerError, RuntimeError),
        ("AXON_EAUTH", axon.AxonAuthError, PermissionError),
        ("AXON_ETOOBIG", axon.AxonTooBig, ValueError),
        ("AXON_EIO", axon.AxonFileError, OSError),
    ],
)
def test_each_status_is_its_class_and_the_builtin_that_one_would_catch(
    status: str, kind: type[axon.AxonError], builtin: type[Exception]
) -> None:
    code = getattr(lib, status)
    with pytest.raises(kind) as caught:
        check(code, error_of("ws://10.0.0.4:8000: grün".encode(), 503))
    assert isinstance(caught.value, builtin)
    assert isinstance(caught.value, RuntimeError)
    assert str(caught.value) == "ws://10.0.0.4:8000: grün"
    assert (caught.value.status, caught.value.http_status) == (code, 503)


def test_every_status_of_the_header_has_a_class() -> None:
    statuses = set(re.findall(r"\b(AXON_E\w+) = \d+", (INCLUDE / "error.h").read_text()))
    assert len(statuses) == 10
    for status in statuses - {"AXON_ENOMEM"}:
        assert type(failure(getattr(lib, status), error_of(b""))) is not axon.AxonError


def test_success_raises_nothing() -> None:
    check(lib.AXON_OK, new_error())


def test_memory_that_ran_out_is_a_memory_error() -> None:
    with pytest.raises(MemoryError, match="no room for 8 bytes"):
        check(lib.AXON_ENOMEM, error_of(b"out of memory: no room for 8 bytes"))


def test_a_status_of_a_later_core_is_still_an_axon_error() -> None:
    assert type(failure(99, error_of(b"new"))) is axon.AxonError


@pytest.mark.parametrize("kind", [axon.AxonTimeout, axon.AxonFileNotFound, axon.AxonServerError])
def test_errors_survive_pickling_and_copying(kind: type[axon.AxonError]) -> None:
    error = kind("what happened")
    error.http_status = 422
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(again) is kind
        assert (str(again), again.http_status) == ("what happened", 422)


def test_a_path_that_leads_nowhere_can_be_caught_in_every_way_one_would_try() -> None:
    for builtin in (FileNotFoundError, OSError, ValueError, RuntimeError):
        assert issubclass(axon.AxonFileNotFound, builtin)


# ---- arguments -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "ms"),
    [
        (None, 0),
        (1, 1000),
        (0.0001, 1),
        (1.0001, 1001),
        (np.float32(0.5), 500),
        (Decimal("2.5"), 2500),
        (10**9, 4294967295),
        (1e308, 4294967295),
        (math.inf, 4294967295),
    ],
)
def test_seconds_become_milliseconds_rounded_up(seconds: Any, ms: int) -> None:
    assert milliseconds(seconds, "timeout") == ms


@pytest.mark.parametrize("seconds", [math.nan, 0, 0.0, -1, -math.inf, True, False, "1", b"1", [1], 1j])
def test_what_is_no_time_to_wait_is_refused(seconds: Any) -> None:
    with pytest.raises(ValueError, match=r"connect_timeout is .* seconds"):
        milliseconds(seconds, "connect_timeout")


@pytest.mark.parametrize(
    ("fields", "kind", "said"),
    [
        ({"api_key": 5}, TypeError, "api_key is 5, not a str"),
        ({"api_key": "a\0b"}, ValueError, "api_key is .* zero character"),
        ({"max_reply_bytes": -1}, ValueError, "max_reply_bytes is -1: "),
        ({"max_reply_bytes": 1.5}, TypeError, "max_reply_bytes is 1.5: "),
        ({"max_reply_bytes": 2**64}, ValueError, "max_reply_bytes is 18446744073709551616: "),
        ({"connect_once": "yes"}, TypeError, "connect_once is 'yes': "),
    ],
)
def test_an_option_that_cannot_be_is_refused_by_name(
    fields: dict[str, Any], kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind, match=said) as caught:
        fill("axon_policy_options", **fields)
    assert isinstance(caught.value, axon.AxonError)


def test_options_carry_their_size_and_what_is_none_stays_the_default() -> None:
    options, _keep = fill("axon_policy_options", api_key="ключ", ca_file=None, connect_once=True)
    assert options.size == ffi.sizeof("axon_policy_options")
    assert ffi.string(options.api_key).decode() == "ключ"
    assert options.ca_file == ffi.NULL
    assert (options.connect_once, options.tls_insecure, options.infer_timeout_ms) == (1, 0, 0)


def test_a_path_may_be_a_c_string(tmp_path: Path) -> None:
    assert ffi.string(c_string(tmp_path, "ca_file")) == bytes(tmp_path)


def test_an_explicit_zero_is_not_the_default() -> None:
    assert explicit(0.25, "conf") == 0.25
    assert explicit(0, "conf") < 0
    with pytest.raises(ValueError, match=r"conf is -0\.5, less than 0"):
        explicit(-0.5, "conf")
    with pytest.raises(TypeError, match="conf is 'high', not a number"):
        explicit("high", "conf")  # type: ignore[arg-type]


# ---- the headers ---------------------------------------------------------------------------------


def test_everything_that_the_headers_declare_is_there() -> None:
    text = "".join(path.read_text() for path in INCLUDE.rglob("*.h"))
    functions = re.findall(r"^AXON_API\b[^;]*?\b(axon_\w+)\(", text, re.MULTILINE)
    numbers = re.findall(r"^#define (AXON_\w+) +\(?-?\d", text, re.MULTILINE)
    assert len(functions) > 60
    assert len(numbers) > 5
    for name in functions + numbers:
        assert hasattr(lib, name), name


def test_the_version_is_that_of_the_headers() -> None:
    numbers = (lib.AXON_VERSION_MAJOR, lib.AXON_VERSION_MINOR, lib.AXON_VERSION_PATCH)
    assert axon.__version__ == "{}.{}.{}".format(*numbers)
