"""On a robot that sync_catalog.sh filled: each client's manual and each usage of the catalog run in the sandbox, and
the same calls give the same results when the native core is taken away."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import contracts
import cv2
import numpy as np
import pytest
from support import CHECKOUT, Serve, ServePolicy

from service_clients._axon.values import packb, unpackb
from service_clients.physical_ai.server import RobotBackendServer
from service_clients.simulator.backends.tabletop import TabletopBackend
from service_clients.simulator.server import SimulatorServer

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


# Runs a script as `python SCRIPT` would, without the checkout that this environment's .pth file offers.
ALONE = f"""
import os, runpy, sys
sys.path[:] = [os.getcwd()] + [p for p in sys.path if p and os.path.realpath(p) != {str(CHECKOUT)!r}]
sys.argv[:1] = []
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What robots fetch from: the catalog, the clients, and a wheel of the core built on this machine."""
    source = tmp_path_factory.mktemp("source")
    build = ["pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(source), str(CHECKOUT)]
    archive = CHECKOUT / "build/c/libaxon.a"
    environment = {**os.environ, **({"AXON_ARCHIVE": str(archive)} if archive.exists() else {}), "SAN": ""}
    environment.pop("LD_PRELOAD", None)
    subprocess.run([sys.executable, "-m", *build], check=True, env=environment, timeout=300)
    (wheel,) = source.glob("axon-*.whl")
    catalog = json.loads((CHECKOUT / "catalog.json").read_text(encoding="utf-8"))
    catalog["core"]["wheels"] = [
        {
            "url": wheel.name,
            "sha256": hashlib.sha256(wheel.read_bytes()).hexdigest(),
            "size": wheel.stat().st_size,
        }
    ]
    for name, entry in catalog["capabilities"].items():
        entry["client_sdk"] = f"{name}.py"
        shutil.copy(
            CHECKOUT / "service_clients" / name.replace("-", "_") / "client.py", source / f"{name}.py"
        )
    (source / "catalog.json").write_text(json.dumps(catalog))
    return source


@pytest.fixture(scope="module")
def robot(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A robot, as sync_catalog.sh leaves it, and what its cameras see."""
    robot = tmp_path_factory.mktemp("robot")
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "HOME": str(robot),
        "SERVICES_DIR": str(robot / "service_clients"),
        "WISHLIST_DIR": str(source),
        "SYNC_CATALOG_LOG": str(robot / "sync.log"),
    }
    command = ["bash", str(CHECKOUT / "sync_catalog.sh")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    for name in ("left", "right"):
        cv2.imwrite(str(robot / f"{name}.png"), PICTURE)
    cv2.imwrite(str(robot / "depth.png"), DEPTH)
    return robot


def run(
    robot: Path, script: str, folder: str, host: str, sandboxed: bool = True
) -> subprocess.CompletedProcess[str]:
    """Runs a script with the robot's folder, and nothing else, for `service_clients`."""
    (robot / "script.py").write_text(SENSORS + script)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "AXON", "LD_PRELOAD"))}
    environment[f"AXON_HOST_{folder.upper()}"] = host
    command = [sys.executable, "-c", ALONE]
    command += [str(CHECKOUT / "service_clients/demo/sandbox.py")] if sandboxed else []
    return subprocess.run(
        [*command, "script.py"], cwd=robot, env=environment, capture_output=True, text=True, timeout=60
    )


def manual_of(folder: str) -> str:
    """The script in a client's docstring."""
    source = (CHECKOUT / "service_clients" / folder / "client.py").read_text(encoding="utf-8")
    manual = ast.get_docstring(ast.parse(source)) or ""
    found = re.search(r"Usage(?: \(inside robot code execution\))?:\n(.*?)\n\S", manual, flags=re.DOTALL)
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


def policy(request: bytes) -> bytes:
    """The answers of a policy server, openpi's or webpolicy's."""
    message = unpackb(request)
    if message.get("__webpolicy_op__") == "reset":
        return packb({"__webpolicy_reset_ack__": True})
    actions = {"actions": np.ones((16, 7), np.float32)}
    return packb({"action": actions} if "__webpolicy_op__" in message else actions)


