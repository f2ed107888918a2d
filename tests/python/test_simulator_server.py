"""The simulator server, asked by a client on pyzmq and msgpack that was written from the protocol's document, and by ours."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import Any, ClassVar, Iterator

import msgpack  # type: ignore[import-untyped]
import numpy as np
import pytest
import zmq
from peers.simulator_server_peer import decode, encode
from support import wait_until

from service_clients.simulator.actions import ActionSpace
from service_clients.simulator.backend import Backend, BackendError, InvalidParams, TaskNotFound
from service_clients.simulator.client import SimulatorClient
from service_clients.simulator.server import SimulatorServer

SPACE = {
    "by": {"shape": [2], "dtype": "float64", "low": [-1.0, -1.0], "high": [1.0, 1.0]},
    "grip": {"shape": [1], "dtype": "int64", "low": [0], "high": [3]},
}


class Counter(Backend):
    """Counts; its tasks are what may go wrong."""

    name = "counter"
    version = "3"
    made: ClassVar[list[Counter]] = []

    def __init__(self) -> None:
        self.at = np.zeros(2)
        self.task = ""
        self.threads = {threading.get_ident()}
        self.is_connected = True
        self.made.append(self)

    def list_tasks(self, suite: str | None = None) -> list[str]:
        return ["count", "short", "free", "crash", "object", "tuple", "slow"] if suite is None else [suite]

    def load_task(self, task_name: str) -> dict[str, Any]:
        self.threads.add(threading.get_ident())
        if task_name not in self.list_tasks():
            raise TaskNotFound(f"no task {task_name}")
        if task_name == "crash" and self.task == "crash":
            raise RuntimeError("the disk\n is on fire")
        self.task = task_name
        info: dict[str, Any] = {
            "description": "count",
            "max_episode_steps": 3 if task_name == "short" else 100,
        }
        return info if task_name == "free" else {**info, "action_space": SPACE}

    def observe(self) -> dict[str, Any]:
        return {
            "at": self.at.copy(),
            "picture": np.zeros((8, 6, 3), np.uint8),
            "deep": [{"er": np.arange(2)}],
        }

    def reset(self) -> dict[str, Any]:
        self.threads.add(threading.get_ident())
        self.at[:] = 0
        return self.observe()

    def step(self, action: dict[str, Any]) -> Any:
        if self.task == "crash":
            raise KeyError("joint")
        if self.task == "object":
            return {"thing": [object()]}, 0, False, False, {}
        if self.task == "tuple":
            return self.observe(), 0
        if self.task == "slow":
            time.sleep(float(action["grip"][0]) / 2)
        if self.task == "free":
            return self.observe(), 0.0, False, False, {"action": str(action)}
        self.at += action["by"]
        kinds = {key: str(value.dtype) for key, value in action.items()}
        return self.observe(), np.float32(self.at[0]), self.at[0] >= 5, np.bool_(False), {"kinds": kinds}

    def disconnect(self) -> None:
        self.threads.add(threading.get_ident())
        self.is_connected = False


class Broken(Backend):
    def __init__(self) -> None:
        raise ImportError("broken is not installed: pip install broken")


class Document:
    """A client as the protocol's document has it."""

    def __init__(self, address: str, kind: int = zmq.DEALER) -> None:
        self.socket: zmq.Socket[bytes] = zmq.Context.instance().socket(kind)
        self.socket.setsockopt(zmq.RCVTIMEO, 20000)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.connect(address)

    def send(self, **request: Any) -> None:
        self.socket.send_multipart([b"", msgpack.packb(encode(request), use_bin_type=True)])

    def receive(self) -> dict[str, Any]:
        empty, body = self.socket.recv_multipart()
        assert empty == b""
        reply: dict[str, Any] = decode(msgpack.unpackb(body, raw=False))
        return reply

    def __call__(self, method: str, **fields: Any) -> dict[str, Any]:
        self.send(method=method, **fields)
        return self.receive()

    def begin(self, task: str) -> None:
        for reply in (
            self("select_simulator", simulator="counter"),
            self("load_task", task_name=task),
            self("reset"),
        ):
            assert reply["status"] == "ok", reply

    def error(self, method: str, **fields: Any) -> tuple[str, str]:
        reply = self(method, **fields)
        assert (reply["status"], sorted(reply)) == ("error", ["error_type", "message", "status"])
        assert "Traceback" not in reply["message"]
        return reply["error_type"], reply["message"]

    def __enter__(self) -> Document:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.socket.close()


