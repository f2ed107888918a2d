"""The ``axon`` command, run as from a shell, against servers on websockets and on FastAPI."""

from __future__ import annotations

import contextlib
import http
import json
import os
import re
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Iterator

import fastapi
import msgpack  # type: ignore[import-untyped]
import numpy as np
import pytest
import uvicorn
from PIL import Image
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve

if TYPE_CHECKING:
    import numpy.typing as npt  # which numpy 1.17 has not

ROOT = Path(__file__).resolve().parents[2]
AXON = ROOT / os.environ.get("BUILD", "build/c") / "bin" / "axon"


def axon(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs the command to its end; in a sanitised build leaks count."""
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=1", "LD_PRELOAD": ""}
    return subprocess.run(
        [AXON, *arguments], env=environment, check=False, capture_output=True, text=True, timeout=60
    )


def fails(exit_code: int, *arguments: str | Path) -> str:
    """The one line that a failing command writes to standard error."""
    done = axon(*arguments)
    assert done.returncode == exit_code, done.stdout + done.stderr
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def packed(array: npt.NDArray[Any]) -> dict[bytes, Any]:
    return {
        b"__ndarray__": True,
        b"data": array.tobytes(),
        b"dtype": array.dtype.str,
        b"shape": array.shape,
    }


def unpacked(node: dict[Any, Any]) -> Any:
    if b"__ndarray__" not in node:
        return node
    return np.frombuffer(node[b"data"], np.dtype(node[b"dtype"])).reshape(node[b"shape"])


class PolicyServer:
    """A policy server that remembers what it was asked; `answer` makes the reply's frame."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.answer: Callable[[], bytes | str] = lambda: msgpack.packb(
            {
                "actions": packed(np.arange(6, dtype=np.float32).reshape(2, 3) / 4),
                "server_timing": {"infer_ms": 1.5},
            }
        )
        self.healthy = http.HTTPStatus.OK
        self.port = 0

    def serve_one(self, connection: ServerConnection) -> None:
        connection.send(msgpack.packb({"model": "test"}))
        for message in connection:
            self.seen.append(msgpack.unpackb(message, object_hook=unpacked, strict_map_key=False))
            connection.send(self.answer())

    def answer_request(self, connection: ServerConnection, request: Request) -> Response | None:
        self.headers.append(dict(request.headers.raw_items()))
        return connection.respond(self.healthy, "OK\n") if request.path == "/healthz" else None

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"


@pytest.fixture
def policy() -> Iterator[PolicyServer]:
    peer = PolicyServer()
    with serve(
        peer.serve_one, "127.0.0.1", 0, process_request=peer.answer_request, compression=None, max_size=None
    ) as server:
        peer.port = server.socket.getsockname()[1]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield peer
        server.shutdown()
        thread.join()


@contextlib.contextmanager
def running(app: fastapi.FastAPI) -> Iterator[str]:
    """The URL of a service for as long as it runs."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.fixture
def nobody() -> str:
    """An address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


# ---- infer -----------------------------------------------------------------------------------


