"""The session in Python: late replies, lost connections, several servers, Ctrl-C, and where the time went."""

from __future__ import annotations

import copy
import pickle
import signal
import socket
import threading
import time
from typing import Any

import numpy as np
import pytest
from support import RunScript, ServePolicy, wait_until

from service_clients._axon import AxonCanceled, Policy, PolicyStats, Reply, Timing
from service_clients._axon.policy_client import _addresses
from service_clients._axon.values import packb, unpackb
from service_clients.openpi.client import WebsocketClientPolicy
from service_clients.webpolicy.client import Client


def answer(request: bytes) -> bytes:
    """Says which observation it answers, `seconds` later where that is asked for."""
    observation = unpackb(request)
    time.sleep(observation.get("seconds", 0))
    return packb(
        {"actions": np.full((4, 2), observation["n"], np.float32), "server_timing": {"infer_ms": 0.25}}
    )


@pytest.fixture(scope="module")
def url(serve_policy: ServePolicy) -> str:
    return serve_policy(answer, packb({"name": "first"}))


def nobody() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


# ---- no stale action -----------------------------------------------------------------------------


def test_a_late_reply_is_never_returned_to_a_later_call(url: str) -> None:
    with Policy(url) as policy:
        for n in range(3):
            with pytest.raises(TimeoutError, match="infer_timeout_ms"):
                policy.infer({"n": n, "seconds": 0.3}, timeout=0.05)
            assert (policy.infer({"n": 100 + n}, timeout=20)["actions"] == 100 + n).all()
        stats = policy.stats()
    assert (stats.timeouts, stats.discarded, stats.reconnects, stats.replies) == (3, 3, 0, 3)


def test_a_reply_that_does_not_come_within_its_grace_costs_the_connection(url: str) -> None:
    with Policy(url, grace=0.1) as policy:
        with pytest.raises(TimeoutError):
            policy.infer({"n": 1, "seconds": 1.0}, timeout=0.05)
        assert (policy.infer({"n": 2}, timeout=20)["actions"] == 2).all()
        stats = policy.stats()
    assert (stats.discarded, stats.reconnects) == (0, 1)


def test_cancel_ends_a_call_and_leaves_the_session_usable(url: str) -> None:
    with Policy(url) as policy:
        caught: list[BaseException] = []

        def call() -> None:
            try:
                policy.infer({"n": 1, "seconds": 0.5})
            except AxonCanceled as error:
                caught.append(error)

        thread = threading.Thread(target=call)
        thread.start()

        def cancelled() -> list[BaseException]:
            policy.cancel()
            return caught

        wait_until(cancelled)
        thread.join(20)
        assert (policy.infer({"n": 2}, timeout=20)["actions"] == 2).all()
        assert policy.stats().cancels == 1


CTRL_C = """
import signal, sys, threading, time, os
from service_clients.openpi.client import WebsocketClientPolicy
with WebsocketClientPolicy(sys.argv[1]) as policy:
    policy.infer({"n": 0})
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    started = time.monotonic()
    try:
        policy.infer({"n": 1, "seconds": 2.0})
    except KeyboardInterrupt:
        assert time.monotonic() - started < 1.9, "before the server had answered"
        print("stopped", policy.infer({"n": 2})["actions"][0, 0], policy.stats().discarded)
"""


def test_ctrl_c_ends_the_wait_and_the_session_goes_on(url: str, run_script: RunScript) -> None:
    assert run_script(CTRL_C, url).stdout == "stopped 2.0 1\n"


# ---- several servers -----------------------------------------------------------------------------


def test_the_first_server_that_is_there_is_used(url: str) -> None:
    with WebsocketClientPolicy(hosts=[nobody(), url[len("ws://") :]], connect_timeout=20) as policy:
        assert policy.url == url
        assert (policy.infer({"n": 3})["actions"] == 3).all()
    with Client(hosts=[nobody(), url], dialect="auto", connect_timeout=20) as client:
        assert (client.url, client.dialect) == (url, "openpi")