STEP = {"by": [0.5, 0.0], "grip": [1]}


@pytest.fixture(scope="module")
def server() -> Iterator[SimulatorServer]:
    with SimulatorServer({"counter": Counter, "broken": Broken}, port=0) as made:
        yield made


@pytest.fixture
def client(server: SimulatorServer) -> Iterator[Document]:
    with Document(server.address) as made:
        yield made
        made("disconnect")


# ---- the protocol ------------------------------------------------------------------------------------


def test_an_episode_of_the_document(client: Document) -> None:
    assert client("list_simulators") == {"status": "ok", "simulators": ["counter", "broken"]}
    assert client("select_simulator", simulator="counter") == {"status": "ok", "simulator": "counter"}
    assert client("list_tasks")["tasks"][0] == "count"
    assert client("list_tasks", suite="count")["tasks"] == ["count"]
    loaded = client("load_task", task_name="count")["task_info"]
    assert loaded == {
        "task_name": "count",
        "description": "count",
        "max_episode_steps": 100,
        "action_space": SPACE,
    }
    observation = client("reset")["observation"]
    assert observation["picture"].shape == (8, 6, 3)
    assert observation["deep"][0]["er"].tolist() == [0, 1]
    as_arrays = client("step", action={"by": np.array([0.5, 0.25], np.float32), "grip": np.array([1])})
    assert as_arrays["observation"]["at"].tolist() == [0.5, 0.25]
    assert as_arrays["info"]["kinds"] == {"by": "float64", "grip": "int64"}
    as_lists = client("step", action=STEP)
    assert as_lists["observation"]["at"].tolist() == [1.0, 0.25]
    assert (as_lists["reward"], as_lists["terminated"], as_lists["truncated"]) == (1.0, False, False)
    info = client("get_info")
    assert (info["backend_name"], info["backend_version"], info["current_task"]) == ("counter", "3", "count")
    assert (info["action_space"], info["observation_space"]) == (SPACE, None)
    assert client("disconnect") == {"status": "ok"}
    assert client.error("reset")[0] == "no_simulator_selected"


def test_what_comes_too_early_says_what_is_missing(client: Document) -> None:
    for method in ("list_tasks", "load_task", "reset", "step", "get_info"):
        assert client.error(method)[0] == "no_simulator_selected"
    assert client.error("select_simulator", simulator="none")[0] == "unknown_simulator"
    assert client.error("select_simulator")[0] == "invalid_params"
    client("select_simulator", simulator="counter")
    assert client.error("select_simulator", simulator="counter")[0] == "simulator_already_selected"
    for method in ("reset", "step"):
        assert client.error(method)[0] == "no_task_loaded"
    assert client("get_info")["current_task"] is None
    assert client.error("load_task", task_name="none")[0] == "task_not_found"
    assert client.error("load_task", task_name=3) == ("invalid_params", "task_name: is int, not a text")
    assert client.error("list_tasks", suite=[])[0] == "invalid_params"
    client("load_task", task_name="count")
    assert client.error("step", action=STEP)[0] == "not_reset"
    assert client.error("fly")[0] == "unknown_method"


