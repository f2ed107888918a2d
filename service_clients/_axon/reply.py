"""What a policy call gives back: the reply with its timing, and the session's counters."""

from __future__ import annotations

from typing import Any, Dict, NamedTuple

__all__ = ["PARTS", "Percentiles", "PolicyStats", "Reply", "Timing"]

PARTS = ("total", "encode", "send", "wait", "decode", "server", "network")
_COUNTERS = ("timeouts", "cancels", "discarded", "reconnects", "failovers", "resent")


class Timing(NamedTuple):
    """Where the time of one call went, in ms, on one monotonic clock."""

    total_ms: float  # the whole call
    encode_ms: float  # the observation to bytes
    connect_ms: float  # reconnecting, and waiting for replies owed to earlier calls; 0 most of the time
    send_ms: float  # until the system had the last byte
    wait_ms: float  # until the reply was here whole: network and server
    decode_ms: float  # the reply to a tree
    server_ms: float | None  # of wait_ms, the server's own `server_timing.infer_ms`; None when it did not say
    sent_bytes: int
    received_bytes: int

    @property
    def network_ms(self) -> float | None:
        """What the way there and back took: send_ms + wait_ms - server_ms; None when the server did not say."""
        return None if self.server_ms is None else self.send_ms + self.wait_ms - self.server_ms

    def __repr__(self) -> str:
        server = "" if self.server_ms is None else f" (server {self.server_ms:.3g})"
        connect = f"connect {self.connect_ms:.3g}, " if self.connect_ms else ""
        return (
            f"Timing({self.total_ms:.4g} ms: encode {self.encode_ms:.3g}, {connect}send {self.send_ms:.3g}, wait "
            f"{self.wait_ms:.4g}{server}, decode {self.decode_ms:.3g}; {self.sent_bytes} bytes out, "
            f"{self.received_bytes} in)"
        )


class Reply(Dict[str, Any]):
    """What the server answered: a dict that also knows where its time went, in `timing`."""

    __slots__ = ("_timing",)

    _timing: Any  # what C said, until somebody asks

    @property
    def timing(self) -> Timing:
        """Where the time of this call went. A reply that was made by hand has none: AttributeError."""
        if not isinstance(self._timing, Timing):
            told = self._timing
            server = told.server_ms if told.server_ms >= 0 else None
            values = [getattr(told, name) for name in Timing._fields]
            self._timing = Timing(*values)._replace(server_ms=server)
        return self._timing

    def __reduce__(self) -> Any:
        timing = self.timing if hasattr(self, "_timing") else None
        return _again, (dict(self), timing)


def _again(members: dict[str, Any], timing: Timing | None) -> Reply:
    """A copied or unpickled reply."""
    reply = Reply(members)
    if timing is not None:
        reply._timing = timing
    return reply


class Percentiles(NamedTuple):
    """In ms, over the last replies, at most 1024 of them; all 0 when there was none."""

    p50: float
    p95: float
    p99: float
    max: float


class PolicyStats(NamedTuple):
    """What became of a session's calls; str() is a table of it."""

    calls: int  # of infer() and reset()
    replies: int  # to them
    timeouts: int
    cancels: int
    discarded: int  # late replies that were thrown away
    reconnects: int  # connections made after the first
    failovers: int  # of these, to another address than the one before
    resent: int  # observations that were sent a second time
    window: int  # replies that the percentiles are of
    total: Percentiles
    encode: Percentiles
    send: Percentiles
    wait: Percentiles
    decode: Percentiles
    server: Percentiles  # of the replies that said
    network: Percentiles  # send + wait - server, of the same replies
    verdict: str  # medians: "server 212 ms, network 3 ms, client 0.4 ms"

    def __str__(self) -> str:
        counted = [f"{getattr(self, name)} {name}" for name in _COUNTERS if getattr(self, name)]
        lines = [self.verdict] if self.verdict else []
        lines.append(", ".join([f"{self.calls} calls, {self.replies} replies", *counted]))
        if self.window:
            lines.append(f"{'ms':8}" + "".join(f"{name:>10}" for name in Percentiles._fields))
            for part in [name for name in PARTS if getattr(self, name).max > 0]:
                lines.append(f"{part:8}" + "".join(f"{number:10.3f}" for number in getattr(self, part)))
        return "\n".join(lines)
