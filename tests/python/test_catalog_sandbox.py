"""What an agent reads is what runs: the script in each client's manual and each usage of the catalog, in the sandbox."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import contracts
import cv2
import numpy as np
import pytest
from support import CHECKOUT, Serve

CATALOG = json.loads((CHECKOUT / "catalog.json").read_text(encoding="utf-8"))["capabilities"]
PICTURE = np.random.default_rng(5).integers(0, 256, (24, 32, 3), dtype=np.uint8)
DEPTH = np.full((24, 32), 700, np.uint16)

# The robot's SDK, as far as the scripts use it.
SENSORS = """
import sys, types
sensors = types.ModuleType("robot_sdk.sensors")
sensors.get_camera_frame = lambda: open("left.png", "rb").read()
sensors.get_depth_frame = lambda: open("depth.png", "rb").read()
sdk = types.ModuleType("robot_sdk")
sdk.sensors = sensors
sys.modules.update({"robot_sdk": sdk, "robot_sdk.sensors": sensors})
"""


@pytest.fixture
def robot(tmp_path: Path) -> Path:
    """A robot's folder: the clients as a sync puts them there, and what its cameras see."""
    for name in CATALOG:
        folder = name.replace("-", "_")
        target = tmp_path / "service_clients" / folder
        target.mkdir(parents=True)
        for file in ("client.py", "service.json"):
            shutil.copy(CHECKOUT / "service_clients" / folder / file, target)
    shutil.copytree(
        CHECKOUT / "service_clients/_axon",
        tmp_path / "service_clients/_axon",
        ignore=shutil.ignore_patterns("__pycache__", "build.py"),
    )
    shutil.copytree(CHECKOUT / "service_clients/demo", tmp_path / "service_clients/demo")
    for name in ("left", "right"):
        cv2.imwrite(str(tmp_path / f"{name}.png"), PICTURE)
    cv2.imwrite(str(tmp_path / "depth.png"), DEPTH)
    return tmp_path


def run(robot: Path, script: str, folder: str, host: str) -> subprocess.CompletedProcess[str]:
    """Runs a script in the sandbox, from the robot's folder alone."""
    (robot / "script.py").write_text(SENSORS + script)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "AXON"))}
    native = os.environ.get("PYTHONPATH")  # of a sanitised build
    environment["PYTHONPATH"] = os.pathsep.join([str(robot), *([native] if native else [])])
    environment[f"AXON_HOST_{folder.upper()}"] = host
    command = [sys.executable, "-m", "service_clients.demo.sandbox", "script.py"]
    return subprocess.run(command, cwd=robot, env=environment, capture_output=True, text=True, timeout=60)


def manual_of(folder: str) -> str:
    """The script in a client's docstring."""
    source = (CHECKOUT / "service_clients" / folder / "client.py").read_text(encoding="utf-8")
    manual = ast.get_docstring(ast.parse(source)) or ""
    found = re.search(r"Usage \(inside robot code execution\):\n(.*?)\n\S", manual, flags=re.DOTALL)
    assert found, manual
    return textwrap.dedent(found.group(1))


@pytest.mark.parametrize("folder", contracts.APPS)
def test_the_manual_of_a_client_runs_in_the_sandbox(folder: str, robot: Path, serve: Serve) -> None:
    script = manual_of(folder)
    done = run(robot, script + "\nprint('done')\n", folder, serve(contracts.APPS[folder]()))
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


@pytest.mark.parametrize("folder", contracts.APPS)
def test_the_usage_of_an_entry_runs_in_the_sandbox(folder: str, robot: Path, serve: Serve) -> None:
    usage = CATALOG[folder.replace("_", "-")]["usage"]
    pictures = """
frame_bytes = rgb_bytes = left_bytes = right_bytes = sensors.get_camera_frame()
depth_bytes = sensors.get_depth_frame()
"""
    script = "\n".join([pictures, usage["import"], usage["init"], usage["example"], "print('done')\n"])
    done = run(robot, script, folder, serve(contracts.APPS[folder]()))
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def test_a_script_that_reaches_for_a_socket_is_stopped(robot: Path) -> None:
    done = run(robot, "import socket\n", "yolo_detection", "http://127.0.0.1:1")
    assert done.returncode != 0 and "socket" in done.stderr
