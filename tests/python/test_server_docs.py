"""The programs in docs/server.md, run as they stand but for the port."""

from __future__ import annotations

import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from service_clients.openpi.client import WebsocketClientPolicy

ROOT = Path(__file__).resolve().parents[2]


def program(language: str, port: int) -> str:
    """The page's one program in a language, on another port."""
    page = (ROOT / "docs/server.md").read_text()
    found = re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(found) == 1 and found[0].count("8000") == 1
    return str(found[0]).replace("8000", str(port))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def build(source: str, folder: Path) -> str:
    """Compiles against what `make install` puts there."""
    subprocess.run(
        ["make", "-s", "install", f"PREFIX={folder}/axon"], cwd=ROOT, check=True, capture_output=True
    )
    (folder / "hold.c").write_text(source)
    told = subprocess.run(
        ["pkg-config", "--cflags", "--libs", "axon"],
        env={"PKG_CONFIG_PATH": f"{folder}/axon/lib/pkgconfig", "PATH": "/usr/bin:/bin"},
        check=True,
        capture_output=True,
        text=True,
    )
    words = ["-Wall", "-Wextra", "-Werror", str(folder / "hold.c"), *shlex.split(told.stdout)]
    subprocess.run(["cc", *words, f"-Wl,-rpath,{folder}/axon/lib", "-o", folder / "hold"], check=True)
    return str(folder / "hold")


@pytest.mark.parametrize("language", ["python", "c"])
def test_the_program_serves_and_stops(language: str, tmp_path: Path) -> None:
    port = free_port()
    source = program(language, port)
    command = [build(source, tmp_path)] if language == "c" else [sys.executable, "-c", source]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        try:
            state = np.arange(7, dtype=np.float32)
            with WebsocketClientPolicy("127.0.0.1", port) as client:
                assert client.get_server_metadata() == {"action_horizon": 50}
                for _ in range(3):
                    actions = client.infer({"observation/state": state})["actions"]
                    np.testing.assert_array_equal(actions, np.tile(state, (50, 1)))
                with pytest.raises(RuntimeError, match="observation/state"):
                    client.infer({"prompt": "go"})
            time.sleep(0.1)
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
        finally:
            process.kill()
