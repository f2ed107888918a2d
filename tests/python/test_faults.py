"""Faults of the network, of servers and of the caller, each done for real to a session with a policy server.

Every observation has a number, and an answer that bears another is a stale action. At the end a table says what the
caller saw of each fault, by when, and what was left behind. The long waits run beside the other tests, in processes of
their own; keepalive tests here are scaled down to pings every 0.3 s that must be answered in 1 s.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable, Iterator

import numpy as np
import pytest
from faults import TABLE, USUAL, Fault, Robot, watched
from netns import FarMachine
from peers import harness
from support import memory_tells, resident_bytes, wait_until

from service_clients._axon import Policy
from service_clients._axon.errors import (
    AxonAuthError,
    AxonCanceled,
    AxonConnectionError,
    AxonProtocolError,
    AxonServerError,
    AxonTimeout,
)
from service_clients.demo.backends import Backend

LARGE = np.zeros(64 * 2**20, np.uint8)  # more than sockets hold on their way
LOST = (AxonConnectionError, AxonTimeout)
DEAD_PORT = 9  # nobody listens there
HELD, PINGS = 4.0, {"ping_interval": 0.3, "ping_timeout": 1.0}
LONG, LONG_PINGS = 60.0, {"ping_interval": 1.0, "ping_timeout": 5.0}


def numbered(**options: Any) -> Backend:
    """A server of tests/python/peers/numbered_server.py."""
    return harness.start_script("numbered_server.py", json.dumps(options))


def port_of(server: Backend) -> int:
    return int(server.url.rpartition(":")[2])


def kill(server: Backend) -> None:
    """What the kernel does to a process that runs out of memory."""
    os.kill(server.pid, signal.SIGKILL)
    os.waitid(os.P_PID, server.pid, os.WEXITED | os.WNOWAIT)


@contextlib.contextmanager
def session(fault: str, deadline: float, url: str, **options: Any) -> Iterator[Robot]:
    """A robot's session, watched from before it opens until it is closed."""
    with watched(fault, deadline) as row, Policy(url, **options) as policy:
        yield Robot(row, policy)


@contextlib.contextmanager
def after(seconds: float, do: Callable[[], Any]) -> Iterator[None]:
    """Does it on another thread in a while."""
    timer = threading.Timer(seconds, do)
    timer.start()
    try:
        yield
    finally:
        timer.join()


@pytest.fixture(scope="module")
def server() -> Iterator[Backend]:
    with numbered() as backend:
        yield backend


@pytest.fixture(scope="module")
def openpi_server() -> Iterator[Backend]:
    with harness.start_peer("openpi_server_peer.py", "numbered") as backend:
        yield backend


@pytest.fixture(scope="module")
def our_server() -> Iterator[Backend]:
    with harness.start_script("axon_server_peer.py") as backend:
        yield backend


SERVERS = {"openpi-server": "openpi_server", "websockets": "server", "axon-server": "our_server"}


@pytest.fixture(scope="module", params=SERVERS)
def either(request: pytest.FixtureRequest) -> tuple[str, Backend]:
    """openpi's own server, which hears nothing while its policy works, one that does, and ours."""
    return request.param, request.getfixturevalue(SERVERS[request.param])


@pytest.fixture
def fake() -> Iterator[Backend]:
    """tests/fakes/numbered_faults.py, one for each test: some of its faults end it."""
    with harness.start_fake("numbered_faults.py") as backend:
        yield backend


# ---- replies that come late ----------------------------------------------------------------------


def test_a_reply_later_than_the_deadline_is_never_the_next_observations(either: tuple[str, Backend]) -> None:
    name, backend = either
    with session(f"late reply ({name})", 0.2, backend.url) as robot:
        for _ in range(3):
            robot.fails(AxonTimeout, r"no reply after 200 ms \(infer_timeout_ms\)", 0.2, sleep=0.5)
            robot.ask()
        stats = robot.policy.stats()
        assert (stats.timeouts, stats.discarded, stats.reconnects) == (3, 3, 0)


def test_late_replies_at_random_never_answer_another_observation(either: tuple[str, Backend]) -> None:
    name, backend = either
    chance = random.Random(4)
    with session(f"150 random deadlines ({name})", 0.03, backend.url) as robot:
        for _ in range(150):
            with contextlib.suppress(AxonTimeout):
                robot.ask(chance.uniform(0.002, 0.03), sleep=chance.uniform(0.0, 0.03))
        robot.ask()
        assert {"right", "AxonTimeout"} <= set(robot.fault.seen)
        assert robot.policy.stats().timeouts == robot.fault.seen["AxonTimeout"]


