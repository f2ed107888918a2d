"""The skill script of the demo: what an agent would submit to a robot, run by the sandbox.

Arguments: the policy server's URL, the path of the photograph that the camera "took", and a folder for what
the demo checks afterwards. The detection service is found as on a robot, through its environment variable.
"""

from __future__ import annotations

import base64
import functools
import importlib
import json
import os
import sys
import time
from typing import Any, Callable

import cv2
import numpy as np
from robot_sdk import sensors  # type: ignore[import-not-found]

from service_clients.openpi.client import WebsocketClientPolicy
from service_clients.yolo_detection.client import YOLOClient

BLOCKED = ["requests", "httpx", "http.client", "urllib.request", "aiohttp", "grpc", "socket", "ssl", "ctypes"]
BLOCKED += ["subprocess"]
SIZE = 224

calls: list[dict[str, Any]] = []


def call(what: str, function: Callable[[], Any], describe: Callable[[Any], tuple[float | None, str]]) -> Any:
    """Calls, prints one row of the table, and returns what came back."""
    started = time.perf_counter()
    reply = function()
    took = (time.perf_counter() - started) * 1000.0
    server, text = describe(reply)
    print(
        f"  {what:<34} {took:9.2f}  {'' if server is None else format(server, '9.2f'):>9}  {text}", flush=True
    )
    calls.append({"call": what, "ms": took, "server_ms": server})
    return reply


def show_faces(reply: dict[str, Any]) -> tuple[float, str]:
    """The server's own time, and what was found where."""
    found = [
        "{} {:.2f} at ({x1:.0f}, {y1:.0f})-({x2:.0f}, {y2:.0f})".format(
            item["class_name"], item["confidence"], **item["bbox"]
        )
        for item in reply["detections"]
    ]
    return reply["inference_ms"], "; ".join(found) or "nothing found"


def show_actions(reply: dict[str, Any]) -> tuple[float, str]:
    """The server's own time, and the chunk in short."""
    actions = reply["actions"]
    last = " ".join(f"{number:+.2f}" for number in actions[-1])
    return reply["server_timing"]["infer_ms"], f"actions {actions.dtype} {actions.shape}, last [{last}]"


def decode(frame: bytes) -> Any:
    """JPEG bytes as OpenCV gives them: uint8 (height, width, 3), BGR."""
    return cv2.imdecode(np.frombuffer(frame, np.uint8), cv2.IMREAD_COLOR)


def look_around(frame: bytes, photo: str) -> dict[str, Any]:
    """Sends the photograph to the detection service in each of the four forms."""
    detector = YOLOClient()
    pixels = decode(frame)
    forms = {
        f"bytes ({len(frame) // 1024} KiB JPEG)": frame,
        "path": photo,
        "array {}x{}x{}".format(*pixels.shape): pixels,
        "base64 text": base64.b64encode(frame).decode("ascii"),
    }
    call("YOLO health", detector.health, lambda reply: (None, f"{reply['status']}, {reply['device']}"))
    replies = {}
    for form, image in forms.items():
        detect = functools.partial(detector.detect_full, image, conf=0.4)
        replies[form.split()[0]] = call(f"YOLO detect, {form}", detect, show_faces)
    return replies


def observe(frame: bytes, box: dict[str, float]) -> dict[str, Any]:
    """The whole photograph for the scene camera and the face for the wrist camera, RGB at 224x224."""
    rgb = np.ascontiguousarray(decode(frame)[:, :, ::-1])
    x1, y1, x2, y2 = (int(box[corner]) for corner in ("x1", "y1", "x2", "y2"))
    return {
        "observation/image": cv2.resize(rgb, (SIZE, SIZE), interpolation=cv2.INTER_AREA),
        "observation/wrist_image": cv2.resize(rgb[y1:y2, x1:x2], (SIZE, SIZE)),
        "observation/state": np.array([0.1, -0.4, 0.3, 1.2, 0.0, -0.7, 0.5], np.float32),
        "prompt": "",
    }


def ask_policy(url: str, observation: dict[str, Any]) -> dict[str, Any]:
    """Sends the observation twice over one connection, with two prompts."""
    answers = {}
    policy = call("policy connect", lambda: WebsocketClientPolicy(host=url), lambda _: (None, url))
    with policy:
        metadata = policy.get_server_metadata()
        for prompt in ("pick up the helmet", "place the helmet"):
            observation["prompt"] = prompt
            infer = functools.partial(policy.infer, observation)
            answers[prompt] = call(f"policy infer, {prompt!r}"[:34], infer, show_actions)
    return {"metadata": metadata, "answers": answers}


def try_blocked() -> list[str]:
    """Which of the modules that a robot's sandbox blocks are blocked here."""
    refused = []
    for name in BLOCKED:
        try:
            importlib.import_module(name)
        except ImportError as error:
            refused += (
                [name] if "refused" in str(error) else []
            )  # a module that is not installed proves nothing
    return refused


def main(url: str, photo: str, folder: str) -> None:
    """Runs the skill and leaves what the demo checks in ``folder``."""
    print(f"  {'call':<34} {'ms':>9}  {'server ms':>9}  what came back")
    frame = sensors.get_camera_frame()
    replies = look_around(frame, photo)
    faces = replies["bytes"]["detections"]
    if not faces:
        raise SystemExit("no face was found in the photograph")
    observation = observe(frame, faces[0]["bbox"])
    policy = ask_policy(url, observation)
    for name in ("image", "wrist_image"):
        np.save(os.path.join(folder, f"{name}.npy"), observation[f"observation/{name}"])
    summary = {
        "calls": calls,
        "refused": try_blocked(),
        "blocked": BLOCKED,
        "replies": replies,
        "state": observation["observation/state"].tolist(),
        "metadata": policy["metadata"],
        "answers": {
            prompt: {**answer, "actions": answer["actions"].tolist(), "dtype": str(answer["actions"].dtype)}
            for prompt, answer in policy["answers"].items()
        },
    }
    with open(os.path.join(folder, "summary.json"), "w", encoding="utf-8") as file:
        json.dump(summary, file, indent=1)


if __name__ == "__main__":
    main(*sys.argv[1:])