def test_an_episode_that_ended_needs_a_reset(client: Document) -> None:
    client.begin("count")
    replies = [client("step", action={"by": [1, 0], "grip": 0}) for _ in range(5)]
    assert [reply["terminated"] for reply in replies] == [False] * 4 + [True]
    assert client.error("step", action=STEP)[0] == "not_reset"
    client("reset")
    assert client("step", action=STEP)["status"] == "ok"
    assert client.error("load_task", task_name="none")[0] == "task_not_found"
    assert client("step", action=STEP)["status"] == "ok"  # the task before stays


def test_the_server_counts_the_steps_of_a_task(client: Document) -> None:
    client.begin("short")
    assert [client("step", action=STEP)["truncated"] for _ in range(3)] == [False, False, True]
    assert client.error("step", action=STEP)[0] == "not_reset"


def test_a_task_without_an_action_space_gets_actions_as_they_are(client: Document) -> None:
    client.begin("free")
    assert client("step", action={"any": [1, "two"]})["info"]["action"] == "{'any': [1, 'two']}"
    assert client.error("step", action=[1]) == ("invalid_params", "action: is list, not a map")


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        (None, "action: is NoneType, not a map"),
        ([0.5, 0.0], "action: is list, not a map"),
        ({"by": [0.5, 0.0]}, 'action "grip": is missing; the task takes by, grip'),
        ({**STEP, "wrist": [1]}, 'action "wrist": is not known; the task takes by, grip'),
        ({**STEP, "by": [0.5]}, 'action "by": has shape [1], not [2]'),
        ({**STEP, "by": np.zeros((2, 1))}, 'action "by": has shape [2, 1], not [2]'),
        ({**STEP, "by": [[1, 2], [3]]}, 'action "by": is no array: its rows are not of one length'),
        ({**STEP, "by": "left"}, 'action "by": is no array of numbers but str'),
        ({**STEP, "by": [None, 1]}, 'action "by": is no array of numbers but list'),
        ({**STEP, "by": [float("nan"), 0]}, 'action "by": has nan at [0], which is no finite number'),
        ({**STEP, "by": np.array([0, np.inf])}, 'action "by": has inf at [1], which is no finite number'),
        ({**STEP, "by": [0, -1.5]}, 'action "by": has -1.5 at [1], outside of -1 to 1'),
        ({**STEP, "grip": [0.5]}, 'action "grip": has 0.5 at [0], where int64 is wanted'),
        ({**STEP, "grip": [4]}, 'action "grip": has 4 at [0], outside of 0 to 3'),
    ],
)
def test_an_action_that_the_task_does_not_take_is_refused_by_its_key(
    client: Document, action: Any, reason: str
) -> None:
    client.begin("count")
    assert client.error("step", action=action) == ("invalid_params", reason)
    assert client("step", action=STEP)["observation"]["at"].tolist() == [0.5, 0.0]


def test_limits_that_float32_misses_are_met() -> None:
    space = ActionSpace({"a": {"shape": [2], "dtype": "float32", "low": [-0.1, None], "high": [0.1, None]}})
    found = space.normalise({"a": np.array([0.1, 1e9], np.float32)})["a"]
    assert found.dtype == np.float32
    assert (found == np.array([0.1, 1e9], np.float32)).all()
    with pytest.raises(InvalidParams, match=r"outside of -0\.1 to 0\.1"):
        space.normalise({"a": [0.11, 0.0]})


@pytest.mark.parametrize("shape", [[], [7], [20, 50]])
def test_no_number_of_an_array_goes_unseen(shape: list[int]) -> None:
    space = ActionSpace({"a": {"shape": shape, "dtype": "float64", "low": None, "high": 1}})
    fine = np.full(shape, -1e300)
    assert space.normalise({"a": fine})["a"] is fine
    for wrong, said in ((np.nan, "nan"), (-np.inf, "-inf"), (np.inf, "inf"), (1.5, "1.5")):
        for place in (0, -1):
            action = fine.copy()
            action.reshape(-1)[place] = wrong
            with pytest.raises(InvalidParams, match=f'action "a": has {said}'):
                space.normalise({"a": action})


# ---- backends that fail ------------------------------------------------------------------------------


