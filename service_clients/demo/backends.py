"""Server processes on loopback: each takes a free port, says where it is, and goes when its starter goes.

A server made for this binds port 0, calls announce() with its URL and watch_starter() once; whoever starts it
uses a Backend. Nobody picks a port beforehand, so no two runs can race for one.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from types import TracebackType


class Backend:
    """One server process, from its start until it is ended by its process id.

    Its standard error is the caller's; its standard input is a pipe that closes when this process dies.
    """

    def __init__(self, command: list[str], timeout: float = 20.0, env: dict[str, str] | None = None) -> None:
        """Starts ``command``, which has ``timeout`` seconds to announce itself."""
        self._command = command
        self._deadline = time.monotonic() + timeout
        self._told: dict[str, str] = {}
        # A session of its own: Ctrl-C goes to us alone, and we end it in order.
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, start_new_session=True
        )

    @property
    def url(self) -> str:
        """Where it listens; waits until it has said so. Raises RuntimeError when it does not."""
        return self.told("url")

    def told(self, name: str) -> str:
        """What it announced under a name. Waits and raises as `url`."""
        if not self._told:
            try:
                told = json.loads(self._first_line())
                self._told = {"url": str(told["url"]), **told}
            except (ValueError, KeyError, TypeError, OSError) as error:
                raise RuntimeError(f"{' '.join(self._command)}: did not start: {error}") from error
        if name not in self._told:
            raise RuntimeError(f"{' '.join(self._command)}: it announced no {name}")
        return self._told[name]

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def close(self) -> None:
        """Ends the process: asks, and after three seconds insists. Twice is fine."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(3.0)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def kill(self) -> None:
        """Ends the process without asking, as a crash would."""
        self._process.kill()
        self.close()

    def __enter__(self) -> Backend:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _first_line(self) -> bytes:
        pipe, line = self._process.stdout, b""
        if pipe is None or pipe.closed:
            raise ValueError("it has been closed")
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(max(self._deadline - time.monotonic(), 0.0)):
                    raise ValueError("nothing announced in time")
                piece = os.read(pipe.fileno(), 4096)
                if not piece:
                    raise ValueError(f"it ended with status {self._process.wait()}")
                line += piece
        return line


def announce(url: str, **more: str) -> None:
    """In a server process: says where it listens, as the one line that Backend waits for."""
    sys.stdout.write(json.dumps({"url": url, **more}) + "\n")
    sys.stdout.flush()


def watch_starter() -> None:
    """In a server process: ends it when whoever started it is gone, however that came about."""

    def wait() -> None:
        while os.read(0, 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="watch-starter", daemon=True).start()
