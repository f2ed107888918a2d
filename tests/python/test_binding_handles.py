"""Handles under signals, threads, forks and many calls."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from typing import Any, Callable

import numpy as np
import pytest
from support import RunScript, Serve, ServePolicy, wait_until

from service_clients._axon import AxonCanceled, AxonTimeout, AxonValueError, Policy, Service
from service_clients._axon.values import packb, unpackb

LONG = 600.0  # seconds; whoever waits for this to pass has failed


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answers every request with an empty map."""
    if scope["type"] != "http":
        return
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]}
    )
    await send({"type": "http.response.body", "body": b"{}"})


@pytest.fixture(scope="module")
def host(serve: Serve) -> str:
    return serve(app)


class Gate:
    """A policy that answers {"wait": True} only when it is let go, and anything else with {"actions": ...} at once."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.opened = threading.Event()

    def __call__(self, request: bytes) -> bytes:
        if unpackb(request).get("wait"):
            self.asked.set()
            self.opened.wait(60)
        return packb({"actions": np.zeros((2, 3), np.float32)})


@pytest.fixture
def gate() -> Any:
    gate = Gate()
    yield gate
    gate.opened.set()


# ---- Ctrl-C --------------------------------------------------------------------------------------

WAITS = {
    "a service that says nothing": """
from service_clients._axon import Service
Service("http://" + sys.argv[1], timeout=600).get("/")
""",
    "a policy server that says nothing": """
from service_clients._axon import Policy
Policy(sys.argv[1], connect_timeout=600)
""",
    "a policy server that is not there": """
from service_clients._axon import Policy
Policy("127.0.0.1:" + sys.argv[2], connect_timeout=600)
""",
}
PRELUDE = """
import os, signal, sys, threading, time
def tell_when_waiting():
    time.sleep(0.5)
    os.write(1, b"waiting\\n")  # print() would hold stdout's lock, which the interpreter may want to end
threading.Thread(target=tell_when_waiting, daemon=True).start()
"""


def interrupted(
    code: str, *arguments: str, send: signal.Signals = signal.SIGINT
) -> subprocess.CompletedProcess[str]:
    """Runs code in a process of its own and sends it a signal when it says that it waits."""
    process = subprocess.Popen(
        [sys.executable, "-c", PRELUDE + code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(send)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    return subprocess.CompletedProcess([], process.returncode, out, err)


@pytest.mark.parametrize("name", WAITS)
def test_ctrl_c_ends_a_wait(name: str, silent_server: str, unused_port: int) -> None:
    done = interrupted(WAITS[name], silent_server, str(unused_port))
    assert done.returncode == -signal.SIGINT, done.stderr
    assert done.stderr.endswith("KeyboardInterrupt\n")


@pytest.fixture
def unused_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_ctrl_c_ends_an_infer(serve_policy: ServePolicy, gate: Gate) -> None:
    code = """
from service_clients._axon import Policy
Policy(sys.argv[1], infer_timeout=600).infer({"wait": True})
"""
    done = interrupted(code, serve_policy(gate))
    assert done.returncode == -signal.SIGINT, done.stderr
    assert "KeyboardInterrupt" in done.stderr


def test_what_a_signal_handler_raises_comes_out_of_the_call(silent_server: str) -> None:
    code = """
from service_clients._axon import Service
def handler(number, frame):
    raise LookupError("from the handler")
signal.signal(signal.SIGUSR1, handler)
service = Service("http://" + sys.argv[1], timeout=600)
for _ in range(2):
    try:
        service.get("/")
    except LookupError as error:
        print(error)
        signal.signal(signal.SIGUSR1, lambda *_: service.close())
        service = Service("http://127.0.0.1:1")
        try:
            service.get("/")
        except ConnectionError:
            print("as if nothing had been")
        break
"""
    done = interrupted(code, silent_server, send=signal.SIGUSR1)
    assert done.stdout == "from the handler\nas if nothing had been\n", done.stderr


def test_a_handler_that_raises_nothing_lets_the_call_go_on(silent_server: str) -> None:
    code = """
from service_clients._axon import Service
signal.signal(signal.SIGUSR1, lambda *_: print("handled", flush=True))
try:
    Service("http://" + sys.argv[1], timeout=1.5).get("/")
except TimeoutError:
    print("timed out")
"""
    done = interrupted(code, silent_server, send=signal.SIGUSR1)
    assert done.stdout == "handled\ntimed out\n", done.stderr


def test_a_handler_may_close_the_handle_that_its_thread_waits_for_and_nothing_else(
    silent_server: str,
) -> None:
    code = """
from service_clients._axon import AxonCanceled, AxonError, Service
service = Service("http://" + sys.argv[1], timeout=600)
def handler(number, frame):
    try:
        service.get("/")
    except AxonError as error:
        print(error)
    service.close()
