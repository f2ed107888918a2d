"""Times resizing beside Pillow and openpi_client: `make bench BENCH=resize`.

A photograph (tests/data/astronaut.jpg, cut and enlarged) becomes what a policy wants:

    bilinear ...    640x480 RGB to 224x224, stretched, with each of Pillow's usual filters
    pad             the same to 224x224 with its shape kept and black around it, bilinear
    pad-hd          1920x1080 likewise
    enlarge         224x224 to 640x480, bilinear
    alpha           640x480 RGBA to 224x224, bilinear
    convert         640x480x3 floats to uint8

`pillow` is Image.resize() alone, from a picture that Pillow has already to one that it keeps: no array in, none out, no
padding. `axon` is service_clients' function, from array to array. `openpi-client` is its own function, from array to array,
in an environment of its own because it needs numpy 1, with the same Pillow; for `convert` that is numpy's arithmetic.
One thread each. They take turns, round after round, and must agree in every bit before the clock starts.

Writes resize.json, [{"case", "name", "size_bytes", "value", "unit"}]: medians in ms.
"""

from __future__ import annotations

import argparse
import random
import sys
import zlib
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict

import numpy

from benchmarks.harness import (
    PHOTOGRAPH,
    ROOT,
    BenchError,
    Rounds,
    Worker,
    exit_status,
    keep_quiet_rounds,
    machine,
    options_of,
    percentile,
    save_json,
    times_of,
    versions,
)

PEERS = ROOT / ".venv-peers" / "bin" / "python"
FILTERS = {"nearest": 0, "box": 4, "bilinear": 2, "hamming": 5, "bicubic": 3, "lanczos": 1}
TARGET = 3.0  # times as fast as Pillow, bilinear and pad

Call = Callable[[], Any]
Calls = Dict[str, Dict[str, Call]]  # by case, by contender


# ---- the contenders ------------------------------------------------------------------------------