def test_a_deadline_that_passes_while_the_owed_reply_is_waited_for(server: Backend) -> None:
    with session("late reply, and late again", 0.1, server.url) as robot:
        robot.fails(AxonTimeout, None, 0.1, sleep=1.0)
        before = robot.number
        for _ in range(3):
            robot.fails(AxonTimeout, None, 0.1)
        assert robot.ask(about=before)["about"] == 1
        assert robot.ask(about=before + 1)["about"] == 0, "an observation went out while a reply was owed"
        assert robot.policy.stats().discarded == 1


def test_a_reply_that_does_not_come_within_the_grace_costs_the_connection_not_the_session(
    server: Backend,
) -> None:
    with session("late reply, beyond grace_ms", 0.2, server.url, grace=0.3) as robot:
        robot.fails(AxonTimeout, None, 0.2, sleep=8.0)
        robot.ask(4.0)
        stats = robot.policy.stats()
        assert (stats.reconnects, stats.discarded) == (1, 0)


@pytest.mark.parametrize("name", ["late-and-twice", "late-in-halves", "late-error"])
def test_a_late_answer_of_every_shape_is_discarded_whole(name: str, fake: Backend) -> None:
    with session(name.replace("-", " "), 0.2, f"{fake.url}/{name}") as robot:
        robot.fails(AxonTimeout, None, 0.2)
        if name == "late-and-twice":
            robot.fails(AxonProtocolError, "nobody asked for")
        for _ in range(3):
            robot.ask()


# ---- answers that nobody asked for ---------------------------------------------------------------


@pytest.mark.parametrize("name", ["twice", "twice-apart", "unasked"])
def test_answers_that_nobody_asked_for_are_never_taken(name: str, fake: Backend) -> None:
    # One that arrives after the next observation has left cannot be told from its answer: replies carry no
    # number in the servers' protocol. Hence the pauses for the server that takes a while.
    with session(f"server answers {name.replace('-', ' ')}", USUAL, f"{fake.url}/{name}") as robot:
        for _ in range(8):
            with contextlib.suppress(AxonProtocolError):
                robot.ask()
            time.sleep(0.3 if name == "twice-apart" else 0.0)
    assert "AxonProtocolError" in robot.fault.seen


# ---- servers that die ----------------------------------------------------------------------------


def test_a_server_killed_before_the_send_costs_no_observation_once_it_is_back() -> None:
    with numbered() as first, session("server killed, then back", 1.0, first.url) as robot:
        robot.ask()
        kill(first)
        robot.fails(LOST, first.url, 1.0)
        with numbered(port=port_of(first)):
            assert robot.ask()["times"] == 1
            assert robot.policy.stats().reconnects == 1


def test_a_server_killed_while_it_computes() -> None:
    with numbered() as first, session("server killed after the send", USUAL, first.url) as robot:
        with after(0.3, lambda: kill(first)):
            robot.fails(AxonConnectionError, "hung up|reset|lost", sleep=30.0)
        with numbered(port=port_of(first)):
            robot.ask()


@pytest.mark.parametrize("name", ["dies-on-send", "dies-after-send", "dies-in-reply"])
def test_a_server_that_dies_under_an_observation(name: str, fake: Backend, server: Backend) -> None:
    with session(
        f"server {name.replace('-', ' ')}", USUAL, f"{fake.url}/{name}", hosts=[server.url]
    ) as robot:
        observation: dict[str, Any] = {"large": LARGE} if name == "dies-on-send" else {}
        robot.fails(AxonConnectionError, "hung up|reset|lost", **observation)
        robot.ask()
        assert robot.policy.url == server.url
        assert robot.policy.stats().failovers == 1


def test_a_server_restarted_on_another_port_is_found_there_and_on_the_first_again() -> None:
    name = "server moves to another port, and back"
    with numbered() as first, numbered() as second, session(
        name, USUAL, first.url, hosts=[second.url]
    ) as robot:
        robot.ask()
        kill(first)
        robot.ask()
        assert robot.policy.url == second.url
        with numbered(port=port_of(first)):
            kill(second)
            robot.ask()
            assert robot.policy.url == first.url
        assert robot.policy.stats().failovers == 2