def test_infer_sends_each_kind_of_value_as_its_help_says(policy: PolicyServer, tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (20, 30, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    done = axon(
        "infer",
        policy.url,
        f"image=@{tmp_path / 'photo.png'}",
        "state=0,-0.5,1e3",
        "one=7,",
        "count=3",
        "conf=0.25",
        "yes=true",
        "no=false",
        "prompt=pick up the cup, 2 times",
        "empty=",
        'text:="3"',
        'nested:={"a": [1, 2.5, null], "b": {"c": "d"}}',
        "a/b.c=x=y",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (seen,) = policy.seen
    image, state, one = seen.pop("image"), seen.pop("state"), seen.pop("one")
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, pixels)
    assert state.dtype == np.float32
    np.testing.assert_array_equal(state, np.array([0, -0.5, 1000], np.float32))
    assert one.dtype == np.float32
    np.testing.assert_array_equal(one, [7])
    assert seen == {
        "count": 3,
        "conf": 0.25,
        "yes": True,
        "no": False,
        "prompt": "pick up the cup, 2 times",
        "empty": "",
        "text": "3",
        "nested": {"a": [1, 2.5, None], "b": {"c": "d"}},
        "a/b.c": "x=y",
    }
    assert [type(seen[key]) for key in ("count", "conf", "yes")] == [int, float, bool]


def test_infer_prints_actions_with_shape_dtype_and_rows(policy: PolicyServer) -> None:
    done = axon("infer", policy.url, "state=0,0,0")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "actions: float32 (2, 3)"
    assert lines[1].split() == ["0", "0.25", "0.5"]
    assert lines[2].split() == ["0.75", "1", "1.25"]
    assert "  infer_ms: 1.5" in lines
    assert re.fullmatch(rf"\({policy.url}/?: connected in [\d.]+ ms, answered in [\d.]+ ms\)", lines[-1])


def test_infer_shortens_large_arrays(policy: PolicyServer) -> None:
    policy.answer = lambda: msgpack.packb({"actions": packed(np.zeros((50, 32), np.float64))})
    lines = axon("infer", policy.url, "state=0,0,0").stdout.splitlines()
    assert lines[0] == "actions: float64 (50, 32)"
    assert lines[1].endswith(" ...")
    assert lines[4].strip() == "... 47 more rows"
    assert len(lines) == 6


@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "uint16", "int64", "uint64", "float16", "float32", "<U3", "|S2"]
)
@pytest.mark.parametrize("shape", [(), (2,), (0, 4), (2, 1, 2)])
def test_infer_prints_every_dtype_and_rank(policy: PolicyServer, dtype: str, shape: tuple[int, ...]) -> None:
    policy.answer = lambda: msgpack.packb({"x": packed(np.ones(shape, dtype))})
    done = axon("infer", policy.url, "state=0,0,0")
    assert done.returncode == 0, done.stderr
    name = {"<U3": "text", "|S2": "bytes"}.get(dtype, dtype)
    assert done.stdout.startswith(f"x: {name} {shape}\n")


def test_infer_prints_one_line_of_json_for_other_programs(policy: PolicyServer) -> None:
    done = axon("infer", policy.url, "state=0,0,0", "--json")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    assert json.loads(done.stdout) == {
        "actions": [[0, 0.25, 0.5], [0.75, 1, 1.25]],
        "server_timing": {"infer_ms": 1.5},
    }


def test_infer_prints_the_metadata_and_what_it_sends_when_asked(policy: PolicyServer) -> None:
    done = axon("infer", policy.url, "state=0,0,0", "--verbose")
    assert "  model: test" in done.stdout
    assert "  state: float32 (3,)" in done.stdout


def test_infer_sends_the_key(policy: PolicyServer) -> None:
    assert axon("infer", policy.url, "a=1", "--api-key", "s3cret").returncode == 0
    assert policy.headers[-1]["Authorization"] == "Api-Key s3cret"


def test_the_peer_s_text_cannot_steer_the_terminal(policy: PolicyServer) -> None:
    policy.answer = lambda: msgpack.packb({"a\x1b[2J": "b\x1b]0;c\x07", "d": ["\x1b[31m"]})
    done = axon("infer", policy.url, "a=1")
    assert done.returncode == 0
    assert "\x1b" not in done.stdout
    assert "\x07" not in done.stdout


def test_an_error_of_the_server_is_told_in_one_line(policy: PolicyServer) -> None:
    policy.answer = lambda: "Traceback (most recent call last):\n  File \"x.py\"\nKeyError: 'state'\n"
    assert "KeyError: 'state'" in fails(1, "infer", policy.url, "a=1")


def test_a_silent_server_is_given_up_at_the_timeout(policy: PolicyServer) -> None:
    release = threading.Event()
    policy.answer = lambda: str(release.wait(30))
    said = fails(1, "infer", policy.url, "a=1", "--timeout", "0.3")
    release.set()
    assert "300 ms" in said


