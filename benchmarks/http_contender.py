"""One client of the HTTP benchmark, in a process of its own: takes orders, answers in numbers.

    python -m benchmarks.http_contender CASE NAME PORT FOLDER

Orders, a line each on standard input, and what is answered on standard output:

    check           one call          what it gave back, as `digest` writes it
    round WARM N    WARM + N calls    this process's CPU time during the N in nanoseconds, then the time of each

A call begins with what the caller has in hand, JPEG bytes or an array, and ends with what the caller works with:
a list of detections, arrays of depth. FOLDER holds these inputs; see http.py, which makes them.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import resource
import subprocess
import sys
import time
import zlib
from importlib import import_module
from pathlib import Path
from typing import Any, Callable, Dict, Protocol

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
TIMEOUT_S = 60.0
FOCAL_LENGTH, BASELINE = 382.5, 0.055

Call = Callable[[], Any]
Post = Callable[[str, Dict[str, Any]], Any]


class Client(Protocol):
    """The two services of the benchmark."""

    def detect(self, image: Any) -> Any: ...

    def depth(self, left: bytes, right: bytes) -> Any: ...


# ---- the clients that people write -----------------------------------------------------------------


def encode_image(image: Any) -> str:
    """As the published template does: bytes as they are, an array as OpenCV's PNG."""
    if isinstance(image, bytes):
        return base64.b64encode(image).decode()
    import cv2

    _, png = cv2.imencode(".png", image)
    return base64.b64encode(png.tobytes()).decode()


def decode_array(text: str) -> Any:
    return np.load(io.BytesIO(base64.b64decode(text)))


def detect_payload(image: Any) -> dict[str, Any]:
    return {"image": encode_image(image), "model": "yolov8n", "conf": 0.25}


def depth_payload(left: bytes, right: bytes) -> dict[str, Any]:
    return {
        "left_image": encode_image(left),
        "right_image": encode_image(right),
        "focal_length": FOCAL_LENGTH,
        "baseline": BASELINE,
        "valid_iters": 32,
        "scale": 1.0,
        "hiera": False,
        "return_disparity": True,
        "return_depth": True,
        "return_vis": False,
    }


class WrittenClient:
    """json, base64 and np.load around somebody's HTTP library."""

    def __init__(self, post: Post) -> None:
        self._post = post

    def detect(self, image: Any) -> Any:
        return self._post("/detect", detect_payload(image))["detections"]

    def depth(self, left: bytes, right: bytes) -> Any:
        reply = self._post("/depth", depth_payload(left, right))
        result = {key: reply[key] for key in ("height", "width", "inference_ms", "device")}
        for key in ("disparity", "depth"):
            result[key] = decode_array(reply[key])
        return result


