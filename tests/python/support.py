"""What the tests of the binding have in common besides their fixtures."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Iterator, TypeVar

if TYPE_CHECKING:
    from service_clients._axon.server import PolicyServer

CHECKOUT = Path(__file__).resolve().parents[2]

# The types of the fixtures in conftest.py that are functions.
Serve = Callable[[Any], str]
ServePolicy = Callable[..., str]
RunScript = Callable[..., "subprocess.CompletedProcess[str]"]


_Server = TypeVar("_Server", bound="PolicyServer")


@contextlib.contextmanager
def served(server: _Server) -> Iterator[_Server]:
    """A policy server that answers, on a thread, which ends with it."""
    server.start()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join(30)
        assert not thread.is_alive()


def wait_until(condition: Callable[[], Any], seconds: float = 20.0) -> None:
    """Waits for a condition; fails when it does not come true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def resident_bytes() -> int:
    """How much memory this process has in RAM."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def open_files() -> int:
    """How many file descriptors this process has."""
    return len(os.listdir("/proc/self/fd"))


def running_threads() -> int:
    """How many threads this process has, those of C included."""
    return len(os.listdir("/proc/self/task"))


def memory_tells() -> bool:
    """Whether resident_bytes() says what is held: ASan keeps what was freed for a while."""
    return "asan" not in os.environ.get("LD_PRELOAD", "")