class Mortal:
    """A server that hangs up after each answer, and then is no more."""

    def __init__(self, metadata: dict[str, Any]) -> None:
        from websockets.sync.server import serve

        def session(connection: Any) -> None:
            connection.send(packb(metadata))
            connection.send(answer(connection.recv()))
            connection.close()
            self.has_hung_up.set()

        self.has_hung_up = threading.Event()
        self.server = serve(session, "127.0.0.1", 0, compression=None)
        self.url = f"ws://127.0.0.1:{self.server.socket.getsockname()[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def die(self) -> None:
        assert self.has_hung_up.wait(20), "the client knows it, or it would send its next request"
        self.server.shutdown()
        self.server.socket.close()
        self.thread.join(20)


def test_when_a_server_is_lost_the_next_call_goes_to_the_other(url: str) -> None:
    mortal = Mortal({"name": "first"})
    with Policy(mortal.url, hosts=[url]) as policy:
        assert (policy.url, policy.infer({"n": 1})["actions"][0, 0]) == (mortal.url, 1)
        mortal.die()
        assert policy.infer({"n": 2}, timeout=20)["actions"][0, 0] == 2
        assert policy.url == url
        assert policy.stats().failovers == 1


def test_another_servers_metadata_is_an_error_unless_it_may_change(url: str) -> None:
    for may_change in (False, True):
        mortal = Mortal({"name": "other"})
        with Policy(mortal.url, hosts=[url], metadata_may_change=may_change) as policy:
            policy.infer({"n": 1})
            mortal.die()
            if may_change:
                assert policy.infer({"n": 2}, timeout=20)["actions"][0, 0] == 2
                assert policy.metadata == {"name": "first"}
            else:
                with pytest.raises(RuntimeError, match="name"):
                    policy.infer({"n": 2}, timeout=2)
                assert policy.metadata == {"name": "other"}


def test_without_reconnect_a_lost_connection_stays_lost() -> None:
    mortal = Mortal({})
    with Policy(mortal.url, reconnect=False) as policy:
        policy.infer({"n": 1})
        for _ in range(2):
            with pytest.raises(ConnectionError):
                policy.infer({"n": 2}, timeout=20)
    mortal.die()


