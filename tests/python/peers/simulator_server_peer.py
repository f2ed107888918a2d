"""A simulator server in the document's style, on pyzmq and msgpack: ``python simulator_server_peer.py today|document [PORT]``.

It announces its address. One simulator, "counter", with two tasks; `document` is a server that knows neither list_simulators nor
select_simulator. An action may ask for more than a step: {"sleep": seconds}, or {"send": bytes}, which become the reply,
and {"twice": true}, {"frames": [bytes]}, {"silent": true}.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import msgpack  # type: ignore[import-untyped]
import numpy as np
import zmq


def encode(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return {
            "__type__": "ndarray",
            "shape": list(value.shape),
            "dtype": str(value.dtype),
            "data": value.tobytes(),
        }
    if isinstance(value, dict):
        return {key: encode(child) for key, child in value.items()}
    if isinstance(value, (list, tuple)):
        return [encode(child) for child in value]
    return value


def decode(value: Any) -> Any:
    if isinstance(value, dict):
        if value.get("__type__") == "ndarray":
            return np.frombuffer(value["data"], dtype=value["dtype"]).reshape(value["shape"])
        return {key: decode(child) for key, child in value.items()}
    if isinstance(value, list):
        return [decode(child) for child in value]
    return value


class Failure(Exception):
    def __init__(self, error_type: str, message: str) -> None:
        super().__init__(message)
        self.error_type = error_type


ACTION_SPACE = {"by": {"shape": [1], "dtype": "float64", "low": [-1.0], "high": [1.0]}}


class Session:
    def __init__(self, is_today: bool) -> None:
        self.is_today = is_today
        self.selected = None if is_today else "counter"
        self.task: str | None = None
        self.at: float | None = None

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        method = request.get("method")
        handler = getattr(self, f"do_{method}", None)
        if handler is None or (not self.is_today and method in ("list_simulators", "select_simulator")):
            raise Failure("unknown_method", f"Unknown method: {method}")
        if self.selected is None and method not in ("list_simulators", "select_simulator", "disconnect"):
            raise Failure("no_simulator_selected", "Call select_simulator first")
        return handler(request)  # type: ignore[no-any-return]

    def do_list_simulators(self, _request: dict[str, Any]) -> dict[str, Any]:
        return {"simulators": ["counter", "other"]}

    def do_select_simulator(self, request: dict[str, Any]) -> dict[str, Any]:
        if self.selected is not None:
            raise Failure("simulator_already_selected", f"{self.selected} is selected")
        if request["simulator"] not in ("counter", "other"):
            raise Failure("unknown_simulator", f"Unknown simulator: {request['simulator']}")
        self.selected = request["simulator"]
        return {"simulator": self.selected}

    def do_list_tasks(self, request: dict[str, Any]) -> dict[str, Any]:
        tasks = ["up", "down"]
        return {"tasks": [task for task in tasks if request.get("suite") in (None, task)]}

    def do_load_task(self, request: dict[str, Any]) -> dict[str, Any]:
        if request["task_name"] not in ("up", "down"):
            raise Failure("task_not_found", f"Task not found: {request['task_name']}")
        self.task, self.at = request["task_name"], None
        return {
            "task_info": {
                "task_name": self.task,
                "description": "count",
                "action_space": ACTION_SPACE,
                "max_episode_steps": 100,
            }
        }

    def observe(self) -> dict[str, Any]:
        return {
            "at": np.array([self.at]),
            "picture": np.full((64, 48, 3), int(abs(self.at or 0)) % 256, np.uint8),
            "nested": {"list": [np.arange(3, dtype=np.float32), {"deep": np.array([True, False])}]},
            "label": "counter",
        }

    def do_reset(self, _request: dict[str, Any]) -> dict[str, Any]:
        if self.task is None:
            raise Failure("no_task_loaded", "Call load_task first")
        self.at = 0.0
        return {"observation": self.observe()}

    def do_step(self, request: dict[str, Any]) -> dict[str, Any]:
        if self.at is None:
            raise Failure("not_reset", "Call reset first")
        action = request["action"]
        if not isinstance(action, dict):
            raise Failure("invalid_params", "action must be a dict")
        time.sleep(action.get("sleep", 0))
        if "by" not in action:
            raise Failure("invalid_params", "action lacks by")
        self.at += float(np.asarray(action["by"]).reshape(-1)[0])
        done = abs(self.at) >= 10
        observation = self.observe()
        if done:
            self.at = None
        return {
            "observation": observation,
            "reward": 1.0 if done else 0.0,
            "terminated": done,
            "truncated": False,
            "info": {"kind": type(action["by"]).__name__, "extra": np.arange(4)},
        }

    def do_get_info(self, _request: dict[str, Any]) -> dict[str, Any]:
        return {
            "backend_name": "counter",
            "backend_version": "1",
            "current_task": self.task,
            "action_space": ACTION_SPACE if self.task else None,
            "observation_space": None,
        }

    def do_disconnect(self, _request: dict[str, Any]) -> dict[str, Any]:
        return {}


def main(age: str, port: int) -> None:
    router: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.ROUTER)
    if port:
        router.bind(f"tcp://127.0.0.1:{port}")
    else:
        port = router.bind_to_random_port("tcp://127.0.0.1")
    print(json.dumps({"url": f"tcp://127.0.0.1:{port}"}), flush=True)
    sessions: dict[bytes, Session] = {}
    while True:
        identity, empty, body = router.recv_multipart()
        session = sessions.setdefault(identity, Session(age == "today"))
        request = {}
        try:
            request = decode(msgpack.unpackb(body, raw=False))
            reply = {"status": "ok", **session.answer(request)}
        except Failure as failure:
            reply = {"status": "error", "error_type": failure.error_type, "message": str(failure)}
        if request.get("method") == "disconnect":
            del sessions[identity]
        action = request.get("action", {})
        frames = action.get("frames") or [
            action.get("send") or msgpack.packb(encode(reply), use_bin_type=True)
        ]
        for _ in range(0 if action.get("silent") else 2 if action.get("twice") else 1):
            router.send_multipart([identity, empty, *frames])


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0)
