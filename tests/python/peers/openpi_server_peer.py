"""Runs openpi-server, unchanged, on a free port: ``python openpi_server_peer.py POLICY``.

POLICY names one of POLICIES. Runs in the peers' environment.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from typing import Any, AsyncIterator

import numpy as np
from openpi_server import websocket_policy_server  # type: ignore[import-not-found]
from peers import visual_servo
from websockets.asyncio.server import Server

from service_clients.demo import backends


class Echo:
    """Gives back what it got, and the names of the types that arrived."""

    def infer(self, obs: dict[str, Any]) -> dict[str, Any]:
        return {"echo": obs, "types": {key: type(value).__name__ for key, value in obs.items()}}


class Servo:
    """The visual servo."""

    def infer(self, obs: dict[str, Any]) -> dict[str, Any]:
        return visual_servo.VisualServo().infer(obs)


class Moody:
    """Does what the prompt says: "raise", "sleep", "object" (an answer that cannot be packed), or answers."""

    def infer(self, obs: dict[str, Any]) -> dict[str, Any]:
        prompt = obs["prompt"]
        if prompt == "raise":
            raise ValueError("the gripper is on fire \U0001f525")
        if prompt == "sleep":
            time.sleep(3)
        return {"actions": object() if prompt == "object" else [[1.0]]}


class Numbered:
    """Says which observation it answers, after as many seconds as that asks for."""

    def infer(self, obs: dict[str, Any]) -> dict[str, Any]:
        time.sleep(obs.get("sleep", 0.0))
        if obs.get("do") == "raise":
            raise ValueError("no such joint")
        return {"number": obs["number"]}


class Planner:
    """Ten steps of three numbers from where the observation is, after as many seconds as that asks for."""

    def infer(self, obs: dict[str, Any]) -> dict[str, Any]:
        time.sleep(obs.get("sleep", 0.0))
        if obs.get("do") == "raise":
            raise ValueError("no such joint")
        steps = np.arange(10, dtype=np.float32)[:, None] + obs["at"]
        return {"actions": np.hstack([steps, -steps, steps / 3]), "told": sorted(obs)}


POLICIES = {"planner": Planner, "echo": Echo, "servo": Servo, "moody": Moody, "numbered": Numbered}
METADATA: dict[str, dict[str, Any]] = {
    "echo": {
        "reset_pose": [0.0, -1.5, 1.5],
        "nested": {"name": "echo", "horizon": 16, "sim": False, "none": None},
    },
    "servo": visual_servo.METADATA,
    "moody": {},
    "numbered": {"name": "numbered"},
    "planner": {"action_horizon": 10},
}


@contextlib.asynccontextmanager
async def announced_serve(*arguments: Any, **options: Any) -> AsyncIterator[Server]:
    """What the server calls `serve`, which also says on which port it landed."""
    async with serve(*arguments, **options) as server:
        backends.announce(f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}")
        yield server


if __name__ == "__main__":
    logging.getLogger("websockets.server").setLevel(logging.CRITICAL)
    serve = websocket_policy_server._server.serve
    websocket_policy_server._server.serve = announced_serve
    backends.watch_starter()
    name = sys.argv[1]
    websocket_policy_server.WebsocketPolicyServer(
        POLICIES[name](), "127.0.0.1", 0, METADATA[name]
    ).serve_forever()
