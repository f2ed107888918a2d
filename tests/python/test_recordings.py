"""Sessions that are recorded, read and replayed."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator

import msgpack  # type: ignore[import-untyped]
import numpy as np
import pytest
from support import served

from service_clients._axon.msgpack_numpy import packb, unpackb
from service_clients._axon.recording import Recording
from service_clients._axon.server import PolicyServer
from service_clients.openpi.client import WebsocketClientPolicy
from service_clients.openpi.replay import Replay, main
from service_clients.openpi.server import WebsocketPolicyServer
from service_clients.webpolicy.client import Client

ROOT = Path(__file__).parents[2]


class Counter:
    """Numbers its answers; fails when told to."""

    def __init__(self) -> None:
        self.count = 0

    def infer(self, obs: dict[str, Any]) -> dict[str, Any]:
        if "fail" in obs:
            raise ValueError("no such joint")
        self.count += 1
        return {"actions": np.full((4, 7), self.count, np.float32), "n": self.count}

    def reset(self) -> None:
        self.count = 0


@pytest.fixture
def server() -> Iterator[PolicyServer]:
    with served(WebsocketPolicyServer(Counter(), port=0, metadata={"action_horizon": 4})) as running:
        yield running


@pytest.fixture
def recorded(server: PolicyServer, tmp_path: Path) -> Path:
    path = tmp_path / "session.axon"
    with WebsocketClientPolicy(server.url, record=str(path)) as client:
        for number in range(3):
            client.infer({"number": number, "image": np.zeros((64, 64, 3), np.uint8)})
        with pytest.raises(RuntimeError):
            client.infer({"fail": True})
    return path


def test_every_message_is_in_the_recording(recorded: Path, server: PolicyServer) -> None:
    with Recording(recorded) as recording:
        entries = list(recording)
        assert recording.url == server.url
        assert not recording.is_cut
    assert [entry.kind for entry in entries] == ["metadata"] + ["request", "reply"] * 4
    assert entries[0].read()["action_horizon"] == 4
    assert [entry.read()["number"] for entry in entries[1:7:2]] == [0, 1, 2]
    assert [entry.read()["n"] for entry in entries[2:7:2]] == [1, 2, 3]
    assert "no such joint" in entries[8].read()
    assert entries[1].message == packb({"number": 0, "image": np.zeros((64, 64, 3), np.uint8)})
    times = [entry.seconds for entry in entries]
    assert times == sorted(times)


def test_any_msgpack_library_reads_it(recorded: Path) -> None:
    with open(recorded, "rb") as file:
        head, *entries = msgpack.Unpacker(file)
    assert (head["format"], head["version"]) == ("axon-recording", 1)
    assert [entry[0] for entry in entries] == ["metadata"] + ["request", "reply"] * 4
    assert unpackb(entries[1][2])["number"] == 0


def test_a_recording_that_was_cut_off_is_read_up_to_there(recorded: Path) -> None:
    whole = recorded.read_bytes()
    with Recording(recorded) as recording:
        count = len(list(recording))
    for length in range(len(whole) - 1, len(whole) - 2000, -37):
        recorded.write_bytes(whole[:length])
        with Recording(recorded) as recording:
            assert len(list(recording)) < count
            assert recording.is_cut or length < len(whole)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"\xc1", "no recording"),
        (b"\x81\xa1a\x01", "does not begin as one"),
        (msgpack.packb({"format": "axon-recording", "version": 2}), "version 2, this reads 1"),
    ],
)
def test_what_is_no_recording_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(RuntimeError, match=words):
        Recording(path)


def test_an_entry_that_is_none_is_named(recorded: Path) -> None:
    with open(recorded, "ab") as file:
        file.write(msgpack.packb(["metadata", "now", b""]))
    with Recording(recorded) as recording, pytest.raises(RuntimeError, match="entry 9: it is no"):
        list(recording)


def test_a_file_that_cannot_be_written_is_told(server: PolicyServer, tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"record_file"):
        WebsocketClientPolicy(server.url, record=str(tmp_path / "none" / "file"))


def test_a_full_disk_ends_the_recording_and_nothing_else(server: PolicyServer, tmp_path: Path) -> None:
    path = tmp_path / "session.axon"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with WebsocketClientPolicy(server.url, record=str(path)) as client:
            for number in range(10):
                assert client.infer({"image": np.zeros((64, 64, 3), np.uint8)})["n"] == number + 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    with Recording(path) as recording:
        kinds = [entry.kind for entry in recording]
        assert not recording.is_cut
    assert kinds[:3] == ["metadata", "request", "reply"]
    assert 3 < len(kinds) < 21


def test_a_recording_is_replayed_as_a_server(recorded: Path) -> None:
    command = [sys.executable, "-m", "service_clients.openpi.replay", str(recorded), "--port", "0", "--loop"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert "4 replies" in line
        with WebsocketClientPolicy(line.split()[-1]) as client:
            assert client.get_server_metadata() == {"action_horizon": 4}
            for _ in range(2):
                for number in (1, 2, 3):
                    reply = client.infer({"any": "thing"})
                    assert reply["n"] == number
                    np.testing.assert_array_equal(reply["actions"], np.full((4, 7), number, np.float32))
                with pytest.raises(RuntimeError, match="no such joint"):
                    client.infer({"any": "thing"})
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(20) == 0


@contextmanager
def replayed(path: Path) -> Iterator[str]:
    """The URL of a server that replays."""
    command = [sys.executable, "-m", "service_clients.openpi.replay", str(path), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().split()[-1]
        finally:
            os.kill(process.pid, signal.SIGINT)
            assert process.wait(20) == 0


def test_every_client_hears_a_recording_from_its_beginning(recorded: Path) -> None:
    with replayed(recorded) as url, WebsocketClientPolicy(url) as one, WebsocketClientPolicy(url) as other:
        assert [one.infer({"any": 1})["n"], one.infer({"any": 1})["n"]] == [1, 2]
        assert [other.infer({"any": 1})["n"], one.infer({"any": 1})["n"]] == [1, 3]
        with pytest.raises(RuntimeError, match="no such joint"):
            one.infer({"any": 1})
        for _ in range(2):
            with pytest.raises(RuntimeError, match="ends here"):
                one.infer({"any": 1})
        assert other.infer({"any": 1})["n"] == 2


def test_resets_are_not_taken_for_replies(tmp_path: Path, server: PolicyServer) -> None:
    path = tmp_path / "session.axon"
    with Client("127.0.0.1", server.port, record=str(path)) as client:
        client.reset({"task": "lift"})
        client.step({"a": 1})
    replay = Replay(str(path))
    assert len(replay) == 1
    assert replay.infer({})["n"] == 1
    with pytest.raises(RuntimeError, match="it has 1 replies"):
        replay.infer({})


@pytest.mark.parametrize("dialect", ["roboarena", "vllm-omni"])
def test_resets_of_other_dialects_are_acknowledged(
    dialect: str, tmp_path: Path, server: PolicyServer
) -> None:
    path = tmp_path / "session.axon"
    with WebsocketClientPolicy(server.url, dialect=dialect, record=str(path)) as client:
        client.infer({"a": 1})
    with replayed(path) as url, WebsocketClientPolicy(url, dialect=dialect) as client:
        client.reset({"session_id": "one"})
        assert client.infer({"a": 1})["n"] == 1


def test_the_command_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none")]) == 1
    assert "none" in capsys.readouterr().err
