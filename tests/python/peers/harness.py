"""Where the tests find their servers: fakes, peers and the demo's backends, each a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from service_clients.demo.backends import Backend

if TYPE_CHECKING:
    import numpy.typing as npt  # which numpy 1.17 has not

PEERS = Path(__file__).resolve().parent
TESTS = PEERS.parent.parent
CHECKOUT = TESTS.parent


def decode(data: bytes, flags: int = cv2.IMREAD_COLOR) -> npt.NDArray[np.uint8]:
    """A picture file's pixels as OpenCV reads them: uint8, BGR if in colour."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    assert pixels is not None
    return pixels.astype(np.uint8, copy=False)


def import_path(*more: Path) -> str:
    """PYTHONPATH for a process that tries out axon: what we have (a sanitised build, say), the checkout, more."""
    return os.pathsep.join([*filter(None, [os.environ.get("PYTHONPATH")]), str(CHECKOUT), *map(str, more)])


def peers_python() -> str:
    """The interpreter of the peers' environment; fails when there is none, for nothing is to be skipped."""
    python = os.environ.get("AXON_PEERS_PYTHON") or str(CHECKOUT / ".venv-peers" / "bin" / "python")
    assert os.path.exists(python), f"{python}: no peers' environment; tools/setup.sh develop makes it"
    return python


def start_module(name: str) -> Backend:
    """Starts ``python -m name``, a server of this package."""
    return start([sys.executable, "-m", name])


def start_fake(name: str, *arguments: str) -> Backend:
    """Starts tests/fakes/``name``."""
    return start([sys.executable, str(TESTS / "fakes" / name), *arguments])


def start_script(name: str, *arguments: str) -> Backend:
    """Starts tests/python/peers/``name`` with our own interpreter."""
    return start([sys.executable, str(PEERS / name), *arguments])


def start(command: list[str]) -> Backend:
    """Starts a server that can import what is in the checkout, sanitised if we are."""
    return Backend(command, env={**os.environ, "PYTHONPATH": import_path(PEERS.parent)})


def start_peer(name: str, *arguments: str) -> Backend:
    """Starts tests/python/peers/``name`` in the peers' environment."""
    return Backend([peers_python(), str(PEERS / name), *arguments], env=_peers_environment())


def run_peer(name: str, *arguments: str) -> bytes:
    """Runs tests/python/peers/``name`` in the peers' environment to its end and returns what it printed."""
    command = [peers_python(), str(PEERS / name), *arguments]
    return subprocess.run(
        command, stdout=subprocess.PIPE, env=_peers_environment(), timeout=60, check=True
    ).stdout


def _peers_environment() -> dict[str, str]:
    """Without what makes a sanitised run: another Python's programs are not what is being sanitised."""
    mine = {name: text for name, text in os.environ.items() if not name.startswith(("PYTHON", "LD_PRELOAD", "ASAN"))}
    return {**mine, "PYTHONPATH": os.pathsep.join([str(CHECKOUT), str(PEERS.parent)])}
