"""WebSocket and HTTP by hand, on asyncio's bare streams: so bare that a fake can break every rule."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import socket
import struct
from asyncio import StreamReader, StreamWriter
from typing import Awaitable, Callable, NamedTuple

from service_clients.demo import backends

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10

Conversation = Callable[[StreamReader, StreamWriter], Awaitable[None]]


class Frame(NamedTuple):
    """One WebSocket frame as it came; the payload is unmasked, `head` is what came before it."""

    is_last: bool
    reserved: int
    opcode: int
    mask: bytes
    head: bytes
    payload: bytes


def serve(converse: Conversation, scheme: str, port: int = 0) -> None:
    """Holds ``converse`` with everyone who connects to a loopback port, until this process is ended; 0: a free one."""

    async def hold(reader: StreamReader, writer: StreamWriter) -> None:
        try:
            await converse(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # they left in the middle, which is what most of the fakes drive them to
        finally:
            writer.close()

    async def run() -> None:
        server = await asyncio.start_server(hold, "127.0.0.1", port, limit=2**26)
        backends.announce(f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        async with server:
            await server.serve_forever()

    backends.watch_starter()
    asyncio.run(run())


async def read_head(reader: StreamReader) -> tuple[str, dict[str, str]]:
    """A request's path, and its headers by their names in small letters."""
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = (line.partition(":") for line in lines[1:] if line)
    return lines[0].split(" ")[1], {name.lower(): text.strip() for name, _, text in headers}


def upgrade(headers: dict[str, str], more: str = "") -> bytes:
    """The reply that turns a connection into a WebSocket."""
    key = headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"{more}Sec-WebSocket-Accept: {accept}\r\n\r\n"
    ).encode()


def head(opcode: int, length: int, is_last: bool = True, reserved: int = 0) -> bytes:
    """The beginning of a server's frame that says it has ``length`` bytes, in the shortest form."""
    first = (0x80 if is_last else 0) | reserved << 4 | opcode
    if length < 126:
        return struct.pack("!BB", first, length)
    if length < 65536:
        return struct.pack("!BBH", first, 126, length)
    return struct.pack("!BBQ", first, 127, length)


def frame(opcode: int, payload: bytes, is_last: bool = True) -> bytes:
    """A whole frame of a server."""
    return head(opcode, len(payload), is_last) + payload


async def read_frame(reader: StreamReader) -> Frame:
    """A client's next frame, whatever it is."""
    start = await reader.readexactly(2)
    length, more = start[1] & 127, b""
    if length >= 126:
        more = await reader.readexactly(2 if length == 126 else 8)
        length = int.from_bytes(more, "big")
    mask = await reader.readexactly(4) if start[1] & 128 else b""
    payload = await reader.readexactly(length)
    if mask:
        repeated = mask * (length // 4 + 1)
        whole = int.from_bytes(payload, "big") ^ int.from_bytes(repeated[:length], "big")
        payload = whole.to_bytes(length, "big")
    return Frame(bool(start[0] & 128), start[0] >> 4 & 7, start[0] & 15, mask, start + more, payload)


async def read_message(reader: StreamReader) -> list[Frame]:
    """The frames of the next data message, without the pings and pongs among them; a close ends it too."""
    frames: list[Frame] = []
    while not frames or not (frames[-1].is_last or frames[-1].opcode == CLOSE):
        got = await read_frame(reader)
        if got.opcode not in (PING, PONG):
            frames.append(got)
    return frames


def reset(writer: StreamWriter) -> None:
    """Ends a connection with RST, as a process that crashes with unread bytes does."""
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()
