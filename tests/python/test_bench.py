"""The benchmarks: that they compare like with like, never how fast anything is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterator

import numpy as np
import pytest
from support import CHECKOUT

from benchmarks import control, control_path, harness, http, policy, resize, server, simulator, streams
from benchmarks.http_contender import detect_payload


def run(bench: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", f"benchmarks.{bench}", *arguments],
        cwd=CHECKOUT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


@pytest.fixture
def sink() -> Iterator[Any]:
    harness.build_programs("sink", "floor")
    worker = harness.Worker("sink", [str(harness.PROGRAMS / "sink")], None)
    yield worker
    worker.stop()


def open_floor(port: str, images: int) -> Any:
    shape = [str(images), "64", "64"]
    worker = harness.Worker(
        f"{images} images", [*policy.command_of("floor"), "127.0.0.1", port, *shape], None
    )
    assert worker.read() == "ready"
    return worker


def test_policy_quick_run_times_every_client_at_every_size(tmp_path: Path) -> None:
    done = run("policy", "--quick", "--output", str(tmp_path))
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
            harness.BenchError, match=r"answers differ(.|\n)*1 images: \d+(.|\n)*2 images: \d+"
        ):
            policy.check_answers(sink, workers)
    finally:
        for worker in workers:
            worker.stop()


def test_a_client_that_dies_fails_the_run_by_name() -> None:
    worker = harness.Worker("the dead one", ["true"], None)
    try:
        with pytest.raises(harness.BenchError, match="the dead one: died"):
            worker.read()
    finally:
        worker.stop()


def test_missing_peers_fail_the_run(tmp_path: Path) -> None:
    done = run("policy", "--quick", "--output", str(tmp_path), AXON_PEERS_PYTHON=str(tmp_path / "python"))
    assert done.returncode == 1
    assert f"{tmp_path / 'python'} is not there (set AXON_PEERS_PYTHON)" in done.stderr
    assert not (tmp_path / "policy.json").exists()


def test_a_loud_round_is_dropped_for_every_client() -> None:
    first = harness.Rounds(p50s=[1.0, 9.0, 1.0, 1.0])
    second = harness.Rounds(p50s=[2.0, 2.0, 9.0, 2.0])
    assert sorted(harness.quiet_rounds({"first": first, "second": second})) == [0, 3]


@pytest.mark.parametrize(("share", "expected"), [(0.0, 10), (0.5, 30), (0.99, 50), (1.0, 50)])
def test_a_percentile_is_a_value_that_was_measured(share: float, expected: int) -> None:
    assert harness.percentile([50, 10, 40, 20, 30], share) == expected


CLIENTS = ["axon", "urllib-template", "requests", "httpx", "pycurl"]


def test_http_quick_run_times_every_client_in_every_case(tmp_path: Path) -> None:
    done = run("http", "--quick", "--output", str(tmp_path))
    assert done.returncode == 0, done.stderr

    entries = json.loads((tmp_path / "http.json").read_text())
    assert [(entry["case"], entry["name"]) for entry in entries] == [
        *((case, name) for case in ("jpeg-bytes", "array", "depth-reply") for name in CLIENTS),
        ("sync-noop", "axon"),
        ("sync-noop", "published-script"),
    ]
    assert all(list(entry) == ["case", "name", "p50_ms"] and entry["p50_ms"] > 0 for entry in entries)

    detail = json.loads((tmp_path / "http_detail.json").read_text())["results"]
    png_bytes = {entry["name"]: entry["png_bytes"] for entry in detail if entry["case"] == "array"}
    assert 0 < png_bytes["axon"] <= png_bytes["urllib-template"]
    for target in ("jpeg-bytes: axon", "array: axon's PNG", "depth-reply: axon", "sync-noop: axon"):
        assert target in done.stdout


def test_server_quick_run_times_both_servers_with_both_clients(tmp_path: Path) -> None:
    done = run("server", "--quick", "--output", str(tmp_path))
    assert done.returncode == 0, done.stderr

    entries = json.loads((tmp_path / "server.json").read_text())
    clients, sizes = ("axon-client", "openpi-client"), (294 * 1024, 2700 * 1024)
    assert [(entry["case"], entry["size_bytes"], entry["unit"], entry["name"]) for entry in entries] == [
        (case, size, unit, name)
        for case, size, unit in [
            *(
                (f"{kind}-{client}", size, unit)
                for client in clients
                for kind, unit in (("round-trip", "ms"), ("16-clients", "observations/s"))
                for size in sizes
            ),
            ("healthz-waiting", 0, "ms p99"),
            ("healthz-computing", 0, "ms p99"),
        ]
        for name in ("axon-server", "openpi-server")
    ]
    assert all(list(entry) == ["case", "name", "size_bytes", "value", "unit"] for entry in entries)
    assert all(entry["value"] > 0 for entry in entries)

    detail = json.loads((tmp_path / "server_detail.json").read_text())["results"]
    assert {entry["name"] for entry in detail} == {"axon-server", "openpi-server", "floor"}
    for target in ("round-trip, 294 KiB", "16-clients, 2.7 MiB", "healthz-waiting: axon-server p99"):
        assert target in done.stdout


class Answers:
    """A server, or a client of it, that answers every order in the same way."""

    def __init__(self, name: str, answer: str) -> None:
        self.name = name
        self.answer = answer

    def order(self, _line: str) -> str:
        return self.answer


def test_the_tabletops_run_times_steps_pictures_and_the_expert(tmp_path: Path) -> None:
    done = run("tabletop", "--rounds", "1", "--output", str(tmp_path))
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "tabletop.json").read_text())
    assert [line["unit"] for line in told] == ["steps/s", "ms", "ms", "ms"]
    assert all(line["value"] > 0 and line["case"] in done.stdout for line in told)


@pytest.mark.parametrize("answer", ["301087 1 3", "301088 2 3", "301088 1 4"])
def test_servers_whose_policies_see_or_say_different_things_fail_the_run(answer: str) -> None:
    servers: Any = [Answers("axon-server", "ok"), Answers("openpi-server", "ok")]
    crowd: Any = {
        "axon-server": [Answers("axon-client of axon-server", "301088 1 3")],
        "openpi-server": [Answers("axon-client of openpi-server", answer)],
    }
    with pytest.raises(harness.BenchError, match=f"answers differ(.|\n)*of openpi-server: {answer}"):
        server.check_answers(servers, crowd)


@pytest.fixture
def exchange(tmp_path: Path) -> Any:
    return http.Exchange(tmp_path)


def test_a_request_that_leaves_a_field_out_fails_the_run_by_name(exchange: Any) -> None:
    sent = detect_payload(exchange.left)
    assert exchange.check_request("jpeg-bytes", "somebody", json.dumps(sent).encode()) == 0
    del sent["conf"]
    with pytest.raises(harness.BenchError, match="jpeg-bytes: somebody: the request differs in conf"):
        exchange.check_request("jpeg-bytes", "somebody", json.dumps(sent).encode())


def test_a_picture_of_other_pixels_fails_the_run_by_name(exchange: Any) -> None:
    sent = json.dumps(detect_payload(exchange.pixels))
    assert exchange.check_request("array", "somebody", sent.encode()) > 0
    other = json.dumps(detect_payload(exchange.pixels[:, :, ::-1]))
    with pytest.raises(harness.BenchError, match=r"array: somebody: the picture .* has other pixels"):
        exchange.check_request("array", "somebody", other.encode())


def test_a_wrong_answer_fails_the_run_by_name(exchange: Any) -> None:
    class Liar:
        name = "somebody"

        def order(self, _line: str) -> str:
            return "[]"

    liar: Any = Liar()
    with pytest.raises(harness.BenchError, match="jpeg-bytes: somebody: wrong answer"):
        http.check(http.CASES[0], exchange, liar, "0", [liar])


# ---- control ---------------------------------------------------------------------------------


def test_control_quick_run_scores_every_mode_and_draws_it(tmp_path: Path) -> None:
    done = run("control", "--quick", "--output", str(tmp_path))
    assert done.returncode == 0, done.stderr

    told = json.loads((tmp_path / "control.json").read_text())
    modes = ["openpi", "blocking", "prefetch", "aligned", "ensemble"]
    assert [(entry["latency"], entry["mode"]) for entry in told["modes"]] == [
        (latency, mode) for latency in ("80 ± 30 ms", "300 ms") for mode in [*modes, "ideal"]
    ]
    assert list(told["jitter_p99_ms"]) == modes
    assert all(list(found) == ["50 Hz", "200 Hz", "1000 Hz"] for found in told["jitter_p99_ms"].values())
    assert [entry["hz"] for entry in told["wake_up_us"]] == [50, 200, 1000]
    assert told["next_action_ns"]["python"] > 0
    assert {"aligned", "ensemble"} < set(told["next_action_ns"]["c"])
    assert len(told["targets"]) == 5
    assert (tmp_path / "control.png").read_bytes().startswith(b"\x89PNG")


def trace_of(times: Any, **changes: Any) -> control.Trace:
    """The path itself, given at `times`."""
    given = {
        "times": times,
        "commands": control_path.path(times),
        "chunks": np.zeros(len(times), int),
        "fresh": np.ones(len(times), bool),
        "waits": np.zeros(len(times)),
        **changes,
    }
    return control.Trace(**given)


def test_a_loop_that_waited_for_its_policy_is_starved_for_that_long() -> None:
    ticks = np.arange(0, 4, 0.02)
    stood = np.concatenate([ticks[:100], ticks[100:] + 0.1])
    waits = (np.arange(200) == 100) * 0.1
    score = control.score(trace_of(stood, chunks=np.repeat([1, 2], 100), waits=waits))
    assert (score.ticks, score.chunks, score.stalled) == (205, 2, 0)
    assert score.starved_percent == pytest.approx(100 * 5 / 205)
    assert score.idle_ms == pytest.approx(50)


def test_a_loop_that_stood_still_for_another_reason_is_not() -> None:
    ticks = np.arange(0, 4, 0.02)
    score = control.score(trace_of(np.concatenate([ticks[:100], ticks[100:] + 0.1])))
    assert (score.ticks, score.starved_percent, score.idle_ms, score.stalled) == (205, 0, 0, 5)


def test_an_action_that_is_not_new_is_a_starved_tick() -> None:
    ticks = np.arange(0, 4, 0.02)
    score = control.score(trace_of(ticks, fresh=np.arange(200) % 20 != 10))
    assert score.starved_percent == pytest.approx(5)


def test_the_arm_follows_the_path_and_a_late_one_does_worse() -> None:
    ticks = np.arange(0, 10, 0.02)
    on_time = control.score(trace_of(ticks))
    late = control.score(trace_of(ticks, commands=control_path.path(ticks - 0.1)))
    assert on_time.starved_percent == on_time.idle_ms == 0
    assert 0 < on_time.error_mrad < 40 < 2 * on_time.error_mrad < late.error_mrad


def test_a_jump_where_a_chunk_begins_is_a_jerk() -> None:
    ticks = np.arange(0, 4, 0.02)
    chunks = np.repeat([1, 2], 100)
    smooth = control.score(trace_of(ticks, chunks=chunks))
    jumps = control.score(
        trace_of(ticks, chunks=chunks, commands=control_path.path(ticks) + chunks[:, None] * 0.1)
    )
    assert smooth.jerk < 100 < 1000 < jumps.jerk
    assert smooth.chunks == jumps.chunks == 2


def test_jitter_is_what_the_time_between_commands_is_off_the_period() -> None:
    ticks = np.arange(200) / 50 + np.arange(200) % 2 * 0.003
    assert control.jitter_ms(trace_of(ticks), 50) == pytest.approx(3)


def test_chunk_quick_run_times_every_mode_from_c_and_python(tmp_path: Path) -> None:
    done = run("chunk", "--quick", "--output", str(tmp_path))
    assert done.returncode == 0, done.stderr
    entries = json.loads((tmp_path / "chunk.json").read_text())
    assert {(entry["language"], entry["mode"], entry["width"]) for entry in entries} == {
        (language, mode, width)
        for language in ("C", "Python")
        for mode in ("blocking", "prefetch", "aligned", "ensemble", "rtc")
        for width in (7, 14)
    }
    assert all(entry["mean_ns"] > 0 for entry in entries)


def test_resize_quick_run_compares_the_pixels_of_all(tmp_path: Path) -> None:
    done = run("resize", "--quick", "--output", str(tmp_path))
    assert done.returncode == 0, done.stderr

    entries = json.loads((tmp_path / "resize.json").read_text())
    assert [list(entry) for entry in entries] == [["case", "name", "size_bytes", "value", "unit"]] * len(
        entries
    )
    timed = {(entry["case"], entry["name"]) for entry in entries if entry["value"] > 0}
    assert {(case, name) for case in ("bilinear", "pad", "alpha") for name in ("axon", "pillow")} <= timed
    assert {("pad", "openpi-client"), ("convert", "openpi-client")} <= timed


def test_a_picture_that_differs_fails_the_resize_run() -> None:
    black = np.zeros((4, 4, 3), np.uint8)
    resize.check_answers("same", {"axon": lambda: black, "pillow": lambda: black[1:3]}, None)
    with pytest.raises(harness.BenchError, match="other: axon and Pillow differ in 24 samples"):
        resize.check_answers("other", {"axon": lambda: black, "pillow": lambda: black[1:3, :] + 1}, None)


def test_streams_quick_run_loses_no_frame(tmp_path: Path) -> None:
    done = run("streams", "--quick", "--output", str(tmp_path))
    assert done.returncode == 0, done.stderr

    entries = json.loads((tmp_path / "streams.json").read_text())
    assert [list(entry) for entry in entries] == [["case", "name", "value", "unit"]] * len(entries)
    timed = {(entry["case"], entry["name"]) for entry in entries if entry["value"] > 0}
    cases = ("8 clients", "8 and a stalled one")
    assert {(case, name) for case in cases for name in ("axon", "websockets")} <= timed
    assert {name for case, name in timed if case.endswith("to bytes")} == {"axon", "json + base64"}
    assert "Every frame came" in done.stdout


def test_a_frame_that_is_not_the_one_sent_fails_the_streams_run() -> None:
    jpeg = streams.picture(64, 48)
    text = json.dumps(streams.camera_feed(jpeg, 1))
    streams.check_answers(text, jpeg)
    with pytest.raises(harness.BenchError, match="not those that were sent"):
        streams.check_answers(text, jpeg + b"x")


def test_simulator_quick_run_times_both_clients_at_both_servers(tmp_path: Path) -> None:
    done = run("simulator", "--quick", "--output", str(tmp_path))
    assert done.returncode == 0, done.stderr
    entries = json.loads((tmp_path / "simulator.json").read_text())
    assert {(entry["name"], entry["case"]) for entry in entries} == {
        (client, f"step at {server} server") for client in ("axon", "pyzmq") for server in ("axon", "pyzmq")
    }
    assert all(entry["value"] > 0 for entry in entries)
    assert "axon's client and server, beside pyzmq's" in done.stdout
    assert (tmp_path / "streams.json").exists()


def test_clients_that_see_different_things_fail_the_simulator_run() -> None:
    with simulator.playing() as workers:
        simulator.check_answers(workers)
        workers["axon", "axon"].numbers("round 0 1")
        with pytest.raises(harness.BenchError, match=r"what was seen differs(.|\n)*axon at axon: \d+"):
            simulator.check_answers(workers)
