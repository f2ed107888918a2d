"""What the tests of the binding share: real servers in threads, the peers' interpreter, scripts of their own process."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest
from faults import print_table
from support import CHECKOUT, RunScript, Serve, ServePolicy


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What test_faults.py saw."""
    print_table(terminalreporter)


@pytest.fixture(scope="session")
def peers_python() -> str:
    """The interpreter that has openpi-client; fails when there is none, for nothing is to be skipped."""
    python = os.environ.get("AXON_PEERS_PYTHON") or str(CHECKOUT / ".venv-peers" / "bin" / "python")
    assert os.path.exists(python), f"{python}: no peers' environment; tools/setup.sh develop makes it"
    return python


@pytest.fixture(scope="module")
def serve() -> Iterator[Serve]:
    """Serves ASGI apps with uvicorn, each from a thread, until the module's tests are over."""
    import uvicorn

    def start(app: Any) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # which asyncio leaves to us here
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()

        def stop() -> None:
            server.should_exit = True
            thread.join(20)
            listener.close()
            assert not thread.is_alive()

        cleanup.callback(stop)
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    with contextlib.ExitStack() as cleanup:
        yield start


@pytest.fixture(scope="module")
def serve_policy() -> Iterator[ServePolicy]:
    """Serves policies with `websockets`, each from a thread, until the module's tests are over.

    The policy is a function from a request's bytes to what is sent back: bytes, or str for an error frame.
    """
    from websockets.exceptions import ConnectionClosed
    from websockets.sync.server import ServerConnection, serve

    def start(policy: Callable[[bytes], bytes | str], metadata: bytes = b"\x80") -> str:
        def session(connection: ServerConnection) -> None:
            connection.send(metadata)
            with contextlib.suppress(ConnectionClosed):
                while True:
                    request = connection.recv()
                    assert isinstance(request, bytes)
                    connection.send(policy(request))

        server = serve(session, "127.0.0.1", 0, compression=None, max_size=None)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        cleanup.callback(server.shutdown)
        return f"ws://127.0.0.1:{server.socket.getsockname()[1]}"

    with contextlib.ExitStack() as cleanup:
        yield start


def _openssl(folder: Path, *words: str) -> None:
    done = subprocess.run(
        ["openssl", *words], cwd=folder, check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, ca.pem, what it signed for 127.0.0.1 with server.key: good.pem, expired.pem and
    elsewhere.pem (for another host); and wrong.pem, which it did not sign."""
    folder = tmp_path_factory.mktemp("certificates")
    for authority in ("ca", "stranger"):
        _openssl(
            folder,
            *(
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "2",
                "-subj",
                f"/CN=axon {authority}",
            ),
            *("-keyout", f"{authority}.key", "-out", f"{authority}.pem"),
        )
    _openssl(
        folder,
        *("req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=server"),
        *("-keyout", "server.key", "-out", "server.csr"),
    )
    for name, authority, days, host in [
        ("good", "ca", "2", "IP:127.0.0.1"),
        ("expired", "ca", "-1", "IP:127.0.0.1"),
        ("elsewhere", "ca", "2", "DNS:robot.example"),
        ("wrong", "stranger", "2", "IP:127.0.0.1"),
    ]:
        (folder / "names").write_text(f"subjectAltName={host}\n")
        _openssl(
            folder,
            *("x509", "-req", "-in", "server.csr", "-CA", f"{authority}.pem", "-CAkey", f"{authority}.key"),
            *("-CAcreateserial", "-days", days, "-extfile", "names", "-out", f"{name}.pem"),
        )
    return folder


@pytest.fixture
def silent_server() -> Iterator[str]:
    """host:port that accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def run_script() -> RunScript:
    """Runs Python code in a fresh interpreter that can import service_clients; fails when the code does."""

    def run(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
                **environment,
            },
        )
        assert done.returncode == 0, done.stderr
        return done

    return run
