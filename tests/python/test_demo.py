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

import cv2
import numpy as np
import pytest
from peers import harness

from service_clients.demo import __main__ as demo
from service_clients.demo import policy, sandbox
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


# ---- the policy's formula ------------------------------------------------------------------------


def observation() -> dict[str, Any]:
    """One that the demo's policy takes."""
    random = np.random.RandomState(3)
    pictures = {
        key: random.randint(0, 256, (224, 224, 3)).astype(np.uint8) for key in (policy.SCENE, policy.WRIST)
    }
    return {**pictures, policy.STATE: np.linspace(-1, 1, 7, dtype=np.float32), policy.PROMPT: "pick it up"}


def test_one_changed_bit_anywhere_in_the_observation_changes_the_chunk() -> None:
    answer = policy.VisualServo().infer(observation())["actions"]
    assert (answer.dtype, answer.shape) == (np.float32, (16, 7))
    for key in (policy.SCENE, policy.WRIST, policy.STATE):
        changed = observation()
        changed[key].view(np.uint8).reshape(-1)[-3] ^= 1
        assert (policy.VisualServo().infer(changed)["actions"] != answer).any(), key
    changed = {**observation(), policy.PROMPT: "pick it up!"}
    assert (policy.VisualServo().infer(changed)["actions"] != answer).any()
    assert np.array_equal(policy.VisualServo().infer(observation())["actions"], answer)


def test_the_policy_turns_towards_the_bright_side_and_obeys_the_prompt() -> None:
    bright_left = np.zeros((224, 224, 3), np.uint8)
    bright_left[:, :20] = 255
    seen = {**observation(), policy.SCENE: bright_left, policy.PROMPT: "open the gripper"}
    last = policy.VisualServo().infer(seen)["actions"][-1]
    assert 0.4 < last[0] < 0.6, "the base turns left, which is positive"
    assert abs(last[6]) < 0.05, "the gripper opens"
    seen[policy.PROMPT] = "close the gripper"
    assert policy.VisualServo().infer(seen)["actions"][-1][6] > 0.95


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        (policy.SCENE, np.zeros((4, 4), np.uint8), "expected shape"),
        (policy.WRIST, np.zeros((4, 4, 3), np.float32), "expected a uint8 array"),
        (policy.STATE, [0.0] * 7, "expected 7 floats, got list"),
        (policy.PROMPT, b"pick", "expected a str, got bytes"),
    ],
)
def test_the_policy_names_the_key_that_is_wrong(key: str, value: Any, said: str) -> None:
    with pytest.raises(ValueError, match=f"{key}: {said}"):
        policy.VisualServo().infer({**observation(), key: value})


# ---- the whole of it -----------------------------------------------------------------------------


