"""Runs a skill script the way a robot's code sandbox does, only stricter.

    python -m service_clients.demo.sandbox [--frame PHOTO] SCRIPT [ARGUMENT ...]

Nothing that opens a socket, starts a process or calls C from Python can be imported by the script or by
anything it imports: see REFUSED. The script runs as ``__main__`` and finds ``robot_sdk.sensors``, whose
get_camera_frame() gives the bytes of PHOTO. docs/sandbox.md says what this proves and what it does not.

Ends with the script's own status, or with VIOLATION when a module of `service_clients` asked for a refused
one, even if it caught the refusal, or when a refused module got loaded in spite of everything.
"""

from __future__ import annotations

import builtins
import importlib
import pathlib  # noqa: F401 (numpy 1 does; before Python 3.12 it imports urllib.parse: so it comes before the fence)
import platform
import sys
import traceback
import types
from typing import Any, Callable, NamedTuple, Sequence

# The whole package goes with each name.
REFUSED = (
    # HTTP and RPC from Python
    "requests",
    "httpx",
    "http",
    "urllib",
    "urllib3",
    "aiohttp",
    "grpc",
    # what they stand on
    "socket",
    "_socket",
    "ssl",
    "_ssl",
    # ways around: C called from Python, other processes
    "ctypes",
    "_ctypes",
    "subprocess",
    "_posixsubprocess",
)
# What the interpreter reports of deeds, whichever module did them (sys.addaudithook).
REFUSED_EVENTS = (
    "socket.",
    "ctypes.",
    "subprocess.",
    "os.system",
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "pty.",
)
CLIENTS = "service_clients."
OWN = "service_clients.demo."  # this package is the sandbox's, not what is tried out in it
VIOLATION = 97


class Refusal(ImportError):
    """An import that the sandbox does not allow."""


class Attempt(NamedTuple):
    """Who asked for which refused module."""

    name: str
    importer: str


def is_refused(name: str) -> bool:
    """Whether a module, ``http.client``, is one of REFUSED or lies inside one."""
    return name.partition(".")[0] in REFUSED


class Fence:
    """Stands in every way by which Python imports, and writes down who was turned away."""

    def __init__(self) -> None:
        self.attempts: list[Attempt] = []

    def raise_it(self) -> None:
        """Forgets the refused modules that were loaded already, and stands in the way from now on."""
        platform.uname()  # numpy 1 asks; only the first answer takes a subprocess, before Python 3.9
        for name in [name for name in sys.modules if is_refused(name)]:
            del sys.modules[name]
        sys.meta_path.insert(0, self)
        builtins.__import__ = self._guard(builtins.__import__, of_import=True)
        importlib.__import__ = builtins.__import__
        importlib.import_module = self._guard(importlib.import_module)
        sys.addaudithook(self._audit)

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> None:
        """Refuses, or leaves the module to the other finders."""
        self._check(fullname)

    def violations(self) -> list[str]:
        """What the clients did that a sandbox does not allow; empty when all is well."""
        asked = [
            f"{attempt.importer} asked for {attempt.name}"
            for attempt in self.attempts
            if attempt.importer.startswith(CLIENTS) and not attempt.importer.startswith(OWN)
        ]
        return asked + [f"{name} got loaded" for name in sorted(sys.modules) if is_refused(name)]

    def _check(self, name: str) -> None:
        if is_refused(name):
            importer = _importer()
            self.attempts.append(Attempt(name, importer))
            raise Refusal(
                f"import of {name!r} by {importer} is refused in this sandbox: "
                "reach services through service_clients",
                name=name,
            )

    def _guard(self, function: Callable[..., Any], of_import: bool = False) -> Callable[..., Any]:
        def guarded(name: str, *args: Any, **kwargs: Any) -> Any:
            # `from . import socket` names a module of the importer's own package.
            level = kwargs.get("level", args[3] if len(args) > 3 else 0) if of_import else 0
            if not level:
                self._check(name)
            return function(name, *args, **kwargs)

        return guarded

    def _audit(self, event: str, details: tuple[Any, ...]) -> None:
        if event == "import":
            self._check(str(details[0]))
        elif event.startswith(REFUSED_EVENTS):
            raise PermissionError(f"{event} is refused in this sandbox")


def _importer() -> str:
    """The name of the module whose code asked, past this file's frames and the import machinery's."""
    frame = sys._getframe(1)
    while frame.f_back and (frame.f_globals is globals() or _is_machinery(frame)):
        frame = frame.f_back
    return str(frame.f_globals.get("__name__", "?"))


def _is_machinery(frame: types.FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).startswith(("importlib", "_frozen_importlib"))


def offer_robot_sdk(photo: str | None) -> None:
    """Puts a stand-in for the robot's SDK in place: robot_sdk.sensors.get_camera_frame()."""

    def get_camera_frame() -> bytes:
        """The newest picture of the robot's camera, as JPEG bytes."""
        if photo is None:
            raise RuntimeError("this sandbox has no camera; start it with --frame PHOTO")
        with open(photo, "rb") as file:
            return file.read()

    sdk, sensors = types.ModuleType("robot_sdk"), types.ModuleType("robot_sdk.sensors")
    sensors.__dict__["get_camera_frame"] = get_camera_frame
    sdk.__dict__["sensors"] = sensors
    sdk.__path__ = []
    sys.modules.update({"robot_sdk": sdk, "robot_sdk.sensors": sensors})


def run(script: str) -> int:
    """Runs ``script`` as ``__main__`` and returns the status that it ends with."""
    main = types.ModuleType("__main__")
    main.__file__ = script
    sys.modules["__main__"] = main
    try:
        with open(script, "rb") as file:
            code = compile(file.read(), script, "exec")
        exec(code, main.__dict__)
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except Exception:
        traceback.print_exc()
        return 1
    return 0


def main(arguments: Sequence[str]) -> int:
    """The command; see the module."""
    rest, photo = list(arguments), None
    if rest[:1] == ["--frame"] and len(rest) > 1:
        photo, rest = rest[1], rest[2:]
    if not rest or rest[0].startswith("-"):
        print(
            "usage: python -m service_clients.demo.sandbox [--frame PHOTO] SCRIPT [ARGUMENT ...]",
            file=sys.stderr,
        )
        return 2
    sys.argv = rest
    offer_robot_sdk(photo)
    fence = Fence()
    fence.raise_it()
    status = run(rest[0])
    found = fence.violations()
    for violation in found:
        print(f"sandbox: {violation}", file=sys.stderr)
    return VIOLATION if found else status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
