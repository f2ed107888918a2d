"""Times calls of the catalog's services, side by side with the ways people call them: `make bench BENCH=http`.

The same calls go to the same sink (http_sink.c), which answers at once, so that what is measured is the client:

    jpeg-bytes      YOLO's detect() with a 640x480 photograph as JPEG bytes
    array           the same with its pixels, a uint8 array (480, 640, 3)
    depth-reply     foundation-stereo's depth() with two such JPEGs, disparity and depth coming back as float32 arrays
    sync-noop       a sync of the eight services when nothing has changed

    axon               the catalog's clients; sync_catalog.sh
    urllib-template    the template of the services' specification, OpenCV for arrays
    requests, httpx, pycurl   the same code around a kept-alive connection of that library
    published-script   one full download of the catalog and of each client, serially, with curl

Each client is a process of its own. They take turns in random order, round after round, so that whatever else the
machine does hits all alike; with two CPUs, clients are on the first and the sink is on the last. Untimed calls before
and after the rounds prove that everybody asked for the same (the JSON fields are equal, the pictures decode to the same
pixels) and got the same answer. A wrong answer fails the run; a target that is missed is printed and does not.

Writes http.json, [{"case", "name", "p50_ms"}], and http_detail.json with every round and the CPU time.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import io
import json
import os
import random
import shutil
import sys
import tempfile
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Iterator, Sequence

import cv2
import numpy as np

from benchmarks.harness import (
    PROGRAMS,
    ROOT,
    BenchError,
    Rounds,
    Worker,
    build_programs,
    exit_status,
    keep_quiet_rounds,
    machine,
    options_of,
    percentile,
    read_photograph,
    save_json,
    versions,
)
from benchmarks.http_contender import depth_payload, detect_payload, digest

HEIGHT, WIDTH = 480, 640
CLIENTS = ("axon", "urllib-template", "requests", "httpx", "pycurl")


@dataclass(frozen=True)
class Case:
    """One call: who makes it, how often in a round, and how many times faster than whom axon is to be."""

    label: str
    names: tuple[str, ...]
    calls: int
    targets: tuple[tuple[str, float], ...]


CASES = (
    Case("jpeg-bytes", CLIENTS, 40, (("urllib-template", 4), ("requests", 3), ("httpx", 5), ("pycurl", 1))),
    Case("array", CLIENTS, 8, (("urllib-template", 3),)),
    Case("depth-reply", CLIENTS, 8, (("urllib-template", 6),)),
    Case("sync-noop", ("axon", "published-script"), 2, (("published-script", 5),)),
)


@dataclass
class Result(Rounds):
    """What one contender did in one case; CPU milliseconds per call of each round."""

    cpus: list[float] = field(default_factory=list)
    png_bytes: int = 0

    @property
    def cpu_ms(self) -> float:
        return self.median_of(self.cpus)


# ---- what is sent and answered -----------------------------------------------------------------


class Exchange:
    """The inputs of the calls and the canned answers, as files; and what must come of them."""

    def __init__(self, folder: Path) -> None:
        self.inputs, self.pages = folder / "inputs", folder / "pages"
        self.inputs.mkdir()
        self.pages.mkdir()
        self.pixels: Any = cv2.resize(read_photograph(), (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
        np.save(self.inputs / "pixels.npy", self.pixels)
        self.left = self._write_jpeg("left.jpg", self.pixels)
        self.right = self._write_jpeg("right.jpg", self.pixels[:, ::-1])
        self.answers = {
            "jpeg-bytes": digest(self._write_detections()),
            "depth-reply": digest(self._write_depth()),
            "sync-noop": digest(self._write_catalog()),
        }
        self.answers["array"] = self.answers["jpeg-bytes"]

    def _write_jpeg(self, name: str, pixels: Any) -> bytes:
        data: bytes = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
        (self.inputs / name).write_bytes(data)
        return data

    def _write_detections(self) -> Any:
        detections = [
            {
                "bbox": {"x1": 31.25 * i, "y1": 20.5, "x2": 31.25 * i + 60, "y2": 240.125},
                "confidence": 0.9 - i / 16,
                "class_id": i,
                "class_name": f"class {i}",
                "mask": None,
            }
            for i in range(8)
        ]
        reply = {
            "detections": detections,
            "model": "yolov8n",
            "device": "cuda:0",
            "inference_ms": 7.5,
            "image_width": WIDTH,
            "image_height": HEIGHT,
            "has_masks": False,
        }
        (self.pages / "detect").write_text(json.dumps(reply))
        return detections

    def _write_depth(self) -> Any:
        numbers = np.random.default_rng(0)
        arrays = {
            "disparity": numbers.uniform(1, 128, (HEIGHT, WIDTH)).astype(np.float32),
            "depth": numbers.uniform(0.2, 8, (HEIGHT, WIDTH)).astype(np.float32),
        }
        facts = {"height": HEIGHT, "width": WIDTH, "inference_ms": 93.5, "device": "cuda:0"}
        texts = {key: npy_base64(array) for key, array in arrays.items()}
        (self.pages / "depth").write_text(json.dumps({**texts, "vis": None, **facts}))
        return {**arrays, **facts}

    def _write_catalog(self) -> Any:
        """The eight services of the catalog, each client a page beside it."""
        catalog = json.loads((ROOT / "catalog.json").read_text())
        del catalog["capabilities"]["openpi"], catalog["core"]
        sums = {}
        for name, entry in catalog["capabilities"].items():
            folder = name.replace("-", "_")
            client = (ROOT / "service_clients" / folder / "client.py").read_bytes()
            (self.pages / f"{folder}.py").write_bytes(client)
            entry["client_sdk"] = f"{folder}.py"
            sums[folder] = hashlib.sha256(client).hexdigest()
        (self.pages / "catalog.json").write_text(json.dumps(catalog, indent=1))
        return sums

    def check_request(self, case: str, name: str, body: bytes) -> int:
        """Fails unless the request asks what it should; returns the bytes of the PNG that it holds, if any."""
        try:
            sent = json.loads(body)
        except ValueError as error:
            raise BenchError(f"{case}: {name}: the request is not JSON: {error}") from None
        if case == "depth-reply":
            expected = depth_payload(self.left, self.right)
        else:
            expected = detect_payload(self.left)
        png = b""
        if case == "array":
            png = base64.b64decode(sent.get("image", ""), validate=True)
            pixels: Any = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
            if not np.array_equal(pixels, self.pixels):
                raise BenchError(f"{case}: {name}: the picture that was sent has other pixels")
            sent["image"] = expected["image"]
        if sent != expected:
            wrong = [key for key in {**sent, **expected} if sent.get(key) != expected.get(key)]
            raise BenchError(f"{case}: {name}: the request differs in {', '.join(wrong)}")
        return len(png)


def npy_base64(array: Any) -> str:
    file = io.BytesIO()
    np.save(file, array)
    return base64.b64encode(file.getvalue()).decode()


# ---- measuring ---------------------------------------------------------------------------------


def last_request(port: str) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/last", timeout=60) as reply:
        body: bytes = reply.read()
    return body


def check(
    case: Case, exchange: Exchange, sink: Worker, port: str, workers: Sequence[Worker]
) -> dict[str, int]:
    """One checked call each; returns the size of each one's PNG."""
    sizes = {}
    sink.order("check")
    for worker in workers:
        answer = worker.order("check")
        if answer != exchange.answers[case.label]:
            raise BenchError(
                f"{case.label}: {worker.name}: wrong answer: {answer:.300}\nexpected {exchange.answers[case.label]:.300}"
            )
        sizes[worker.name] = 0
        if case.label != "sync-noop":
            sizes[worker.name] = exchange.check_request(case.label, worker.name, last_request(port))
    sink.order("count")
    return sizes


