"""A machine at the end of a cable that can be cut: a network namespace and a pair of virtual interfaces."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
from types import TracebackType

_NUMBERS = itertools.count()
_NOBODY = "02:00:00:00:00:99"  # a hardware address that neither end has: frames to it are dropped unseen


class FarMachine:
    """A namespace of its own at `address`; we are `here`. Needs root.

    cut() makes every packet vanish on the way, in both directions, and tells neither side: no reset, no
    unreachable, no lost carrier, as when a robot drives out of the radio's range.
    """

    def __init__(self) -> None:
        assert os.geteuid() == 0, "network namespaces need root, which CI is: run these tests as root"
        number = next(_NUMBERS)
        self.name = f"axon{os.getpid()}n{number}"
        self._ours, self._theirs = f"ax{os.getpid()}h{number}"[:15], "far"
        net = (os.getpid() * 8 + number) % 16384
        prefix, last = f"10.{213 + net // 8192}.{net // 64 % 128}", net % 64 * 4
        self.here, self.address = f"{prefix}.{last + 1}", f"{prefix}.{last + 2}"

    def __enter__(self) -> FarMachine:
        try:
            self._build()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._remove()

    def command(self, *command: str) -> list[str]:
        """What runs ``command`` on the far machine; the process is the same, so its id is the command's."""
        return ["ip", "netns", "exec", self.name, *command]

    def cut(self) -> None:
        """Every packet vanishes from now on."""
        _ip("neigh", "replace", self.address, "lladdr", _NOBODY, "dev", self._ours, "nud", "permanent")
        _ip(
            *("-n", self.name, "neigh", "replace", self.here, "lladdr", _NOBODY, "dev", self._theirs),
            *("nud", "permanent"),
        )

    def mend(self) -> None:
        """Packets arrive again."""
        theirs = _ip("netns", "exec", self.name, "cat", f"/sys/class/net/{self._theirs}/address").strip()
        with open(f"/sys/class/net/{self._ours}/address", encoding="ascii") as file:
            ours = file.read().strip()
        _ip("neigh", "replace", self.address, "lladdr", theirs, "dev", self._ours, "nud", "permanent")
        _ip(
            *("-n", self.name, "neigh", "replace", self.here, "lladdr", ours, "dev", self._theirs),
            *("nud", "permanent"),
        )

    def _build(self) -> None:
        _ip("netns", "add", self.name)
        _ip("link", "add", self._ours, "type", "veth", "peer", "name", self._theirs, "netns", self.name)
        _ip("address", "add", f"{self.here}/30", "dev", self._ours)
        _ip("link", "set", self._ours, "up")
        _ip("-n", self.name, "address", "add", f"{self.address}/30", "dev", self._theirs)
        _ip("-n", self.name, "link", "set", self._theirs, "up")
        _ip("-n", self.name, "link", "set", "lo", "up")
        self.mend()

    def _remove(self) -> None:
        with contextlib.suppress(AssertionError):
            _ip("link", "delete", self._ours)
        with contextlib.suppress(AssertionError):
            _ip("netns", "delete", self.name)


def _ip(*words: str) -> str:
    done = subprocess.run(["ip", *words], check=False, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr.strip()}"
    return done.stdout