def open_urllib(host: str) -> Client:
    """The template of the services' specification: a connection for each call."""
    import urllib.request

    def post(path: str, payload: dict[str, Any]) -> Any:
        body = json.dumps(payload).encode()
        request = urllib.request.Request(host + path, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as reply:
            return json.loads(reply.read().decode())

    return WrittenClient(post)


def open_requests(host: str) -> Client:
    """requests, with a session, which keeps the connection."""
    session = import_module("requests").Session()  # which brings no types

    def post(path: str, payload: dict[str, Any]) -> Any:
        reply = session.post(host + path, json=payload, timeout=TIMEOUT_S)
        reply.raise_for_status()
        return reply.json()

    return WrittenClient(post)


def open_httpx(host: str) -> Client:
    """httpx, with a client, which keeps the connection."""
    import httpx

    client = httpx.Client(base_url=host, timeout=TIMEOUT_S)

    def post(path: str, payload: dict[str, Any]) -> Any:
        reply = client.post(path, json=payload)
        reply.raise_for_status()
        return reply.json()

    return WrittenClient(post)


def open_pycurl(host: str) -> Client:
    """pycurl, with one handle, which keeps the connection."""
    pycurl = import_module("pycurl")
    curl = pycurl.Curl()
    curl.setopt(pycurl.HTTPHEADER, ["Content-Type: application/json"])
    curl.setopt(pycurl.TIMEOUT_MS, int(TIMEOUT_S * 1000))

    def post(path: str, payload: dict[str, Any]) -> Any:
        reply = io.BytesIO()
        curl.setopt(pycurl.URL, host + path)
        curl.setopt(pycurl.POSTFIELDS, json.dumps(payload).encode())
        curl.setopt(pycurl.WRITEDATA, reply)
        curl.perform()
        return json.loads(reply.getvalue())

    return WrittenClient(post)


class AxonClient:
    """The catalog's clients."""

    def __init__(self, host: str) -> None:
        from service_clients.foundation_stereo.client import FoundationStereoClient
        from service_clients.yolo_detection.client import YOLOClient

        self._yolo = YOLOClient(host, TIMEOUT_S)
        self._stereo = FoundationStereoClient(host, TIMEOUT_S)

    def detect(self, image: Any) -> Any:
        return self._yolo.detect(image)

    def depth(self, left: bytes, right: bytes) -> Any:
        return self._stereo.depth(left, right, focal_length=FOCAL_LENGTH, baseline=BASELINE)


OPENERS: dict[str, Callable[[str], Client]] = {
    "axon": AxonClient,
    "urllib-template": open_urllib,
    "requests": open_requests,
    "httpx": open_httpx,
    "pycurl": open_pycurl,
}
SYNCS = {
    "axon": ROOT / "sync_catalog.sh",
    "published-script": ROOT / "benchmarks" / "published_sync.sh",
}


# ---- one call of a case ----------------------------------------------------------------------------


def call_of(case: str, name: str, host: str, folder: Path) -> Call:
    """The function that is timed."""
    if case == "sync-noop":
        return sync_call(name, host, folder / name)
    client = OPENERS[name](host)
    left, right = (folder / "left.jpg").read_bytes(), (folder / "right.jpg").read_bytes()
    pixels = np.load(folder / "pixels.npy")
    return {
        "jpeg-bytes": lambda: client.detect(left),
        "array": lambda: client.detect(pixels),
        "depth-reply": lambda: client.depth(left, right),
    }[case]


def sync_call(name: str, host: str, services: Path) -> Call:
    """One run of a sync script; gives the SHA-256 of every client that is there afterwards."""
    services.mkdir(exist_ok=True)
    environment = {**os.environ, "CATALOG_URL": f"{host}/catalog.json", "SERVICES_DIR": str(services)}

    def run() -> Services:
        subprocess.run([str(SYNCS[name])], env=environment, check=True, stdin=subprocess.DEVNULL)
        return Services(services)

    run()  # the first one downloads; nothing changes afterwards
    return run


class Services:
    """A folder of clients, looked at when the clock has stopped."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def sums(self) -> dict[str, str]:
        return {
            path.parent.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(self._folder.glob("*/client.py"))
        }


def digest(answer: Any) -> str:
    """The answer on one line: arrays as dtype, shape and CRC-32."""

    def short(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return [str(value.dtype), list(value.shape), zlib.crc32(np.ascontiguousarray(value).data)]
        if isinstance(value, Services):
            return value.sums()
        raise TypeError(f"{type(value).__name__} is no answer")

    return json.dumps(answer, default=short, sort_keys=True)


# ---- orders ----------------------------------------------------------------------------------------


def cpu_ns() -> int:
    """CPU time of this process and of those it ran, in the kernel as well."""
    return sum(
        int((usage.ru_utime + usage.ru_stime) * 1e9)
        for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def timed_round(call: Call, warm: int, count: int) -> list[int]:
    clock = time.perf_counter_ns
    times = []
    for _ in range(warm):
        call()
    before = cpu_ns()
    for _ in range(count):
        start = clock()
        answer = call()
        times.append(clock() - start)
        del answer
    return [cpu_ns() - before, *times]


def main() -> None:
    case, name, port, folder = sys.argv[1:]
    call = call_of(case, name, f"http://127.0.0.1:{port}", Path(folder))
    print("ready", flush=True)
    for line in sys.stdin:
        order, *numbers = line.split()
        if order == "check":
            print(digest(call()), flush=True)
        elif order == "round":
            print(*timed_round(call, int(numbers[0]), int(numbers[1])), flush=True)
        else:
            raise ValueError(f"no such order: {line!r}")


if __name__ == "__main__":
    main()