def test_what_a_backend_raises_is_a_backend_error_and_its_traceback_is_the_servers(
    client: Document, caplog: pytest.LogCaptureFixture
) -> None:
    client.begin("crash")
    assert client.error("step", action=STEP) == ("backend_error", "KeyError: 'joint'")
    assert "Traceback" in caplog.text
    assert client.error("step", action=STEP)[0] == "not_reset"
    assert client.error("load_task", task_name="crash") == (
        "backend_error",
        "RuntimeError: the disk is on fire",
    )
    assert client.error("reset")[0] == "no_task_loaded"
    client("load_task", task_name="count")
    assert client("reset")["status"] == "ok"


@pytest.mark.parametrize(
    ("task", "reason"),
    [("object", 'step "observation.thing[0]": object does not travel'), ("tuple", "step gave no")],
)
def test_what_a_backend_may_not_return_is_a_backend_error(client: Document, task: str, reason: str) -> None:
    client.begin(task)
    kind, message = client.error("step", action=STEP)
    assert kind == "backend_error"
    assert reason in message


def test_a_backend_that_cannot_be_made_says_why_and_another_one_can_be_selected(client: Document) -> None:
    kind, message = client.error("select_simulator", simulator="broken")
    assert (kind, message) == ("backend_error", "ImportError: broken is not installed: pip install broken")
    assert client("select_simulator", simulator="counter")["status"] == "ok"


def test_errors_of_a_backends_own_reach_our_client_as_their_class(server: SimulatorServer) -> None:
    with SimulatorClient(server.address) as ours:
        ours.select_simulator("counter")
        ours.load_task("crash")
        ours.reset()
        with pytest.raises(BackendError, match="KeyError: 'joint'"):
            ours.step(STEP)


# ---- sessions ----------------------------------------------------------------------------------------


def test_a_slow_step_does_not_stall_the_others(server: SimulatorServer, client: Document) -> None:
    with Document(server.address) as other:
        client.begin("slow")
        other.begin("count")
        client.send(method="step", action={**STEP, "grip": [2]})
        for _ in range(5):
            assert other("step", action=STEP)["status"] == "ok"
        assert client.socket.poll(0) == 0  # and its own step takes a second
        assert client.receive()["status"] == "ok"
        other("disconnect")


def test_requests_that_are_sent_ahead_are_answered_in_their_order(client: Document) -> None:
    client.begin("count")
    for _ in range(5):
        client.send(method="step", action={"by": [0.1, 0], "grip": [0]})
    assert [round(client.receive()["observation"]["at"][0], 3) for _ in range(5)] == [0.1, 0.2, 0.3, 0.4, 0.5]


def test_each_session_has_a_backend_that_lives_on_one_thread(server: SimulatorServer) -> None:
    Counter.made.clear()
    clients = [Document(server.address) for _ in range(3)]
    for client in clients:
        client.begin("count")
    for client in clients:
        with client:
            assert client("disconnect")["status"] == "ok"
    wait_until(lambda: not any(made.is_connected for made in Counter.made))
    assert len(Counter.made) == 3
    assert [len(made.threads) for made in Counter.made] == [1, 1, 1]
    assert len(set.union(*[made.threads for made in Counter.made])) == 3


def test_idle_sessions_are_reaped() -> None:
    Counter.made.clear()
    with SimulatorServer({"counter": Counter}, port=0, idle_timeout=0.3) as server, Document(
        server.address
    ) as client:
        client.begin("count")
        wait_until(lambda: server.stats().reaped == 1)
        wait_until(lambda: not Counter.made[0].is_connected)
        assert client.error("reset")[0] == "no_simulator_selected"


def test_there_are_no_more_sessions_than_allowed() -> None:
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(SimulatorServer({"counter": Counter}, port=0, max_sessions=2))
        first, second, third = (stack.enter_context(Document(server.address)) for _ in range(3))
        first.begin("count")
        second.begin("count")
        assert third.error("list_simulators") == (
            "internal_error",
            "2 sessions are open already (max_sessions)",
        )
        first("disconnect")
        wait_until(lambda: third("list_simulators")["status"] == "ok")
        assert server.stats().refused >= 1