signal.signal(signal.SIGUSR1, handler)
try:
    service.get("/")
except AxonCanceled:
    print("canceled")
try:
    service.get("/")
except ValueError as error:
    print(error)
"""
    done = interrupted(code, silent_server, send=signal.SIGUSR1)
    lines = done.stdout.splitlines()
    assert len(lines) == 3, done.stderr
    assert "a signal handler interrupted a call" in lines[0]
    assert lines[1] == "canceled"
    assert lines[2].endswith("is closed")


def test_a_function_is_called_while_the_server_is_not_there_and_may_end_the_wait(unused_port: int) -> None:
    class Enough(Exception):
        pass

    def count() -> None:
        calls.append(threading.get_ident())
        if len(calls) == 3:
            raise Enough

    def wait() -> None:
        Policy(f"127.0.0.1:{unused_port}", connect_timeout=LONG, while_connecting=count)

    calls: list[int] = []
    with pytest.raises(Enough):
        wait()
    assert calls == [threading.get_ident()] * 3

    calls.clear()
    thread, results = in_thread(wait)
    thread.join(20)
    assert isinstance(results[0], Enough)
    assert calls == [thread.ident] * 3


def test_leaving_without_closing_says_nothing(
    run_script: RunScript, host: str, serve_policy: ServePolicy, gate: Gate
) -> None:
    code = """
import sys, threading
from service_clients._axon import Policy, Service
service, policy = Service(sys.argv[1]), Policy(sys.argv[2])
service.get("/")
policy.infer({"a": 1})
threading.Thread(target=policy.infer, args=({"wait": True},), daemon=True).start()
"""
    assert run_script(code, host, serve_policy(gate)).stderr == ""


# ---- threads -------------------------------------------------------------------------------------


def in_thread(function: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    """Starts a function in a thread; the list gets its result, or what it raised."""
    results: list[Any] = []

    def target() -> None:
        try:
            results.append(function())
        except BaseException as error:
            results.append(error)

    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    return thread, results


def test_threads_that_share_a_service_take_turns(host: str) -> None:
    with Service(host, timeout=30) as service:
        threads = [in_thread(lambda: [service.get("/") for _ in range(100)]) for _ in range(8)]
        for thread, results in threads:
            thread.join(30)
            assert results == [[{}] * 100]


def test_threads_that_share_a_policy_get_their_own_answers(serve_policy: ServePolicy) -> None:
    url = serve_policy(lambda request: request)
    with Policy(url) as policy:

        def ask(n: int) -> list[int]:
            return [policy.infer({"n": n, "data": bytes(1000)})["n"] for _ in range(100)]

        threads = [in_thread(lambda n=n: ask(n)) for n in range(8)]  # type: ignore[misc]
        for n, (thread, results) in enumerate(threads):
            thread.join(30)
            assert results == [[n] * 100]


def test_python_runs_on_while_a_call_waits(silent_server: str) -> None:
    service = Service(f"http://{silent_server}", timeout=LONG)
    thread, results = in_thread(lambda: service.get("/"))
    assert sum(range(100_000)) == 4999950000
    time.sleep(0.1)
    assert thread.is_alive()
    service.close()
    thread.join(20)
    assert isinstance(results[0], AxonCanceled)


def test_cancel_ends_the_call_of_another_thread_and_the_service_goes_on(
    silent_server: str, host: str
) -> None:
    service = Service(f"http://{silent_server}", timeout=LONG)
    service.cancel()  # there is nothing to cancel
    thread, results = in_thread(lambda: service.get("/"))
    while thread.is_alive():  # the call may not have begun yet
        service.cancel()
        thread.join(0.01)
    assert isinstance(results[0], AxonCanceled)
    service.close()
    service.cancel()


def test_close_ends_the_call_of_another_thread(serve_policy: ServePolicy, gate: Gate) -> None:
    policy = Policy(serve_policy(gate), infer_timeout=LONG)
    thread, results = in_thread(lambda: policy.infer({"wait": True}))
    assert gate.asked.wait(20)
    policy.close()
    thread.join(20)
    assert isinstance(results[0], AxonCanceled)
    assert policy.closed
    with pytest.raises(AxonValueError, match="is closed"):
        policy.infer({"a": 1})


def test_waiting_for_a_turn_has_the_deadline_of_a_call(serve_policy: ServePolicy, gate: Gate) -> None:
    policy = Policy(serve_policy(gate), infer_timeout=LONG)
    thread, results = in_thread(lambda: policy.infer({"wait": True}))
    assert gate.asked.wait(20)
    with pytest.raises(AxonTimeout, match=r"other threads were using it for 0\.1 s"):
        policy.infer({"a": 1}, timeout=0.1)
    gate.opened.set()
    thread.join(20)
    assert results[0]["actions"].shape == (2, 3)
    assert policy.infer({"a": 1}, timeout=20)
    policy.close()


def test_those_who_wait_for_a_turn_are_told_of_the_end(silent_server: str) -> None:
    service = Service(f"http://{silent_server}", timeout=LONG)
    threads = [in_thread(lambda: service.get("/")) for _ in range(3)]
    time.sleep(0.2)
    service.close()
    for thread, results in threads:
        thread.join(20)
        assert isinstance(results[0], (AxonCanceled, AxonValueError))


# ---- forks ---------------------------------------------------------------------------------------

FORK = """
import os, sys, threading, time
from service_clients._axon import AxonError, AxonValueError, Policy, Service
handle = Service(sys.argv[2]) if sys.argv[1] == "service" else Policy(sys.argv[2])
ask = (lambda: handle.get("/")) if sys.argv[1] == "service" else (lambda: handle.infer({"a": 1}))
ask()
if sys.argv[3] == "held":  # by a thread that the child will not have
    handle._turn.acquire()
    thread = threading.Thread(target=handle._turn.acquire, daemon=True)
    handle._turn.release()
    thread.start()
    while handle._turn.acquire(blocking=False):
        handle._turn.release()
        time.sleep(0.01)
