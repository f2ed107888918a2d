"""The Python in docs/control.md, run as it stands: given are only what a user brings, a policy, a camera, a robot."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service_clients.runtime.chunk_engine import ChunkEngine
from service_clients.runtime.environment import Environment

PAGE = Path(__file__).resolve().parents[2] / "docs/control.md"


class Still:
    def infer(self, obs: dict[str, Any]) -> dict[str, Any]:
        return {"actions": np.zeros((20, 3), np.float32)}


class Robot(Environment):
    """Has had enough after ten commands."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.given, self.commands = given, 0

    def command(self, action: Any) -> None:
        self.commands += 1
        if self.commands == 10:
            self.given["pacer"].stop()

    def reset(self) -> None:
        self.commands = 0

    def is_episode_complete(self) -> bool:
        return self.commands >= 5

    def get_observation(self) -> dict[str, Any]:
        return {"state": np.zeros(3)}

    def apply_action(self, action: dict[str, Any]) -> None:
        self.commands += 1


def test_the_programs_of_the_page_run_as_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    looking, clock, running, ctrl_c = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    given: dict[str, Any] = {"policy": Still(), "camera": [{"at": 1}]}
    given["robot"] = given["environment"] = Robot(given)
    exec(looking, given)
    assert given["robot"].commands == 10
    with ChunkEngine(Still()) as given["engine"]:
        given["engine"].submit({"at": 1})
        given["robot"].reset()
        exec(clock, given)
        assert "10 ticks at" in capsys.readouterr().out
        exec(running, given)
        assert "3 episodes, 15 steps" in capsys.readouterr().out
        exec(ctrl_c, given)
    assert len(list((tmp_path / "run").glob("episode_*.npz"))) == 6
