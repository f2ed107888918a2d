"""examples/c/control_loop.c: an arm at 200 Hz over a policy that takes 80 ms."""

from __future__ import annotations

import math
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import served

from service_clients.openpi.server import WebsocketPolicyServer

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / os.environ.get("BUILD", "build/c") / "examples" / "control_loop"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(EXAMPLE), *arguments], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("mode", ["blocking", "prefetch", "aligned", "ensemble", "rtc"])
def test_the_arm_is_controlled_in_every_mode(mode: str) -> None:
    done = run("--mode", mode, "--seconds", "1.5")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^300 actions, \d+ starved; [1-9]\d* chunks", done.stdout, flags=re.MULTILINE)


def test_the_policy_may_be_on_another_server() -> None:
    class Plan:
        def infer(self, obs: dict[str, Any]) -> dict[str, Any]:
            at = obs["time"] + np.arange(16) / 10
            return {
                "actions": np.stack([(0.8 * at + math.pi) % (2 * math.pi) - math.pi, np.sin(1.5 * at) / 2], 1)
            }

    with served(WebsocketPolicyServer(Plan(), port=0)) as server:
        done = run("--seconds", "2", server.url)
    assert (done.returncode, done.stderr) == (0, "")
    found = re.search(r"tracking error: ([\d.]+) mrad rms", done.stdout)
    assert found
    assert float(found.group(1)) < 500  # an arm that went elsewhere would be at 2000


def test_what_it_does_not_know_is_refused() -> None:
    wrong = run("--mode", "fast")
    assert wrong.returncode == 2
    assert "--mode fast: not blocking, prefetch" in wrong.stderr
    assert "--seconds soon: not a number above 0" in run("--seconds", "soon").stderr
    assert "usage: control_loop" in run("--help").stderr
    nobody = run("not a url")
    assert nobody.returncode == 1
    assert "AXON_EINVAL" in nobody.stderr
