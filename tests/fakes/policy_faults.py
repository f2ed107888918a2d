"""Policy servers that misbehave on purpose, one for each path: ``ws://127.0.0.1:PORT/NAME``.

BEFORE and HELLO break the connection before it is of use; REPLY says a proper hello and breaks at the first
observation; PAYLOADS answers it with a whole, proper frame whose content is wrong.
"""

from __future__ import annotations

import asyncio
import struct
from asyncio import StreamReader, StreamWriter
from typing import Any, Callable

import msgpack  # type: ignore[import-untyped]

from tests.fakes import wire

FOR_EVER = 3600.0
TRACEBACK = (
    'Traceback (most recent call last):\n  File "policy.py", line 3, in infer\nValueError: no such joint'
)


def array(**fields: Any) -> bytes:
    """A reply with one ndarray of three float32, but for what ``fields`` says; None leaves a field out."""
    honest: dict[str, Any] = {"__ndarray__": True, "data": bytes(12), "dtype": "<f4", "shape": [3]}
    return _marked({**honest, **fields})


def scalar(**fields: Any) -> bytes:
    """A reply with one numpy scalar, likewise."""
    return _marked({"__npgeneric__": True, "data": 1.0, "dtype": "<f4", **fields})


def _marked(fields: dict[str, Any]) -> bytes:
    marked = {key.encode(): value for key, value in fields.items() if value is not None}
    return bytes(msgpack.packb({"actions": marked}))


PAYLOADS: dict[str, bytes] = {
    "nothing": b"",
    "reserved-byte": b"\x81\xa1a\xc1",
    "cut-map": b"\x82\xa1a\x01",
    "cut-string": b"\x81\xa1a\xdb\x00\x00\x01\x00abc",
    "cut-bin": b"\x81\xa1a\xc6\xff\xff\xff\xffabc",
    "cut-float": b"\x81\xa1a\xcb\x00\x00",
    "huge-map": b"\xdf\xff\xff\xff\xff\xa1a\x01",
    "huge-list": b"\x81\xa1a\xdd\xff\xff\xff\xff\x01",
    "trailing-bytes": b"\x81\xa1a\x01\x01",
    "deep": b"\x81\xa1a" + b"\x91" * 100_000 + b"\x01",
    "deep-maps": b"\x81\xa1a" * 100_000 + b"\x01",
    "extension": b"\x81\xa1a\xc7\x03\x05abc",
    "bad-utf8": b"\x81\xa1a\xa3\xff\xfe\xfd",
    "bad-utf8-key": b"\x81\xa2\xff\xfe\x01",
    "list-key": b"\x81\x91\x01\x01",
    "not-a-map": b"\x93\x01\x02\x03",
    "array-no-data": array(data=None),
    "array-no-dtype": array(dtype=None),
    "array-no-shape": array(shape=None),
    "array-too-little-data": array(data=bytes(11)),
    "array-too-much-data": array(data=bytes(13)),
    "array-data-is-text": array(data="abcdefghijkl"),
    "array-data-is-a-number": array(data=12),
    "array-shape-too-big": array(shape=[4]),
    "array-shape-negative": array(shape=[-3]),
    "array-shape-two-negatives": array(shape=[-1, -3]),
    "array-shape-overflows": array(shape=[2**32, 2**32, 3]),
    "array-shape-overflows-to-3": array(shape=[3, 2**62 + 1]),
    "array-shape-huge-and-empty": array(shape=[2**62, 2**62, 0], data=b""),
    "array-shape-of-floats": array(shape=[3.0]),
    "array-shape-of-text": array(shape="3"),
    "array-shape-of-bools": array(shape=[True, True, True], data=bytes(4)),
    "array-shape-too-long": array(shape=[1] * 65 + [3]),
    "array-dtype-object": array(dtype="|O", shape=[1], data=bytes(8)),
    "array-dtype-void": array(dtype="|V12", shape=[1]),
    "array-dtype-complex": array(dtype="<c8", shape=[1], data=bytes(8)),
    "array-dtype-time": array(dtype="<M8[ns]", shape=[1], data=bytes(8)),
    "array-dtype-record": array(dtype="f4,f4", shape=[1], data=bytes(8)),
    "array-dtype-huge-text": array(dtype="<U4294967295", shape=[1]),
    "array-dtype-nonsense": array(dtype="<q3"),
    "array-dtype-empty": array(dtype=""),
    "array-dtype-long": array(dtype="<f" + "4" * 10_000),
    "array-dtype-is-a-number": array(dtype=4),
    "scalar-no-data": scalar(data=None),
    "scalar-no-dtype": scalar(dtype=None),
    "scalar-dtype-object": scalar(dtype="|O"),
    "scalar-data-is-text": scalar(data="one"),
    "scalar-out-of-range": scalar(dtype="|u1", data=256),
}


