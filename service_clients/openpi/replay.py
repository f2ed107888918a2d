"""
openpi - replay

Plays a recorded session back as a policy server, for tests without a GPU:

    WebsocketClientPolicy(..., record="session.axon")           # on the robot, once
    python -m service_clients.openpi.replay session.axon        # anywhere, any time

Every client that connects gets the recorded metadata, and to its first request the first recorded reply, to its second
the second, and so on, whatever the others have had; errors are replayed as errors. Behind the last reply a request is answered with an error, or with --loop
with the first reply again.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any, NamedTuple, Sequence

from service_clients._axon._ffi import ffi, lib
from service_clients._axon.errors import AxonError, AxonValueError
from service_clients._axon.recording import Recording
from service_clients._axon.server import PolicyServer

__all__ = ["Replay", "main"]

_OP = "__webpolicy_op__"
_RESET_DONE = {"status": "reset successful"}  # to the clients of RoboArena and vllm-omni
_MOST_CLIENTS = 4096  # whose place is remembered


class Answer(NamedTuple):
    """What the server said, and how long it took."""

    reply: Any
    seconds: float


class Replay:
    """The policy of a recording. Replies are read when they are asked for, in order; resets change nothing."""

    def __init__(self, path: str, *, keep_time: bool = False, loop: bool = False) -> None:
        """Reads the recording.

        Args:
            path: the file.
            keep_time: answer as slowly as the server did.
            loop: begin anew behind the last reply.

        Raises:
            OSError: the file cannot be read; AxonProtocolError: it is no recording;
            AxonValueError: there is no reply in it.
        """
        self.metadata: dict[str, Any] = {}
        self._answers: list[Answer] = []
        self._keep_time, self._loop = keep_time, loop
        self._places: dict[str, int] = {}
        self.client = ""  # who asks; the server sets it
        with Recording(path) as recording:
            self._read(recording)
            self.is_cut = recording.is_cut
        if not self._answers:
            raise AxonValueError(f"{path}: it has no reply to an observation")

    def __len__(self) -> int:
        return len(self._answers)

    def _read(self, recording: Recording) -> None:
        asked, is_reset = 0.0, False
        for entry in recording:
            if entry.kind == "metadata" and not self.metadata and isinstance(entry.message, bytes):
                metadata = entry.read()
                self.metadata = {key: value for key, value in metadata.items() if key != "__axon__"}
            elif entry.kind == "request":
                asked, request = entry.seconds, entry.read()
                is_reset = _is_reset(request)
            elif entry.kind == "reply" and not is_reset:
                self._answers.append(Answer(_actions(entry.read()), entry.seconds - asked))

    def infer(self, observation: dict[str, Any]) -> dict[str, Any]:
        """The next recorded reply; a reset that looks like an observation is acknowledged.

        Raises:
            RuntimeError: the recorded error of the server, or the recording has come to its end.
        """
        if _is_reset(observation):
            return dict(_RESET_DONE)
        place = self._places.pop(self.client, 0)
        is_over = place == len(self._answers)
        self._places[self.client] = place if is_over and not self._loop else place % len(self._answers) + 1
        if len(self._places) > _MOST_CLIENTS:
            del self._places[next(iter(self._places))]
        if is_over and not self._loop:
            raise RuntimeError(f"the recording ends here: it has {len(self._answers)} replies")
        answer = self._answers[place % len(self._answers)]
        if self._keep_time:
            time.sleep(answer.seconds)
        if isinstance(answer.reply, str):
            raise RuntimeError(answer.reply)
        return dict(answer.reply)

    def reset(self) -> None:
        """Does nothing: the replies go on."""


class _ReplayServer(PolicyServer):
    """A server that tells the recording who asks."""

    def __init__(self, replay: Replay, host: str, port: int) -> None:
        super().__init__(replay, host, port, replay.metadata)
        self._replay = replay

    def _make_reply(self, request: Any, keep: list[Any]) -> Any:
        self._replay.client = ffi.string(lib.axon_request_get_client(request)).decode()
        return super()._make_reply(request, keep)


def _is_reset(request: Any) -> bool:
    return isinstance(request, dict) and "reset" in (request.get(_OP), request.get("endpoint"))


def _actions(reply: Any) -> Any:
    """The action map of a recorded reply; a str is an error."""
    if isinstance(reply, dict):
        action = reply.get("action")
        return action if isinstance(action, dict) and len(reply) == 1 else reply
    return reply if isinstance(reply, str) else {"actions": reply}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns its exit status: 0 stopped by Ctrl-C, 1 the recording cannot be played."""
    parser = argparse.ArgumentParser(
        prog="python -m service_clients.openpi.replay",
        description="Plays a recorded policy session as a server.",
    )
    parser.add_argument("file", help="what a client's record= wrote")
    parser.add_argument("--host", default="127.0.0.1", help="what to listen on; default this machine alone")
    parser.add_argument("--port", type=int, default=8000, help="default 8000; 0 is one that is free")
    parser.add_argument("--keep-time", action="store_true", help="answer as slowly as the server did")
    parser.add_argument("--loop", action="store_true", help="begin anew behind the last reply")
    given = parser.parse_args(arguments)
    try:
        replay = Replay(given.file, keep_time=given.keep_time, loop=given.loop)
        server = _ReplayServer(replay, given.host, given.port)
        server.start()
    except (AxonError, OSError) as error:
        print(f"replay: {error}", file=sys.stderr)
        return 1
    cut = ", cut off behind the last" if replay.is_cut else ""
    print(f"{given.file}: {len(replay)} replies{cut}; serving on {server.url}", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