def test_a_server_restarted_with_other_metadata_is_refused_for_as_long_as_it_differs() -> None:
    with numbered(metadata={"name": "a", "horizon": 16}) as first, session(
        "server back with other metadata", USUAL, first.url
    ) as robot:
        robot.ask()
        kill(first)
        with numbered(port=port_of(first), metadata={"name": "a", "horizon": 8}) as other:
            for _ in range(2):
                robot.fails(AxonProtocolError, "horizon")
            assert robot.policy.metadata == {"name": "a", "horizon": 16}
            kill(other)
        with numbered(port=port_of(first), metadata={"name": "a", "horizon": 16}):
            robot.ask()


def test_other_metadata_is_taken_when_it_may_change() -> None:
    with numbered(metadata={"horizon": 16}) as first, session(
        "other metadata, metadata_may_change", USUAL, first.url, metadata_may_change=True
    ) as robot:
        robot.ask()
        kill(first)
        with numbered(port=port_of(first), metadata={"horizon": 8}):
            robot.ask()
            assert robot.policy.metadata == {"horizon": 8}


def test_a_server_that_fails_says_so_and_the_next_observation_is_answered(
    either: tuple[str, Backend],
) -> None:
    name, backend = either
    closes = name != "axon-server"  # which keeps the connection of axon's clients
    what = "error, then close 1011" if closes else "error, the connection kept"
    with session(f"{what} ({name})", USUAL, backend.url) as robot:
        for _ in range(3):
            robot.fails(AxonServerError, "ValueError: no such joint", do="raise")
            robot.ask()
        assert robot.policy.stats().reconnects == (3 if closes else 0)


def test_reconnect_may_be_forbidden(server: Backend) -> None:
    with session("hang-up, reconnect=False", USUAL, server.url, reconnect=False) as robot:
        robot.fails(AxonConnectionError, None, do="abort")
        for _ in range(2):
            robot.fails(AxonConnectionError)


def test_an_observation_is_sent_a_second_time_only_when_asked_and_only_once(server: Backend) -> None:
    with session("hang-up without resend", USUAL, server.url) as robot:
        robot.fails(AxonConnectionError, None, do="abort once")
        assert robot.ask(about=robot.number)["about"] == 1
    with session("hang-up with resend", USUAL, server.url, resend=True) as robot:
        assert robot.ask(do="abort once")["times"] == 2
        robot.fails(AxonConnectionError, None, do="abort")
        assert robot.ask(about=robot.number)["about"] == 2
        assert robot.policy.stats().resent == 2


def test_the_last_reset_is_said_again_after_a_reconnect() -> None:
    with numbered(webpolicy=True) as backend, session(
        "reset replayed after a reconnect", USUAL, backend.url, dialect="webpolicy"
    ) as robot:
        robot.policy.reset({"seed": 1})
        robot.policy.reset({"seed": 2})
        assert robot.ask()["resets"] == [{"seed": 1}, {"seed": 2}]
        robot.fails(AxonConnectionError, None, do="abort")
        assert robot.ask()["resets"] == [{"seed": 2}]


# ---- a network that swallows everything ----------------------------------------------------------


@pytest.fixture(scope="module")
def far() -> Iterator[tuple[FarMachine, Backend]]:
    """A server on a machine whose cable can be cut."""
    with FarMachine() as machine:
        options = json.dumps({"host": machine.address})
        command = machine.command(sys.executable, str(harness.PEERS / "numbered_server.py"), options)
        with harness.start(command) as backend:
            assert backend.url
            yield machine, backend
            machine.mend()


def test_packets_that_vanish_before_the_send(far: tuple[FarMachine, Backend]) -> None:
    machine, backend = far
    with session("half-open, cut while idle", 0.7, backend.url) as robot:
        robot.ask()
        machine.cut()
        for _ in range(2):
            robot.fails(AxonTimeout, None, 0.7)
        machine.mend()
        robot.ask()


def test_packets_that_vanish_while_the_server_computes(far: tuple[FarMachine, Backend]) -> None:
    machine, backend = far
    with session("half-open, cut during inference", 0.8, backend.url) as robot:
        with after(0.2, machine.cut):
            robot.fails(AxonTimeout, None, 0.8, sleep=0.5)
        machine.mend()
        robot.ask()


