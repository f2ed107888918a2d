"""The clients inside a robot's sandbox: what importing and calling them brings into the process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from support import CHECKOUT, Serve, ServePolicy

from service_clients._axon.values import packb

REFUSED = [
    "aiohttp",
    "asyncio",
    "ctypes",
    "grpc",
    "http",
    "httpx",
    "multiprocessing",
    "requests",
    "socket",
    "ssl",
    "subprocess",
    "urllib",
    "_ctypes",
    "_socket",
    "_ssl",
]

FENCE = """
import sys
sys.path[:0], refused = {paths!r}, {refused!r}
{before}
class Fence:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in refused:
            raise ImportError(name + " is refused in the sandbox")
sys.meta_path.insert(0, Fence())
already = set(sys.modules)
"""
LOOK = """
came = sorted(name for name in set(sys.modules) - already if name.split(".")[0] in refused)
assert not came, came
"""


def folder_of(module: str) -> str:
    """What must be on the path for a module to be found."""
    spec = find_spec(module)
    assert spec is not None and spec.origin is not None
    path = Path(spec.origin)
    if path.name == "__init__.py":
        path = path.parent
    return str(path.parents[module.count(".")])


def in_sandbox(code: str, *arguments: str, before: str = "") -> str:
    """Runs code in an interpreter that refuses the modules, without site and environment."""
    # where the binding, the clients, cffi's backend and numpy are; what else is there comes along
    modules = ["service_clients._axon", "service_clients.yolo_detection.client", "_cffi_backend", "numpy"]
    paths = [folder_of(module) for module in modules]
    fence = FENCE.format(paths=paths, refused=REFUSED, before=before)
    done = subprocess.run(
        [sys.executable, "-S", "-E", "-c", fence + code + LOOK, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={name: text for name, text in os.environ.items() if not name.startswith("PYTHON")},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


async def app(scope: Any, receive: Any, send: Any) -> None:
    """The detection service, as far as a client can tell."""
    if scope["type"] != "http":
        return
    body = json.dumps({"status": "ok", "detections": []}).encode()
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]}
    )
    await send({"type": "http.response.body", "body": body})


@pytest.fixture(scope="module")
def host(serve: Serve) -> str:
    return serve(app)


@pytest.fixture(scope="module")
def url(serve_policy: ServePolicy) -> str:
    return serve_policy(lambda request: packb({"actions": np.ones((2, 3), np.float32)}))


YOLO = """
import threading
from service_clients.yolo_detection.client import YOLOClient
assert threading.active_count() == 1 and len(__import__("os").listdir("/proc/self/task")) == 1
with YOLOClient(sys.argv[1]) as client:
    assert client.health()["status"] == "ok"
    assert client.detect(open(sys.argv[2], "rb").read()) == []
    assert client.detect(sys.argv[2]) == []
    assert client.detect_full(client._encode_image(sys.argv[2]))["detections"] == []
    client._post("/detect", {"a": b"bytes"})
try:
    YOLOClient("http://127.0.0.1:1").health()
except ConnectionError:
    pass
"""
OPENPI = """
from service_clients.openpi.client import WebsocketClientPolicy
with WebsocketClientPolicy(sys.argv[1]) as policy:
    policy.get_server_metadata()
    policy.reset()
"""


def test_the_http_client_works_without_any_of_them_and_without_numpy(host: str, tmp_path: Path) -> None:
    picture = tmp_path / "photo.jpg"
    picture.write_bytes(cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes())
    in_sandbox(YOLO + 'assert "numpy" not in sys.modules\n', host, str(picture))


def test_the_policy_client_works_without_any_of_them(url: str) -> None:
    in_sandbox(OPENPI + 'assert "numpy" not in sys.modules\n', url)


def test_arrays_go_and_come_inside_the_sandbox(host: str, url: str) -> None:
    in_sandbox(
        """
import numpy as np
from service_clients.openpi.client import WebsocketClientPolicy
from service_clients.yolo_detection.client import YOLOClient
with WebsocketClientPolicy(sys.argv[2]) as policy:
    actions = policy.infer({"image": np.zeros((224, 224, 3), np.uint8), "strided": np.arange(9)[::2]})["actions"]
    assert actions.shape == (2, 3) and actions.flags.writeable
with YOLOClient(sys.argv[1]) as client:
    assert client.detect(np.zeros((48, 64, 3), np.uint8)[:, ::-1]) == []
""",
        host,
        url,
        before="import numpy",  # on some Pythons numpy itself asks for what is refused here
    )


def test_a_client_file_imports_nothing_but_the_binding() -> None:
    allowed = {"__future__", "logging", "numpy", "service_clients", "time", "typing"}
    import ast

    for path in sorted((CHECKOUT / "service_clients").glob("*/client.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            assert {name.split(".")[0] for name in names} <= allowed, path


def test_folders_of_services_carry_no_init_so_that_synced_and_installed_ones_go_together() -> None:
    folders = [path.parent for path in (CHECKOUT / "service_clients").glob("*/client.py")]
    assert len(folders) >= 2
    for folder in [CHECKOUT / "service_clients", *folders]:
        assert not (folder / "__init__.py").exists(), folder