def test_sessions_may_begin_with_a_simulator_for_clients_that_know_of_no_choice() -> None:
    with SimulatorServer({"counter": Counter, "broken": Broken}, port=0, selected="counter") as server:
        with Document(server.address) as client:
            assert client("load_task", task_name="count")["status"] == "ok"
            assert client.error("select_simulator", simulator="counter")[0] == "simulator_already_selected"
        with Document(server.address) as client:
            assert client("select_simulator", simulator="counter")["status"] == "ok"


def test_a_request_is_answered_before_the_server_stops() -> None:
    server = SimulatorServer({"counter": Counter}, port=0)
    server.start()
    with Document(server.address) as client:
        client.begin("slow")
        client.send(method="step", action={**STEP, "grip": [1]})
        time.sleep(0.1)
        server.stop()
        assert client.receive()["status"] == "ok"
    with pytest.raises(ValueError, match="does not listen"):
        server.address  # noqa: B018


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(
            OSError, match=f"127.0.0.1:{port}: it cannot be listened on: Address already in use"
        ):
            SimulatorServer({"counter": Counter}, port=port).start()


# ---- bad input ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "the message ends"),
        (b"hello", "bytes follow the message"),
        (msgpack.packb([1, 2]), "request: it is no map"),
        (msgpack.packb({"task_name": "count"}), 'request "method": it is no text, or missing'),
        (msgpack.packb({"method": 7}), 'request "method": it is no text, or missing'),
        (
            msgpack.packb(
                {
                    "method": "step",
                    "action": {
                        "by": {"__type__": "ndarray", "shape": [2], "dtype": "float64", "data": b"123"}
                    },
                }
            ),
            'request "action.by": an array whose data',
        ),
        (
            msgpack.packb(
                {"method": "step", "a": {"__type__": "ndarray", "shape": [2], "dtype": "object", "data": b""}}
            ),
            "is 'object', which is not a dtype that travels",
        ),
        (b"\x91" * 100 + b"\xc0", "nested deeper than 32 levels"),
    ],
)
def test_what_is_no_request_is_invalid_params(client: Document, body: bytes, reason: str) -> None:
    client.begin("count")
    client.socket.send_multipart([b"", body])
    reply = client.receive()
    assert reply["error_type"] == "invalid_params"
    assert reason in reply["message"]
    assert client("step", action=STEP)["status"] == "ok"


def test_who_talks_nonsense_holds_no_session(server: SimulatorServer) -> None:
    wait_until(lambda: server.stats().sessions == 0)  # those of clients that are gone have ended
    with Document(server.address) as client:
        client.socket.send_multipart([b"", b"\xc1"])
        assert client.receive()["error_type"] == "invalid_params"
        wait_until(lambda: server.stats().sessions == 0)
        client.socket.send_multipart([b"", b"a", b"b"])
        assert client.receive()["error_type"] == "invalid_params"


def test_other_frames_are_understood_as_well(server: SimulatorServer) -> None:
    bare: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
    with bare:
        bare.connect(server.address)
        bare.send(msgpack.packb({"method": "list_simulators"}))
        assert bare.poll(20000)
        assert msgpack.unpackb(bare.recv())["simulators"] == ["counter", "broken"]
    request: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.REQ)
    with request:
        request.connect(server.address)
        request.send(msgpack.packb({"method": "list_simulators"}))
        assert request.poll(20000)
        assert msgpack.unpackb(request.recv())["simulators"] == ["counter", "broken"]


def test_a_method_under_a_key_of_bytes_is_understood(server: SimulatorServer) -> None:
    with Document(server.address) as client:
        client.socket.send_multipart([b"", msgpack.packb({b"method": "list_simulators"}, use_bin_type=True)])
        assert client.receive()["simulators"] == ["counter", "broken"]