@pytest.mark.parametrize(
    ("host", "port", "hosts", "expected"),
    [
        ("0.0.0.0", None, ["a", "b:9000"], ["a", "b:9000"]),
        ("0.0.0.0", 9000, ["a", "b:1", "ws://c", "::1"], ["a:9000", "b:1", "ws://c", "[::1]:9000"]),
        ("robot", 9000, ["a"], ["robot:9000", "a:9000"]),
        ("robot", None, None, ["robot"]),
        ("0.0.0.0", None, [], ["0.0.0.0"]),
    ],
)
def test_hosts_are_tried_behind_a_host_that_was_named(
    host: str, port: Any, hosts: Any, expected: list[str]
) -> None:
    assert _addresses(host, port, hosts) == expected


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"hosts": "robot"}, "hosts is 'robot', not a list of str"),
        ({"hosts": [5]}, "hosts"),
        ({"dialect": "klingon"}, "dialect is 'klingon', not one of auto, openpi, webpolicy"),
        ({"dialect": 1}, "dialect is 1, not a str"),
        ({"compress": "gif"}, "compress is 'gif', not one of none, jpeg, png"),
        ({"grace": -1}, "grace is -1"),
        ({"resend": "yes"}, "resend is 'yes'"),
    ],
)
def test_an_option_that_cannot_be_is_named(url: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Policy(url, **options)


# ---- pictures on the wire --------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["png", "jpeg"])
@pytest.mark.parametrize("declared", [True, False])
def test_pictures_are_compressed_only_for_a_server_that_says_so(
    serve_policy: ServePolicy, codec: str, declared: bool
) -> None:
    def look(request: bytes) -> bytes:
        return packb({"n": len(request), "image": unpackb(request)["image"]})

    metadata = {"name": "x", **({"__axon__": {"codecs": ["jpeg", "png"]}} if declared else {})}
    image = np.repeat(np.arange(200, dtype=np.uint8), 200 * 3).reshape(200, 200, 3)
    with WebsocketClientPolicy(serve_policy(look, packb(metadata)), compress=codec) as policy:
        assert policy.get_server_metadata() == {"name": "x"}
        reply = policy.infer({"image": image})
    assert (reply["n"] < image.nbytes / 4) == declared
    assert reply["image"].shape == image.shape
    assert np.abs(reply["image"].astype(int) - image).max() <= (3 if declared and codec == "jpeg" else 0)


# ---- where the time went -------------------------------------------------------------------------


def test_a_reply_says_where_its_time_went(url: str) -> None:
    with Policy(url) as policy:
        reply = policy.infer({"n": 1, "seconds": 0.05, "image": np.zeros((64, 64, 3), np.uint8)})
        later = policy.infer({"n": 1})
    timing = reply.timing
    assert timing.total_ms >= timing.wait_ms >= 50
    assert later.timing.wait_ms != timing.wait_ms, "each reply has its own"
    assert timing.server_ms == 0.25
    assert timing.network_ms is not None and timing.network_ms > 0
    assert timing.sent_bytes > 64 * 64 * 3 > timing.received_bytes > 0
    assert "server 0.25" in repr(timing) and f"{timing.sent_bytes} bytes out" in repr(timing)
    with pytest.raises(AttributeError):
        timing.total_ms = 1.0  # type: ignore[misc]


def test_a_reply_is_a_dict_that_can_be_copied_pickled_and_sent_again(url: str) -> None:
    with Policy(url) as policy:
        reply = policy.infer({"n": 1})
    assert isinstance(reply, dict) and set(reply) == {"actions", "server_timing"}
    for other in (copy.copy(reply), copy.deepcopy(reply), pickle.loads(pickle.dumps(reply))):
        assert isinstance(other, Reply) and other.timing == reply.timing
        assert np.array_equal(other["actions"], reply["actions"])
    assert unpackb(packb(reply))["server_timing"] == {"infer_ms": 0.25}
    by_hand = Reply(a=1)
    assert copy.copy(by_hand) == {"a": 1}
    with pytest.raises(AttributeError):
        _ = by_hand.timing


def test_a_server_that_does_not_say_how_long_it_took_leaves_that_open(serve_policy: ServePolicy) -> None:
    with Policy(serve_policy(lambda request: packb({"actions": []}))) as policy:
        timing = policy.infer({"n": 1}).timing
        assert timing.server_ms is None and timing.network_ms is None
        assert isinstance(timing, Timing) and "server" not in repr(timing)
        assert "wait" in str(policy.stats()) and "server  " not in str(policy.stats())


def test_stats_have_counters_percentiles_and_a_verdict(url: str) -> None:
    with WebsocketClientPolicy(url) as policy:
        assert policy.stats().window == 0
        for n in range(20):
            policy.infer({"n": n})
        stats = policy.stats()
    assert isinstance(stats, PolicyStats)
    assert (stats.calls, stats.replies, stats.window, stats.timeouts) == (20, 20, 20, 0)
    assert 0 < stats.total.p50 <= stats.total.p95 <= stats.total.p99 <= stats.total.max
    assert abs(stats.server.p50 - 0.25) < 0.01
    assert stats.verdict.startswith("server 0.25 ms, network ")
    shown = str(stats)
    assert shown.startswith(stats.verdict) and "20 calls, 20 replies" in shown and "p99" in shown


def test_a_bare_array_is_the_actions(serve_policy: ServePolicy) -> None:
    with Policy(serve_policy(lambda request: packb(np.ones((3, 8), np.float32)))) as policy:
        assert policy.infer({"n": 1})["actions"].shape == (3, 8)


def test_a_signal_handler_may_ask_where_the_session_is(url: str) -> None:
    with Policy(url) as policy:
        seen: list[str] = []
        before = signal.signal(signal.SIGUSR1, lambda *_: seen.append(policy.url))
        try:
            threading.Timer(0.2, signal.pthread_kill, (threading.get_ident(), signal.SIGUSR1)).start()
            policy.infer({"n": 1, "seconds": 1.0})
        finally:
            signal.signal(signal.SIGUSR1, before)
        assert seen == [url]
