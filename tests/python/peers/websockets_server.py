"""A policy server that speaks openpi's protocol on `websockets`, as the real ones do: ``python websockets_server.py``.

On connecting: one binary frame, the metadata. Then one reply per observation, with `server_timing` in it. A
policy that raises is answered with its traceback in a text frame, and the connection closes with 1011.
"""

from __future__ import annotations

import asyncio
import http
import time
import traceback
from typing import Any, Mapping, Protocol

import websockets
from peers import codec
from peers.visual_servo import METADATA, VisualServo
from websockets.asyncio.server import ServerConnection, serve
from websockets.frames import CloseCode
from websockets.http11 import Request, Response

from service_clients.demo import backends


class Policy(Protocol):
    """What the server needs of a policy."""

    def infer(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        """Answers one observation."""


class PolicyServer:
    """Serves one policy to any number of connections; observations are answered one at a time."""

    def __init__(self, policy: Policy, metadata: Mapping[str, Any]) -> None:
        self._policy = policy
        self._metadata = codec.pack(metadata)

    async def run(self) -> None:
        """Serves on a free loopback port until cancelled."""
        self._one_at_a_time = asyncio.Lock()
        options: dict[str, Any] = {"compression": None, "max_size": None, "process_request": _answer_health}
        async with serve(self._converse, "127.0.0.1", 0, **options) as server:
            backends.announce(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}")
            await server.serve_forever()

    async def _converse(self, connection: ServerConnection) -> None:
        await connection.send(self._metadata)
        last_total_ms: float | None = None
        try:
            async for message in connection:
                started = time.perf_counter()
                await connection.send(codec.pack(await self._answer(message, last_total_ms)))
                last_total_ms = (time.perf_counter() - started) * 1000.0
        except websockets.ConnectionClosed:
            pass
        except Exception:
            await connection.send(traceback.format_exc())
            await connection.close(CloseCode.INTERNAL_ERROR, "the policy failed; its traceback went before")

    async def _answer(self, message: Any, last_total_ms: float | None) -> dict[str, Any]:
        if not isinstance(message, bytes):
            raise TypeError("an observation is a binary frame, this was a text frame")
        observation = codec.unpack(message)
        async with self._one_at_a_time:
            started = time.perf_counter()
            # In a thread of its own, so that pings and /healthz are answered meanwhile.
            reply = await asyncio.get_running_loop().run_in_executor(None, self._policy.infer, observation)
            timing = {"infer_ms": (time.perf_counter() - started) * 1000.0}
        if last_total_ms is not None:
            timing["prev_total_ms"] = last_total_ms
        return {**reply, "server_timing": timing}


def _answer_health(connection: ServerConnection, request: Request) -> Response | None:
    return connection.respond(http.HTTPStatus.OK, "OK\n") if request.path == "/healthz" else None


if __name__ == "__main__":
    backends.watch_starter()
    asyncio.run(PolicyServer(VisualServo(), METADATA).run())