@pytest.mark.parametrize("folder", ["openpi", "webpolicy"])
def test_manual_and_usage_of_a_policy_client_run_in_the_sandbox(
    folder: str, robot: Path, serve_policy: ServePolicy
) -> None:
    usage = CATALOG[folder]["usage"]
    observed = "import numpy as np\nimage, state = np.zeros((8, 8, 3), np.uint8), np.zeros(7)\n"
    port = serve_policy(policy).rpartition(":")[2]
    for script in (
        manual_of(folder),
        "\n".join([observed, *(usage[part] for part in ("import", "init", "example"))]),
    ):
        here, replaced = re.subn(r"port=\d+", f"port={port}", script)
        assert replaced == 1
        done = run(robot, here + "\nassert actions.shape == (16, 7)\nprint('done')\n", folder, "")
        assert done.returncode == 0 and done.stdout.endswith("done\n"), done.stderr


def test_the_usage_of_the_robot_backend_runs_in_the_sandbox(robot: Path) -> None:
    usage = CATALOG["physical-ai"]["usage"]
    script = "\n".join([usage[part] for part in ("import", "init", "example")]) + "\nprint(image.shape)\n"
    with RobotBackendServer(port=0) as backend:
        here, replaced = re.subn(r"port=\d+", f"port={backend.port}", script)
        assert replaced == 1
        ended = threading.Event()

        def publish() -> None:
            while not ended.wait(0.05):
                backend.publish_camera("arm", "wrist", PICTURE)

        publisher = threading.Thread(target=publish)
        publisher.start()
        done = run(robot, here, "physical_ai", "")
        ended.set()
        publisher.join()
    assert (done.returncode, done.stdout) == (0, "(24, 32, 3)\n"), done.stderr


def test_manual_and_usage_of_the_simulator_run_in_the_sandbox(robot: Path) -> None:
    usage = CATALOG["simulator"]["usage"]
    simulators = {"tabletop": lambda: TabletopBackend(image_size=(24, 32))}
    with SimulatorServer(simulators, port=0) as server:
        for script in (
            manual_of("simulator"),
            "\n".join(usage[part] for part in ("import", "init", "example")),
        ):
            here, replaced = re.subn(r"tcp://127.0.0.1:5555", server.address, script)
            assert replaced == 1
            here += "\nprint(observation['agentview_image'].shape)\n"
            done = run(robot, here, "simulator", "")
            assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["(24, 32, 3)"]), done.stderr


def test_a_script_that_reaches_for_a_socket_is_stopped(robot: Path) -> None:
    done = run(robot, "import socket\n", "yolo_detection", "http://127.0.0.1:1")
    assert done.returncode != 0 and "socket" in done.stderr


# ---- without the native core -----------------------------------------------------------------

CALLS = {
    "yolo_detection": [
        "client.detect(frame, conf=0)",
        "client.detect_full(rgb, 'yolov8n-seg', return_masks=True)",
    ],
    "grounded_sam2": [
        "client.detect(rgb, ['cup'])",
        "client.detect_full('left.png', ('cup', 'plate'), 0.5)",
        "client.visualize(frame, ['cup'], fmt='png', as_numpy=True)",
    ],
    "graspgen": [
        "client.generate(depth, num_grasps=2)",
        "client.generate_full(depth_png, mask=rgb[:, :, 0], camera_matrix=np.eye(3), z_range=(0, 2))",
        "client.get_transforms_as_numpy(client.generate(depth / np.float32(1000)))",
    ],
    "foundation_stereo": [
        "client.depth(rgb, rgb, 382.5, 0.055, return_vis=True)",
        "client.depth_from_realsense(frame, frame, return_disparity=False)",
    ],
    "nav_mapping": [
        "client.update(depth, (1, 2, 0.5), dict(fx=1, fy=2, cx=3, cy=4))",
        "client.get_map()",
        "client.get_map('json')",
        "client.plan((0, 0), np.array([2, 3.5]))",
        "client.get_frontiers()",
        "client.reset()",
    ],
    "realsense_slam": [
        "client.update(frame, depth, (1, 2, 3, 4))",
        "client.get_pose()",
        "client.save_map('x')",
    ],
    "lightweight_grasp_net": ["client.detect(rgb, depth)"],
    "local_obstacle_avoidance": [
        "client.update_depth(depth, 1, 2, 3, 4)",
        "client.safe_velocity(0.3, goal_x=0.0)",
        "client.costmap()",
        "client.estop_status()",
    ],
}