def measure(
    case: Case, exchange: Exchange, sink: Worker, port: str, rounds: int, calls: int, cpu: int | None
) -> dict[str, Result]:
    results = {name: Result() for name in case.names}
    workers: list[Worker] = []
    command = [sys.executable, "-m", "benchmarks.http_contender", case.label]
    try:
        for name in case.names:
            workers.append(Worker(name, [*command, name, port, str(exchange.inputs)], cpu))
            workers[-1].await_ready()
        for name, size in check(case, exchange, sink, port, workers).items():
            results[name].png_bytes = size
        for _ in range(rounds):
            for worker in random.sample(workers, len(workers)):
                cpu_ns, *times = worker.numbers(f"round {max(1, calls // 10)} {calls}")
                results[worker.name].p50s.append(percentile(times, 0.5) / 1e6)
                results[worker.name].cpus.append(cpu_ns / len(times) / 1e6)
        check(case, exchange, sink, port, workers)
        keep_quiet_rounds(results)
    finally:
        for worker in workers:
            worker.stop()
    return results


# ---- reporting ---------------------------------------------------------------------------------


def print_table(case: Case, results: dict[str, Result]) -> None:
    columns = "{:17} {:>8} {:>8} {:>10} {:>10}"
    print()
    print(columns.format(case.label, "p50 ms", "CPU ms", "it / axon", "PNG KiB").rstrip())
    for name, result in sorted(results.items(), key=lambda item: -item[1].p50_ms):
        print(
            columns.format(
                name,
                f"{result.p50_ms:.3f}",
                f"{result.cpu_ms:.3f}",
                f"{result.p50_ms / results['axon'].p50_ms:.2f}",
                f"{result.png_bytes / 1024:.1f}" if result.png_bytes else "",
            ).rstrip()
        )