class Run:
    """One run of the demo: what it printed, how it ended and what it left in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        ended = subprocess.run([*COMMAND, "--out", str(folder)], timeout=100, **RUN_OPTIONS)
        self.status, self.printed = ended.returncode, ended.stdout
        self.summary = json.loads((folder / "summary.json").read_text()) if self.status == 0 else {}

    def failed_checks(self, summary: dict[str, Any]) -> list[str]:
        """Which checks do not hold of a summary, beside the pictures that this run left."""
        return [text for text, holds in demo._checks(summary, str(self.folder), is_known=True) if not holds]


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


def test_the_demo_succeeds_and_prints_every_call_with_its_time(run: Run) -> None:
    assert run.status == 0, run.printed
    for call in (
        "YOLO health",
        "bytes",
        "path",
        "array 512x512x3",
        "base64",
        "connect",
        "'pick up",
        "'place the",
    ):
        assert re.search(rf"{call}.* \d+\.\d\d  ", run.printed), f"{call}\n{run.printed}"
    assert "all as it must be" in run.printed
    assert "FAILED" not in run.printed


def test_the_demo_leaves_no_process_behind(run: Run) -> None:
    processes = [int(pid) for pid in re.findall(r"  process (\d+)", run.printed)]
    assert len(processes) == 2, run.printed
    assert not any(is_running(pid) for pid in processes)


def test_the_demo_draws_what_was_found(run: Run) -> None:
    drawn = harness.decode((run.folder / "detections.png").read_bytes())
    photo = harness.decode(harness.PHOTO.read_bytes())
    assert drawn.shape == photo.shape
    box = run.summary["replies"]["bytes"]["detections"][0]["bbox"]
    x1, y1, x2, y2 = (round(box[corner]) for corner in ("x1", "y1", "x2", "y2"))
    assert (drawn[y2, x1:x2] == (0, 220, 0)).all(), "the lower edge of the box"
    assert (drawn[y1 + 5 : y2 - 5, x1 + 5 : x2 - 5] == photo[y1 + 5 : y2 - 5, x1 + 5 : x2 - 5]).all()
    assert np.not_equal(drawn, photo).any(axis=2).mean() < 0.02, "the rest is the photograph"


def _shift_a_box(summary: dict[str, Any]) -> None:
    summary["replies"]["array"]["detections"][0]["bbox"]["x1"] += 1


def _lose_a_form(summary: dict[str, Any]) -> None:
    del summary["replies"]["path"]


def _find_the_helmet(summary: dict[str, Any]) -> None:
    for reply in summary["replies"].values():
        reply["detections"][0]["bbox"] = {"x1": 280, "y1": 345, "x2": 500, "y2": 512}


def _change_an_action(summary: dict[str, Any]) -> None:
    answer = summary["answers"]["pick up the helmet"]
    answer["actions"][3][2] = float(np.nextafter(np.float32(answer["actions"][3][2]), np.float32(9)))


def _change_the_dtype(summary: dict[str, Any]) -> None:
    summary["answers"]["pick up the helmet"]["dtype"] = "float64"


def _forget_the_timing(summary: dict[str, Any]) -> None:
    del summary["answers"]["place the helmet"]["server_timing"]["prev_total_ms"]


def _change_the_metadata(summary: dict[str, Any]) -> None:
    summary["metadata"]["action_dim"] = 8


def _allow_sockets(summary: dict[str, Any]) -> None:
    summary["refused"].remove("socket")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_shift_a_box, "the same detections"),
        (_lose_a_form, "the same detections"),
        (_find_the_helmet, "where the face is"),
        (_change_an_action, "is what the policy computes"),
        (_change_the_dtype, "is what the policy computes"),
        (_forget_the_timing, "its timing"),
        (_change_the_metadata, "metadata"),
        (_allow_sockets, "could import none"),
    ],
)
def test_one_wrong_answer_fails_the_demo(run: Run, spoil: Any, said: str) -> None:
    assert run.failed_checks(run.summary) == []
    spoiled = copy.deepcopy(run.summary)
    spoil(spoiled)
    failed = run.failed_checks(spoiled)
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
    while len(backends) < 2:
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
    assert ended.stdout == "the demo needs fastapi: pip install 'axon[demo]'\n"


def test_a_photograph_that_is_not_there_is_named(tmp_path: Path) -> None:
    ended = subprocess.run([*COMMAND, "--photo", "no/such.jpg"], timeout=60, check=False, **RUN_OPTIONS)
    assert ended.returncode == 2
    assert "no/such.jpg: no such photograph" in ended.stdout


def test_a_photograph_without_a_face_fails_the_demo(tmp_path: Path) -> None:
    photo = tmp_path / "grey.jpg"
    photo.write_bytes(cv2.imencode(".jpg", np.full((256, 256, 3), 128, np.uint8))[1].tobytes())
    arguments = ["--photo", str(photo), "--out", str(tmp_path)]
    ended = subprocess.run([*COMMAND, *arguments], timeout=60, check=False, **RUN_OPTIONS)
    assert ended.returncode == 1
    assert "no face was found" in ended.stdout


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
