"""The server benchmark's policy, hosted by one of the servers: `python -m benchmarks.hosted axon-server|openpi-server`.

Prints "port N" and serves 127.0.0.1:N until standard input ends. Lines there switch checking on ("check") and off
(anything else), each confirmed with "ok"; sink.c takes the same orders. Runs in the peers' environment too.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
import zlib
from importlib import import_module
from typing import Any, Callable

import numpy as np

ACTIONS = (np.arange(50 * 32, dtype=np.float32) / np.float32(128)).reshape(50, 32)


class Chunk:
    """Costs next to nothing, so that the server is what is measured; on request it takes its time.

    An observation may hold `wait_s`, to be slept as if for a GPU, or `compute_s`, to be spent on Python's lock.
    """

    is_checking = False

    def infer(self, obs: dict[str, Any]) -> dict[str, Any]:
        if "wait_s" in obs:
            time.sleep(obs["wait_s"])
        if "compute_s" in obs:
            compute(obs["compute_s"])
        arrays = [value for value in obs.values() if isinstance(value, np.ndarray)]
        return {
            "actions": ACTIONS,
            "received_bytes": sum(array.nbytes for array in arrays),
            "checksum": checksum(obs) if self.is_checking else 0,
        }


def compute(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


def checksum(obs: dict[str, Any]) -> int:
    """The CRC-32 of all keys and values, arrays with their dtypes and shapes."""
    crc = 0
    for key, value in sorted(obs.items()):
        is_array = isinstance(value, np.ndarray)
        described = f"{key} {value.dtype.str} {value.shape}" if is_array else f"{key} {value!r}"
        crc = zlib.crc32(described.encode(), crc)
        if is_array:
            crc = zlib.crc32(value.tobytes(), crc)
    return crc


def obey(policy: Chunk) -> None:
    for line in sys.stdin:
        policy.is_checking = line.startswith("check")
        print("ok", flush=True)
    os._exit(0)


def serve_axon(policy: Chunk, port: int) -> None:
    from service_clients.openpi.server import WebsocketPolicyServer

    WebsocketPolicyServer(policy, "127.0.0.1", port, {"policy": "chunk"}).serve_forever()


def serve_openpi(policy: Chunk, port: int) -> None:
    """As it comes from PyPI."""
    import_module("openpi_server").WebsocketPolicyServer(
        policy, "127.0.0.1", port, {"policy": "chunk"}
    ).serve_forever()


SERVERS: dict[str, Callable[[Chunk, int], None]] = {"axon-server": serve_axon, "openpi-server": serve_openpi}


def free_port() -> int:
    """One that is free now: openpi's server cannot say which one it was given."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def main() -> None:
    policy, port = Chunk(), free_port()
    print(f"port {port}", flush=True)
    threading.Thread(target=obey, args=(policy,), daemon=True).start()
    SERVERS[sys.argv[1]](policy, port)


if __name__ == "__main__":
    main()