SCRIPT = """
import json, cv2, numpy as np
frame = open("left.png", "rb").read()
depth_png = open("depth.png", "rb").read()
rgb = cv2.imread("left.png")[:, ::-1]
depth = cv2.imread("depth.png", cv2.IMREAD_UNCHANGED)

def shown(value):
    if isinstance(value, np.ndarray):
        return [str(value.dtype), value.tolist()]
    return value.hex() if isinstance(value, bytes) else str(value)

with {name}() as client:
    results = [client.health(), client._get("/health")]
    results += [eval(call) for call in {calls!r}]
    try:
        client._post("/nowhere", {{}})
    except RuntimeError as error:
        results.append(str(error))
print(json.dumps(results, default=shown))
"""


def results(robot: Path, folder: str, host: str, sandboxed: bool) -> subprocess.CompletedProcess[str]:
    usage = CATALOG[folder.replace("_", "-")]["usage"]
    script = usage["import"] + SCRIPT.format(name=usage["import"].split()[-1], calls=CALLS[folder])
    return run(robot, script, folder, host, sandboxed)


@pytest.fixture(scope="module")
def robot_without_core(robot: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    bare = tmp_path_factory.mktemp("bare") / "robot"
    shutil.copytree(robot, bare)
    (native,) = (bare / "service_clients/_axon").glob("_native*.so")
    native.unlink()
    return bare


@pytest.mark.parametrize("folder", contracts.APPS)
def test_without_the_native_core_the_results_are_the_same(
    folder: str, robot: Path, robot_without_core: Path, serve: Serve
) -> None:
    host = serve(contracts.APPS[folder]())
    wanted = results(robot, folder, host, sandboxed=True)
    got = results(robot_without_core, folder, host, sandboxed=False)
    assert wanted.returncode == 0 and got.returncode == 0, wanted.stderr + got.stderr
    assert json.loads(got.stdout) == json.loads(wanted.stdout)
    assert "native core cannot be loaded" in got.stderr and "RuntimeWarning" in got.stderr
    assert not wanted.stderr


@pytest.mark.parametrize(
    ("folder", "what"), [("openpi", "policies"), ("webpolicy", "policies"), ("physical_ai", "streams")]
)
def test_without_the_native_core_a_client_says_what_is_missing(
    folder: str, what: str, robot_without_core: Path
) -> None:
    usage = CATALOG[folder.replace("_", "-")]["usage"]
    script = f"""
{usage["import"]}
try:
    {usage["init"]}
except RuntimeError as error:
    print(error)
"""
    done = run(robot_without_core, script, folder, "", sandboxed=False)
    assert done.stdout.startswith(f"{what} need axon's native core"), done.stderr


def test_without_the_native_core_errors_are_the_same(
    robot: Path, robot_without_core: Path, serve: Serve
) -> None:
    script = """
import json
from service_clients.yolo_detection.client import YOLOClient
def said(call):
    try:
        call()
    except RuntimeError as error:
        kinds = [kind.__name__ for kind in type(error).__mro__]
        status = getattr(error, "http_status", 0)
        print(json.dumps([kinds, status, str(error) if status else ""]))
client = YOLOClient()
said(lambda: client._post("/detect", {}))
said(lambda: client.detect(b"GIF89a" + bytes(40), model=None))
said(lambda: client.detect(b"GIF89a" + bytes(40)))
said(lambda: client.detect("no such file"))
said(lambda: client.detect(3.5))
said(lambda: client.detect(b"", conf=-1))
said(lambda: YOLOClient("http://127.0.0.1:1").health())
"""
    host = serve(contracts.yolo_detection())
    wanted = run(robot, script, "yolo_detection", host, sandboxed=False)
    got = run(robot_without_core, script, "yolo_detection", host, sandboxed=False)
    assert got.stdout == wanted.stdout and len(got.stdout.splitlines()) == 7, got.stderr
