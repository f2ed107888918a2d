"""Peers that break the rules or die: each gives one clear error in time, and a handle that can be closed.

The fakes in tests/fakes break them; their names are the first column of the tables here.
"""

from __future__ import annotations

import gc
import time
from typing import Any, Callable, Iterator

import numpy as np
import pytest
from peers import harness
from support import memory_tells, open_files, resident_bytes

from service_clients._axon import Policy
from service_clients._axon.errors import (
    AxonAuthError,
    AxonConnectionError,
    AxonError,
    AxonProtocolError,
    AxonServerError,
    AxonTimeout,
    AxonTooBig,
)
from service_clients.demo.backends import Backend
from service_clients.openpi.client import WebsocketClientPolicy
from service_clients.yolo_detection.client import YOLOClient

DEADLINE = 1.0  # seconds, of a call that is to miss it; the others get AMPLE
AMPLE = 20.0
HUNG = 10.0  # a call that took this long did not keep its deadline, however busy the machine was
OBSERVATION = {"observation/image": np.zeros((64, 64, 3), np.uint8), "prompt": "go"}
BUILTIN = {AxonTimeout: TimeoutError, AxonConnectionError: ConnectionError, AxonAuthError: PermissionError}

# name of the fake: what is raised, and what its message says
BEFORE_METADATA: dict[str, tuple[type[AxonError], str]] = {
    "silent": (
        AxonTimeout,
        "listening but silent: no answer to the upgrade after 1000 ms (connect_timeout_ms)",
    ),
    "hangs-up": (AxonConnectionError, "the server hung up"),
    "resets": (AxonConnectionError, "the server dropped the connection"),
    "http-401": (AxonAuthError, "HTTP 401 in place of the upgrade: who are you"),
    "http-403": (AxonAuthError, "HTTP 403 in place of the upgrade"),
    "http-404": (AxonServerError, "HTTP 404 in place of the upgrade: no such policy"),
    "http-503": (AxonServerError, "HTTP 503 in place of the upgrade: still loading"),
    "http-200": (AxonServerError, "HTTP 200 in place of the upgrade: hello"),
    "not-http": (AxonProtocolError, "no WebSocket server"),
    "endless-header": (AxonProtocolError, "longer than 16384 bytes or endless"),
    "endless-header-line": (AxonProtocolError, "longer than 16384 bytes or endless"),
    "wrong-accept": (AxonProtocolError, "its Sec-WebSocket-Accept is wrong"),
    "no-metadata": (AxonTimeout, "listening but silent: no metadata after 1000 ms (connect_timeout_ms)"),
    "text-metadata": (AxonServerError, "server error: the model failed to load"),
    "malformed-metadata": (AxonProtocolError, "metadata"),
    "closes-for-metadata": (AxonConnectionError, "the server closed the connection: 1011"),
    "cut-metadata": (AxonConnectionError, "the server hung up without a goodbye in the middle of a message"),
    "endless-metadata": (AxonTimeout, "no metadata after 1000 ms (connect_timeout_ms)"),
}
IN_REPLY: dict[str, tuple[type[AxonError], str]] = {
    "never-answers": (AxonTimeout, "no reply after 1000 ms (infer_timeout_ms)"),
    "truncated": (AxonConnectionError, "the server hung up without a goodbye in the middle of a message"),
    "truncated-head": (AxonConnectionError, "the server hung up without a goodbye"),
    "stalls": (AxonTimeout, "no reply after 1000 ms (infer_timeout_ms)"),
    "drips": (AxonTimeout, "no reply after 1000 ms (infer_timeout_ms)"),
    "oversized": (AxonTooBig, "a message of 1099511627776 bytes or more, limit 4194304 (max_reply_bytes)"),
    "length-of-64-bits": (AxonProtocolError, "the server sent a frame whose length has its highest bit set"),
    "endless-fragments": (AxonTooBig, "limit 4194304 (max_reply_bytes)"),
    "text": (AxonServerError, "server error: ValueError: no such joint"),
    "text-and-close": (AxonServerError, "server error: ValueError: no such joint"),
    "text-not-utf8": (AxonProtocolError, "the server sent a text message that is not UTF-8"),
    "closes": (AxonConnectionError, "the server closed the connection: 1011 (internal error): out of memory"),
    "hangs-up-on-observation": (AxonConnectionError, "the server hung up without a goodbye"),
    "resets-on-observation": (AxonConnectionError, "connection reset by the server"),
    "resets-in-reply": (AxonConnectionError, "connection reset by the server in the middle of a message"),
    "masked": (AxonProtocolError, "the server sent a masked frame"),
    "reserved-bits": (AxonProtocolError, "the server sent a frame with a reserved bit set"),
    "unknown-opcode": (AxonProtocolError, "the server sent a frame of unknown kind"),
    "continues-nothing": (AxonProtocolError, "the server sent a continuation of no message"),
    "starts-twice": (AxonProtocolError, "the server sent a new message inside of another"),
    "long-ping": (AxonProtocolError, "the server sent a control frame longer than 125 bytes"),
    "ping-in-pieces": (AxonProtocolError, "the server sent a control frame in fragments"),
}
PAYLOADS: dict[str, str] = {
    "nothing": "reply: the message ends where a value should begin",
    "reserved-byte": 'reply "a": 0xc1',
    "cut-map": "2 children are announced",
    "cut-string": "256 bytes of text are announced and 3 are left",
    "cut-bin": "4294967295 bytes of data are announced and 3 are left",
    "cut-float": "ends inside a value",
    "huge-map": "4294967295 children are announced",
    "huge-list": "4294967295 children are announced",
    "trailing-bytes": "1 bytes follow the message",
    "deep": "nested deeper than 32 levels",
    "deep-maps": "nested deeper than 32 levels",
    "extension": "an extension type",
    "bad-utf8": "text that is not UTF-8",
    "bad-utf8-key": "text that is not UTF-8",
    "list-key": "a key that is neither text nor bytes",
    "not-a-map": "reply: it is neither a map nor an array",
    "array-no-data": "data is missing",
    "array-no-dtype": "dtype is missing",
    "array-no-shape": "shape is missing",
    "array-too-little-data": "data has 11 bytes where shape and dtype make 12",
    "array-too-much-data": "data has 13 bytes where shape and dtype make 12",
    "array-data-is-text": "data is not bytes",
    "array-data-is-a-number": "data is not bytes",
    "array-shape-too-big": "data has 12 bytes where shape and dtype make 16",
    "array-shape-negative": "no number of elements",
    "array-shape-two-negatives": "no number of elements",
    "array-shape-overflows": "more than 2^63 bytes",
    "array-shape-overflows-to-3": "more than 2^63 bytes",
    "array-shape-huge-and-empty": "more than 2^63 bytes",
    "array-shape-of-floats": "no number of elements",
    "array-shape-of-text": "shape is not a list",
    "array-shape-of-bools": "no number of elements",
    "array-shape-too-long": "66 dimensions, more than 32",
    "array-dtype-object": "dtype is '|O'",
    "array-dtype-void": "dtype is '|V12'",
    "array-dtype-complex": "dtype is '<c8'",
    "array-dtype-time": "dtype is '<M8[ns]'",
    "array-dtype-record": "dtype is 'f4,f4'",
    "array-dtype-huge-text": "dtype is '<U4294967295'",
    "array-dtype-nonsense": "dtype is '<q3'",
    "array-dtype-empty": "dtype is ''",
    "array-dtype-long": "not a dtype that travels",
    "array-dtype-is-a-number": "dtype is not text",
    "scalar-no-data": "data is missing",
    "scalar-no-dtype": "dtype is missing",
    "scalar-dtype-object": "dtype is '|O'",
    "scalar-data-is-text": "does not fit its dtype",
    "scalar-out-of-range": "does not fit its dtype",
}
SERVICE: dict[str, tuple[type[AxonError], str]] = {
    "silent": (AxonTimeout, "listening but silent, no answer after 1000 ms (timeout_ms)"),
    "never-reads": (AxonTimeout, "listening but silent, no answer after 1000 ms (timeout_ms)"),
    "hangs-up": (AxonConnectionError, "connection closed without an answer"),
    "resets": (AxonConnectionError, "connection closed without an answer"),
    "truncated": (AxonConnectionError, "connection lost in mid-reply, after 114 of 134 bytes"),
    "resets-in-reply": (AxonConnectionError, "connection lost in mid-reply"),
    "stalls": (AxonTimeout, "no complete reply after 1000 ms (timeout_ms), only 114 of 134 bytes"),
    "drips": (AxonTimeout, "no complete reply after 1000 ms (timeout_ms)"),
    "endless-header": (AxonProtocolError, "the header of the reply is longer than 65536 bytes"),
    "endless-header-line": (AxonProtocolError, "endless-header-line: "),
    "endless-body": (AxonTimeout, "no complete reply after 1000 ms (timeout_ms)"),
    "oversized": (AxonTooBig, "the reply is longer than 268435456 bytes (max_reply_bytes)"),
    "length-is-text": (AxonProtocolError, "the reply is not HTTP/1.1"),
    "bad-chunk": (AxonProtocolError, "the reply is damaged"),
    "cut-chunk": (AxonConnectionError, "connection lost in mid-reply"),
    "not-http": (AxonProtocolError, "the reply is not HTTP/1.1"),
    "malformed-json": (AxonProtocolError, "the JSON text ends after 16 bytes"),
    "nothing": (AxonProtocolError, "is empty, not JSON"),
    "deep-json": (AxonProtocolError, "JSON text"),
    "not-utf8": (AxonProtocolError, "text that is not UTF-8"),
    "page": (AxonProtocolError, "is text/html, not JSON"),
    "no-detections": (AxonProtocolError, 'no member "detections"'),
    "list": (AxonProtocolError, "'[' at byte 0 of the JSON text where '{' should be"),
    "http-400": (AxonServerError, "/detect failed (HTTP 400): image is no picture"),
    "http-401": (AxonAuthError, "/detect failed (HTTP 401): who are you"),
    "http-403": (AxonAuthError, "/detect failed (HTTP 403): not you"),
    "http-404": (AxonServerError, "/detect failed (HTTP 404): Not Found"),
    "http-422": (AxonServerError, "/detect failed (HTTP 422): body.conf: too big"),
    "http-500": (AxonServerError, "/detect failed (HTTP 500): Internal Server Error"),
    "http-502-page": (AxonServerError, "/detect failed (HTTP 502)"),
    "http-503-no-body": (AxonServerError, "/detect failed (HTTP 503): the reply is empty"),
    "redirects-to-itself": (AxonServerError, "/detect failed (HTTP 307)"),
    "redirects-away": (AxonServerError, "/detect failed (HTTP 307)"),
    "refuses-early": (AxonServerError, "/detect failed (HTTP 413): too large for us"),
}


