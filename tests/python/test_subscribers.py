"""The subscribers that ship: a line of progress, recorded episodes, pictures of them."""

from __future__ import annotations

import builtins
import io
import logging
import os
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest

from service_clients.runtime.agent import Agent
from service_clients.runtime.chunk_engine import ChunkEngine
from service_clients.runtime.environment import Environment
from service_clients.runtime.policy_agent import PolicyAgent
from service_clients.runtime.runtime import Runtime
from service_clients.runtime.subscribers.plot import Plot
from service_clients.runtime.subscribers.progress import Progress
from service_clients.runtime.subscribers.recorder import Recorder


class Arm(Environment):
    """Five steps an episode, its observations in memory that is used again."""

    def __init__(self, **more: Any) -> None:
        self.state, self.step, self.more = np.zeros(2), 0, more

    def reset(self) -> None:
        self.step = 0

    def is_episode_complete(self) -> bool:
        return self.step >= 5

    def get_observation(self) -> dict[str, Any]:
        self.state[:] = self.step
        return {
            "state": self.state,
            "nested": {"names": ["a", "b"]},
            "task": f"task {self.step}",
            **self.more,
        }

    def apply_action(self, action: dict[str, Any]) -> None:
        self.step += 1


class Counts(NamedTuple):
    chunks: int
    late: int
    starved: int
    latency_p50_ms: float


