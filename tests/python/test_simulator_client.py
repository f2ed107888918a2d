"""The simulator client against a server on pyzmq and msgpack, written from the protocol's document, and against worse."""

from __future__ import annotations

import contextlib
import pickle
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable, Iterator

import msgpack  # type: ignore[import-untyped]
import numpy as np
import pytest
import zmq
from peers import harness
from support import RunScript

from service_clients._axon import AxonCanceled, AxonProtocolError, AxonTooBig
from service_clients.demo.backends import Backend
from service_clients.simulator import client
from service_clients.simulator.client import (
    InvalidParams,
    NoSimulatorSelected,
    NoTaskLoaded,
    NotReset,
    SimulatorAlreadySelected,
    SimulatorClient,
    SimulatorError,
    TaskNotFound,
    UnknownMethod,
    UnknownSimulator,
)

UP = {"by": [1.0]}


def serve(age: str, port: int = 0) -> Backend:
    return harness.start_script("simulator_server_peer.py", age, str(port))


@pytest.fixture(scope="module")
def today() -> Iterator[str]:
    with serve("today") as server:
        yield server.url


@pytest.fixture(scope="module")
def document() -> Iterator[str]:
    with serve("document") as server:
        yield server.url


@pytest.fixture
def counter(document: str) -> Iterator[SimulatorClient]:
    """A session in the middle of an episode."""
    with SimulatorClient(document) as simulator:
        simulator.load_task("up")
        simulator.reset()
        yield simulator


# ---- an episode ------------------------------------------------------------------------------------


def test_a_server_of_today_is_asked_to_select_a_simulator_first(today: str) -> None:
    with SimulatorClient(today) as simulator:
        with pytest.raises(NoSimulatorSelected):
            simulator.list_tasks()
        assert simulator.list_simulators() == ["counter", "other"]
        with pytest.raises(UnknownSimulator):
            simulator.select_simulator("none")
        simulator.select_simulator("counter")
        with pytest.raises(SimulatorAlreadySelected):
            simulator.select_simulator("other")
        assert simulator.list_tasks() == ["up", "down"]
        assert simulator.list_tasks(suite="down") == ["down"]


def test_a_server_of_the_documents_age_has_the_one_simulator_that_it_names(document: str) -> None:
    with SimulatorClient(document) as simulator:
        assert simulator.list_simulators() == ["counter"]
        simulator.select_simulator("counter")
        with pytest.raises(UnknownSimulator, match='one simulator, "counter", and no "other"'):
            simulator.select_simulator("other")
        assert simulator.list_tasks() == ["up", "down"]


def test_an_episode_runs_to_its_end(document: str) -> None:
    with SimulatorClient(document.replace("tcp://", "")) as simulator:
        assert simulator.address == document
        info = simulator.load_task("up")
        assert (info["task_name"], info["max_episode_steps"]) == ("up", 100)
        assert info["action_space"]["by"]["shape"] == [1]
        observation = simulator.reset()
        for _ in range(10):
            step = simulator.step(UP)
        assert (observation["at"], step.observation["at"]) == (0, 10)
        assert step[1:4] == (1.0, True, False)
        with pytest.raises(NotReset, match="Call reset first"):
            simulator.step(UP)
        assert simulator.get_info()["current_task"] == "up"
        assert "status" not in simulator.get_info()
        simulator.disconnect()
        with pytest.raises(NoTaskLoaded):
            simulator.reset()


def test_arrays_come_back_wherever_they_are_nested_and_can_be_written_to(counter: SimulatorClient) -> None:
    observation, _, _, _, info = counter.step({"by": np.array([3.0])})
    assert observation["picture"].shape == (64, 48, 3)
    assert (observation["picture"] == 3).all()
    assert observation["nested"]["list"][0].tolist() == [0, 1, 2]
    assert observation["nested"]["list"][1]["deep"].tolist() == [True, False]
    assert observation["label"] == "counter"
    for array in (observation["picture"], observation["at"], info["extra"], observation["nested"]["list"][0]):
        array[...] = 1
        assert (array == 1).all()


@pytest.mark.parametrize(
    ("by", "kind"),
    [
        ([1.0], "list"),
        ((1.0,), "list"),
        (np.ones(1), "ndarray"),
        (np.ones(3)[::2], "ndarray"),
        (1.0, "float"),
    ],
)
def test_actions_are_arrays_or_lists_or_numbers(counter: SimulatorClient, by: Any, kind: str) -> None:
    step = counter.step({"by": by})
    assert (step.observation["at"], step.info["kind"]) == (1, kind)


