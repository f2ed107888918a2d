"""A policy server that writes down what clients put on the wire: ``python capture.py FOLDER``.

Connection N leaves FOLDER/N.json: the headers of its upgrade, and for each message its frames, the payloads
as base64. It is written anew, whole, before each reply, which says how many messages came so far.
"""

from __future__ import annotations

import base64
import itertools
import json
import sys
from asyncio import StreamReader, StreamWriter
from pathlib import Path
from typing import Any

import msgpack  # type: ignore[import-untyped]

from tests.fakes import wire

FOLDER = Path(sys.argv[1])
numbers = itertools.count(1)


def describe(frame: wire.Frame) -> dict[str, Any]:
    """A frame, as JSON can say it."""
    return {
        "is_last": frame.is_last,
        "reserved": frame.reserved,
        "opcode": frame.opcode,
        "mask": frame.mask.hex(),
        "head": frame.head.hex(),
        "payload": base64.b64encode(frame.payload).decode("ascii"),
    }


async def converse(reader: StreamReader, writer: StreamWriter) -> None:
    path, headers = await wire.read_head(reader)
    record: dict[str, Any] = {"path": path, "headers": headers, "messages": []}
    file = FOLDER / f"{next(numbers)}.json"
    writer.write(wire.upgrade(headers) + wire.frame(wire.BINARY, msgpack.packb({})))
    while True:
        frames = await wire.read_message(reader)
        if frames[-1].opcode == wire.CLOSE:
            writer.write(wire.frame(wire.CLOSE, frames[-1].payload[:2]))
            return
        record["messages"].append([describe(frame) for frame in frames])
        file.write_text(json.dumps(record), encoding="ascii")
        writer.write(wire.frame(wire.BINARY, msgpack.packb({"messages": len(record["messages"])})))


if __name__ == "__main__":
    wire.serve(converse, "ws")
