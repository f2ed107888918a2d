"""The benchmark of policy clients: that it compares like with like, never how fast anything is."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterator

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "benchmarks" / "policy.py"


def load_script() -> Any:
    spec = importlib.util.spec_from_file_location("bench_policy", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


policy = load_script()


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


@pytest.fixture
def sink() -> Iterator[Any]:
    policy.build_programs()
    worker = policy.Worker("sink", [str(policy.PROGRAMS / "sink")], None)
    yield worker
    worker.stop()


def open_floor(port: str, images: int) -> Any:
    shape = [str(images), "64", "64"]
    worker = policy.Worker(f"{images} images", [*policy.command_of("floor"), "127.0.0.1", port, *shape], None)
    assert worker.read() == "ready"
    return worker


def test_quick_run_times_every_client_at_every_size(tmp_path: Path) -> None:
    done = run("--quick", "--output", str(tmp_path))
    assert done.returncode == 0, done.stderr

    entries = json.loads((tmp_path / "policy.json").read_text())
    assert [list(entry) for entry in entries] == [["name", "size_bytes", "p50_ms", "p99_ms"]] * 15
    assert {(entry["name"], entry["size_bytes"]) for entry in entries} == {
        (name, size)
        for name in ("axon-python", "axon-c", "openpi-client", "picows", "floor")
        for size in (294 * 1024, 588 * 1024, 2700 * 1024)
    }
    assert all(0 < entry["p50_ms"] <= entry["p99_ms"] for entry in entries)

    detail = json.loads((tmp_path / "policy_detail.json").read_text())["results"]
    assert all(entry["peak_kib"] >= entry["grown_kib"] >= 0 for entry in detail)
    for size in ("294 KiB", "588 KiB", "2.7 MiB"):
        assert f"{size}: axon-python" in done.stdout
        assert f"{size}: axon-c" in done.stdout


def test_clients_that_send_different_bytes_fail_the_run(sink: Any) -> None:
    port = sink.read().split()[1]
    workers = [open_floor(port, 1), open_floor(port, 1), open_floor(port, 2)]
    try:
        policy.check_answers(sink, workers[:2])
        with pytest.raises(
            policy.BenchError, match=r"answers differ(.|\n)*1 images: \d+(.|\n)*2 images: \d+"
        ):
            policy.check_answers(sink, workers)
    finally:
        for worker in workers:
            worker.stop()


def test_a_client_that_dies_fails_the_run_by_name() -> None:
    worker = policy.Worker("the dead one", ["true"], None)
    try:
        with pytest.raises(policy.BenchError, match="the dead one: died"):
            worker.read()
    finally:
        worker.stop()


def test_missing_peers_fail_the_run(tmp_path: Path) -> None:
    done = run("--quick", "--output", str(tmp_path), AXON_PEERS_PYTHON=str(tmp_path / "python"))
    assert done.returncode == 1
    assert f"{tmp_path / 'python'} is not there (set AXON_PEERS_PYTHON)" in done.stderr
    assert not (tmp_path / "policy.json").exists()


def test_a_loud_round_is_dropped_for_every_client() -> None:
    first = policy.Result(rounds=[(1.0, 1.0), (9.0, 9.0), (1.0, 1.0), (1.0, 1.0)])
    second = policy.Result(rounds=[(2.0, 2.0), (2.0, 2.0), (9.0, 9.0), (2.0, 2.0)])
    assert sorted(policy.quiet_rounds({"first": first, "second": second})) == [0, 3]


@pytest.mark.parametrize(("share", "expected"), [(0.0, 10), (0.5, 30), (0.99, 50), (1.0, 50)])
def test_a_percentile_is_a_value_that_was_measured(share: float, expected: int) -> None:
    assert policy.percentile([50, 10, 40, 20, 30], share) == expected
