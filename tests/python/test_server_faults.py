"""Clients of our policy server that vanish without a word, as a robot does that drives out of the radio's range."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from netns import FarMachine
from support import served

from service_clients.openpi.client import WebsocketClientPolicy
from service_clients.openpi.server import WebsocketPolicyServer

ROOT = Path(__file__).parents[2]
PATIENCE = 30.0  # seconds, never to be reached

# Asks, says so, waits until the network is mended, and asks until there is an answer again.
FAR_CLIENT = """
import sys
from service_clients.openpi.client import WebsocketClientPolicy
client = WebsocketClientPolicy(sys.argv[1])
assert client.infer({"n": 1})["n"] == 1
print("connected", flush=True)
asks = sys.argv[2] == "asks"
if asks:
    try:
        client.infer({"n": 2, "seconds": 0.5}, timeout=1)
    except (TimeoutError, ConnectionError):
        pass
input()
for number in range(3, 20):
    try:
        assert client.infer({"n": number}, timeout=5)["n"] == number
        print("connected again", flush=True)
        break
    except (TimeoutError, ConnectionError):
        pass
"""


class Echo:
    def infer(self, obs: dict[str, Any]) -> dict[str, Any]:
        time.sleep(obs.get("seconds", 0))
        return obs


def wait_for_connections(server: WebsocketPolicyServer, count: int) -> None:
    until = time.monotonic() + PATIENCE
    while server.stats().connections != count:
        assert time.monotonic() < until, server.stats()
        time.sleep(0.02)


@pytest.mark.parametrize("doing", ["idles", "asks"])
def test_a_client_that_vanishes_is_found_and_may_come_back(doing: str) -> None:
    with FarMachine() as machine, served(
        WebsocketPolicyServer(Echo(), host=machine.here, port=0, ping_interval=0.2, dead_after=1.0)
    ) as server, WebsocketClientPolicy(server.url) as near:
        far = subprocess.Popen(
            machine.command(sys.executable, "-c", FAR_CLIENT, server.url, doing),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        try:
            assert far.stdin is not None and far.stdout is not None
            assert far.stdout.readline() == "connected\n"
            assert server.stats().connections == 2
            machine.cut()
            wait_for_connections(server, 1)
            assert near.infer({"n": 7})["n"] == 7
            machine.mend()
            far.stdin.write("\n")
            far.stdin.flush()
            assert far.stdout.readline() == "connected again\n"
            wait_for_connections(server, 1)  # it is through, and said goodbye
            assert far.wait(PATIENCE) == 0
            assert server.stats().accepted >= 3
        finally:
            far.kill()
            far.communicate()
