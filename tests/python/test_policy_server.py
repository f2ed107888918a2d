"""Our policy server in Python, with the clients of the field and ours."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any, Iterator

import numpy as np
import pytest
import websockets.exceptions
import websockets.sync.client
from support import served

from service_clients._axon.msgpack_numpy import packb, unpackb
from service_clients._axon.server import PolicyServer
from service_clients.openpi.client import WebsocketClientPolicy
from service_clients.openpi.server import WebsocketPolicyServer
from service_clients.webpolicy.client import Client
from service_clients.webpolicy.server import Server

ROOT = Path(__file__).parents[2]


class Echo:
    """Returns what it got; does what the observation says."""

    def __init__(self) -> None:
        self.resets: list[Any] = []

    def infer(self, obs: dict[str, Any]) -> Any:
        if obs.get("do") == "fail":
            raise ValueError("no such joint")
        if obs.get("do") == "object":
            return {"actions": np.array([object()])}
        if obs.get("do") == "list":
            return [1, 2]
        time.sleep(obs.get("seconds", 0))
        return {"actions": np.ones((5, 7), np.float32), "got": obs}

    def reset(self, payload: Any = None) -> None:
        self.resets.append(payload)


def hear(peer: websockets.sync.client.ClientConnection) -> Any:
    """The next message, which must not be text."""
    message = peer.recv()
    assert isinstance(message, bytes)
    return unpackb(message)


@pytest.fixture
def server() -> Iterator[PolicyServer]:
    with served(WebsocketPolicyServer(Echo(), port=0, metadata={"action_horizon": 5})) as running:
        yield running


def test_our_client_gets_actions_and_timing(server: PolicyServer) -> None:
    image = np.arange(224 * 224 * 3, dtype=np.uint8).reshape(224, 224, 3)
    with WebsocketClientPolicy(server.url) as client:
        assert client.get_server_metadata() == {"action_horizon": 5}
        first = client.infer({"image": image, "prompt": "go"})
        np.testing.assert_array_equal(first["got"]["image"], image)
        assert first["actions"].shape == (5, 7)
        assert set(first["server_timing"]) == {"infer_ms"}
        assert set(client.infer({"a": 1})["server_timing"]) == {"infer_ms", "prev_total_ms"}


def test_an_error_reaches_our_client_and_costs_it_nothing(server: PolicyServer) -> None:
    with WebsocketClientPolicy(server.url) as client:
        for do, said in (("fail", "no such joint"), ("object", "actions"), ("list", "not a dict")):
            with pytest.raises(RuntimeError, match=said):
                client.infer({"do": do})
            assert client.infer({"a": do})["got"] == {"a": do}
        assert client.stats().reconnects == 0


def test_others_get_the_traceback_and_a_close_as_from_openpis_server(server: PolicyServer) -> None:
    with websockets.sync.client.connect(server.url, compression=None, max_size=None) as peer:
        assert hear(peer) == {"action_horizon": 5}
        peer.send(packb({"a": 1}))
        assert hear(peer)["got"] == {"a": 1}
        peer.send(packb({"do": "fail"}))
        text = peer.recv()
        assert isinstance(text, str) and "Traceback" in text and "no such joint" in text
        with pytest.raises(websockets.exceptions.ConnectionClosedError) as closed:
            peer.recv()
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1011


def test_openpis_own_client_is_served(server: PolicyServer) -> None:
    script = """
import sys, numpy as np
from openpi_client.websocket_client_policy import WebsocketClientPolicy
client = WebsocketClientPolicy("127.0.0.1", int(sys.argv[1]))
assert client.get_server_metadata() == {"action_horizon": 5}
state = np.linspace(0, 1, 7)
for _ in range(3):
    reply = client.infer({"state": state, "prompt": "go", "nested": {"x": np.float32(3)}})
    assert reply["actions"].shape == (5, 7)
    assert (reply["got"]["state"] == state).all() and reply["got"]["nested"]["x"] == 3
try:
    client.infer({"do": "fail"})
except RuntimeError as error:
    assert "no such joint" in str(error)
else:
    raise SystemExit("no error")