@pytest.fixture(scope="module")
def policies() -> Iterator[Backend]:
    with harness.start_fake("policy_faults.py") as server:
        yield server


@pytest.fixture(scope="module")
def services() -> Iterator[Backend]:
    with harness.start_fake("service_faults.py") as server:
        yield server


def fails(call: Callable[[], Any], kind: type[AxonError], said: str, peer: str) -> None:
    """Fails unless ``call`` raises ``kind`` in time, with a message that says ``said`` and names ``peer``."""
    started = time.monotonic()
    with pytest.raises(kind) as caught:
        call()
    assert time.monotonic() - started < HUNG
    assert said in str(caught.value)
    assert peer in str(caught.value)
    for ours, builtin in BUILTIN.items():
        assert isinstance(caught.value, builtin) == isinstance(caught.value, ours), (
            "the builtin too, or neither"
        )


def patience(kind: type[AxonError]) -> float:
    """The deadline of a call that is to raise ``kind``, in seconds."""
    return DEADLINE if kind is AxonTimeout else AMPLE


# ---- policy servers ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BEFORE_METADATA)
def test_a_server_that_fails_before_its_metadata(name: str, policies: Backend) -> None:
    kind, said = BEFORE_METADATA[name]
    url = f"{policies.url}/{name}"
    fails(lambda: Policy(url, connect_timeout=patience(kind), connect_once=True), kind, said, url)


