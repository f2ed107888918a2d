"""HTTP services that misbehave on purpose, one for each path: ``http://127.0.0.1:PORT/NAME/detect``."""

from __future__ import annotations

import json
from asyncio import StreamReader, StreamWriter

from tests.fakes import wire
from tests.fakes.policy_faults import repeating, saying, silent, staying

JSON = "Content-Type: application/json\r\n"


def reply(body: bytes, line: str = "200 OK", headers: str = JSON) -> bytes:
    """A whole, honest reply."""
    return f"HTTP/1.1 {line}\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body


def detail(status: str, what: object) -> wire.Conversation:
    """An error as FastAPI tells it."""
    return saying(reply(json.dumps({"detail": what}).encode(), status))


def chunked(data: bytes) -> bytes:
    """The beginning of a reply in pieces, and the first of them."""
    head = f"HTTP/1.1 200 OK\r\n{JSON}Transfer-Encoding: chunked\r\n\r\n".encode()
    return head + b"%x\r\n%s\r\n" % (len(data), data)


FOUND = b'{"detections": [{"bbox": {"x1": 1, "y1": 2, "x2": 3, "y2": 4}, "confidence": 0.5, "class_id": 0, '
FOUND += b'"class_name": "face", "mask": null}]}'
CUT = reply(FOUND)[:-20]
ENDLESS = b"HTTP/1.1 200 OK\r\n" + JSON.encode()

FAULTS: dict[str, wire.Conversation] = {
    "good": saying(reply(FOUND)),
    "silent": silent,
    "hangs-up": saying(b""),
    "resets": saying(b"", wire.reset),
    "truncated": saying(CUT),
    "resets-in-reply": saying(CUT, wire.reset),
    "stalls": staying(CUT),
    "drips": repeating(b"X-Drop: x\r\n", 0.05),
    "endless-header": repeating(b"X-Filler: " + b"x" * 1000 + b"\r\n"),
    "endless-header-line": repeating(b"x" * 1000),
    "endless-body": repeating(b"3e8\r\n" + b" " * 1000 + b"\r\n", 0.005),
    "oversized": staying(ENDLESS + b"Content-Length: 1000000000000\r\n\r\n{"),
    "length-is-text": staying(ENDLESS + b"Content-Length: many\r\n\r\n" + FOUND),
    "bad-chunk": staying(chunked(b"{").replace(b"\r\n1\r\n", b"\r\nzz\r\n")),
    "cut-chunk": saying(chunked(FOUND)),
    "not-http": saying(b"SSH-2.0-OpenSSH_9.2p1\r\n"),
    "malformed-json": saying(reply(b'{"detections": [')),
    "nothing": saying(reply(b"")),
    "deep-json": saying(reply(b"[" * 1_000_000)),
    "not-utf8": saying(reply(b'{"detections": "\xff\xfe"}')),
    "page": saying(reply(b"<html>It works!</html>", headers="Content-Type: text/html\r\n")),
    "no-detections": saying(reply(b'{"objects": []}')),
    "list": saying(reply(b"[1, 2, 3]")),
    "http-400": detail("400 Bad Request", "image is no picture"),
    "http-401": detail("401 Unauthorized", "who are you"),
    "http-403": detail("403 Forbidden", "not you"),
    "http-404": detail("404 Not Found", "Not Found"),
    "http-422": detail(
        "422 Unprocessable Entity", [{"loc": ["body", "conf"], "msg": "too big", "type": "x"}]
    ),
    "http-500": saying(
        reply(b"Internal Server Error", "500 Internal Server Error", "Content-Type: text/plain\r\n")
    ),
    "http-502-page": saying(
        reply(b"<html>" + b"x" * 100_000, "502 Bad Gateway", "Content-Type: text/html\r\n")
    ),
    "http-503-no-body": saying(reply(b"", "503 Service Unavailable", "")),
    "redirects-to-itself": saying(
        reply(b"", "307 Temporary Redirect", "Location: /redirects-to-itself/detect\r\n")
    ),
    "redirects-away": saying(reply(b"", "307 Temporary Redirect", "Location: http://127.0.0.2:9/detect\r\n")),
}
# These are answered before the request's body has been read; the others read it first.
IMPATIENT = {"hangs-up", "resets"}


async def converse(reader: StreamReader, writer: StreamWriter) -> None:
    path, headers = await wire.read_head(reader)
    name = path.split("/")[1]
    if name == "never-reads":
        await silent(reader, writer)
    if name == "refuses-early":
        writer.write(
            reply(b'{"detail": "too large for us"}', "413 Content Too Large", JSON + "Connection: close\r\n")
        )
        await writer.drain()
        return
    if name not in IMPATIENT:
        await read_body(reader, headers)
    if name in ("drips", "endless-header", "endless-header-line"):
        writer.write(ENDLESS)
    if name == "endless-body":
        writer.write(chunked(b"{"))
    await FAULTS[name](reader, writer)


async def read_body(reader: StreamReader, headers: dict[str, str]) -> None:
    """Reads a request's body, in one piece or in chunks, and drops it."""
    await reader.readexactly(int(headers.get("content-length", "0")))
    if headers.get("transfer-encoding") == "chunked":
        size = -1
        while size:
            size = int(await reader.readline(), 16)
            await reader.readexactly(size + 2)


if __name__ == "__main__":
    wire.serve(converse, "http")