async def silent(reader: StreamReader, writer: StreamWriter) -> None:
    """Says nothing, and keeps the connection."""
    await asyncio.sleep(FOR_EVER)


def saying(
    data: bytes, then: Callable[[StreamWriter], Any] = lambda writer: writer.close()
) -> wire.Conversation:
    """Says ``data`` and then, normally, closes."""

    async def say(reader: StreamReader, writer: StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        await asyncio.sleep(0.05)  # what was said is to arrive before a reset overtakes it
        then(writer)

    return say


def staying(data: bytes) -> wire.Conversation:
    """Says ``data`` and then nothing any more."""

    async def stay(reader: StreamReader, writer: StreamWriter) -> None:
        writer.write(data)
        await silent(reader, writer)

    return stay


async def say_goodbye(reader: StreamReader, writer: StreamWriter) -> None:
    """Waits until the client closes, and answers that as it should be answered."""
    while (got := await wire.read_frame(reader)).opcode != wire.CLOSE:
        pass
    writer.write(wire.frame(wire.CLOSE, got.payload[:2]))


def minding(data: bytes) -> wire.Conversation:
    """Says ``data`` and minds its manners from then on."""

    async def mind(reader: StreamReader, writer: StreamWriter) -> None:
        writer.write(data)
        await say_goodbye(reader, writer)

    return mind


def repeating(data: bytes, pause: float = 0.0) -> wire.Conversation:
    """Says ``data`` again and again."""

    async def repeat(reader: StreamReader, writer: StreamWriter) -> None:
        while True:
            writer.write(data)
            await writer.drain()
            await asyncio.sleep(pause)

    return repeat


def status(line: str, body: str = "") -> wire.Conversation:
    """Answers the upgrade with plain HTTP."""
    text = f"HTTP/1.1 {line}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}"
    return saying(text.encode())


async def pings_then_reply(reader: StreamReader, writer: StreamWriter) -> None:
    """Pings two hundred times, wants every pong, and then answers properly."""
    for number in range(200):
        writer.write(wire.frame(wire.PING, b"%d" % number))
        pong = await wire.read_frame(reader)
        if (pong.opcode, pong.payload) != (wire.PONG, b"%d" % number):
            return
    writer.write(GOOD)
    await say_goodbye(reader, writer)


GOOD = wire.frame(wire.BINARY, msgpack.packb({"actions": [1.0]}))
METADATA = wire.frame(wire.BINARY, msgpack.packb({"fake": True}))
CLOSED = wire.frame(wire.CLOSE, struct.pack("!H", 1011) + b"out of memory")

BEFORE: dict[str, wire.Conversation] = {
    "silent": silent,
    "hangs-up": saying(b""),
    "resets": saying(b"", wire.reset),
    "http-401": status("401 Unauthorized", "who are you"),
    "http-403": status("403 Forbidden"),
    "http-404": status("404 Not Found", "no such policy"),
    "http-503": status("503 Service Unavailable", "still loading"),
    "http-200": status("200 OK", "hello"),
    "not-http": staying(b"SSH-2.0-OpenSSH_9.2p1\r\n"),
    "endless-header": repeating(b"X-Filler: " + b"x" * 1000 + b"\r\n", 0.001),
    "endless-header-line": repeating(b"x" * 1000, 0.001),
    "wrong-accept": staying(wire.upgrade({"sec-websocket-key": "another"})),
}
HELLO: dict[str, wire.Conversation] = {
    "no-metadata": silent,
    "text-metadata": staying(wire.frame(wire.TEXT, b"the model failed to load")),
    "malformed-metadata": staying(wire.frame(wire.BINARY, b"\x81\xa1a")),
    "closes-for-metadata": saying(CLOSED),
    "cut-metadata": saying(METADATA[:-1]),
    "endless-metadata": repeating(wire.frame(0, bytes(1000), is_last=False), 0.01),
}
REPLY: dict[str, wire.Conversation] = {
    "never-answers": silent,
    "never-reads": silent,
    "truncated": saying(wire.head(wire.BINARY, 100_000) + bytes(1000)),
    "truncated-head": saying(wire.head(wire.BINARY, 100_000)[:4]),
    "stalls": staying(wire.head(wire.BINARY, 100_000) + bytes(1000)),
    "drips": repeating(wire.frame(0, b"x", is_last=False), 0.02),
    "oversized": staying(wire.head(wire.BINARY, 2**40) + bytes(1000)),
    "length-of-64-bits": staying(wire.head(wire.BINARY, 2**64 - 1) + bytes(1000)),
    "endless-fragments": repeating(wire.frame(0, bytes(2**20), is_last=False)),
    "text": minding(wire.frame(wire.TEXT, TRACEBACK.encode())),
    "text-and-close": saying(wire.frame(wire.TEXT, TRACEBACK.encode()) + CLOSED),
    "text-not-utf8": staying(wire.frame(wire.TEXT, b"\xff\xfe\xfd")),
    "closes": saying(CLOSED),
    "hangs-up-on-observation": saying(b""),
    "resets-on-observation": saying(b"", wire.reset),
    "resets-in-reply": saying(wire.head(wire.BINARY, 100_000) + bytes(1000), wire.reset),
    "masked": staying(struct.pack("!BB", 0x82, 0x83) + b"\1\2\3\4" + b"abc"),
    "reserved-bits": staying(wire.head(wire.BINARY, 3, reserved=4) + b"abc"),
    "unknown-opcode": staying(wire.frame(3, b"abc")),
    "continues-nothing": staying(wire.frame(0, b"abc")),
    "starts-twice": staying(wire.frame(wire.BINARY, b"abc", is_last=False) + GOOD),
    "long-ping": staying(wire.frame(wire.PING, bytes(126))),
    "ping-in-pieces": staying(wire.frame(wire.PING, b"", is_last=False)),
    "pings": pings_then_reply,
}
# These start with a binary frame of their own and continue it.
FRAGMENTED = {"endless-metadata", "drips", "endless-fragments"}


async def converse(reader: StreamReader, writer: StreamWriter) -> None:
    path, headers = await wire.read_head(reader)
    name = path.strip("/")
    if name in BEFORE:
        if name.startswith("endless"):
            writer.write(b"HTTP/1.1 101 Switching Protocols\r\n")
        await BEFORE[name](reader, writer)
        return
    writer.write(wire.upgrade(headers))
    answer = HELLO.get(name)
    if answer is None:
        writer.write(METADATA)
        answer = REPLY.get(name) or minding(wire.frame(wire.BINARY, PAYLOADS[name]))
        if name != "never-reads":
            await wire.read_message(reader)
    if name in FRAGMENTED:
        writer.write(wire.frame(wire.BINARY, b"", is_last=False))
    await answer(reader, writer)


if __name__ == "__main__":
    wire.serve(converse, "ws")