def test_threads_take_turns(counter: SimulatorClient) -> None:
    counted: list[float] = []

    def step() -> None:
        counted.append(float(counter.step({"by": 0.5, "sleep": 0.01}, timeout=20).observation["at"][0]))

    threads = [threading.Thread(target=step) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(counted) == [0.5 * n for n in range(1, 9)]


# ---- errors of the server ----------------------------------------------------------------------------


def test_every_error_type_has_a_class_of_its_own() -> None:
    classes = {name: getattr(client, name) for name in client.__all__ if name != "SimulatorClient"}
    for name, kind in classes.items():
        assert issubclass(kind, SimulatorError)
        assert issubclass(kind, RuntimeError)
        if name != "SimulatorError":
            error = kind("why")
            assert error.error_type.replace("_", "") == name.lower()
            assert (str(error), error.message) == ("why", "why")
            copy = pickle.loads(pickle.dumps(error))
            assert (type(copy), copy.args, copy.message) == (kind, ("why",), "why")


def test_an_error_says_whose_it_is(counter: SimulatorClient, document: str) -> None:
    with pytest.raises(TaskNotFound) as caught:
        counter.load_task("sideways")
    assert str(caught.value) == f"{document}: load_task: task_not_found: Task not found: sideways"
    assert (caught.value.error_type, caught.value.message) == ("task_not_found", "Task not found: sideways")
    with pytest.raises(UnknownMethod):
        counter.call("frobnicate", {"hard": True})
    assert counter.step(UP).observation["at"] == 1


def reply_of(**fields: Any) -> dict[str, bytes]:
    return {"send": msgpack.packb(fields)}


def test_an_error_type_that_nobody_knows_is_a_simulator_error(counter: SimulatorClient) -> None:
    with pytest.raises(SimulatorError) as caught:
        counter.step(reply_of(status="error", error_type="gremlins", message="three of them"))
    assert (type(caught.value), caught.value.error_type) == (SimulatorError, "gremlins")


STEP = {"status": "ok", "observation": {}, "reward": 1, "terminated": False, "truncated": False}
SHORT = {"__type__": "ndarray", "shape": [2, 2], "dtype": "float64", "data": b"1234567"}


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        ({"send": b"no msgpack"}, "bytes follow the message"),
        ({"send": b"\x93\x01"}, "3 children are announced"),
        (reply_of(hello=1), 'no status "ok" or "error"'),
        (reply_of(**{**STEP, "observation": [1]}), 'no map "observation"'),
        (reply_of(**{**STEP, "reward": "much"}), 'no number "reward"'),
        (reply_of(**{**STEP, "terminated": None}), 'no truth "terminated"'),
        (reply_of(**{**STEP, "observation": {"a": [SHORT]}}), r'"observation.a\[0\]": an array whose data'),
        ({"frames": [b"a", b"b"]}, "more frames"),
    ],
)
def test_replies_that_are_none_are_refused(
    counter: SimulatorClient, document: str, action: dict[str, Any], reason: str
) -> None:
    with pytest.raises(RuntimeError, match=reason) as caught:
        counter.step({**UP, **action})
    assert document in str(caught.value)
    assert counter.list_tasks() == ["up", "down"]