"""
    python = ROOT / ".venv-peers/bin/python"
    done = subprocess.run(
        [str(python), "-c", script, str(server.port)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_health_is_answered_while_the_policy_works(server: PolicyServer) -> None:
    with WebsocketClientPolicy(server.url) as client:
        asking = threading.Thread(target=lambda: client.infer({"seconds": 1.0}))
        asking.start()
        time.sleep(0.2)
        with urllib.request.urlopen(server.url.replace("ws:", "http:") + "/healthz", timeout=5) as answer:
            assert (answer.status, answer.read()) == (200, b"OK\n")
        assert asking.is_alive()
        asking.join()


def test_many_clients_get_their_own_answers(server: PolicyServer) -> None:
    wrong: list[Any] = []

    def ask(number: int) -> None:
        with WebsocketClientPolicy(server.url) as client:
            for turn in range(20):
                reply = client.infer({"n": number, "turn": turn})
                if reply["got"] != {"n": number, "turn": turn}:
                    wrong.append(reply["got"])

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong


class Keeper:
    """Keeps what it is given, and answers with what it was given before."""

    def __init__(self) -> None:
        self.kept: list[dict[str, Any]] = []

    def infer(self, obs: dict[str, Any]) -> dict[str, Any]:
        self.kept.append(obs)
        return {"before": self.kept[max(0, len(self.kept) - 2)]["image"][..., ::-1]}


def test_what_a_policy_keeps_is_its_own_whatever_comes_later() -> None:
    keeper = Keeper()
    sent = [
        {
            "image": np.full((300, 400, 3), number, np.uint8),
            "depth": np.full((7, 40000), number, ">f4"),
            "state": np.full(7, number, np.float64),
        }
        for number in range(6)
    ]
    with served(PolicyServer(keeper, port=0)) as server:
        client = WebsocketClientPolicy("127.0.0.1", server.port)
        for number, obs in enumerate(sent):
            assert (client.infer(obs)["before"] == max(0, number - 1)).all()
        client.close()
    for obs, kept in zip(sent, keeper.kept):
        for key, array in obs.items():
            assert kept[key].flags.writeable
            assert kept[key].flags.aligned
            assert kept[key].dtype == array.dtype.newbyteorder("=")
            np.testing.assert_array_equal(kept[key], array)
            kept[key][...] = 77


def test_a_key_is_asked_for() -> None:
    with served(WebsocketPolicyServer(Echo(), port=0, api_key="secret")) as server:
        with WebsocketClientPolicy(server.url, api_key="secret") as client:
            assert client.infer({"a": 1})["got"] == {"a": 1}
        with pytest.raises(PermissionError, match="401"):
            WebsocketClientPolicy(server.url, api_key="wrong")
        with pytest.raises(PermissionError, match="401"):
            WebsocketClientPolicy(server.url)


def test_webpolicys_steps_and_resets() -> None:
    policy = Echo()
    with served(Server(policy, port=0, metadata={"name": "echo"})) as server:
        with Client("127.0.0.1", server.port) as client:
            assert client.get_server_metadata() == {"name": "echo"}
            client.reset({"task": "lift"})
            client.reset()
            assert policy.resets == [{"task": "lift"}, None]
            assert client.step({"a": 1})["got"] == {"a": 1}
        with websockets.sync.client.connect(server.url, compression=None) as peer:
            peer.recv()
            peer.send(packb({"__webpolicy_op__": "step", "obs": {"b": 2}}))
            assert hear(peer)["action"]["got"] == {"b": 2}
            peer.send(packb({"b": 3}))  # as old clients do
            assert hear(peer)["got"] == {"b": 3}


def test_an_event_loop_goes_on_while_run_serves() -> None:
    async def serve(server: PolicyServer) -> Any:
        running = asyncio.ensure_future(server.run())
        loop = asyncio.get_running_loop()
        with WebsocketClientPolicy(server.url) as client:
            reply = await loop.run_in_executor(None, client.infer, {"n": 1})
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        with pytest.raises(RuntimeError, match="does not listen"):
            _ = server.url
        return reply["got"]

    for server in (WebsocketPolicyServer(Echo(), port=0), Server(Echo(), port=0)):
        server.start()
        assert asyncio.run(serve(server)) == {"n": 1}


def test_run_ends_when_the_server_is_stopped() -> None:
    server = WebsocketPolicyServer(Echo(), port=0)
    server.start()
    threading.Timer(0.1, server.stop).start()
    asyncio.run(asyncio.wait_for(server.run(), 20))


def test_arguments_that_cannot_be_are_refused() -> None:
    with pytest.raises(TypeError, match="neither infer nor step"):
        WebsocketPolicyServer(object())
    with pytest.raises(ValueError, match="port is 70000"):
        WebsocketPolicyServer(Echo(), port=70000)
    with pytest.raises(TypeError, match="metadata is list"):
        WebsocketPolicyServer(Echo(), metadata=[1])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="does not listen"):
        assert WebsocketPolicyServer(Echo()).url


def test_an_address_in_use_is_told(server: PolicyServer) -> None:
    with pytest.raises(OSError, match="in use"):
        WebsocketPolicyServer(Echo(), port=server.port).serve_forever()


def test_ctrl_c_ends_the_server_in_order() -> None:
    script = (
        "from service_clients.openpi.server import WebsocketPolicyServer\n"
        "class P:\n    def infer(self, obs): return {'n': 1}\n"
        "server = WebsocketPolicyServer(P(), port=0)\nserver.start()\nprint(server.url, flush=True)\n"
        "try:\n    server.serve_forever()\nexcept KeyboardInterrupt:\n    print('stopped', flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        with WebsocketClientPolicy(url) as client:
            assert client.infer({"a": 1})["n"] == 1
            os.kill(process.pid, signal.SIGINT)
            assert process.stdout.readline() == "stopped\n"
        assert process.wait(20) == 0
