"""A policy server on `websockets` whose answers say which observation they are for: ``python numbered_server.py JSON``.

JSON: host, port, metadata, ping_interval, ping_timeout, certificate and key (TLS), api_key, webpolicy. An observation
{"number": N} may ask for more: "sleep" seconds first, "do": "raise" (an error and 1011, as openpi-server does it), "abort"
(hang up), "abort once" (the first time that N comes), "lock" (answer; then hang up, and refuse upgrades with 401).
The answer has the number, how often it came ("times"), how often number `about` came, and this connection's resets.
"""

from __future__ import annotations

import asyncio
import collections
import http
import json
import logging
import ssl
import sys
from typing import Any

import msgpack  # type: ignore[import-untyped]
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from service_clients.demo import backends

TRACEBACK = 'Traceback (most recent call last):\n  File "policy.py", line 3\nValueError: no such joint'


class Server:
    """What all connections share."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        self.is_locked = False
        self.times: collections.Counter[int] = collections.Counter()

    def check_key(self, connection: ServerConnection, request: Request) -> Response | None:
        """401 for those without the key, and for everyone once it is locked."""
        key = self.options.get("api_key")
        if self.is_locked or (key and request.headers.get("Authorization") != f"Api-Key {key}"):
            return connection.respond(http.HTTPStatus.UNAUTHORIZED, "who are you\n")
        return None

    async def converse(self, connection: ServerConnection) -> None:
        """One client."""
        await connection.send(msgpack.packb(self.options.get("metadata", {"name": "numbered"})))
        resets: list[Any] = []
        async for message in connection:
            request = msgpack.unpackb(message, strict_map_key=False)
            if request.get("__webpolicy_op__") == "reset":
                resets.append(request.get("payload"))
                await connection.send(msgpack.packb({"__webpolicy_reset_ack__": True}))
            else:
                await self.step(connection, request.get("obs", request), resets)

    async def step(
        self, connection: ServerConnection, observation: dict[str, Any], resets: list[Any]
    ) -> None:
        """One observation."""
        number, do = observation["number"], observation.get("do")
        self.times[number] += 1
        await asyncio.sleep(observation.get("sleep", 0.0))
        if do == "raise":
            await connection.send(TRACEBACK)
            await connection.close(1011, "Internal server error. Traceback included in previous frame.")
        elif do == "abort" or (do == "abort once" and self.times[number] == 1):
            connection.transport.abort()
        else:
            answer = {"number": number, "times": self.times[number], "resets": resets}
            answer["about"] = self.times[observation.get("about", number)]
            await connection.send(
                msgpack.packb({"action": answer} if self.options.get("webpolicy") else answer)
            )
        if do == "lock":
            self.is_locked = True
            connection.transport.abort()


async def run(options: dict[str, Any]) -> None:
    context = None
    if "certificate" in options:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options["certificate"], options["key"])
    server = Server(options)
    async with serve(
        server.converse,
        options.get("host", "127.0.0.1"),
        options.get("port", 0),
        process_request=server.check_key,
        ssl=context,
        compression=None,
        max_size=None,
        ping_interval=options.get("ping_interval"),
        ping_timeout=options.get("ping_timeout"),
    ) as listening:
        host, port = next(iter(listening.sockets)).getsockname()[:2]
        backends.announce(f"{'wss' if context else 'ws'}://{host}:{port}")
        await listening.serve_forever()


if __name__ == "__main__":
    logging.getLogger("websockets").setLevel(logging.CRITICAL)
    backends.watch_starter()
    asyncio.run(run(json.loads(sys.argv[1])))
