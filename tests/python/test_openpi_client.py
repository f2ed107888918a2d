"""WebsocketClientPolicy against servers on `websockets`: what it takes, what it gives, how it fails."""

from __future__ import annotations

import contextlib
import inspect
import json
import logging
import math
import socket
import subprocess
import threading
import time
from typing import Any, Iterator

import numpy as np
import pytest
from support import ServePolicy
from websockets.sync.server import ServerConnection, serve

from service_clients._axon import AxonServerError
from service_clients._axon.policy_client import address
from service_clients._axon.values import packb, unpackb
from service_clients.openpi.client import WebsocketClientPolicy

METADATA: dict[str, Any] = {
    "model": "π₀",
    "horizon": 50,
    "keys": ["a", "b"],
    "mean": np.array([0.5, 1.5], np.float32),
}
TRACEBACK = (
    "Traceback (most recent call last):\n  File \"policy.py\", line 3\nKeyError: 'observation/state'\n"
)


class Server:
    """Answers as the observation's `do` says."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def __call__(self, request: bytes) -> bytes | str:
        observation = unpackb(request)
        self.seen.append(observation)
        do = observation.get("do")
        if do == "fail":
            return TRACEBACK
        if do == "sleep":
            time.sleep(observation["seconds"])
        if do == "garbage":
            return b"\xc1"
        return packb({"actions": np.ones((50, 7), np.float32), "got": observation})


@pytest.fixture(scope="module")
def server() -> Server:
    return Server()


@pytest.fixture(scope="module")
def url(server: Server, serve_policy: ServePolicy) -> str:
    return serve_policy(server, packb(METADATA))


@pytest.fixture
def client(url: str) -> Iterator[WebsocketClientPolicy]:
    with WebsocketClientPolicy(url) as client:
        yield client


# ---- openpi-client's interface -------------------------------------------------------------------


def test_its_arguments_begin_as_openpi_clients_do(peers_python: str) -> None:
    script = """