def test_a_refused_connection_fails_at_once(nobody: str) -> None:
    assert "refused" in fails(1, "infer", f"ws://{nobody}", "a=1")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "the URL is missing"),
        (["ws://127.0.0.1:1"], "at least one KEY=VALUE"),
        (["ws://127.0.0.1:1", "prompt"], "prompt: is not KEY=VALUE"),
        (["ws://127.0.0.1:1", "=x"], "=x: is not KEY=VALUE"),
        (["ws://127.0.0.1:1", ":=3"], ":=3: is not KEY=VALUE"),
        (["ws://127.0.0.1:1", "image=@no/such.jpg"], "no/such.jpg"),
        (["ws://127.0.0.1:1", "image=@/dev/null"], "/dev/null"),
        (["ws://127.0.0.1:1", "a:={1"], "JSON"),
        (["ws://127.0.0.1:1", "a=1", "--timeout", "soon"], "--timeout"),
        (["ws://127.0.0.1:1", "a=1", "--timeout", "-1"], "--timeout"),
        (["ws://127.0.0.1:1", "a=1", "--timeout", "nan"], "--timeout"),
        (["ws://127.0.0.1:1", "a=1", "--what"], "--what"),
        (["ws://127.0.0.1:1", "a=1", "--api-key"], "requires an argument"),
        (["ftp://127.0.0.1:1", "a=1"], "ftp://"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_the_command_line_is_said_before_anything_is_sent(
    arguments: list[str], words: str
) -> None:
    assert words in fails(2, "infer", *arguments)


# ---- health ----------------------------------------------------------------------------------


def test_health_of_a_service_is_printed() -> None:
    app = fastapi.FastAPI()

    @app.get("/health")
    def health(request: fastapi.Request) -> dict[str, Any]:
        return {"status": "ok", "models": ["yolov8n"], "who": request.headers.get("authorization")}

    with running(app) as url:
        plain, as_json = axon("health", url), axon("health", url, "--json", "--api-key", "s3cret")
    assert plain.returncode == 0, plain.stderr
    assert plain.stdout.splitlines() == ["status: ok", 'models: ["yolov8n"]', "who: null"]
    assert json.loads(as_json.stdout) == {"status": "ok", "models": ["yolov8n"], "who": "Bearer s3cret"}


def test_an_unwell_service_says_why() -> None:
    app = fastapi.FastAPI()

    @app.get("/health")
    def health() -> None:
        raise fastapi.HTTPException(503, "the model is loading")

    with running(app) as url:
        said = fails(1, "health", url)
    assert "HTTP 503" in said
    assert "the model is loading" in said


def test_health_of_a_policy_server_is_its_healthz(policy: PolicyServer) -> None:
    for url in (policy.url, f"{policy.url}/some/path", f"127.0.0.1:{policy.port}"):
        done = axon("health", url)
        assert (done.returncode, done.stdout) == (0, "OK\n"), done.stderr
    assert json.loads(axon("health", policy.url, "--json").stdout) == "OK"


def test_an_unwell_policy_server_fails(policy: PolicyServer) -> None:
    policy.healthy = http.HTTPStatus.SERVICE_UNAVAILABLE
    assert "HTTP 503" in fails(1, "health", policy.url)


@pytest.mark.parametrize("scheme", ["http://", "ws://", ""])
def test_where_nobody_listens_the_service_is_unavailable(nobody: str, scheme: str) -> None:
    said = fails(1, "health", scheme + nobody)
    assert f"unavailable at http://{nobody}" in said


def test_health_takes_one_url() -> None:
    assert "the URL is missing" in fails(2, "health")
    assert "one URL" in fails(2, "health", "http://127.0.0.1:1", "http://127.0.0.1:2")


# ---- the command itself ----------------------------------------------------------------------


def test_help_and_version() -> None:
    for arguments in (["--help"], ["-h"], ["health", "--help"], ["infer", "--help"]):
        done = axon(*arguments)
        assert done.returncode == 0
        assert "usage: axon" in done.stdout
    assert re.fullmatch(r"axon \d+\.\d+\.\d+\n", axon("--version").stdout)


def test_no_command_and_a_wrong_one_are_misuse() -> None:
    assert axon().returncode == 2
    assert "usage: axon" in axon().stderr
    assert "fly: is no command" in fails(2, "fly")
