"""sync_catalog.sh on a robot whose catalog, source, disk and neighbours do what they can to break it."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import io
import json
import os
import random
import signal
import subprocess
import sys
import sysconfig
import threading
import time
import zipfile
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest
from support import CHECKOUT

SCRIPT = CHECKOUT / "sync_catalog.sh"
BUSY = 75

CLIENT = '''"""{name} - a client of the tests, version {version}."""

from __future__ import annotations

import base64
import json
import urllib.request


class Client:
    """Asks {name}. {padding}"""

    version = {version}


LAST_LINE = "{name} {version}"
'''


def client_code(name: str, version: int = 1, padding: str = "") -> bytes:
    return CLIENT.format(name=name, version=version, padding=padding).encode()


def etag_of(body: bytes) -> str:
    return f'"{hashlib.sha256(body).hexdigest()[:20]}"'


class Source(ThreadingHTTPServer):
    """An HTTP server with a catalog and clients, which can be told to misbehave."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.entries: dict[str, Any] = {}
        self.top: dict[str, Any] = {"updated": "2026-01-01T00:00:00Z"}
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, Callable[[Handler], None]] = {}
        self.statuses: Counter[int] = Counter()

    def publish(self, name: str, body: bytes | None = None, **entry: Any) -> bytes:
        """Puts a client on the server and its entry, without sha256 and size unless given, into the catalog."""
        body = client_code(name) if body is None else body
        path = f"/{hashlib.sha256(name.encode()).hexdigest()[:12]}/client.py"
        self.files[path] = body
        known = {"type": "model", "version": "0.1.0", "description": name, "client_sdk": self.url + path}
        self.entries[name] = {**known, **entry}
        return body

    def fault(self, name: str, answer: Callable[[Handler], None]) -> None:
        self.faults[self.entries[name]["client_sdk"][len(self.url) :]] = answer

    def body(self, path: str) -> bytes | None:
        if path == "/catalog.json":
            return json.dumps({**self.top, "capabilities": self.entries}).encode()
        return self.files.get(path)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Source

    def do_GET(self) -> None:
        fault, body = self.server.faults.get(self.path), self.server.body(self.path)
        if fault is not None:
            fault(self)
        elif body is None:
            self.answer(404, b"404: Not Found")
        elif self.headers.get("If-None-Match") == etag_of(body):
            self.answer(304)
        else:
            self.answer(200, body, ETag=etag_of(body))

    def answer(self, status: int, body: bytes = b"", length: int | None = None, **headers: str) -> None:
        self.server.statuses[status] += 1
        with contextlib.suppress(ConnectionError):
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            if status != 304:
                self.send_header("Content-Length", str(len(body) if length is None else length))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