def photographs() -> dict[str, Any]:
    """Camera pictures in the sizes that the cases want; the same bytes in every process."""
    from PIL import Image

    with Image.open(PHOTOGRAPH) as file:
        whole = file.convert("RGB")
    large = whole.crop((0, 0, whole.width, whole.width * 3 // 4)).resize((1920, 1440), 1)
    camera = numpy.asarray(large.resize((640, 480), 1))
    alpha = numpy.dstack([camera, numpy.asarray(large.convert("L").resize((640, 480), 1))])
    return {
        "camera": camera,
        "hd": numpy.asarray(large.crop((0, 0, 1920, 1080))),
        "small": numpy.asarray(large.resize((224, 224), 1)),
        "alpha": alpha,
        "floats": camera.astype(numpy.float32) / 255,
    }


def cases(pictures: dict[str, Any]) -> dict[str, tuple[Any, int, int, int]]:
    """The old picture, the new height and width, and the filter, of each case that resizes."""
    camera = pictures["camera"]
    found = {name: (camera, 224, 224, method) for name, method in FILTERS.items()}
    found["pad"] = (camera, 224, 224, 2)
    found["pad-hd"] = (pictures["hd"], 224, 224, 2)
    found["enlarge"] = (pictures["small"], 480, 640, 2)
    found["alpha"] = (pictures["alpha"], 224, 224, 2)
    return found


def inner_size(old: Any, height: int, width: int) -> tuple[int, int]:
    """What is left for the picture when its shape is kept."""
    ratio = max(old.shape[1] / width, old.shape[0] / height)
    return int(old.shape[0] / ratio), int(old.shape[1] / ratio)


def ours(pictures: dict[str, Any]) -> Calls:
    from PIL import Image

    from service_clients._axon.image_tools import convert_to_uint8, resize, resize_with_pad

    calls: Calls = {}
    for case, (old, height, width, method) in cases(pictures).items():
        axon = resize_with_pad if case.startswith("pad") else resize
        new_height, new_width = inner_size(old, height, width) if case.startswith("pad") else (height, width)
        picture = Image.fromarray(old)
        calls[case] = {
            "axon": partial(axon, old, height, width, method),
            "pillow": partial(picture.resize, (new_width, new_height), Image.Resampling(method)),
        }
    calls["convert"] = {"axon": lambda: convert_to_uint8(pictures["floats"])}
    return calls


def theirs(pictures: dict[str, Any]) -> dict[str, Call]:
    from openpi_client.image_tools import (  # type: ignore[import-not-found]
        convert_to_uint8,
        resize_with_pad,
    )

    found = cases(pictures)
    return {
        "pad": lambda: resize_with_pad(*found["pad"][:3]),
        "pad-hd": lambda: resize_with_pad(*found["pad-hd"][:3]),
        "convert": lambda: convert_to_uint8(pictures["floats"]),
    }


def serve_openpi() -> None:
    """Takes orders: a case and a number of calls, or 0 for the checksum of the answer."""
    calls = theirs(photographs())
    print("ready", *calls, flush=True)
    for line in sys.stdin:
        case, count = line.split()
        if count == "0":
            print(zlib.crc32(numpy.ascontiguousarray(calls[case]()).tobytes()), flush=True)
        else:
            print(*times_of(calls[case], int(count)), flush=True)


# ---- measuring -----------------------------------------------------------------------------------


def check_answers(case: str, calls: dict[str, Call], openpi: Worker | None) -> None:
    """All must have made the same pixels; of a padded picture Pillow makes the middle."""
    answer = numpy.ascontiguousarray(calls["axon"]())
    if "pillow" in calls:
        middle = numpy.asarray(calls["pillow"]())
        top, left = ((answer.shape[i] - middle.shape[i]) // 2 for i in (0, 1))
        mine = answer[top : top + middle.shape[0], left : left + middle.shape[1]]
        if not numpy.array_equal(mine, middle):
            raise BenchError(f"{case}: axon and Pillow differ in {int((mine != middle).sum())} samples")
    if openpi and int(openpi.order(f"{case} 0")) != zlib.crc32(answer.tobytes()):
        raise BenchError(f"{case}: axon and openpi-client differ")


def measure(
    case: str, calls: dict[str, Call], openpi: Worker | None, rounds: int, count: int
) -> dict[str, Rounds]:
    def turn(name: str) -> list[int]:
        if name == "openpi-client":
            assert openpi
            return openpi.numbers(f"{case} {count}")
        return times_of(calls[name], count)

    names = [*calls, *(["openpi-client"] if openpi else [])]
    check_answers(case, calls, openpi)
    results = {name: Rounds() for name in names}
    for _ in range(rounds):
        for name in random.sample(names, len(names)):
            results[name].p50s.append(percentile(turn(name), 0.5) / 1e6)
    keep_quiet_rounds(results)
    return results


def print_row(case: str, results: dict[str, Rounds]) -> None:
    ms = {name: result.p50_ms for name, result in results.items()}
    times = [f"{ms[name]:>9.3f}" if name in ms else f"{'':9}" for name in ("axon", "pillow", "openpi-client")]
    ratios = [
        f"{ms[name] / ms['axon']:>9.1f}" if name in ms else f"{'':9}" for name in ("pillow", "openpi-client")
    ]
    missed = case in ("bilinear", "pad") and ms["pillow"] / ms["axon"] < TARGET
    print(f"{case:10}", *times, *ratios, " missed" if missed else "")


def write_json(directory: Path, measured: dict[str, dict[str, Rounds]], sizes: dict[str, int]) -> None:
    rows = [
        {
            "case": case,
            "name": name,
            "size_bytes": sizes[case],
            "value": round(result.p50_ms, 4),
            "unit": "ms",
        }
        for case, results in measured.items()
        for name, result in results.items()
    ]
    save_json(directory / "resize.json", rows)
    print(f"\nWrote {directory / 'resize.json'}")


def run(options: argparse.Namespace) -> None:
    print(machine(), versions(sys.executable, ["numpy", "pillow"]), sep="\n")
    print(versions(str(PEERS), ["numpy", "pillow", "openpi-client"]))
    pictures = photographs()
    calls = ours(pictures)
    sizes = {case: old.nbytes for case, (old, *_) in cases(pictures).items()}
    sizes["convert"] = pictures["floats"].nbytes
    rounds, count = (1, 2) if options.quick else (options.rounds, 20)
    openpi = Worker("openpi-client", [str(PEERS), "-m", "benchmarks.resize", "--openpi"], None)
    try:
        has_openpi = openpi.read().split()[1:]
        print(
            f"{'p50 ms':10}",
            *(f"{name:>9.9}" for name in ("axon", "pillow", "openpi", "pillow/it", "openpi/it")),
        )
        measured = {}
        for case in calls:
            worker = openpi if case in has_openpi else None
            measured[case] = measure(case, calls[case], worker, rounds, count)
            print_row(case, measured[case])
    finally:
        openpi.stop()
    write_json(options.output, measured, sizes)


def parse_arguments() -> argparse.Namespace:
    parser = options_of("Times resizing beside Pillow and openpi_client.", "each contender per case", 20)
    parser.add_argument("--openpi", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    options = parse_arguments()
    if options.openpi:
        serve_openpi()
        return 0
    return exit_status(lambda: run(options))


if __name__ == "__main__":
    sys.exit(main())