def targets(case: Case, results: dict[str, Result]) -> Iterator[tuple[bool, str]]:
    """What was to be reached: whether it was, and the figures."""
    axon = results["axon"]
    for name, factor in case.targets:
        faster = results[name].p50_ms / axon.p50_ms
        met = faster >= factor if factor > 1 else faster > 1
        yield met, f"axon {faster:.2f}x {name}'s speed ({factor:g}x)"
    if axon.png_bytes:
        share = axon.png_bytes / results["urllib-template"].png_bytes
        yield share <= 1, f"axon's PNG {share:.2f}x the size of OpenCV's (1x)"


def print_targets(measured: dict[Case, dict[str, Result]]) -> None:
    print("\nTargets, at p50")
    for case, results in measured.items():
        for met, text in targets(case, results):
            print(f"  {'met   ' if met else 'MISSED'} {case.label}: {text}")


def write_json(directory: Path, measured: dict[Case, dict[str, Result]], about: dict[str, Any]) -> None:
    summary: list[dict[str, Any]] = []
    detail: list[dict[str, Any]] = []
    for case, results in measured.items():
        for name, result in results.items():
            summary.append({"case": case.label, "name": name, "p50_ms": round(result.p50_ms, 4)})
            detail.append(
                {
                    **summary[-1],
                    "cpu_ms": round(result.cpu_ms, 4),
                    "png_bytes": result.png_bytes,
                    "rounds_ms": [round(p50, 4) for p50 in result.p50s],
                    "rounds_kept": result.kept,
                }
            )
    save_json(directory / "http.json", summary)
    save_json(directory / "http_detail.json", {**about, "results": detail})
    print(f"\nWrote {directory / 'http.json'}")


def parse_arguments() -> argparse.Namespace:
    parser = options_of(
        "Times calls of HTTP services, side by side with the peers.", "each client per case", 30
    )
    parser.add_argument("--free", action="store_true", help="leave the CPUs to the scheduler")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=[case.label for case in CASES],
        help="these cases; then no file is written",
    )
    return parser.parse_args()


def run(options: argparse.Namespace, folder: Path) -> None:
    build_programs("http_sink")
    cpus = [None] if options.free else sorted(os.sched_getaffinity(0))
    about = {
        "machine": machine(),
        "placement": "free" if options.free else "pinned",
        "packages": versions(
            sys.executable, ["numpy", "opencv-python-headless", "cffi", "requests", "httpx", "pycurl"]
        ),
    }
    print(*(f"{key}: {value}" for key, value in about.items()), sep="\n")
    exchange = Exchange(folder)
    measured = {}
    sink = Worker("sink", [str(PROGRAMS / "http_sink"), str(exchange.pages)], cpus[-1])
    try:
        port = sink.read().split()[1]
        for case in CASES:
            if options.only and case.label not in options.only:
                continue
            calls = min(2, case.calls) if options.quick else case.calls
            rounds = 2 if options.quick else options.rounds
            measured[case] = measure(case, exchange, sink, port, rounds, calls, cpus[0])
            print_table(case, measured[case])
    finally:
        sink.stop()
    print_targets(measured)
    if not options.only:
        write_json(options.output, measured, about)


def main() -> int:
    # Proxies are for other machines.
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        del os.environ[name]
    folder = Path(tempfile.mkdtemp(prefix="axon-bench-"))
    try:
        return exit_status(lambda: run(parse_arguments(), folder))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main())