def test_what_is_not_zeromq_or_too_long_disturbs_nobody(client: Document, server: SimulatorServer) -> None:
    client.begin("count")
    for said in (
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff\0\0\0\0\0\0\0\1\x7f\3\0NULL" + b"\0" * 48 + b"\6" + b"\xff" * 8,
        b"",
    ):
        with socket.create_connection(("127.0.0.1", server.port)) as stranger:
            stranger.sendall(said)
            stranger.settimeout(0.2)
            with contextlib.suppress(OSError):
                stranger.recv(1000)
    assert client("step", action=STEP)["status"] == "ok"


def test_a_request_that_is_too_long_is_refused_and_the_next_one_is_not() -> None:
    with SimulatorServer({"counter": Counter}, port=0, max_message_bytes=1000) as server, SimulatorClient(
        server.address
    ) as client:
        for _ in range(2):
            with pytest.raises(
                InvalidParams, match=r"a request of \d+ bytes, limit 1000 \(max_message_bytes\)"
            ):
                client.call("list_simulators", {"more": b"x" * 100_000})
            assert client.list_simulators() == ["counter"]
        assert client.stats().sessions == 1


def test_requests_beyond_the_servers_memory_are_refused_and_the_next_one_is_not() -> None:
    with SimulatorServer({"counter": Counter}, port=0, max_memory_bytes=100_000) as server:
        with Document(server.address) as client:
            client.begin("slow")
            client.send(method="step", action={**STEP, "grip": [3]})
            for _ in range(3):
                client.send(method="list_simulators", more=b"x" * 60_000)
            assert client.receive()["status"] == "ok"
            assert [client.receive()["status"] for _ in range(3)] == ["ok", "error", "error"]
            assert client("get_info")["status"] == "ok"
        assert server.stats().discarded == 2


def test_requests_that_are_sent_far_ahead_wait_for_their_turn(client: Document) -> None:
    client.begin("slow")
    client.send(method="step", action={**STEP, "grip": [1]})
    for n in range(300):
        client.send(method="step" if n % 100 == 99 else "get_info", action={**STEP, "grip": [0]})
    assert client.receive()["status"] == "ok"
    replies = [client.receive() for _ in range(300)]
    assert [n for n, reply in enumerate(replies) if "observation" in reply] == [99, 199, 299]


# ---- clients that go and come ------------------------------------------------------------------------


def test_a_client_that_is_gone_takes_its_session_along(server: SimulatorServer) -> None:
    Counter.made.clear()
    for was_busy in (False, True):
        with Document(server.address) as client:
            client.begin("slow")
            if was_busy:
                client.send(method="step", action={**STEP, "grip": [1]})
    wait_until(lambda: len(Counter.made) == 2 and not any(made.is_connected for made in Counter.made))


def called(name: bytes, address: str) -> Document:
    """A client that gives its socket a name."""
    document = Document.__new__(Document)
    document.socket = zmq.Context.instance().socket(zmq.DEALER)
    document.socket.setsockopt(zmq.ROUTING_ID, name)
    document.socket.setsockopt(zmq.RCVTIMEO, 20000)
    document.socket.setsockopt(zmq.LINGER, 0)
    document.socket.connect(address)
    return document


def test_a_client_that_comes_back_under_its_name_finds_its_session(server: SimulatorServer) -> None:
    with called(b"arm", server.address) as client:
        client.begin("count")
        assert client("step", action=STEP)["observation"]["at"][0] == 0.5
    with called(b"leg", server.address) as other:
        assert other.error("step", action=STEP)[0] == "no_simulator_selected"
        other("disconnect")
    with called(b"arm", server.address) as again:
        assert again("step", action=STEP)["observation"]["at"][0] == 1.0
        with called(b"arm", server.address) as twin:  # whoever comes last has it: a cable may have been cut
            assert twin("step", action=STEP)["observation"]["at"][0] == 1.5
            twin("disconnect")