child = os.fork()
if child == 0:
    try:
        ask()
    except AxonValueError as error:
        said = str(error)
        handle.close()
        del handle, ask
        os._exit(0 if "fork" in said or "parent" in said else 3)
    os._exit(4)
_, status = os.waitpid(child, 0)
assert status == 0, status
if sys.argv[3] != "held":
    ask()
    handle.close()
print("fine")
"""


@pytest.mark.parametrize("held", ["free", "held"])
def test_the_child_of_a_fork_is_refused_and_the_parent_goes_on(
    held: str, run_script: RunScript, host: str, serve_policy: ServePolicy
) -> None:
    assert run_script(FORK, "service", host, held).stdout == "fine\n"
    url = serve_policy(lambda request: request)
    assert run_script(FORK, "policy", url, held).stdout == "fine\n"


# ---- copies --------------------------------------------------------------------------------------


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_connection_cannot_be_copied(copied: Callable[[Any], Any], host: str) -> None:
    said = f"^{host}: a connection cannot be copied or pickled"
    with Service(host) as service, pytest.raises(TypeError, match=said):
        copied(service)


# ---- many calls ----------------------------------------------------------------------------------

LEAKS = """
import gc, os, sys
from service_clients._axon import AxonError, Policy, Service
from service_clients._axon.values import packb, unpackb
value = {"data": bytes(50_000), "list": [0.5] * 1000, "text": "x" * 10_000, "n": [1, "a", {"b": None}]}
message = packb(value)
def refused(call, *arguments):
    try:
        call(*arguments)
    except AxonError:
        return
    sys.exit("this should not have worked")
service, policy = Service(sys.argv[2]), Policy(sys.argv[3])
calls = {
    "pack": lambda: packb(value),
    "unpack": lambda: unpackb(message),
    "refuse": lambda: refused(packb, {**value, "bad": [1, object()]}),
    "fail": lambda: refused(unpackb, message[:-1]),
    "post": lambda: service.post("/", value),
    "infer": lambda: policy.infer(value),
}
call = calls[sys.argv[1]]
def resident():
    gc.collect()
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
for _ in range(100):
    call()
before = resident()
for _ in range(400):
    call()
print((resident() - before) / 400 / len(message))
"""


@pytest.mark.parametrize("call", ["pack", "unpack", "refuse", "fail", "post", "infer"])
def test_calls_leak_nothing(call: str, run_script: RunScript, host: str, serve_policy: ServePolicy) -> None:
    options = f"{os.environ.get('ASAN_OPTIONS', '')}:quarantine_size_mb=0:thread_local_quarantine_size_kb=0"
    url = serve_policy(lambda request: request)
    grown = run_script(LEAKS, call, host, url, ASAN_OPTIONS=options).stdout
    assert float(grown) < 0.1, "of a message's length, for each call"


def test_handles_leak_no_sockets_and_no_threads(host: str, serve_policy: ServePolicy) -> None:
    url = serve_policy(lambda request: request)

    def open_and_leave() -> None:
        service, policy = Service(host), Policy(url)
        service.get("/")
        policy.infer({"a": 1})
        policy.close()

    open_and_leave()
    gc.collect()
    files = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        open_and_leave()
    gc.collect()
    # the servers of these tests are threads of this process: their ends close a little later
    wait_until(lambda: len(os.listdir("/proc/self/fd")) <= files + 2)
