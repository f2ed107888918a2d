"""One photograph and one observation, end to end: ``python -m service_clients.demo``.

Starts a detection service and a policy server on loopback, runs skill.py in a sandboxed process against both,
checks every answer against what it must be, and writes the photograph with the detections drawn on it. Exit
status 0 means that all of it was right.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from typing import Any, Iterator, NoReturn

NEEDED = {
    "numpy": "numpy",
    "cv2": "opencv-python-headless",
    "fastapi": "fastapi",
    "pydantic": "pydantic",
    "uvicorn": "uvicorn",
    "websockets": "websockets",
    "msgpack": "msgpack",
}
PHOTO = os.path.join("tests", "data", "astronaut.jpg")
# Where the face is in PHOTO: from the hairline to the chin, from ear to ear, read off the picture by eye.
FACE = {"x1": 180.0, "y1": 75.0, "x2": 270.0, "y2": 172.0}
SCRIPT_TIMEOUT = 60.0


def main() -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m service_clients.demo", description=__doc__)
    parser.add_argument("--photo", help=f"another photograph with a face in it (default: {PHOTO})")
    parser.add_argument(
        "--out", default=os.path.join("build", "demo"), help="folder to write to (%(default)s)"
    )
    arguments = parser.parse_args()
    missing = [package for module, package in NEEDED.items() if importlib.util.find_spec(module) is None]
    if missing:
        print(f"the demo needs {', '.join(missing)}: pip install 'axon[demo]'", file=sys.stderr)
        return 2
    photo = arguments.photo or _find_photo()
    if not os.path.isfile(photo):
        print(f"{photo}: no such photograph; name one with --photo", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, _end)
    started = time.monotonic()
    os.makedirs(arguments.out, exist_ok=True)
    status = _run_skill(photo, arguments.out)
    if status:
        print(f"the skill script ended with status {status}", file=sys.stderr)
        return 1
    failures = _report(photo, arguments.out, is_known=not arguments.photo)
    print(f"{time.monotonic() - started:.1f} s, {f'{failures} FAILED' if failures else 'all as it must be'}")
    return 1 if failures else 0


def _find_photo() -> str:
    """PHOTO in the folder that we are run from, or in the checkout that this file belongs to."""
    checkout = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return PHOTO if os.path.isfile(PHOTO) else os.path.join(checkout, PHOTO)


def _end(number: int, frame: object) -> NoReturn:
    """Turns SIGTERM into an exit that ends the backends on its way."""
    raise SystemExit(128 + number)


def _run_skill(photo: str, folder: str) -> int:
    """Runs the script against fresh backends; they are gone when this returns. Returns its exit status."""
    from service_clients.demo.backends import Backend

    skill = os.path.join(os.path.dirname(os.path.abspath(__file__)), "skill.py")
    module = [sys.executable, "-m"]
    with contextlib.ExitStack() as backends:
        detection = backends.enter_context(Backend([*module, "service_clients.demo.detection_server"]))
        policy = backends.enter_context(Backend([*module, "service_clients.demo.policy_server"]))
        print(f"detection service  {detection.url}  process {detection.pid}")
        print(f"policy server      {policy.url}  process {policy.pid}")
        sandbox = [*module, "service_clients.demo.sandbox", "--frame", photo]
        print(f"skill script       {skill}, sandboxed\n", flush=True)
        environment = {**os.environ, "AXON_HOST_YOLO_DETECTION": detection.url}
        command = [*sandbox, skill, policy.url, photo, folder]
        return subprocess.run(command, env=environment, timeout=SCRIPT_TIMEOUT, check=False).returncode


def _report(photo: str, folder: str, is_known: bool) -> int:
    """Prints each check with its outcome and writes the picture. Returns how many checks failed."""
    with open(os.path.join(folder, "summary.json"), encoding="utf-8") as file:
        summary = json.load(file)
    print()
    failures = 0
    for text, holds in _checks(summary, folder, is_known):
        failures += not holds
        print(f"  {'ok    ' if holds else 'FAILED'}  {text}")
    picture = os.path.join(folder, "detections.png")
    draw(photo, summary["replies"]["bytes"]["detections"], picture)
    print(f"\nthe detections, drawn: {picture}")
    return failures


def _checks(summary: dict[str, Any], folder: str, is_known: bool) -> Iterator[tuple[str, bool]]:
    """What must hold of the answers, each with whether it does."""
    found = {form: reply["detections"] for form, reply in summary["replies"].items()}
    yield (
        "bytes, path, array and base64 gave the same detections",
        len(found) == 4 and all(detections == found["bytes"] for detections in found.values()),
    )
    if is_known:
        overlap = max((overlap_of(item["bbox"], FACE) for item in found["bytes"]), default=0.0)
        yield f"a face was found where the face is (overlap {overlap:.2f})", overlap >= 0.5
    yield from _policy_checks(summary, folder)
    names = ", ".join(summary["blocked"])
    yield f"the script could import none of {names}", summary["refused"] == summary["blocked"]


def _policy_checks(summary: dict[str, Any], folder: str) -> Iterator[tuple[str, bool]]:
    import numpy as np

    from service_clients.demo.policy import METADATA, PROMPT, SCENE, STATE, WRIST, VisualServo

    yield "the policy server's metadata arrived", summary["metadata"] == METADATA
    observation: dict[str, Any] = {
        SCENE: np.load(os.path.join(folder, "image.npy")),
        WRIST: np.load(os.path.join(folder, "wrist_image.npy")),
        STATE: np.array(summary["state"], np.float32),
    }
    for number, (prompt, answer) in enumerate(summary["answers"].items()):
        expected = VisualServo().infer({**observation, PROMPT: prompt})["actions"]
        same = answer["dtype"] == str(expected.dtype) and answer["actions"] == expected.tolist()
        yield f"the chunk for {prompt!r} is what the policy computes from that observation", same
        timing = set(answer["server_timing"])
        yield (
            f"its timing has {' and '.join(sorted(timing))}",
            timing == {"infer_ms", "prev_total_ms"} or number == 0,
        )
    yield (
        "the two prompts gave different chunks",
        len({str(a["actions"]) for a in summary["answers"].values()}) == 2,
    )


def overlap_of(one: dict[str, float], other: dict[str, float]) -> float:
    """Intersection over union of two boxes {x1, y1, x2, y2}."""
    width = min(one["x2"], other["x2"]) - max(one["x1"], other["x1"])
    height = min(one["y2"], other["y2"]) - max(one["y1"], other["y1"])
    shared = max(width, 0.0) * max(height, 0.0)
    areas = sum((box["x2"] - box["x1"]) * (box["y2"] - box["y1"]) for box in (one, other))
    return shared / (areas - shared)


def draw(photo: str, detections: list[dict[str, Any]], picture: str) -> None:
    """Writes ``photo`` with a labelled box around each detection to ``picture``. Raises OSError."""
    import cv2

    image = cv2.imread(photo, cv2.IMREAD_COLOR)
    if image is None:
        raise OSError(f"{photo}: cannot be read as a picture")
    for item in detections:
        x1, y1, x2, y2 = (round(item["bbox"][corner]) for corner in ("x1", "y1", "x2", "y2"))
        label = f"{item['class_name']} {item['confidence']:.2f}"
        (width, height), _ = cv2.getTextSize(label, cv2.FONT_HERSHEY_SIMPLEX, 0.5, 1)
        top = max(y1 - height - 8, 0)
        cv2.rectangle(image, (x1, y1), (x2, y2), (0, 220, 0), 2)
        cv2.rectangle(image, (x1 - 1, top), (x1 + width + 6, top + height + 8), (0, 220, 0), cv2.FILLED)
        cv2.putText(
            image, label, (x1 + 3, top + height + 3), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA
        )
    if not cv2.imwrite(picture, image):
        raise OSError(f"{picture}: cannot be written")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