class Chunks:
    """A policy that counts chunks as a ChunkEngine does: two steps to a chunk, the second chunk late."""

    def __init__(self) -> None:
        self.calls = 0

    def infer(self, obs: dict[str, Any]) -> dict[str, Any]:
        self.calls += 1
        return {"actions": np.array([self.calls, -self.calls, 0.5]), "gripper": np.float32(self.calls % 2)}

    def stats(self) -> Counts:
        return Counts((self.calls + 1) // 2, self.calls // 3, self.calls // 5, 84.0)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def run(*subscribers: Any, arm: Arm | None = None, policy: Any = None, **options: Any) -> Runtime:
    runtime = Runtime(arm or Arm(), PolicyAgent(policy or Chunks()), subscribers, **options)
    runtime.run()
    return runtime


# ---- progress --------------------------------------------------------------------------------


def test_progress_prints_whole_lines_where_there_is_no_terminal() -> None:
    stream = io.StringIO()
    run(Progress(stream, interval=0), max_hz=1000, num_episodes=2)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 12  # of each step, and of each episode's end
    assert lines[0].startswith("episode 1  step 1  ")
    assert lines[-1].startswith("episode 2  step 5  ")
    assert " of 1000 Hz  jitter " in lines[-1]
    assert "  latency 84 ms" in lines[-1]
    assert lines[-1].endswith("late 3  starved 2")
    assert "\x1b" not in stream.getvalue()


def test_progress_prints_at_most_a_line_a_second_and_one_at_the_end() -> None:
    stream = io.StringIO()
    run(Progress(stream))
    assert len(stream.getvalue().splitlines()) == 1


def test_progress_shows_the_agent_s_latency_where_nothing_else_is_known() -> None:
    class Plain(Agent):
        def get_action(self, observation: dict[str, Any]) -> dict[str, Any]:
            return {}

        def reset(self) -> None: ...

    stream = io.StringIO()
    Runtime(Arm(), Plain(), [Progress(stream)]).run()
    assert "latency 0.0" in stream.getvalue()
    assert "jitter" not in stream.getvalue()


def test_progress_keeps_one_line_on_a_terminal_with_and_without_rich(monkeypatch: pytest.MonkeyPatch) -> None:
    with_rich, without = Terminal(), Terminal()
    run(Progress(with_rich, interval=0))
    assert "\x1b[?25l" in with_rich.getvalue()
    assert "step 5" in re.sub("\x1b[^m]*m", "", with_rich.getvalue())
    hide(monkeypatch, "rich")
    run(Progress(without, interval=0))
    assert without.getvalue().count("\n") == 1
    assert without.getvalue().count("\r") == 6
    assert "step 5" in without.getvalue()


def test_progress_writes_to_stderr_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    run(Progress())
    assert "step 5" in capsys.readouterr().err


def hide(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """As if a package were not installed."""
    real = builtins.__import__

    def refuse(name: str, *arguments: Any, **options: Any) -> Any:
        if name.split(".")[0] == package:
            raise ImportError(f"No module named {name!r}")
        return real(name, *arguments, **options)

    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", refuse)


# ---- recorder --------------------------------------------------------------------------------


def test_a_recorder_writes_an_episode_that_reads_back(tmp_path: Path) -> None:
    run(Recorder(tmp_path / "new" / "folder"), num_episodes=2)
    assert sorted(os.listdir(tmp_path / "new" / "folder")) == ["episode_0000.npz", "episode_0001.npz"]
    episode = np.load(tmp_path / "new" / "folder" / "episode_0001.npz")
    np.testing.assert_array_equal(episode["observation/state"], [[step] * 2 for step in range(5)])
    np.testing.assert_array_equal(episode["action/actions"][:, 0], range(6, 11))
    assert episode["action/gripper"].dtype == np.float32
    assert episode["observation/task"].tolist() == [f"task {step}" for step in range(5)]
    assert episode["observation/nested/names"].shape == (5, 2)
    assert episode["time"].shape == (5,)
    assert episode["time"][0] == 0
    assert not episode["truncated"]


def test_a_recorder_writes_over_nothing(tmp_path: Path) -> None:
    (tmp_path / "episode_0000.npz").write_bytes(b"precious")
    run(Recorder(tmp_path))
    assert (tmp_path / "episode_0000.npz").read_bytes() == b"precious"
    assert (tmp_path / "episode_0001.npz").exists()


def test_a_recorder_keeps_what_changes_its_shape_or_comes_and_goes(tmp_path: Path) -> None:
    class Odd(Arm):
        def get_observation(self) -> dict[str, Any]:
            found = {"boxes": np.ones((self.step, 4))}
            return {**found, "text": "now"} if self.step in (1, 3) else found

    run(Recorder(tmp_path), arm=Odd())
    episode = np.load(tmp_path / "episode_0000.npz")
    assert episode["observation/boxes[3]"].shape == (3, 4)
    assert episode["observation/text"].tolist() == ["now", "now"]
    assert episode["observation/text@steps"].tolist() == [1, 3]


def test_a_recorder_leaves_out_what_it_is_told_and_what_cannot_be(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    arm = Arm(image=np.zeros((8, 8, 3), np.uint8), odd=object())
    with caplog.at_level(logging.WARNING):
        run(Recorder(tmp_path, leave_out=["observation/image"]), arm=arm)
    episode = np.load(tmp_path / "episode_0000.npz")
    assert "observation/image" not in episode
    assert "observation/odd" not in episode
    assert [record.getMessage() for record in caplog.records] == [
        "recorder: observation/odd is left out: object"
    ]


def test_a_recorder_that_is_full_lets_the_run_go_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    runtime = run(Recorder(tmp_path, max_bytes=100))
    episode = np.load(tmp_path / "episode_0000.npz")
    assert episode["truncated"]
    assert 1 <= len(episode["time"]) < 5 == runtime.stats().steps
    assert "(max_bytes); no more" in caplog.text
    with pytest.raises(ValueError, match="max_bytes is 0"):
        Recorder(tmp_path, max_bytes=0)


def test_a_recorder_keeps_the_steps_of_an_episode_that_failed(tmp_path: Path) -> None:
    class Breaks(Arm):
        def apply_action(self, action: dict[str, Any]) -> None:
            self.step += 1
            if self.step == 4:
                raise OSError("the arm is off")

    with pytest.raises(OSError, match="the arm is off"):
        run(Recorder(tmp_path), arm=Breaks())
    assert len(np.load(tmp_path / "episode_0000.npz")["time"]) == 3


# ---- plot ------------------------------------------------------------------------------------


def test_a_plot_is_a_picture_of_each_episode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plot, drawn = Plot(tmp_path, size=(6, 2)), []
    draw = plot._draw

    def look(panel: Any, name: str) -> None:
        draw(panel, name)
        drawn.append((name, panel))

    monkeypatch.setattr(plot, "_draw", look)
    run(plot, num_episodes=2, max_hz=500)
    picture = cv2.imread(str(tmp_path / "episode_0001.png"))
    assert picture is not None
    assert picture.shape == (450, 600, 3)
    assert picture.std() > 10
    (name, panel), (other, _) = drawn[:2]
    assert (name, other) == ("actions", "gripper")
    labels = [str(drawn.get_label()) for drawn in (*panel.get_lines(), *panel.patches)]
    named = ["[0]", "[1]", "[2]", "chunk", "late chunk", "starved"]
    assert [label for label in labels if not label.startswith("_")] == named
    assert len(labels) == 3 + 3 + 1 + 1
    np.testing.assert_array_equal(panel.get_lines()[1].get_ydata(), [-1, -2, -3, -4, -5])


def test_a_plot_without_matplotlib_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide(monkeypatch, "matplotlib")
    with pytest.raises(RuntimeError, match="pip install matplotlib"):
        Plot(tmp_path)


def test_an_episode_without_a_step_leaves_no_files(tmp_path: Path) -> None:
    arm = Arm()
    arm.get_observation = lambda: None  # type: ignore[method-assign,assignment,return-value]
    with pytest.raises(TypeError, match="returned None"):
        run(Recorder(tmp_path), Plot(tmp_path), arm=arm)
    assert os.listdir(tmp_path) == []


# ---- over a chunk engine -------------------------------------------------------------------------


def test_over_a_chunk_engine_they_show_its_chunks_and_its_latency(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Policy:
        def infer(self, obs: dict[str, Any]) -> dict[str, Any]:
            return {"actions": np.zeros((2, 3), np.float32)}

    plot, stream, boundaries = Plot(tmp_path), io.StringIO(), []
    monkeypatch.setattr(plot, "_draw", lambda panel, name: boundaries.extend(plot._marks["chunks"]))
    with ChunkEngine(Policy(), mode="blocking") as engine:
        runtime = Runtime(Arm(), PolicyAgent(engine), [plot, Progress(stream), Recorder(tmp_path)])
        runtime.run()
        runtime.run()
        latency = engine.stats().latency_p50_ms
    assert boundaries == [0, 2, 4] * 2
    assert f"latency {latency:.2f} ms" in stream.getvalue()
    assert np.load(tmp_path / "episode_0001.npz")["action/actions"].shape == (5, 3)