@pytest.mark.parametrize("name", ["hangs-up", "resets"])
def test_a_server_that_keeps_hanging_up_is_given_up_at_the_deadline(name: str, policies: Backend) -> None:
    url = f"{policies.url}/{name}"
    fails(lambda: WebsocketClientPolicy(host=url, connect_timeout=DEADLINE), AxonError, "", url)


@pytest.mark.parametrize("name", IN_REPLY)
def test_a_server_that_fails_in_its_reply(name: str, policies: Backend) -> None:
    kind, said = IN_REPLY[name]
    url = f"{policies.url}/{name}"
    with Policy(url, infer_timeout=patience(kind), max_reply_bytes=2**22) as client:
        assert client.metadata == {"fake": True}
        fails(lambda: client.infer(OBSERVATION), kind, said, url)
        # The session goes on, over a new connection where it must be. "text" does not hang up after its error, as
        # it should; it is taken for a server that goes on.
        later = AxonTimeout if name == "text" else kind
        fails(lambda: client.infer(OBSERVATION, timeout=patience(later)), later, "", url)
    with pytest.raises(ValueError, match="closed"):
        client.infer(OBSERVATION)


@pytest.mark.parametrize("name", PAYLOADS)
def test_a_reply_whose_content_is_wrong(name: str, policies: Backend) -> None:
    url = f"{policies.url}/{name}"
    with Policy(url, infer_timeout=AMPLE) as client:
        fails(lambda: client.infer(OBSERVATION), AxonProtocolError, PAYLOADS[name], url)