import inspect, json
from openpi_client.websocket_client_policy import WebsocketClientPolicy
parameters = inspect.signature(WebsocketClientPolicy).parameters.values()
print(json.dumps([[p.name, p.default] for p in parameters]))
print(json.dumps([n for n in dir(WebsocketClientPolicy) if not n.startswith("_")]))
"""
    done = subprocess.run(
        [peers_python, "-c", script], check=True, capture_output=True, text=True, timeout=60
    )
    parameters, methods = (json.loads(line) for line in done.stdout.splitlines())
    ours = list(inspect.signature(WebsocketClientPolicy.__init__).parameters.values())[1:]
    assert [[p.name, p.default] for p in ours[: len(parameters)]] == parameters
    assert all(p.kind is p.KEYWORD_ONLY for p in ours[len(parameters) :])
    assert set(methods) <= set(dir(WebsocketClientPolicy))


def test_infer_sends_the_observation_and_gives_the_reply(
    client: WebsocketClientPolicy, server: Server
) -> None:
    observation: dict[str, Any] = {
        "observation/image": np.random.default_rng(1).integers(0, 256, (224, 224, 3), dtype=np.uint8),
        "observation/state": np.arange(7, dtype=np.float32),
        "nested": {"list": [1, 2.5, "x", None, True, b"bytes"]},
        "prompt": "pick up the cup",
    }
    reply = client.infer(observation)
    assert reply["actions"].shape == (50, 7)
    assert reply["actions"].dtype == np.float32
    assert reply["actions"].flags.writeable
    assert list(server.seen[-1]) == list(observation)
    for got in (server.seen[-1], reply["got"]):
        assert np.array_equal(got["observation/image"], observation["observation/image"])
        assert got["nested"] == observation["nested"]
        assert got["prompt"] == "pick up the cup"


def test_the_metadata_is_the_servers(client: WebsocketClientPolicy) -> None:
    metadata = client.get_server_metadata()
    assert {key: metadata[key] for key in ("model", "horizon", "keys")} == {
        key: METADATA[key] for key in ("model", "horizon", "keys")
    }
    assert metadata["mean"].tolist() == [0.5, 1.5]


def test_reset_does_nothing(client: WebsocketClientPolicy, server: Server) -> None:
    before = len(server.seen)
    client.reset()
    assert len(server.seen) == before


def test_many_observations_of_many_sizes_go_through_one_session(client: WebsocketClientPolicy) -> None:
    for size in [0, 1, 125, 126, 65535, 65536, 1_000_000, 5_000_000, 3]:
        data = np.arange(size, dtype=np.uint8)
        assert np.array_equal(client.infer({"data": data})["got"]["data"], data)


# ---- where the server is -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "port", "expected"),
    [
        ("0.0.0.0", None, "0.0.0.0"),
        ("robot.local", 9000, "robot.local:9000"),
        ("robot.local:9000", None, "robot.local:9000"),
        ("::1", None, "[::1]"),
        ("::1", 9000, "[::1]:9000"),
        ("[::1]", 9000, "[::1]:9000"),
        ("ws://robot", 9000, "ws://robot:9000"),
        ("wss://robot/policy/v1", None, "wss://robot/policy/v1"),
        ("wss://robot/policy/v1", 443, "wss://robot:443/policy/v1"),
        ("ws://[::1]/", 9000, "ws://[::1]:9000/"),
        ("wsrobot", None, "wsrobot"),
        ("robot", "9000", "robot:9000"),
        ("robot", np.int64(9000), "robot:9000"),
    ],
)
def test_host_and_port_make_the_address(host: str, port: Any, expected: str) -> None:
    assert address(host, port) == expected


@pytest.mark.parametrize(
    ("host", "port", "said"),
    [
        ("ws://robot:1", 9000, "names a port already"),
        ("robot:1", 9000, "names a port already"),
        ("robot", 0, "port is 0, not 1 to 65535"),
        ("robot", 70000, "port is 70000, not 1 to 65535"),
        ("http://robot", None, "http://robot"),
        ("", None, "URL"),
        (None, 9000, "host is None, not a str"),
        (b"robot", 9000, "host is b'robot', not a str"),
        ("robot", True, "port is True, not a whole number"),
        ("robot", 9000.5, r"port is 9000\.5, not a whole number"),
        ("robot", " 80", "port is ' 80', not a whole number"),
    ],
)
def test_an_address_that_cannot_be_is_refused(host: Any, port: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        WebsocketClientPolicy(host, port, connect_timeout=20)


def test_any_address_of_this_machine_will_do(url: str) -> None:
    port = int(url.rpartition(":")[2])
    for host in ("0.0.0.0", "127.0.0.1", "localhost"):
        with WebsocketClientPolicy(host, port) as client:
            assert client.infer({"a": 1})["got"] == {"a": 1}


# ---- waiting for the server ----------------------------------------------------------------------


def test_it_waits_for_a_server_that_is_not_up_yet_and_says_so(
    server: Server, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service_clients._axon.policy_client._LOG_EVERY", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    def session(connection: ServerConnection) -> None:
        connection.send(packb(METADATA))
        connection.send(server(connection.recv()))  # type: ignore[arg-type]

    def start() -> None:
        time.sleep(1.0)
        with serve(session, "127.0.0.1", port, compression=None) as late:
            started.append(late)
            late.serve_forever()

    started: list[Any] = []
    thread = threading.Thread(target=start, daemon=True)
    thread.start()
    caplog.set_level(logging.INFO, "service_clients.openpi.client")
    with WebsocketClientPolicy("127.0.0.1", port, connect_timeout=math.inf) as client:
        assert client.infer({"a": 1})["got"] == {"a": 1}
    assert caplog.messages[0] == f"Waiting for server at 127.0.0.1:{port}..."
    assert any(message.startswith("Still waiting for server at") for message in caplog.messages)
    started[0].shutdown()
    thread.join(20)


def test_a_server_that_never_comes_is_a_connection_error_or_a_timeout(unused_tcp_port: int) -> None:
    with pytest.raises(RuntimeError, match=f"127.0.0.1:{unused_tcp_port}") as caught:
        WebsocketClientPolicy("127.0.0.1", unused_tcp_port, connect_timeout=0.3)
    assert isinstance(caught.value, (ConnectionError, TimeoutError))


@pytest.fixture
def unused_tcp_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_a_server_that_accepts_and_says_nothing_is_a_timeout(silent_server: str) -> None:
    with pytest.raises(TimeoutError, match=silent_server):
        WebsocketClientPolicy(silent_server, connect_timeout=0.3)


# ---- credentials ---------------------------------------------------------------------------------


@contextlib.contextmanager
def guarded(status: int) -> Iterator[str]:
    """A server that lets in who brings "Api-Key secret", and answers everyone else with an HTTP status."""

    def ask(connection: ServerConnection, request: Any) -> Any:
        if request.headers.get("Authorization") == "Api-Key secret":
            return None
        return connection.respond(status, "not you\n")

    def session(connection: ServerConnection) -> None:
        connection.send(packb({}))
        connection.recv()

    with serve(session, "127.0.0.1", 0, process_request=ask, compression=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        server.shutdown()
        thread.join(20)


def test_the_api_key_opens_the_door() -> None:
    with guarded(401) as url:
        WebsocketClientPolicy(url, api_key="secret").close()
        for key in (None, "wrong"):
            with pytest.raises(PermissionError, match="401") as caught:
                WebsocketClientPolicy(url, api_key=key, connect_timeout=20)
            assert "secret" not in str(caught.value)


def test_an_upgrade_refused_for_another_reason_is_the_servers_error() -> None:
    with guarded(500) as url, pytest.raises(AxonServerError, match="500") as caught:
        WebsocketClientPolicy(url, connect_timeout=20)
    assert caught.value.http_status == 500


@pytest.mark.parametrize("key", [5, "a\0b", "a\r\nX-Injected: 1"])
def test_a_key_that_cannot_be_sent_is_refused(url: str, key: Any) -> None:
    with pytest.raises(ValueError, match="api_key"):
        WebsocketClientPolicy(url, api_key=key)


# ---- how it fails --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("observation", "said"),
    [
        ({}, "observation: .*empty"),
        ([1], "observation: is list, not a dict"),
        (None, "observation: is NoneType, not a dict"),
        ({"images": {"top": np.array([None])}}, r'^observation "images\.top": object dtype$'),
        ({3: 1}, "^observation: key 3 is int, keys must be str$"),
        ({"a": {1}}, 'observation "a": set does not travel'),
    ],
)
def test_a_bad_observation_is_refused_unsent_and_the_session_goes_on(
    client: WebsocketClientPolicy, server: Server, observation: Any, said: str
) -> None:
    before = len(server.seen)
    with pytest.raises(ValueError, match=said) as caught:
        client.infer(observation)
    assert isinstance(caught.value, RuntimeError)
    assert len(server.seen) == before
    assert client.infer({"a": 1})["got"] == {"a": 1}


@pytest.mark.parametrize("timeout", [0, -1, math.nan, True, "1"])
def test_a_timeout_that_cannot_be_is_refused(client: WebsocketClientPolicy, url: str, timeout: Any) -> None:
    with pytest.raises(ValueError, match="timeout is"):
        client.infer({"a": 1}, timeout=timeout)
    for name in ("connect_timeout", "infer_timeout"):
        with pytest.raises(ValueError, match=f"{name} is"):
            WebsocketClientPolicy(url, **{name: timeout})


def test_the_servers_traceback_is_in_the_error(client: WebsocketClientPolicy) -> None:
    with pytest.raises(RuntimeError) as caught:
        client.infer({"do": "fail"})
    assert str(caught.value) == f"Error in inference server:\n{TRACEBACK}"
    assert isinstance(caught.value, AxonServerError)
    assert caught.value.traceback == TRACEBACK


def test_after_a_deadline_the_next_call_gets_its_own_answer(url: str) -> None:
    with WebsocketClientPolicy(url) as client:
        with pytest.raises(TimeoutError):
            client.infer({"do": "sleep", "seconds": 0.6, "n": 1}, timeout=0.2)
        assert client.infer({"n": 2})["got"] == {"n": 2}
        assert client.stats().discarded == 1


def test_a_timeout_of_one_call_is_not_that_of_the_next(url: str) -> None:
    with WebsocketClientPolicy(url, infer_timeout=30) as client:
        assert client.infer({"a": 1}, timeout=5)
        assert client.infer({"do": "sleep", "seconds": 0.3}, timeout=20)
        assert client.infer({"do": "sleep", "seconds": 0.3})


def test_a_reply_that_is_no_msgpack_is_the_servers_fault(client: WebsocketClientPolicy) -> None:
    with pytest.raises(RuntimeError, match="ws://") as caught:
        client.infer({"do": "garbage"})
    assert type(caught.value).__name__ == "AxonProtocolError"


def test_a_closed_client_says_so_and_closes_again(url: str) -> None:
    client = WebsocketClientPolicy(url)
    client.close()
    client.close()
    with pytest.raises(ValueError, match="is closed"):
        client.infer({"a": 1})
    assert client.get_server_metadata()["horizon"] == 50