def kill_group(process: subprocess.Popen[str]) -> None:
    """Ends the script and all that it started, if it has not ended yet."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


class Robot:
    """A folder of clients and the script that keeps it."""

    def __init__(self, root: Path, catalog: str) -> None:
        self.services = root / "robot" / "service_clients"
        self.log_file = root / "robot" / "sync.log"
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(root),
            "SERVICES_DIR": str(self.services),
            "SYNC_CATALOG_LOG": str(self.log_file),
            "CATALOG_URL": catalog,
        }

    def start(self, *arguments: str, wrapper: str = 'exec "$@"') -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["bash", "-c", wrapper, "bash", str(SCRIPT), *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def sync(self, *arguments: str, **options: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments, **options)
        try:
            output, errors = process.communicate(timeout=100)
        finally:
            kill_group(process)
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)

    def sync_well(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        done = self.sync(*arguments)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return done

    def client(self, folder: str) -> bytes:
        return (self.services / folder / "client.py").read_bytes()

    def entry(self, folder: str) -> dict[str, Any]:
        content = json.loads((self.services / folder / "service.json").read_bytes())
        assert isinstance(content, dict)
        return content

    def folders(self) -> list[str]:
        return sorted(path.parent.name for path in self.services.glob("*/client.py"))

    def log(self) -> str:
        return self.log_file.read_text() if self.log_file.exists() else ""


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def source() -> Iterator[Source]:
    with Source() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def robot(tmp_path: Path, source: Source) -> Robot:
    return Robot(tmp_path, source.url + "/catalog.json")


# What a good run does


def test_clients_and_their_metadata_are_installed(robot: Robot, source: Source) -> None:
    body = source.publish("yolo-detection", version="0.2.0", host="http://127.0.0.1:8000")
    source.publish("graspgen")
    robot.sync_well()
    assert robot.folders() == ["graspgen", "yolo_detection"]
    assert robot.client("yolo_detection") == body
    entry = robot.entry("yolo_detection")
    assert entry["name"] == "yolo-detection"
    assert entry["version"] == "0.2.0"
    assert entry["host"] == "http://127.0.0.1:8000"
    assert not (robot.services / "__init__.py").exists()
    assert "yolo-detection: installed" in robot.log()


def test_a_run_without_changes_is_quiet_and_only_asks(robot: Robot, source: Source) -> None:
    for name in ("a", "b", "c"):
        source.publish(name)
    robot.sync_well()
    before, log = files_below(robot.services), robot.log()
    source.statuses.clear()
    done = robot.sync_well()
    assert done.stdout == ""
    assert source.statuses == {304: 4}
    assert files_below(robot.services) == before
    assert robot.log() == log


def test_a_thousand_entries_cost_one_conditional_request_each(robot: Robot, source: Source) -> None:
    for number in range(1000):
        source.publish(f"service-{number}")
    robot.sync_well()
    assert len(robot.folders()) == 1000
    source.statuses.clear()
    robot.sync_well()
    assert source.statuses == {304: 1001}

    new = source.publish("service-7", client_code("service-7", 2))
    robot.sync_well()
    assert robot.client("service_7") == new
    source.statuses.clear()
    robot.sync_well()
    assert source.statuses == {304: 1001}


def test_a_new_version_replaces_the_old_one(robot: Robot, source: Source) -> None:
    source.publish("graspgen")
    robot.sync_well()
    new = source.publish("graspgen", client_code("graspgen", 2), version="0.2.0")
    robot.sync_well()
    assert robot.client("graspgen") == new
    assert robot.entry("graspgen")["version"] == "0.2.0"


def test_metadata_alone_is_refreshed(robot: Robot, source: Source) -> None:
    body = source.publish("graspgen", host="http://127.0.0.1:1")
    robot.sync_well()
    source.entries["graspgen"]["host"] = "http://127.0.0.1:2"
    robot.sync_well()
    assert robot.entry("graspgen")["host"] == "http://127.0.0.1:2"
    assert robot.client("graspgen") == body
    assert "graspgen: updated, metadata only" in robot.log()


def test_a_client_that_was_damaged_on_the_robot_is_repaired(robot: Robot, source: Source) -> None:
    body = source.publish("graspgen")
    robot.sync_well()
    (robot.services / "graspgen" / "client.py").write_bytes(body[: len(body) // 2])
    robot.sync_well()
    assert robot.client("graspgen") == body
    (robot.services / "graspgen" / "client.py").unlink()
    (robot.services / "graspgen" / "service.json").write_text("{")
    robot.sync_well()
    assert robot.client("graspgen") == body
    assert robot.entry("graspgen")["name"] == "graspgen"


def test_a_dry_run_says_what_it_would_do_and_writes_nothing(robot: Robot, source: Source) -> None:
    source.publish("graspgen")
    done = robot.sync_well("--dry-run")
    assert "graspgen: would be installed" in done.stdout
    assert not robot.services.exists()
    assert not robot.log_file.exists()

    robot.sync_well()
    del source.entries["graspgen"]
    source.publish("nav-mapping")
    before = files_below(robot.services.parent)
    done = robot.sync_well("--dry-run")
    assert "graspgen: would be removed" in done.stdout
    assert "nav-mapping: would be installed" in done.stdout
    assert files_below(robot.services.parent) == before


def test_a_person_sees_progress(robot: Robot, source: Source) -> None:
    source.publish("graspgen")
    done = robot.sync("--verbose")
    assert done.returncode == 0
    assert "graspgen: installed" in done.stderr
    assert "1 clients, 1 changes, 0 failures" in done.stderr
    assert "all is current" in robot.sync("--verbose").stderr


def test_watching_means_one_run_after_the_other(robot: Robot, source: Source) -> None:
    source.publish("graspgen")
    process = robot.start("--watch", "1")
    try:
        deadline = time.monotonic() + 60
        while source.statuses[304] < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        kill_group(process)
    assert robot.folders() == ["graspgen"]


def test_the_log_does_not_grow_without_end(robot: Robot, source: Source) -> None:
    source.publish("graspgen")
    robot.log_file.parent.mkdir(parents=True)
    robot.log_file.write_text("x" * (1 << 20) + "\n")
    robot.sync_well()
    assert robot.log_file.stat().st_size < 1000
    assert Path(f"{robot.log_file}.1").stat().st_size > 1 << 20


@pytest.mark.parametrize(
    "arguments", [["--unknown"], ["--jobs"], ["--jobs", "0"], ["--timeout", "0"], ["--watch", "x"]]
)
def test_wrong_usage_is_2(robot: Robot, arguments: list[str]) -> None:
    done = robot.sync(*arguments)
    assert done.returncode == 2
    assert arguments[0] in done.stderr
    assert not robot.services.exists()


def test_help_names_every_option_and_variable(robot: Robot) -> None:
    text = robot.sync_well("--help").stdout
    options = ["catalog", "services-dir", "log", "dry-run", "once", "watch", "no-prune", "no-core", "jobs"]
    for word in [*(f"--{option}" for option in options), "SERVICES_DIR", "WISHLIST_DIR", "SYNC_CATALOG_LOG"]:
        assert word in text


def test_the_script_is_python_3_8_and_typed(tmp_path: Path) -> None:
    """What `make check` cannot see, for it stands inside a shell script."""
    program = SCRIPT.read_text().split(": <<'PYTHON'\n")[1].rsplit("PYTHON\n")[0]
    ast.parse(program, feature_version=(3, 8))
    (tmp_path / "embedded.py").write_text(program)
    settings = str(CHECKOUT / "pyproject.toml")
    for tool in (
        ["mypy", "--strict", "--config-file", os.devnull],
        ["ruff", "check", "-q", "--config", settings, "--ignore", "SIM905"],
        ["ruff", "format", "-q", "--diff", "--config", settings],
    ):
        command = [sys.executable, "-m", *tool, "embedded.py"]
        done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


# Where a catalog can come from


def test_a_catalog_in_a_folder_with_clients_beside_it(robot: Robot, tmp_path: Path) -> None:
    (tmp_path / "wish list").mkdir()
    body = client_code("graspgen")
    (tmp_path / "wish list" / "grasp.py").write_bytes(body)
    catalog = {"capabilities": {"graspgen": {"client_sdk": "grasp.py"}}}
    (tmp_path / "wish list" / "catalog.json").write_text(json.dumps(catalog))
    del robot.environment["CATALOG_URL"]
    robot.environment["WISHLIST_DIR"] = str(tmp_path / "wish list")
    robot.sync_well()
    assert robot.client("graspgen") == body
    (tmp_path / "wish list" / "grasp.py").write_bytes(client_code("graspgen", 2))
    robot.sync_well()
    assert robot.client("graspgen") == client_code("graspgen", 2)


def test_a_catalog_by_file_url(robot: Robot, tmp_path: Path) -> None:
    (tmp_path / "client.py").write_bytes(client_code("graspgen"))
    catalog = {"capabilities": {"graspgen": {"client_sdk": (tmp_path / "client.py").as_uri()}}}
    (tmp_path / "c.json").write_text(json.dumps(catalog))
    robot.sync_well("--catalog", (tmp_path / "c.json").as_uri())
    assert robot.folders() == ["graspgen"]


def test_clients_relative_to_a_catalog_on_a_server(robot: Robot, source: Source) -> None:
    body = source.publish("graspgen")
    source.entries["graspgen"]["client_sdk"] = source.entries["graspgen"]["client_sdk"][len(source.url) + 1 :]
    robot.sync_well()
    assert robot.client("graspgen") == body


def run_git(folder: Path, *arguments: str) -> None:
    settings = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"]
    subprocess.run(["git", "-C", str(folder), *settings, *arguments], check=True, capture_output=True)


def test_a_git_checkout_is_pulled_and_still_serves_when_that_fails(
    robot: Robot, source: Source, tmp_path: Path
) -> None:
    origin = tmp_path / "origin"
    origin.mkdir()
    run_git(origin, "init")

    def commit() -> None:
        (origin / "catalog.json").write_text(json.dumps({"capabilities": source.entries}))
        run_git(origin, "add", ".")
        run_git(origin, "commit", "-m", "catalog")

    source.publish("graspgen")
    commit()
    run_git(tmp_path, "clone", str(origin), "wishlist")
    source.publish("nav-mapping")
    commit()
    del robot.environment["CATALOG_URL"]
    robot.environment["WISHLIST_DIR"] = str(tmp_path / "wishlist")
    robot.sync_well()
    assert robot.folders() == ["graspgen", "nav_mapping"]

    origin.rename(tmp_path / "gone")
    source.publish("graspgen", client_code("graspgen", 2))
    done = robot.sync()
    assert done.returncode == 1
    assert "catalog: git pull" in done.stderr
    assert robot.client("graspgen") == client_code("graspgen", 2)


FIELD_USAGE = {"import": "from client import Client", "example": "client = Client()", "returns": "dict"}


def test_the_catalog_as_it_stands_in_the_field(robot: Robot, source: Source) -> None:
    """No sha256, no core, usages that are missing or name another module; one client needs what is blocked."""
    source.publish("realsense-slam", usage=FIELD_USAGE, models=["a"], status="deployed")
    source.publish("grounded-sam2")
    source.publish("yolo-detection", b"import base64\nimport requests\n\n\nclass YOLOClient:\n    pass\n")
    done = robot.sync()
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "yolo-detection: client.py:2: imports requests, which the sandbox blocks" in done.stderr
    assert robot.folders() == ["grounded_sam2", "realsense_slam"]


# What left the catalog


def test_what_left_the_catalog_is_removed_and_nothing_else(robot: Robot, source: Source) -> None:
    source.publish("graspgen")
    source.publish("nav-mapping")
    robot.sync_well()
    for folder in ("mine", "_axon"):
        (robot.services / folder).mkdir()
        (robot.services / folder / "client.py").write_text("by hand")
        (robot.services / folder / "service.json").write_text('{"name": "mine"}')
    (robot.services / "nav_mapping" / "__pycache__").mkdir()
    del source.entries["nav-mapping"]
    robot.sync_well()
    assert robot.folders() == ["_axon", "graspgen", "mine"]
    assert not (robot.services / "nav_mapping").exists()
    assert "nav_mapping: removed" in robot.log()


def test_what_somebody_put_beside_a_client_outlives_it(robot: Robot, source: Source) -> None:
    source.publish("nav-mapping")
    robot.sync_well()
    (robot.services / "nav_mapping" / "notes.txt").write_text("mine")
    del source.entries["nav-mapping"]
    robot.sync_well()
    assert [path.name for path in (robot.services / "nav_mapping").iterdir()] == ["notes.txt"]


def test_pruning_can_be_left_out(robot: Robot, source: Source) -> None:
    source.publish("graspgen")
    robot.sync_well()
    del source.entries["graspgen"]
    robot.sync_well("--no-prune")
    assert robot.folders() == ["graspgen"]


def test_an_entry_that_went_wrong_is_not_pruned(robot: Robot, source: Source) -> None:
    body = source.publish("graspgen")
    robot.sync_well()
    source.entries["graspgen"] = ["no", "object"]
    assert robot.sync().returncode == 1
    assert robot.client("graspgen") == body


# Sources that fail


def sends(status: int, body: bytes = b"", **options: Any) -> Callable[[Handler], None]:
    return lambda handler: handler.answer(status, body, **options)


def truncated(handler: Handler) -> None:
    body = client_code("bad", 2)
    handler.answer(200, body[:-40], length=len(body))
    handler.close_connection = True


def truncated_chunks(handler: Handler) -> None:
    body = client_code("bad", 2)
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    handler.wfile.write(b"%x\r\n" % len(body) + body + b"\r\n")
    handler.close_connection = True


def endless(handler: Handler) -> None:
    handler.send_response(200)
    handler.end_headers()
    handler.close_connection = True
    with contextlib.suppress(ConnectionError):
        for _ in range(1000):
            handler.wfile.write(b"#" * 65536)


def hangs_up(handler: Handler) -> None:
    handler.close_connection = True


FAULTS = {
    "404": (sends(404, b"404: Not Found"), "HTTP 404"),
    "500": (sends(500, client_code("bad", 2)), "HTTP 500"),
    "html": (sends(200, b"<!DOCTYPE html>\n<html><body>Sign in</body></html>"), "an HTML page"),
    "empty": (sends(200), "empty"),
    "words": (sends(200, b"maintenance"), "defines nothing"),
    "truncated": (truncated, "the body ended early"),
    "truncated-chunks": (truncated_chunks, "the body ended early"),
    "hangs-up": (hangs_up, "empty reply"),
    "no-python": (sends(200, b"class Client:\n    def ask(self:\n"), "client.py:2: does not compile"),
    "only-parses": (sends(200, b"class Client:\n    pass\nreturn 1\n"), "client.py:3: does not compile"),
    "no-utf8": (sends(200, b'NAME = "\xff"\n'), "not UTF-8 at byte 8"),
    "zero-byte": (sends(200, b"NAME = 1\n\0\n"), "does not compile"),
    "too-deep": (sends(200, b"X = " + b"(" * 50000 + b")" * 50000), "does not compile"),
    "too-long": (sends(200, client_code("bad", 2, "x" * (1 << 20))), "longer than allowed"),
    "endless": (endless, "longer than allowed"),
    "redirects": (lambda handler: handler.answer(302, Location=handler.path), "redirects"),
    "to-a-file": (lambda handler: handler.answer(302, Location="file:///etc/hostname"), "rotocol"),
    "not-asked": (sends(304), "HTTP 304"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_source_that_fails_leaves_the_last_good_version(fault: str, robot: Robot, source: Source) -> None:
    answer, reason = FAULTS[fault]
    old = source.publish("bad")
    source.publish("good")
    robot.sync_well()
    source.publish("bad", client_code("bad", 2), sha256=None)
    source.entries["bad"]["client_sdk"] += "?new"
    source.fault("bad", answer)
    new = source.publish("good", client_code("good", 2))

    done = robot.sync()
    assert done.returncode == 1
    assert "sync_catalog.sh: bad: " in done.stderr
    assert reason.lower() in done.stderr.lower()
    assert "FAILED bad: " in robot.log()
    assert robot.client("bad") == old
    assert robot.entry("bad")["client_sdk"][-4:] != "?new"
    assert robot.client("good") == new
    assert files_below(robot.services).keys() == {
        str(robot.services / name)
        for name in ("bad/client.py", "bad/service.json", "good/client.py", "good/service.json", ".sync/lock")
    } | {str(robot.services / ".sync" / "sums")}

    source.faults.clear()
    source.files[source.entries["bad"]["client_sdk"][len(source.url) :]] = client_code("bad", 3)
    robot.sync_well()
    assert robot.client("bad") == client_code("bad", 3)


REFUSED_IMPORTS = [
    "import requests",
    "import httpx",
    "import http.client",
    "from http import client",
    "import aiohttp, json",
    "import grpc",
    "from socket import create_connection",
    "import ssl",
    "import ctypes",
    "import subprocess as s",
    "import importlib",
    "import urllib.robotparser",
    "from urllib import robotparser",
    "from . import helper",
    "__import__('requests')",
]


def test_what_the_sandbox_blocks_is_refused_with_its_line(robot: Robot, source: Source) -> None:
    for number, line in enumerate(REFUSED_IMPORTS):
        source.publish(f"e{number}", f"class Client:\n    def ask(self):\n        {line}\n".encode())
    errors = robot.sync().stderr.splitlines()
    for number, error in enumerate(errors):
        assert error.startswith(f"sync_catalog.sh: e{number}: client.py:3: imports "), error
    assert len(errors) == len(REFUSED_IMPORTS)
    assert robot.folders() == []


def test_what_the_sandbox_has_is_allowed(robot: Robot, source: Source) -> None:
    lines = [
        "from __future__ import annotations",
        "import base64, io, json, math, os.path, time, urllib, urllib.request, urllib.error, urllib.parse",
        "import cv2, numpy as np",
        "from pathlib import Path",
        "from typing import TYPE_CHECKING, Any",
        "from urllib import request, error",
        "from service_clients._axon import ServiceClient",
        "class Client(ServiceClient): ...",
    ]
    source.publish("all", "\n".join(lines).encode())
    robot.sync_well()


def test_our_own_clients_pass(robot: Robot, tmp_path: Path) -> None:
    clients = sorted((CHECKOUT / "service_clients").glob("*/client.py"))
    assert clients
    entries = {
        client.parent.name.replace("_", "-"): {"client_sdk": client.as_uri(), "size": client.stat().st_size}
        for client in clients
    }
    (tmp_path / "catalog.json").write_text(json.dumps({"capabilities": entries}))
    robot.sync_well("--catalog", str(tmp_path / "catalog.json"))
    assert [robot.client(client.parent.name) for client in clients] == [c.read_bytes() for c in clients]


def test_sha256_and_size_are_checked_where_they_are_stated(robot: Robot, source: Source) -> None:
    body = source.publish("right")
    source.entries["right"].update(sha256=hashlib.sha256(body).hexdigest().upper(), size=len(body))
    source.publish("wrong", sha256="0" * 64)
    source.publish("short", size=7)
    source.publish("odd", sha256="abc")
    done = robot.sync()
    assert done.returncode == 1
    assert f"wrong: sha256 is {hashlib.sha256(client_code('wrong')).hexdigest()}" in done.stderr
    assert f"short: {len(client_code('short'))} bytes, and the catalog says 7" in done.stderr
    assert "odd: the catalog's sha256 is not 64 hexadecimal digits" in done.stderr
    assert robot.folders() == ["right"]


def test_the_source_that_is_behind_its_catalog_changes_nothing(robot: Robot, source: Source) -> None:
    old = source.publish("graspgen")
    robot.sync_well()
    new = client_code("graspgen", 2)
    source.entries["graspgen"]["sha256"] = hashlib.sha256(new).hexdigest()
    assert robot.sync().returncode == 1
    assert robot.client("graspgen") == old
    source.publish("graspgen", new, sha256=hashlib.sha256(new).hexdigest())
    robot.sync_well()
    assert robot.client("graspgen") == new


def test_the_class_of_the_usage_must_be_in_the_client(robot: Robot, source: Source) -> None:
    source.publish("right", usage={"import": "from service_clients.right.client import Client"})
    source.publish("wrong", usage={"import": "from service_clients.wrong.client import WrongClient"})
    source.publish("broken", usage={"import": "from service_clients import"})
    done = robot.sync()
    assert "wrong: usage.import names WrongClient, which client.py does not define" in done.stderr
    assert "broken: usage.import is no Python" in done.stderr
    assert robot.folders() == ["right"]


BAD_NAMES = [
    "../../x",
    "a/b",
    "con taining spaces",
    "",
    ".",
    "..",
    "_axon",
    "A",
    "a_b",
    "-a",
    "a\n",
    "a\0b",
    "é",
]


def test_names_that_are_no_names_are_refused(robot: Robot, source: Source, tmp_path: Path) -> None:
    source.publish("good")
    for name in [*BAD_NAMES, "a" * 101]:
        source.publish(name)
    before = {path for path in tmp_path.rglob("*") if "robot" not in path.parts}
    done = robot.sync()
    assert done.returncode == 1
    assert done.stderr.count("not a name") == len(BAD_NAMES) + 1
    for name in ("../../x", "a/b", "con taining spaces"):
        assert f"{name}: not a name" in done.stderr
        assert f"FAILED {name}: " in robot.log()
    assert robot.folders() == ["good"]
    assert sorted(path.name for path in robot.services.iterdir()) == [".sync", "good"]
    assert {path for path in tmp_path.rglob("*") if "robot" not in path.parts} == before


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/hostname",
        "ftp://127.0.0.1/client.py",
        "http://127.0.0.1/a b",
        'x"\noutput = "/x',
        None,
        7,
        "",
        "//h/x",
    ],
)
def test_a_catalog_from_a_server_names_only_servers(url: object, robot: Robot, source: Source) -> None:
    source.publish("bad", client_sdk=url)
    source.publish("good")
    done = robot.sync()
    assert done.returncode == 1
    assert "sync_catalog.sh: bad: " in done.stderr
    assert robot.folders() == ["good"]


def test_a_folder_that_is_a_link_is_left_alone(robot: Robot, source: Source, tmp_path: Path) -> None:
    source.publish("graspgen")
    (tmp_path / "checkout").mkdir()
    robot.services.mkdir(parents=True)
    (robot.services / "graspgen").symlink_to(tmp_path / "checkout")
    done = robot.sync()
    assert done.returncode == 1
    assert "symbolic link" in done.stderr
    assert list((tmp_path / "checkout").iterdir()) == []


CATALOGS = {
    "404": (sends(404), "HTTP 404"),
    "html": (sends(200, b"<html></html>"), "an HTML page"),
    "no-json": (sends(200, b'{"capabilities": {'), "not JSON"),
    "a-list": (sends(200, b"[]"), '"capabilities"'),
    "no-capabilities": (sends(200, b'{"capabilities": []}'), '"capabilities"'),
    "too-deep": (sends(200, b"[" * 100000), "not JSON"),
    "truncated": (truncated, "the body ended early"),
    "too-long": (sends(200, b" " * (17 << 20)), "longer than allowed"),
}


@pytest.mark.parametrize("fault", CATALOGS)
def test_without_a_catalog_everything_stays(fault: str, robot: Robot, source: Source) -> None:
    answer, reason = CATALOGS[fault]
    body = source.publish("graspgen")
    robot.sync_well()
    source.faults["/catalog.json"] = answer
    done = robot.sync()
    assert done.returncode == 1
    assert "sync_catalog.sh: catalog: " in done.stderr
    assert reason in done.stderr
    assert "FAILED catalog: " in robot.log()
    assert robot.client("graspgen") == body


def test_a_source_that_is_not_there(robot: Robot, source: Source) -> None:
    source.publish("graspgen")
    done = robot.sync("--catalog", "http://127.0.0.1:1/catalog.json")
    assert done.returncode == 1
    assert "connect" in done.stderr.lower()


def test_a_slow_source_is_given_up(robot: Robot, source: Source) -> None:
    old = source.publish("slow")
    source.publish("good")
    robot.sync_well()
    released = threading.Event()

    def drip(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "100000")
        handler.end_headers()
        with contextlib.suppress(ConnectionError):
            while not released.wait(0.1):
                handler.wfile.write(b"#")

    source.fault("slow", drip)
    new = source.publish("good", client_code("good", 2))
    done = robot.sync("--timeout", "2")
    released.set()
    assert done.returncode == 1
    assert "slow: no whole answer within 2 s (--timeout)" in done.stderr
    assert robot.client("slow") == old
    assert robot.client("good") == new


# Two at once, killed, without room


def test_of_two_syncs_at_once_the_second_says_so(robot: Robot, source: Source) -> None:
    source.publish("graspgen")
    asked, released = threading.Event(), threading.Event()

    def waits(handler: Handler) -> None:
        asked.set()
        assert released.wait(60)
        handler.answer(200, client_code("graspgen"))

    source.fault("graspgen", waits)
    first = robot.start()
    try:
        assert asked.wait(60)
        second = robot.sync()
        assert second.returncode == BUSY
        assert "another sync is running" in second.stderr
        assert "another one is running" in robot.log()
    finally:
        released.set()
        first.communicate(timeout=60)
    assert first.returncode == 0
    assert robot.folders() == ["graspgen"]


def test_a_sync_that_was_killed_does_not_stand_in_the_way(robot: Robot, source: Source) -> None:
    source.publish("graspgen")
    asked, released = threading.Event(), threading.Event()

    def waits(handler: Handler) -> None:
        asked.set()
        released.wait(60)

    source.fault("graspgen", waits)
    first = robot.start()
    assert asked.wait(60)
    first.kill()  # the script's own process alone: what it started may live a little longer
    first.communicate(timeout=60)
    source.faults.clear()
    robot.sync_well()
    released.set()
    assert robot.folders() == ["graspgen"]
    assert sorted(path.name for path in (robot.services / ".sync").iterdir()) == ["lock", "requests", "sums"]


def test_killed_at_a_hundred_moments_every_client_is_whole(robot: Robot, source: Source) -> None:
    names = ["one", "two", "three"]
    whole: dict[str, set[bytes]] = {name: set() for name in names}

    def publish(version: int) -> None:
        for name in names:
            whole[name].add(
                source.publish(name, client_code(name, version, "x" * 2000), version=str(version))
            )

    publish(0)
    began = time.monotonic()
    robot.sync_well()
    duration = time.monotonic() - began
    chance = random.Random(3)
    killed = 0
    for version in range(1, 101):
        publish(version)
        process = robot.start()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(chance.uniform(0, duration))
        kill_group(process)
        killed += process.returncode == -signal.SIGKILL
        for name in names:
            assert robot.client(name) in whole[name]
            assert robot.entry(name)["name"] == name
    assert killed > 20
    robot.sync_well()
    for name in names:
        assert robot.client(name) == client_code(name, 100, "x" * 2000)
    left = {path.name for path in robot.services.rglob(".*")} | {
        path.name for path in robot.services.rglob("*-*")
    }
    assert left == {".sync"}


@pytest.mark.parametrize("blocks", [0, 1, 2, 4, 8])
def test_a_full_disk_leaves_whole_clients(blocks: int, robot: Robot, source: Source) -> None:
    """`blocks` KiB are what any file may grow to."""
    old = {name: source.publish(name) for name in ("small", "large")}
    robot.sync_well()
    new = {
        "small": source.publish("small", client_code("small", 2)),
        "large": source.publish("large", client_code("large", 2, "x" * 10000)),
        "fresh": source.publish("fresh", client_code("fresh", 2, "x" * 10000)),
    }
    done = robot.sync(wrapper=f'ulimit -f {blocks}; exec "$@"')
    assert done.returncode == 1
    assert "sync_catalog.sh: " in done.stderr
    assert robot.client("large") == old["large"]
    assert robot.client("small") in (old["small"], new["small"])
    assert not (robot.services / "fresh").exists()
    if blocks == 8:
        assert robot.client("small") == new["small"]
        assert "FAILED large: " in robot.log()
    robot.sync_well()
    for name, body in new.items():
        assert robot.client(name) == body


# The native core


def wheel(files: dict[str, str]) -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return memory.getvalue()


def core_files(version: str) -> dict[str, str]:
    return {
        "service_clients/_axon/__init__.py": f"VERSION = {version!r}\n",
        "service_clients/_axon/inner/__init__.py": "",
        "service_clients/_axon/_native.abi3.so": "native",
        "service_clients/yolo_detection/client.py": "not from the wheel",
        "axon.libs/libcurl.so": "library",
        "axon-9.9.9.dist-info/WHEEL": "Wheel-Version: 1.0\n",
    }


MACHINE = sysconfig.get_platform().split("-", 1)[-1].replace("-", "_")
FITTING = [
    f"cp38-abi3-linux_{MACHINE}",
    f"cp38-abi3-manylinux_2_17_{MACHINE}.manylinux2014_{MACHINE}",
    "py3-none-any",
]
FOREIGN = [
    "cp38-abi3-linux_pdp11",
    f"cp399-abi3-linux_{MACHINE}",
    f"cp27-cp27mu-linux_{MACHINE}",
    f"cp38-abi3-manylinux_9_99_{MACHINE}",
    f"cp38-abi3-musllinux_1_1_{MACHINE}",
]


def offer_core(source: Source, data: bytes, tags: str = FITTING[0], **stated: Any) -> None:
    path = f"/axon-9.9.9-{tags}.whl"
    source.files[path] = data
    known = {"url": source.url + path, "sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    source.top["core"] = {"name": "axon", "version": "9.9.9", "wheels": [{**known, **stated}]}


def core_version(robot: Robot) -> str:
    code = "import service_clients._axon as core; print(core.VERSION)"
    environment = {**os.environ, "PYTHONPATH": str(robot.services.parent)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd="/", env=environment, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.mark.parametrize("tags", FITTING)
def test_the_core_is_installed_from_its_wheel(tags: str, robot: Robot, source: Source) -> None:
    source.publish("graspgen")
    offer_core(source, wheel(core_files("one")), tags)
    robot.sync_well()
    assert core_version(robot) == "one"
    native = robot.services / "_axon" / "_native.abi3.so"
    assert native.read_text() == "native"
    assert (native.resolve().parent / ".." / ".." / "axon.libs" / "libcurl.so").read_text() == "library"
    assert robot.folders() == ["graspgen"]
    assert "core: installed, version 9.9.9" in robot.log()

    source.statuses.clear()
    robot.sync_well()
    assert source.statuses == {304: 2}
    offer_core(source, wheel(core_files("two")), tags)
    robot.sync_well()
    assert core_version(robot) == "two"


@pytest.mark.parametrize("tags", FOREIGN)
def test_a_wheel_for_other_machines_gives_its_python_half(tags: str, robot: Robot, source: Source) -> None:
    offer_core(source, wheel(core_files("one")), tags)
    robot.sync_well()
    assert core_version(robot) == "one"
    assert not (robot.services / "_axon" / "_native.abi3.so").exists()
    assert "no wheel fits this machine" in robot.log()


@pytest.mark.parametrize(
    "member",
    [
        "../evil.py",
        "/evil.py",
        "service_clients/_axon/../../../../evil.py",
        "service_clients\\_axon\\evil.py",
    ],
)
def test_a_wheel_that_leads_out_of_its_folder_is_refused(
    member: str, robot: Robot, source: Source, tmp_path: Path
) -> None:
    source.publish("graspgen")
    offer_core(source, wheel(core_files("one")))
    robot.sync_well()
    offer_core(source, wheel({**core_files("two"), member: "EVIL = 1"}))
    done = robot.sync()
    assert done.returncode == 1
    assert "core: the wheel has a file" in done.stderr
    assert core_version(robot) == "one"
    assert list(tmp_path.rglob("evil.py")) == []


def test_a_link_in_a_wheel_is_refused(robot: Robot, source: Source) -> None:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        for name, text in core_files("one").items():
            archive.writestr(name, text)
        link = zipfile.ZipInfo("service_clients/_axon/link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc")
    offer_core(source, memory.getvalue())
    done = robot.sync()
    assert "core: the wheel has a file service_clients/_axon/link" in done.stderr
    assert not (robot.services / "_axon").exists()


BAD_WHEELS: dict[str, tuple[bytes, dict[str, Any], str]] = {
    "sha256": (wheel(core_files("two")), {"sha256": "0" * 64}, "sha256 is"),
    "no-sha256": (wheel(core_files("two")), {"sha256": None}, "states no sha256"),
    "size": (wheel(core_files("two")), {"size": 100}, "longer than allowed"),
    "no-zip": (b"PK nothing", {}, "no readable wheel"),
    "empty": (wheel({"axon/__init__.py": ""}), {}, "no service_clients/_axon"),
    "url": (wheel(core_files("two")), {"url": "file:///axon-9.9.9-py3-none-any.whl"}, "cannot name"),
    "name": (wheel(core_files("two")), {"url": "http://127.0.0.1/axon.zip"}, "not the name of a wheel"),
}


@pytest.mark.parametrize("fault", BAD_WHEELS)
def test_a_core_that_is_wrong_leaves_the_last_good_one(fault: str, robot: Robot, source: Source) -> None:
    data, stated, reason = BAD_WHEELS[fault]
    source.publish("graspgen")
    offer_core(source, wheel(core_files("one")))
    robot.sync_well()
    new = source.publish("graspgen", client_code("graspgen", 2))
    offer_core(source, data, **stated)
    done = robot.sync()
    assert done.returncode == 1
    assert "sync_catalog.sh: core: " in done.stderr
    assert reason in done.stderr
    assert core_version(robot) == "one"
    assert robot.client("graspgen") == new


def test_a_core_that_somebody_else_installed_is_left_alone(robot: Robot, source: Source) -> None:
    (robot.services / "_axon").mkdir(parents=True)
    offer_core(source, wheel(core_files("one")))
    done = robot.sync()
    assert done.returncode == 1
    assert "was not installed by this script" in done.stderr
    assert list((robot.services / "_axon").iterdir()) == []
    robot.sync_well("--no-core")