@contextlib.contextmanager
def saying(reply: bytes) -> Iterator[SimulatorClient]:
    """A client of a server that says the same to everything, goodbyes too."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        port = router.bind_to_random_port("tcp://127.0.0.1")
        is_over = threading.Event()

        def run() -> None:
            while not is_over.is_set():
                if router.poll(50):
                    router.send_multipart([*router.recv_multipart()[:2], reply])

        thread = threading.Thread(target=run)
        thread.start()
        try:
            with SimulatorClient(f"127.0.0.1:{port}", call_timeout=20) as simulator:
                yield simulator
        finally:
            is_over.set()
            thread.join()


@pytest.mark.parametrize("method", ["list_simulators", "list_tasks"])
@pytest.mark.parametrize(
    ("names", "kind", "place"),
    [
        ([7, "b"], "a number", 0),
        (["a", "b", None], "null", 2),
        (["a", True], "a bool", 1),
        (["a", b"b"], "bytes", 1),
        (["a", ["b"]], "a list", 1),
        (["a", {"name": "b"}], "a map", 1),
        (["a", {**SHORT, "data": bytes(32)}], "an array", 1),
    ],
)
def test_names_that_are_no_text_are_refused(method: str, names: list[Any], kind: str, place: int) -> None:
    key = method.partition("_")[2]
    reply = msgpack.packb({"status": "ok", key: names})
    with saying(reply) as simulator, pytest.raises(AxonProtocolError) as caught:
        getattr(simulator, method)()
    fault = f'the reply to {method} has {kind} at "{key}[{place}]", not text'
    assert str(caught.value) == f"{simulator.address}: {fault}"


@pytest.mark.parametrize("names", [[], ["a"], ["a", "", "é"]])
def test_names_that_are_text_are_a_list(names: list[str]) -> None:
    with saying(msgpack.packb({"status": "ok", "simulators": names, "tasks": names})) as simulator:
        assert simulator.list_simulators() == simulator.list_tasks() == names


def test_numbers_that_are_arrays_of_one_are_numbers(counter: SimulatorClient) -> None:
    half = {"__type__": "ndarray", "shape": [], "dtype": "float32", "data": np.float32(0.5).tobytes()}
    step = counter.step(reply_of(**{**STEP, "reward": half, "terminated": 1}))
    assert step[1:] == (0.5, True, False, {})


def test_a_reply_of_more_values_than_cross_into_python_at_once_is_the_same(counter: SimulatorClient) -> None:
    objects = [{"name": f"é{n}", "at": [n, 0.5], "seen": None} for n in range(20_000)]
    step = counter.step(reply_of(**{**STEP, "observation": {b"at": 1}, "info": {"objects": objects}}))
    assert tuple(step) == ({b"at": 1}, 1.0, False, False, {"objects": objects})


def test_an_action_that_does_not_travel_is_refused_before_it_is_sent(counter: SimulatorClient) -> None:
    with pytest.raises(ValueError, match=r'action "arm\[1\]": object dtype'):
        counter.step({"arm": [1, np.array([None])]})
    with pytest.raises(TypeError, match="action: is list, not a dict"):
        counter.step([1.0])  # type: ignore[arg-type]
    assert counter.step(UP).observation["at"] == 1


# ---- late, lost and twice ----------------------------------------------------------------------------


def test_a_late_reply_is_never_returned_to_a_later_call(counter: SimulatorClient) -> None:
    for n in range(3):
        with pytest.raises(TimeoutError, match=r"no reply to step after 50 ms \(call_timeout_ms\)"):
            counter.step({**UP, "sleep": 0.4}, timeout=0.05)
        assert counter.step(UP, timeout=20).observation["at"] == 2 * n + 2
    stats = counter.stats()
    assert (stats.timeouts, stats.discarded, stats.sessions, stats.errors) == (3, 3, 1, 0)


def test_a_reply_that_does_not_come_within_its_grace_costs_the_session(today: str) -> None:
    with SimulatorClient(today, grace=0.1) as simulator:
        simulator.select_simulator("counter")
        simulator.load_task("up")
        simulator.reset()
        with pytest.raises(TimeoutError):
            simulator.step({**UP, "sleep": 0.6}, timeout=0.05)
        with pytest.raises(NotReset):
            simulator.step(UP, timeout=20)
        assert simulator.reset()["at"] == 0  # simulator and task were chosen again
        assert (simulator.stats().sessions, simulator.stats().discarded) == (2, 0)


def test_a_reply_that_nobody_asked_for_is_not_taken_for_the_next(counter: SimulatorClient) -> None:
    counter.step({**UP, "twice": True})
    time.sleep(0.1)
    with pytest.raises(NotReset):
        counter.step(UP)
    assert counter.reset()["at"] == 0


def test_a_call_is_cancelled_from_another_thread(counter: SimulatorClient) -> None:
    timer = threading.Timer(0.1, counter.cancel)
    timer.start()
    with pytest.raises(AxonCanceled):
        counter.step({**UP, "sleep": 0.5}, timeout=20)
    timer.join()
    assert counter.step(UP, timeout=20).observation["at"] == 2


def test_a_restarted_server_is_told_again_what_was_chosen() -> None:
    with contextlib.ExitStack() as servers:
        server = servers.enter_context(serve("today"))
        port = int(server.url.rsplit(":", 1)[1])
        simulator = servers.enter_context(SimulatorClient(server.url))
        simulator.select_simulator("counter")
        simulator.load_task("down")
        simulator.reset()
        killer = threading.Timer(0.2, server.kill)
        killer.start()
        with pytest.raises(ConnectionError, match="lost before the reply came"):
            simulator.step({**UP, "sleep": 5}, timeout=20)
        killer.join()
        again = servers.enter_context(serve("today", port))
        assert again.url == server.url
        with pytest.raises(NotReset):
            simulator.step(UP, timeout=20)
        assert simulator.reset()["at"] == 0
        assert simulator.get_info()["current_task"] == "down"


def test_what_was_chosen_is_told_again_also_when_the_first_call_does_not_need_it() -> None:
    with contextlib.ExitStack() as servers:
        server = servers.enter_context(serve("today"))
        port = int(server.url.rsplit(":", 1)[1])
        simulator = servers.enter_context(SimulatorClient(server.url))
        simulator.select_simulator("counter")
        simulator.load_task("down")
        server.kill()
        servers.enter_context(serve("today", port))
        assert "counter" in simulator.list_simulators(
            timeout=20
        )  # goes to a new session, with nothing chosen
        assert "down" in simulator.list_tasks()
        assert simulator.reset()["at"] == 0
        assert simulator.get_info()["current_task"] == "down"


# ---- no server ---------------------------------------------------------------------------------------


def test_a_server_that_is_not_there_is_an_error_within_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    started = time.monotonic()
    with pytest.raises(ConnectionError) as caught:
        SimulatorClient(f"127.0.0.1:{port}", connect_timeout=0.5)
    assert time.monotonic() - started < 10
    assert f"tcp://127.0.0.1:{port}: Connection refused" in str(caught.value)
    assert "connect_timeout_ms" in str(caught.value)


def talker(answer: Callable[[socket.socket], None]) -> tuple[socket.socket, threading.Thread]:
    """A listener that hands its connections to `answer`."""
    listener = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, contextlib.suppress(OSError):
                    answer(connection)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return listener, thread


def say_nothing(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


def say_http(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" * 20)


def say_ssh(connection: socket.socket) -> None:
    connection.sendall(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n")
    say_nothing(connection)


def hang_up(connection: socket.socket) -> None:
    connection.recv(1)


@pytest.mark.parametrize("answer", [say_nothing, say_http, say_ssh, hang_up])
def test_a_peer_that_is_not_zeromq_is_an_error_within_the_deadline(
    answer: Callable[[socket.socket], None],
) -> None:
    listener, _ = talker(answer)
    with listener:
        port = listener.getsockname()[1]
        started = time.monotonic()
        with pytest.raises(RuntimeError, match=f"tcp://127.0.0.1:{port}: ") as caught:
            SimulatorClient(f"127.0.0.1:{port}", connect_timeout=0.5, call_timeout=0.5).reset()
        assert time.monotonic() - started < 10
        assert str(caught.value)


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("", "it is empty"),
        ("http://127.0.0.1:5555", "must begin with tcp:// or ipc://"),
        ("tcp://127.0.0.1:0", "the port is not a number"),
        ("tcp://127.0.0.1:99999", "the port is not a number"),
        ("tcp://::1:5555", "needs brackets"),
        ("ipc://", "names no path"),
        ("a b", "no host name"),
    ],
)
def test_an_address_that_cannot_be_is_refused(address: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        SimulatorClient(address)


def test_a_closed_client_says_so(document: str) -> None:
    simulator = SimulatorClient(document)
    simulator.close()
    simulator.close()
    with pytest.raises(ValueError, match="is closed"):
        simulator.list_tasks()


def test_where_the_time_went(counter: SimulatorClient) -> None:
    with pytest.raises(InvalidParams, match="action lacks by"):
        counter.step({"sleep": 0.0})
    for _ in range(5):
        counter.step({"by": 0.1})
    timing, stats = counter.timing(), counter.stats()
    assert timing.received_bytes > 64 * 48 * 3
    assert timing.total_ms >= timing.wait_ms > 0
    assert (stats.window, stats.replies, stats.errors) == (5, 7, 1)
    assert stats.step.max >= stats.step.p50 > 0


def test_ctrl_c_ends_a_call(document: str, run_script: RunScript) -> None:
    script = f"""