def test_a_session_whose_client_is_gone_makes_room_for_another() -> None:
    Counter.made.clear()
    with SimulatorServer({"counter": Counter}, port=0, max_sessions=2) as server:
        for name in (b"one", b"two"):
            with called(name, server.address) as client:
                client.begin("count")
        assert server.stats().sessions == 2  # they might come back
        with contextlib.ExitStack() as stack:
            third, fourth, fifth = (stack.enter_context(Document(server.address)) for _ in range(3))
            wait_until(lambda: third("list_simulators")["status"] == "ok")
            third.begin("count")
            wait_until(lambda: fourth("list_simulators")["status"] == "ok")
            fourth.begin("count")
            assert fifth.error("list_simulators")[0] == "internal_error"  # nobody is gone any more
            wait_until(lambda: [made.is_connected for made in Counter.made] == [False, False, True, True])


def test_pings_are_answered_while_a_step_takes_long(server: SimulatorServer) -> None:
    with Document(server.address) as client:
        client.socket.close()
        client.socket = zmq.Context.instance().socket(zmq.DEALER)
        for option, value in (
            (zmq.RCVTIMEO, 20000),
            (zmq.LINGER, 0),
            (zmq.HEARTBEAT_IVL, 100),
            (zmq.HEARTBEAT_TIMEOUT, 1200),
        ):
            client.socket.setsockopt(option, value)
        client.socket.connect(server.address)
        client.begin("slow")
        assert client("step", action={**STEP, "grip": [3]})["observation"]["at"][0] == 0.5
        time.sleep(1)
        assert client("step", action={**STEP, "grip": [0]})["observation"]["at"][0] == 1.0
        client("disconnect")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"simulators": {}}, "simulators is empty"),
        ({"simulators": {"a": 3}}, "no name of a callable"),
        ({"simulators": {"a": Counter}, "selected": "b"}, "selected is 'b', not one of a"),
        ({"simulators": {"a": Counter}, "port": 70000}, "port is 70000"),
        ({"simulators": {"a": Counter}, "idle_timeout": -1}, "idle_timeout is -1"),
    ],
)
def test_arguments_that_cannot_be_are_refused(arguments: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        SimulatorServer(**arguments)


def test_ctrl_c_closes_the_server_when_nobody_uses_it_any_more() -> None:
    class Slow(SimulatorServer):
        has_ended = False

        def _accept(self, *arguments: Any) -> None:
            super()._accept(*arguments)
            time.sleep(0.3)
            self.has_ended = True

    server = Slow({"counter": Counter}, port=0)
    server.start()
    timer = threading.Timer(0.1, signal.raise_signal, [signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        server.serve_forever()
    assert server.has_ended
    timer.join()


# ---- the program -------------------------------------------------------------------------------------


def test_the_program_serves_and_stops() -> None:
    command = [
        sys.executable,
        "-m",
        "service_clients.simulator.server",
        "--port",
        "0",
        "--simulator",
        "tabletop",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        said = process.stdout.readline()
        assert said.startswith("Serving tabletop on tcp://127.0.0.1:")
        with SimulatorClient(said.split()[-1]) as client:
            assert client.list_simulators() == ["tabletop"]
        process.terminate()
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


def test_the_program_says_what_it_does() -> None:
    command = [sys.executable, "-m", "service_clients.simulator.server"]
    help_text = subprocess.run(
        [*command, "--help"], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    assert "--simulator NAME" in help_text
    for name, said in (
        ("nothing:There", "No module named 'nothing'"),
        ("tabeltop", "there is no simulator 'tabeltop'; there are tabletop, gymnasium, robosuite"),
    ):
        wrong = subprocess.run(
            [*command, "--simulator", name], capture_output=True, text=True, check=False, timeout=60
        )
        assert (wrong.returncode, wrong.stderr.strip()) == (1, f"simulator server: {said}")