def test_packets_that_vanish_in_the_middle_of_the_send(far: tuple[FarMachine, Backend]) -> None:
    machine, backend = far
    with session("half-open, cut during the send", 0.8, backend.url) as robot:
        robot.ask()
        machine.cut()
        robot.fails(AxonTimeout, None, 0.8, large=LARGE)
        robot.fails(LOST, None, 0.4)
        machine.mend()
        robot.ask()


def test_packets_that_vanish_before_the_connection_stands(far: tuple[FarMachine, Backend]) -> None:
    machine, backend = far
    with watched("half-open, cut before connecting", 0.5) as fault:
        machine.cut()
        try:
            with pytest.raises(AxonTimeout, match="no answer"), fault.timed(0.5):
                Policy(backend.url, connect_timeout=0.5)
        finally:
            machine.mend()


def test_a_machine_that_is_gone_for_good_is_replaced_by_the_next_address(
    far: tuple[FarMachine, Backend], server: Backend
) -> None:
    machine, backend = far
    with session(
        "half-open for good, hosts=[...]",
        0.5,
        backend.url,
        hosts=[server.url],
        grace=0.2,
        connect_timeout=1.0,
    ) as robot:
        robot.ask()
        machine.cut()
        robot.fails(AxonTimeout, None, 0.5)
        robot.ask()
        assert robot.policy.url == server.url
    machine.mend()


# ---- pings ---------------------------------------------------------------------------------------


def hold_the_gil(seconds: float) -> None:
    """A C call that keeps it, as a careless extension does."""
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))


@pytest.fixture(scope="module")
def pinging() -> Iterator[Backend]:
    with numbered(**PINGS) as backend:
        yield backend


def test_a_long_inference_with_pings(pinging: Backend) -> None:
    with session(f"{HELD:g} s inference, pings each 0.3 s", USUAL, pinging.url) as robot:
        robot.ask(sleep=HELD)
        assert robot.policy.stats().reconnects == 0


def test_the_gil_held_between_calls(pinging: Backend) -> None:
    with session(f"GIL held {HELD:g} s, pings each 0.3 s", USUAL, pinging.url) as robot:
        robot.ask()
        hold_the_gil(HELD)
        robot.ask()
        assert robot.policy.stats().reconnects == 0


def test_the_gil_held_by_another_thread_during_a_call(pinging: Backend) -> None:
    with session("GIL held by another thread in a call", USUAL, pinging.url) as robot:
        with after(0.3, lambda: hold_the_gil(HELD)):
            robot.ask(sleep=HELD + 1.0)
        assert robot.policy.stats().reconnects == 0


LONG_RUN = """
import ctypes, json, sys
from faults import Robot, watched
from service_clients._axon import Policy

url, name, what, seconds = sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4])
with watched(name, seconds + 30) as fault, Policy(url, infer_timeout=seconds + 30) as policy:
    robot = Robot(fault, policy, seconds + 30)
    robot.ask(sleep=seconds if what == "inference" else 0.0)
    if what == "gil":
        ctypes.PyDLL(None).usleep(int(seconds * 1e6))
    robot.ask()
    assert policy.stats().reconnects == 0
print(json.dumps({"seen": fault.seen, "seconds": fault.seconds, "stale": fault.stale, "leaks": fault.leaks}))
"""
LONG_RUNS = {
    "inference": f"{LONG:g} s inference, pings each 1 s",
    "gil": f"GIL held {LONG:g} s, pings each 1 s",
}


@pytest.fixture(scope="module", autouse=True)
def long_runs(request: pytest.FixtureRequest) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """What takes a minute, beside the other tests; nothing when its test is not among those that run."""
    wanted = any(item.name.startswith("test_a_whole_minute") for item in request.session.items)
    with contextlib.ExitStack() as stack:
        runs: dict[str, subprocess.Popen[str]] = {}
        for what, name in LONG_RUNS.items() if wanted else ():
            backend = stack.enter_context(numbered(**LONG_PINGS))
            runs[what] = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", LONG_RUN, backend.url, name, what, str(LONG)],
                    stdout=subprocess.PIPE,
                    text=True,
                    env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
                )
            )
            stack.callback(runs[what].kill)
        yield runs