import os, signal, threading
from service_clients.simulator.client import SimulatorClient
simulator = SimulatorClient({document!r})
simulator.load_task("up")
simulator.reset()
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    simulator.step({{"by": 1.0, "sleep": 3.0}}, timeout=20)
except KeyboardInterrupt:
    print("interrupted")
simulator.close()
"""
    assert run_script(script).stdout.strip() == "interrupted"


def test_an_idle_client_answers_pings() -> None:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.setsockopt(zmq.HEARTBEAT_IVL, 100)
        router.setsockopt(zmq.HEARTBEAT_TIMEOUT, 1500)
        router.setsockopt(zmq.LINGER, 0)
        port = router.bind_to_random_port("tcp://127.0.0.1")

        def answer() -> None:
            for _ in range(3):
                identity, empty, _body = router.recv_multipart()
                router.send_multipart([identity, empty, msgpack.packb({"status": "ok", "tasks": ["up"]})])

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        with SimulatorClient(f"127.0.0.1:{port}") as simulator:
            assert simulator.list_tasks() == ["up"]
            time.sleep(2)
            assert simulator.list_tasks() == ["up"]
            assert simulator.stats().sessions == 1
        thread.join(20)
        assert not thread.is_alive()


def test_a_reply_that_is_too_long_costs_no_more_than_itself(document: str) -> None:
    with SimulatorClient(document, max_reply_bytes=5000) as simulator:
        simulator.load_task("up")
        with pytest.raises(AxonTooBig, match=r"a reply of 9\d{3} bytes, limit 5000 \(max_reply_bytes\)"):
            simulator.reset()
        assert simulator.list_tasks() == ["up", "down"]
        assert simulator.stats().sessions == 1


@pytest.mark.parametrize("kind", [zmq.PAIR, zmq.PUB, zmq.SUB, zmq.REQ])
def test_a_zeromq_socket_that_is_no_server_is_named(kind: int) -> None:
    with zmq.Context() as context, context.socket(kind) as peer:
        port = peer.bind_to_random_port("tcp://127.0.0.1")
        with pytest.raises(RuntimeError, match=f"tcp://127.0.0.1:{port}: "):
            SimulatorClient(f"127.0.0.1:{port}", connect_timeout=0.5)


def test_a_server_may_be_a_rep_socket_or_behind_a_path(tmp_path: Path) -> None:
    with zmq.Context() as context, context.socket(zmq.REP) as rep:
        rep.setsockopt(zmq.LINGER, 0)
        rep.bind(f"ipc://{tmp_path}/simulator")

        def answer() -> None:
            rep.recv()
            rep.send(msgpack.packb({"status": "ok", "tasks": ["up"]}))
            rep.recv()
            rep.send(msgpack.packb({"status": "ok"}))

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        with SimulatorClient(f"ipc://{tmp_path}/simulator") as simulator:
            assert simulator.list_tasks() == ["up"]
        thread.join(20)
        assert not thread.is_alive()


def test_a_server_that_asks_for_security_is_an_error_that_says_so() -> None:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.plain_server = True
        port = router.bind_to_random_port("tcp://127.0.0.1")
        with pytest.raises(AxonProtocolError, match='security "PLAIN", which axon does not speak'):
            SimulatorClient(f"127.0.0.1:{port}", connect_timeout=5)


OLD_GREETING = b"\xff" + bytes(8) + b"\x7f\x01"  # ZMTP 2: libzmq 3


def test_a_peer_of_the_protocols_second_version_is_spoken_with() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        reply = msgpack.packb({"status": "ok", "tasks": ["up"]})

        def serve_one() -> None:
            with listener.accept()[0] as peer:
                peer.sendall(OLD_GREETING + b"\x06" + b"\0\0")  # a ROUTER without a name
                said = b""
                while not said.endswith(msgpack.packb({"method": "list_tasks"})):
                    said += peer.recv(1 << 10)
                assert said[:14] == b"\xff" + bytes(7) + b"\1\x7f\3\5\0\0"
                peer.sendall(b"\1\0" + b"\0" + bytes([len(reply)]) + reply)
                peer.recv(1 << 10)

        with ThreadPoolExecutor(1) as pool:
            served = pool.submit(serve_one)
            with SimulatorClient(f"127.0.0.1:{port}", close_timeout=0.1) as simulator:
                assert simulator.list_tasks() == ["up"]
            served.result(20)


def test_a_peer_that_says_half_a_greeting_does_not_hold_the_client_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def greet() -> None:
            with listener.accept()[0] as peer:
                peer.sendall(OLD_GREETING)
                peer.recv(1 << 10)
                done.wait(20)

        done = threading.Event()
        peer = threading.Thread(target=greet, daemon=True)
        peer.start()
        try:
            with pytest.raises(TimeoutError, match="did not answer ZeroMQ's greeting after 300 ms"):
                SimulatorClient(f"127.0.0.1:{port}", connect_timeout=0.3)
        finally:
            done.set()
        peer.join(20)
