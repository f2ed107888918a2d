"""Policy servers that misbehave around a numbered observation, one for each path: ``ws://127.0.0.1:PORT/NAME``.

Those whose name begins with "dies" end their process, as a crash would.
"""

from __future__ import annotations

import asyncio
import os
import signal
from asyncio import StreamReader, StreamWriter
from typing import Awaitable, Callable

import msgpack  # type: ignore[import-untyped]

from tests.fakes import wire

METADATA = wire.frame(wire.BINARY, msgpack.packb({"name": "numbered"}))

misbehaved: list[str] = []


def answer(number: int, filler: int = 0) -> bytes:
    """The frame that answers observation ``number``."""
    return wire.frame(wire.BINARY, msgpack.packb({"number": number, "filler": bytes(filler)}))


def die() -> None:
    """Ends this process at once."""
    os.kill(os.getpid(), signal.SIGKILL)


async def number_of(reader: StreamReader) -> int:
    """The number of the next observation."""
    frames = await wire.read_message(reader)
    if frames[-1].opcode == wire.CLOSE:
        raise ConnectionResetError("they said goodbye")
    payload = b"".join(frame.payload for frame in frames)
    return int(msgpack.unpackb(payload, strict_map_key=False)["number"])


async def dies_on_send(reader: StreamReader, writer: StreamWriter) -> None:
    await reader.readexactly(2)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    await asyncio.sleep(0.3)
    die()


async def dies_after_send(reader: StreamReader, writer: StreamWriter) -> None:
    await number_of(reader)
    die()


async def dies_in_reply(reader: StreamReader, writer: StreamWriter) -> None:
    whole = answer(await number_of(reader), 100_000)
    writer.write(whole[: len(whole) // 2])
    await writer.drain()
    await asyncio.sleep(0.2)  # so that the half has left
    die()


async def twice(reader: StreamReader, writer: StreamWriter) -> None:
    while True:
        number = await number_of(reader)
        writer.write(answer(number) + answer(number))


async def twice_apart(reader: StreamReader, writer: StreamWriter) -> None:
    while True:
        number = await number_of(reader)
        writer.write(answer(number))
        await asyncio.sleep(0.05)
        writer.write(answer(number))


async def unasked(reader: StreamReader, writer: StreamWriter) -> None:
    while True:
        writer.write(answer(await number_of(reader)) + answer(-1))


async def late_and_twice(reader: StreamReader, writer: StreamWriter) -> None:
    """The first answer comes late, and then again; after that, and to others, it behaves."""
    number = await number_of(reader)
    if not misbehaved:
        misbehaved.append("late-and-twice")
        await asyncio.sleep(0.5)
        writer.write(answer(number) + answer(number))
    else:
        writer.write(answer(number))
    while True:
        writer.write(answer(await number_of(reader)))


async def late_in_halves(reader: StreamReader, writer: StreamWriter) -> None:
    """Half of the first answer comes in time, the rest later; after that it behaves."""
    whole = answer(await number_of(reader), 100_000)
    writer.write(whole[:50_000])
    await asyncio.sleep(0.6)
    writer.write(whole[50_000:])
    while True:
        writer.write(answer(await number_of(reader)))


async def late_error(reader: StreamReader, writer: StreamWriter) -> None:
    """The first observation fails late; the connection is kept."""
    await number_of(reader)
    await asyncio.sleep(0.5)
    writer.write(wire.frame(wire.TEXT, b"ValueError: no such joint"))
    while True:
        writer.write(answer(await number_of(reader)))


FAULTS: dict[str, Callable[[StreamReader, StreamWriter], Awaitable[None]]] = {
    "dies-on-send": dies_on_send,
    "dies-after-send": dies_after_send,
    "dies-in-reply": dies_in_reply,
    "twice": twice,
    "twice-apart": twice_apart,
    "unasked": unasked,
    "late-and-twice": late_and_twice,
    "late-in-halves": late_in_halves,
    "late-error": late_error,
}


async def converse(reader: StreamReader, writer: StreamWriter) -> None:
    path, headers = await wire.read_head(reader)
    name = path.strip("/")
    writer.write(wire.upgrade(headers) + METADATA + (answer(-1) if name == "unasked" else b""))
    await FAULTS[name](reader, writer)


if __name__ == "__main__":
    wire.serve(converse, "ws")