def test_a_server_that_never_reads_ends_a_large_observation_at_its_deadline(policies: Backend) -> None:
    url = f"{policies.url}/never-reads"
    large = {"image": np.zeros((4000, 4000, 3), np.uint8)}
    with Policy(url, infer_timeout=DEADLINE) as client:
        fails(lambda: client.infer(large), AxonTimeout, "", url)


def test_pings_in_the_middle_of_a_call_are_answered_and_do_not_disturb_it(policies: Backend) -> None:
    with Policy(f"{policies.url}/pings", infer_timeout=AMPLE) as client:
        assert client.infer(OBSERVATION) == {"actions": [1.0]}


def test_a_servers_traceback_arrives_whole(policies: Backend) -> None:
    with WebsocketClientPolicy(host=f"{policies.url}/text") as client:
        with pytest.raises(AxonServerError, match="Error in inference server:\nTraceback") as caught:
            client.infer(OBSERVATION)
        assert caught.value.traceback is not None
        assert caught.value.traceback.startswith("Traceback")
        assert caught.value.traceback.endswith("ValueError: no such joint")


def test_a_reply_that_is_owed_is_waited_for(policies: Backend) -> None:
    url = f"{policies.url}/never-answers"
    with Policy(url, infer_timeout=0.1) as client:
        fails(lambda: client.infer(OBSERVATION), AxonTimeout, "no reply", url)
        fails(lambda: client.infer(OBSERVATION), AxonTimeout, "still owes", url)


# ---- services ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SERVICE)
def test_a_service_that_fails(name: str, services: Backend) -> None:
    kind, said = SERVICE[name]
    url = f"{services.url}/{name}"
    image = np.random.RandomState(0).randint(0, 256, (1500, 1500, 3)).astype(np.uint8)
    with YOLOClient(host=url, timeout=patience(kind)) as client:
        fails(lambda: client.detect(image), kind, said, "/detect" if said.startswith("/") else url)
    with pytest.raises(ValueError, match="closed"):
        client.detect(image)


def test_a_service_that_closed_the_idle_connection_is_connected_to_again(services: Backend) -> None:
    with YOLOClient(host=f"{services.url}/good", timeout=AMPLE) as client:
        image = np.zeros((4, 4, 3), np.uint8)
        for _ in range(5):
            assert client.detect(image)[0]["class_name"] == "face"
            time.sleep(0.1)  # the fake closes shortly after its reply


# ---- what is left behind -------------------------------------------------------------------------


def break_policies(url: str) -> None:
    """A session that each of many faults ends."""
    large = {"image": np.zeros((300, 300, 3), np.uint8)}
    for name in (
        "truncated",
        "oversized",
        "text-and-close",
        "closes",
        "resets-in-reply",
        "deep",
        "array-no-shape",
    ):
        with Policy(f"{url}/{name}", infer_timeout=AMPLE) as client, pytest.raises(AxonError):
            client.infer(large)
    for name in ("http-503", "malformed-metadata", "wrong-accept", "hangs-up"):
        with pytest.raises(AxonError):
            Policy(f"{url}/{name}", connect_timeout=AMPLE, connect_once=True)


def break_services(url: str) -> None:
    """A call that each of many faults ends."""
    image = np.zeros((300, 300, 3), np.uint8)
    for name in (
        "truncated",
        "oversized",
        "http-422",
        "http-502-page",
        "deep-json",
        "hangs-up",
        "resets-in-reply",
    ):
        with YOLOClient(host=f"{url}/{name}", timeout=AMPLE) as client, pytest.raises(AxonError):
            client.detect(image)


@pytest.mark.parametrize("side", ["policies", "services"])
def test_faults_leave_no_file_open_and_no_memory_behind(side: str, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue(side).url
    provoke = break_policies if side == "policies" else break_services
    for _ in range(5):
        provoke(url)
    gc.collect()
    files, memory = open_files(), resident_bytes()
    for _ in range(20):
        provoke(url)
    gc.collect()
    assert open_files() <= files
    # One observation that stayed behind in each round would be 20 x 270 KB.
    if memory_tells():
        assert resident_bytes() - memory < 4 * 2**20
