"""webpolicy's Client against servers on `websockets` that speak as webpolicy's do, new and old."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
from support import ServePolicy

from service_clients._axon import BasePolicy, Reply
from service_clients._axon.values import packb, unpackb
from service_clients.webpolicy.client import Client

TRACEBACK = "Traceback (most recent call last):\nKeyError: 'state'\n"


class Server:
    """A webpolicy server's answers; `wraps` False: those of an old one, which knows bare actions alone."""

    def __init__(self, wraps: bool = True) -> None:
        self.wraps = wraps
        self.seen: list[dict[str, Any]] = []

    def __call__(self, request: bytes) -> bytes | str:
        message = unpackb(request)
        self.seen.append(message)
        if message.get("__webpolicy_op__") == "reset":
            return (
                TRACEBACK
                if message.get("payload") == {"fail": True}
                else packb({"__webpolicy_reset_ack__": True})
            )
        obs = message.get("obs", message)
        if obs.get("fail"):
            return TRACEBACK
        action = {"actions": np.full((2, 3), obs["n"], np.float32)}
        return packb({"action": action} if self.wraps else action)


@pytest.mark.parametrize("wraps", [True, False])
def test_step_sends_the_observation_as_a_step_and_gives_the_action(
    serve_policy: ServePolicy, wraps: bool
) -> None:
    server = Server(wraps)
    with Client(serve_policy(server, packb({"model": "x"}))) as client:
        assert client.get_server_metadata() == {"model": "x"}
        assert client.dialect == "webpolicy"
        reply = client.step({"n": 4, "image": np.zeros((4, 6, 3), np.uint8)})
        assert list(reply) == ["actions"]
        assert np.array_equal(reply["actions"], np.full((2, 3), 4, np.float32))
        assert isinstance(reply, Reply) and reply.timing.total_ms > 0
    assert list(server.seen[0]) == ["__webpolicy_op__", "obs"]
    assert server.seen[0]["__webpolicy_op__"] == "step"
    assert server.seen[0]["obs"]["image"].shape == (4, 6, 3)


def test_infer_is_step(serve_policy: ServePolicy) -> None:
    with Client(serve_policy(Server())) as client:
        assert client.infer({"n": 7})["actions"][0, 0] == 7
        assert isinstance(client, BasePolicy)


def test_reset_goes_with_its_payload_or_without_one(serve_policy: ServePolicy) -> None:
    server = Server()
    with Client(serve_policy(server)) as client:
        client.reset()
        client.reset({})
        client.reset({"task": "fold", "seed": 3})
    assert server.seen == [
        {"__webpolicy_op__": "reset"},
        {"__webpolicy_op__": "reset"},
        {"__webpolicy_op__": "reset", "payload": {"task": "fold", "seed": 3}},
    ]


def test_a_reset_that_the_server_refuses_raises_its_traceback(serve_policy: ServePolicy) -> None:
    with Client(serve_policy(Server())) as client:
        with pytest.raises(RuntimeError) as caught:
            client.reset({"fail": True})
        assert str(caught.value) == f"Error in inference server reset:\n{TRACEBACK}"
        with pytest.raises(ValueError, match='payload "x": object does not travel'):
            client.reset({"x": object()})
        with pytest.raises(TypeError, match="payload: is int"):
            client.reset(3)  # type: ignore[arg-type]


def test_a_step_that_fails_raises_the_servers_traceback_and_the_client_goes_on(
    serve_policy: ServePolicy,
) -> None:
    with Client(serve_policy(Server())) as client:
        with pytest.raises(RuntimeError) as caught:
            client.step({"fail": True})
        assert str(caught.value) == f"Error in inference server:\n{TRACEBACK}"
        assert client.step({"n": 1})["actions"].shape == (2, 3)


def test_servers_that_know_no_steps_are_sent_bare_observations(serve_policy: ServePolicy) -> None:
    server = Server(wraps=False)
    with Client(serve_policy(server), dialect="openpi") as client:
        client.reset()
        assert client.step({"n": 2})["actions"][0, 0] == 2
    assert server.seen == [{"n": 2}], "and no reset"


def test_its_arguments_are_upstreams_and_more_by_name() -> None:
    parameters = list(inspect.signature(Client.__init__).parameters.values())[1:]
    assert [(p.name, p.default) for p in parameters[:2]] == [("host", "0.0.0.0"), ("port", 8000)]
    assert all(p.kind is p.KEYWORD_ONLY for p in parameters[2:])


def test_host_and_port_may_be_given_apart(serve_policy: ServePolicy) -> None:
    url = serve_policy(Server())
    port = int(url.rpartition(":")[2])
    for host in ("0.0.0.0", "127.0.0.1", "localhost"):
        with Client(host, port=port) as client:
            assert client.step({"n": 1})
    with Client(f"127.0.0.1:{port}") as client:
        assert client.url == url
    with pytest.raises(ValueError, match="names a port already"):
        Client(f"127.0.0.1:{port}", 9000)
