"""The main job: the sandbox refuses what it says, the demo checks what it says, nothing is left behind."""

from __future__ import annotations

import copy
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Iterator

import numpy as np
import pytest
from peers import harness

from service_clients.demo import __main__ as demo
from service_clients.demo import checks, sandbox
from service_clients.demo.backends import Backend

REFUSED_AT_LEAST = ["requests", "httpx", "http.client", "http", "urllib", "urllib.request", "urllib.parse"]
REFUSED_AT_LEAST += ["urllib.error", "aiohttp", "grpc", "socket", "ssl", "ctypes", "subprocess"]
REFUSED_AT_LEAST += ["_socket", "_ssl", "_ctypes", "_posixsubprocess", "urllib3"]


def run_sandboxed(
    script: str, folder: Path, *arguments: str, before: str = ""
) -> subprocess.CompletedProcess[str]:
    """Runs ``script`` in the sandbox, ``folder`` being on the import path; ``before`` runs first."""
    file = folder / "script.py"
    file.write_text(script)
    start = (
        f"import sys; {before}\nfrom service_clients.demo.sandbox import main\nsys.exit(main(sys.argv[1:]))"
    )
    return subprocess.run(
        [sys.executable, "-c", start, *arguments, str(file)],
        env={**os.environ, "PYTHONPATH": harness.import_path(folder)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


# ---- the sandbox ---------------------------------------------------------------------------------

TRY_EVERYTHING = """
import builtins, importlib, json, sys
import importlib.util
ways = {
    "import": lambda name: exec(f"import {name}"),
    "from import": lambda name: exec(f"from {name} import anything"),
    "__import__": __import__,
    "builtins.__import__": builtins.__import__,
    "importlib.__import__": importlib.__import__,
    "importlib.import_module": importlib.import_module,
    "find_spec": importlib.util.find_spec,
}
outcome = {}
for name in NAMES:
    for way, load in ways.items():
        try:
            load(name)
            outcome[f"{name} by {way}"] = "LOADED"
        except ImportError as error:
            outcome[f"{name} by {way}"] = str(error)
print(json.dumps(outcome))
"""


def test_every_refused_module_is_refused_in_every_way_of_importing(tmp_path: Path) -> None:
    script = TRY_EVERYTHING.replace("NAMES", repr(REFUSED_AT_LEAST))
    ended = run_sandboxed(
        script, tmp_path, before="import http.client, socket, ssl, ctypes, subprocess, urllib.request"
    )
    assert ended.returncode == 0, ended.stderr
    outcome = json.loads(ended.stdout)
    assert len(outcome) == 7 * len(REFUSED_AT_LEAST)
    for tried, message in outcome.items():
        assert "is refused in this sandbox" in message, tried
        assert repr(tried.split()[0].partition(".")[0])[:-1] in message, "the message names the module"


def test_the_list_of_refused_modules_has_all_that_the_demo_promises() -> None:
    assert [name for name in REFUSED_AT_LEAST if not sandbox.is_refused(name)] == []
    assert [
        name for name in ("json", "numpy", "cv2", "sockets", "service_clients") if sandbox.is_refused(name)
    ] == []


def test_modules_that_stand_on_refused_ones_cannot_be_imported_either(tmp_path: Path) -> None:
    ended = run_sandboxed("import asyncio", tmp_path)
    assert ended.returncode == 1
    assert "'socket' by asyncio" in ended.stderr


def test_numpy_and_opencv_work_inside(tmp_path: Path) -> None:
    script = "import numpy, cv2; print(cv2.imencode('.png', numpy.zeros((2, 2, 3), 'u1'))[0])"
    ended = run_sandboxed(script, tmp_path)
    assert (ended.returncode, ended.stdout) == (0, "True\n"), ended.stderr


def test_what_numpy_1_stands_on_works_inside_and_is_no_way_around(tmp_path: Path) -> None:
    ended = run_sandboxed(
        "import pathlib, platform; print(bool(platform.uname()), pathlib.Path('a'))", tmp_path
    )
    assert (ended.returncode, ended.stdout) == (0, "True a\n"), ended.stderr
    ended = run_sandboxed("import pathlib, urllib.parse", tmp_path)
    assert (ended.returncode, "'urllib.parse' by __main__ is refused" in ended.stderr) == (1, True), (
        ended.stderr
    )


@pytest.mark.parametrize(
    "deed",
    [
        "os.system('true')",
        "os.fork()",
        "os.popen('true')",
        "os.execv('/bin/true', ['true'])",
        "os.spawnlp(0, 'true', 'true')",
    ],
)
def test_starting_a_process_is_refused(deed: str, tmp_path: Path) -> None:
    ended = run_sandboxed(f"import os\n{deed}", tmp_path)
    assert ended.returncode == 1
    assert "refused in this sandbox" in ended.stderr


def test_a_client_that_asks_for_a_refused_module_is_found_out_even_if_it_hides_it(tmp_path: Path) -> None:
    client = tmp_path / "service_clients" / "sneaky" / "client.py"
    client.parent.mkdir(parents=True)
    client.write_text("try:\n    import urllib.request\nexcept ImportError:\n    pass\n")
    ended = run_sandboxed("import service_clients.sneaky.client; print('done')", tmp_path)
    assert ended.stdout == "done\n"
    assert ended.returncode == sandbox.VIOLATION
    assert "service_clients.sneaky.client asked for urllib.request" in ended.stderr


def test_a_refused_module_that_got_in_past_the_fence_is_found_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "hidden.py").write_text("")
    script = f"""
import sys
from importlib.machinery import SourceFileLoader
module = type(sys)("requests")
SourceFileLoader("requests", {str(tmp_path / "hidden.py")!r}).exec_module(module)
sys.modules["requests"] = module
"""
    ended = run_sandboxed(script, tmp_path)
    assert ended.returncode == sandbox.VIOLATION
    assert "requests got loaded" in ended.stderr


def test_the_script_gets_the_camera_its_arguments_and_its_own_status(tmp_path: Path) -> None:
    photo = tmp_path / "frame.jpg"
    photo.write_bytes(b"\xff\xd8 and so on")
    script = """
import sys
from robot_sdk import sensors
import robot_sdk.sensors
assert __name__ == "__main__"
print(sensors.get_camera_frame(), sys.argv[1:])
sys.exit(7)
"""
    ended = run_sandboxed(script, tmp_path, "--frame", str(photo))
    assert ended.returncode == 7, ended.stderr
    assert ended.stdout == "b'\\xff\\xd8 and so on' []\n"


@pytest.mark.parametrize(
    ("script", "status", "said"),
    [
        ("1 / 0", 1, "ZeroDivisionError"),
        ("raise SystemExit('no cup')", 1, "no cup"),
        ("raise SystemExit", 0, ""),
    ],
)
def test_how_the_script_ends_is_how_the_sandbox_ends(
    script: str, status: int, said: str, tmp_path: Path
) -> None:
    ended = run_sandboxed(script, tmp_path)
    assert ended.returncode == status
    assert said in ended.stderr


# ---- the whole of it -----------------------------------------------------------------------------


class Run:
    """One run of the demo: what it printed, how it ended and what it left in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        ended = subprocess.run([*COMMAND, "--out", str(folder)], timeout=100, check=False, **RUN_OPTIONS)
        self.status, self.printed = ended.returncode, ended.stdout
        self.summary = json.loads((folder / "summary.json").read_text()) if self.status == 0 else {}


COMMAND = [sys.executable, "-m", "service_clients.demo"]
RUN_OPTIONS: dict[str, Any] = {
    "env": {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": harness.import_path()},
    "stdout": subprocess.PIPE,
    "stderr": subprocess.STDOUT,
    "text": True,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="module")
def rehearsal() -> checks.Rehearsal:
    return checks.rehearse(demo.TASK, 0)


def test_the_demo_succeeds_and_prints_every_service_with_its_times(run: Run) -> None:
    assert run.status == 0, run.printed
    for service in (
        "detection +HTTP",
        "policy +WebSocket",
        "simulator +ZeroMQ",
        "camera stream +WebSocket",
        "IMU stream +WebSocket",
    ):
        assert re.search(rf"{service} +\d+ +\d+\.\d\d +\d+\.\d\d", run.printed), f"{service}\n{run.printed}"
    assert "all as it must be" in run.printed
    assert "FAILED" not in run.printed


def test_the_demo_leaves_no_process_behind(run: Run) -> None:
    processes = [int(pid) for pid in re.findall(r"  process (\d+)", run.printed)]
    assert len(processes) == 3, run.printed
    assert not any(is_running(pid) for pid in processes)


def test_the_film_strip_shows_what_the_skill_looked_at_with_the_block_in_a_box(run: Run) -> None:
    film = harness.decode((run.folder / "film.png").read_bytes())
    looks = run.summary["looks"]
    assert film.shape[1] > 256 * ((len(looks) + 1) // 2)
    assert film.shape[0] > 256 * 2
    frames = np.load(run.folder / "looks.npy")
    assert frames.shape == (len(looks), 256, 256, 3)
    green = (film == demo.GREEN[::-1]).all(axis=2).sum()
    sides = [
        2 * (look["box"]["x2"] - look["box"]["x1"] + look["box"]["y2"] - look["box"]["y1"]) for look in looks
    ]
    assert sum(sides) < green < 3.5 * sum(sides), "a line of two pixels around every box"
    for name in ("film.png", "times.png"):
        assert harness.decode((run.folder / name).read_bytes()).std() > 10, name


def test_the_rehearsal_takes_the_same_way_whenever_it_is_made(rehearsal: checks.Rehearsal) -> None:
    assert rehearsal.success
    assert checks.rehearse(demo.TASK, 0) == rehearsal
    assert checks.rehearse(demo.TASK, 1) != rehearsal


def _not_done(summary: dict[str, Any]) -> None:
    summary["info"]["success"] = False


def _plan_failed(summary: dict[str, Any]) -> None:
    summary["plan"]["status"] = "failed"


def _find_another_block(summary: dict[str, Any]) -> None:
    looks = summary["looks"]
    blue = next(thing for thing in looks[0]["found"] if thing["class_name"] == "blue block")
    looks[0]["box"] = blue["bbox"]


def _end_beside_the_goal(summary: dict[str, Any]) -> None:
    summary["looks"][-1]["box"] = summary["looks"][0]["box"]


def _one_step_more(summary: dict[str, Any]) -> None:
    summary["steps"] += 1
    for stream in summary["streams"].values():
        stream.append(1.0)


def _a_hair_off(summary: dict[str, Any]) -> None:
    summary["hand"][1] = float(np.nextafter(summary["hand"][1], 9.0))


def _lose_a_frame(summary: dict[str, Any]) -> None:
    summary["streams"]["camera_feed"].pop()


def _drop_a_sample(summary: dict[str, Any]) -> None:
    summary["dropped"] = 1


def _change_the_metadata(summary: dict[str, Any]) -> None:
    summary["metadata"]["action_dim"] = 8


def _allow_sockets(summary: dict[str, Any]) -> None:
    summary["refused"].remove("socket")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_not_done, "the task is done"),
        (_plan_failed, "so does the robot's stream"),
        (_find_another_block, "found where it is"),
        (_end_beside_the_goal, "on the goal"),
        (_one_step_more, "bit for bit"),
        (_a_hair_off, "bit for bit"),
        (_lose_a_frame, "sensor stream"),
        (_drop_a_sample, "sensor stream"),
        (_change_the_metadata, "metadata"),
        (_allow_sockets, "could import none"),
    ],
)
def test_one_wrong_answer_fails_the_demo(
    run: Run, rehearsal: checks.Rehearsal, spoil: Any, said: str
) -> None:
    assert [text for text, holds in checks.check(run.summary, rehearsal) if not holds] == []
    spoiled = copy.deepcopy(run.summary)
    spoil(spoiled)
    failed = [text for text, holds in checks.check(spoiled, rehearsal) if not holds]
    assert len(failed) == 1, failed
    assert said in failed[0]


# ---- when things go wrong ------------------------------------------------------------------------


def is_running(pid: int) -> bool:
    """Whether a process is there that is not just waiting to be buried."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until_gone(processes: list[int]) -> None:
    """Fails when one of them is still there after ten seconds."""
    deadline = time.monotonic() + 10.0
    while any(is_running(pid) for pid in processes):
        assert time.monotonic() < deadline, f"still running: {[pid for pid in processes if is_running(pid)]}"
        time.sleep(0.02)


@pytest.fixture
def started_demo(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A demo that is in the middle of its work, and the process ids of its backends."""
    process: subprocess.Popen[str] = subprocess.Popen([*COMMAND, "--out", str(tmp_path)], **RUN_OPTIONS)
    assert process.stdout is not None
    backends: list[int] = []
    while len(backends) < 3:
        line = process.stdout.readline()
        assert line, "the demo ended before its backends were there"
        backends += [int(pid) for pid in re.findall(r"  process (\d+)", line)]
    yield process, backends
    process.kill()
    process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_ends_its_backends(
    started_demo: tuple[subprocess.Popen[str], list[int]], number: signal.Signals
) -> None:
    process, backends = started_demo
    process.send_signal(number)
    process.communicate(timeout=20)
    assert process.returncode == 128 + number
    wait_until_gone(backends)


def test_backends_go_when_the_demo_is_killed(started_demo: tuple[subprocess.Popen[str], list[int]]) -> None:
    process, backends = started_demo
    process.kill()
    process.communicate(timeout=20)
    wait_until_gone(backends)


def test_a_missing_package_is_named_with_what_to_install() -> None:
    hide = "import runpy, sys; sys.modules['fastapi'] = None; sys.argv[0] = 'demo'\n"
    command = [sys.executable, "-c", hide + "runpy.run_module('service_clients.demo', run_name='__main__')"]
    ended = subprocess.run(command, timeout=60, check=False, **RUN_OPTIONS)
    assert ended.returncode == 2
    assert ended.stdout == "the demo needs fastapi: pip install '.[demo]' in axon's sources\n"


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_backend_that_dies_fails_the_demo(
    started_demo: tuple[subprocess.Popen[str], list[int]], which: int
) -> None:
    process, backends = started_demo
    os.kill(backends[which], signal.SIGKILL)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 1, printed
    assert "the skill script ended with status 1" in printed
    wait_until_gone(backends)


def test_a_backend_that_ends_at_once_is_an_error_that_names_it() -> None:
    with Backend([sys.executable, "-c", "raise SystemExit(5)"]) as backend, pytest.raises(
        RuntimeError
    ) as caught:
        backend.url  # noqa: B018
    assert re.search("raise SystemExit.*did not start: it ended with status 5", str(caught.value))


def test_a_backend_that_says_nothing_is_an_error_and_is_ended() -> None:
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    with Backend(command, timeout=0.3) as backend, pytest.raises(
        RuntimeError, match="nothing announced in time"
    ):
        backend.url  # noqa: B018
    assert not is_running(backend.pid)
