"""What the tests of the binding have in common besides their fixtures."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any, Callable

CHECKOUT = Path(__file__).resolve().parents[2]

# The types of the fixtures in conftest.py that are functions.
Serve = Callable[[Any], str]
ServePolicy = Callable[..., str]
RunScript = Callable[..., "subprocess.CompletedProcess[str]"]


def wait_until(condition: Callable[[], Any], seconds: float = 20.0) -> None:
    """Waits for a condition; fails when it does not come true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