# ---- TLS, credentials, proxies -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("wrong", "certificate is not trusted"),
        ("expired", "certificate has expired"),
        ("elsewhere", "certificate is not for 127.0.0.1"),
    ],
)
def test_a_certificate_that_proves_nothing_is_refused_with_the_reason(
    name: str, said: str, certificates: Path
) -> None:
    tls = {"certificate": str(certificates / f"{name}.pem"), "key": str(certificates / "server.key")}
    with numbered(**tls) as backend, watched(f"TLS: {name} certificate", 5.0) as fault, pytest.raises(
        AxonConnectionError, match=said
    ), fault.timed(5.0):
        Policy(backend.url, connect_timeout=5.0, ca_file=str(certificates / "ca.pem"))


def test_a_certificate_that_goes_bad_is_refused_at_the_reconnect(certificates: Path) -> None:
    def serve(name: str, port: int = 0) -> Backend:
        return numbered(certificate=str(certificates / name), key=str(certificates / "server.key"), port=port)

    trusted = str(certificates / "ca.pem")
    with serve("good.pem") as first, session(
        "TLS: expired at a reconnect", USUAL, first.url, ca_file=trusted
    ) as robot:
        robot.ask()
        robot.fails(AxonTimeout, None, 0.2, sleep=0.4)
        robot.ask()
        kill(first)
        with serve("expired.pem", port_of(first)):
            robot.fails(AxonConnectionError, "expired")
        with serve("good.pem", port_of(first)):
            robot.ask()


def test_credentials_that_are_refused() -> None:
    with numbered(api_key="right") as backend, watched("401", 5.0) as fault:
        for key in ("wrong", None):
            with pytest.raises(AxonAuthError, match=r"401.*who are you"), fault.timed(5.0):
                Policy(backend.url, api_key=key, connect_timeout=5.0)
        with Policy(backend.url, api_key="right") as policy:
            Robot(fault, policy).ask()


def test_credentials_that_are_refused_at_a_reconnect() -> None:
    with numbered(api_key="right") as backend, session(
        "401 at a reconnect", USUAL, backend.url, api_key="right"
    ) as robot:
        robot.ask(do="lock")
        time.sleep(0.1)
        for _ in range(2):
            robot.fails(AxonAuthError, "401")


@pytest.mark.parametrize("case", [str.lower, str.upper])
def test_a_proxy_in_the_environment_is_not_for_this_machine(
    case: Callable[[str], str], server: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "ws_proxy", "wss_proxy", "all_proxy"):
        monkeypatch.setenv(case(name), f"http://127.0.0.1:{DEAD_PORT}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with session(f"dead {case('http_proxy')} in the environment", USUAL, server.url) as robot:
        robot.ask()
        robot.fails(AxonConnectionError, None, do="abort")
        robot.ask()
        with Policy(server.url.replace("127.0.0.1", "localhost")) as policy:
            Robot(robot.fault, policy).ask()


# ---- many ----------------------------------------------------------------------------------------


def test_a_thousand_connections_leave_nothing_behind(server: Backend) -> None:
    def connect(times: int) -> None:
        for _ in range(times):
            with Policy(server.url) as policy, fault.timed(USUAL):
                assert policy.metadata == {"name": "numbered"}

    with watched("1,000 connections, one by one", USUAL) as fault:
        connect(100)
        memory = resident_bytes()
        connect(900)
        if memory_tells():
            assert resident_bytes() - memory < 4 * 2**20
        fault.saw("connected x 1000")


def test_many_faults_in_a_row_leave_no_memory_behind(server: Backend) -> None:
    picture = np.zeros((300, 300, 3), np.uint8)

    def suffer(times: int) -> None:
        for _ in range(times):
            robot.fails(AxonConnectionError, None, do="abort", picture=picture)
            robot.fails(AxonServerError, None, do="raise", picture=picture)
            robot.fails(AxonTimeout, None, 0.01, sleep=0.02, picture=picture)
            robot.ask(picture=picture)

    with session("lost, failed and late, 60 times over", USUAL, server.url) as robot:
        suffer(10)
        memory = resident_bytes()
        suffer(50)
        if memory_tells():  # one picture left behind in each round would be 13 MB
            assert resident_bytes() - memory < 4 * 2**20


def test_sixty_four_clients_on_one_server(either: tuple[str, Backend]) -> None:
    name, backend = either
    pause = 0.0 if name == "openpi-server" else 0.005  # which each of its clients waits for

    def run(fault: Fault) -> None:
        try:
            with Policy(backend.url) as policy:
                robot = Robot(fault, policy)
                barrier.wait(USUAL)
                for _ in range(10):
                    robot.ask(sleep=pause)
        except BaseException as error:
            failures.append(error)
            barrier.abort()

    failures: list[BaseException] = []
    barrier = threading.Barrier(64)
    with watched(f"64 clients at once ({name})", USUAL) as fault:
        faults = [Fault(f"client {number}", USUAL) for number in range(64)]
        threads = [threading.Thread(target=run, args=[mine]) for mine in faults]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures, failures[0]
        fault.seen["right"] = sum(mine.seen["right"] for mine in faults)
        fault.seconds = max(mine.seconds for mine in faults)
        assert fault.seen["right"] == 640


# ---- the caller's own doing ----------------------------------------------------------------------


def test_after_a_fork_the_child_gets_a_clear_error_and_the_parent_goes_on(server: Backend) -> None:
    before = os.fork()  # numpy's OpenBLAS ends a thread of its own at the first one, which is no leak of ours
    if before == 0:
        os._exit(0)
    os.waitpid(before, 0)
    with session("fork after connect", USUAL, server.url) as robot:
        robot.ask()
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                robot.policy.infer({"number": 0})
            except ValueError as error:
                os.write(write, str(error).encode())
            finally:
                robot.policy.close()
                os._exit(0)
        os.close(write)
        with os.fdopen(read, "rb") as pipe:
            said = pipe.read().decode()
        assert os.waitpid(child, 0)[1] == 0
        assert "parent" in said or "fork" in said
        robot.fault.saw("child: AxonValueError")
        robot.ask()
        assert robot.policy.stats().reconnects == 0


def test_ctrl_c_ends_the_wait_and_the_next_answer_is_right(either: tuple[str, Backend]) -> None:
    name, backend = either
    with session(f"Ctrl-C in infer ({name})", USUAL, backend.url) as robot:
        for _ in range(2):
            with after(0.2, lambda: os.kill(os.getpid(), signal.SIGINT)):
                robot.fails(KeyboardInterrupt, None, sleep=0.8)
            robot.ask()
        assert robot.policy.stats().discarded == 2


def test_a_cancel_from_another_thread_and_the_next_answer_is_right(either: tuple[str, Backend]) -> None:
    name, backend = either
    with session(f"cancel from another thread ({name})", USUAL, backend.url) as robot:
        for _ in range(2):
            with after(0.2, robot.policy.cancel):
                robot.fails(AxonCanceled, None, sleep=0.8)
            robot.ask()
        robot.policy.cancel()  # nobody waits: it must not end the next call
        robot.ask()


def test_a_cancel_in_the_middle_of_the_send(fake: Backend, server: Backend) -> None:
    with session(
        "cancel in the middle of the send", USUAL, f"{fake.url}/dies-on-send", hosts=[server.url]
    ) as robot:
        with after(0.1, robot.policy.cancel):
            robot.fails(AxonCanceled, None, large=LARGE)
        wait_until(lambda: not is_listening(fake))
        robot.ask()


def test_cancels_at_random_never_leave_an_answer_for_another(server: Backend) -> None:
    chance = random.Random(7)
    with session("100 cancels at random", USUAL, server.url) as robot:
        for _ in range(100):
            with after(chance.uniform(0.0, 0.01), robot.policy.cancel), contextlib.suppress(AxonCanceled):
                robot.ask(sleep=chance.uniform(0.0, 0.01))
        assert {"right", "AxonCanceled"} <= set(robot.fault.seen)


def test_a_close_from_another_thread_ends_the_wait(server: Backend) -> None:
    with session("close from another thread", USUAL, server.url) as robot:
        with after(0.2, robot.policy.close):
            robot.fails(AxonCanceled, None, sleep=1.5)
        with pytest.raises(ValueError, match="closed"):
            robot.ask()


def is_listening(backend: Backend) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port_of(backend))) == 0


# ---- last, for they have been running all the while ----------------------------------------------


@pytest.mark.parametrize("what", LONG_RUNS)
def test_a_whole_minute_of_pings(what: str, long_runs: dict[str, subprocess.Popen[str]]) -> None:
    fault = Fault(LONG_RUNS[what], LONG + 30)
    TABLE.append(fault)
    out, _ = long_runs[what].communicate(timeout=LONG + 45)
    assert long_runs[what].returncode == 0
    for name, value in json.loads(out).items():
        setattr(fault, name, value)
    assert fault.stale == 0
    assert fault.seen == {"right": 2}
    assert fault.leaks == "none"
