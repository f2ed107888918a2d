"""How a fault is looked at: every observation has a number that its answer must bear, every call is timed, and what
the process holds is counted before and after. The rows of the table that the tests print at their end."""

from __future__ import annotations

import contextlib
import gc
import itertools
import time
from typing import Any, Iterator

import pytest
from support import open_files, running_threads

from service_clients._axon import Policy

SLACK = 5.0  # seconds that a call may outlast its deadline on a busy machine and still did not hang
USUAL = 20.0  # seconds, the deadline of calls that should not come near it

_NUMBERS = itertools.count(1)


class Fault:
    """One row: what the caller saw, how long the longest call took, how many answers were another's."""

    def __init__(self, name: str, deadline: float) -> None:
        self.name, self.deadline = name, deadline
        self.seen: dict[str, int] = {}
        self.seconds = 0.0
        self.stale = 0
        self.leaks = "not counted: it failed"

    def saw(self, what: str) -> None:
        """Notes what came of a call."""
        self.seen[what] = self.seen.get(what, 0) + 1

    @contextlib.contextmanager
    def timed(self, deadline: float) -> Iterator[None]:
        """Times one call, which must end in time and is noted by the name of what it raises."""
        started = time.monotonic()
        try:
            yield
        except BaseException as error:
            self.saw(type(error).__name__)
            raise
        finally:
            took = time.monotonic() - started
            self.seconds = max(self.seconds, took)
            assert took < deadline + SLACK, f"{self.name}: {took:.1f} s, the deadline was {deadline} s"

    def row(self) -> list[str]:
        """As it stands in the table."""
        seen = ", ".join(what if times == 1 else f"{what} x {times}" for what, times in self.seen.items())
        return [self.name, seen, f"{self.deadline:g} s", f"{self.seconds:.2f} s", str(self.stale), self.leaks]


class Robot:
    """Asks a policy with numbered observations."""

    def __init__(self, fault: Fault, policy: Policy, deadline: float = USUAL) -> None:
        self.fault, self.policy, self.deadline = fault, policy, deadline
        self.number = 0  # of the last observation

    def ask(self, deadline: float | None = None, **observation: Any) -> dict[str, Any]:
        """The answer, which must be this observation's."""
        self.number = number = next(_NUMBERS)
        limit = self.deadline if deadline is None else deadline
        with self.fault.timed(limit):
            reply = self.policy.infer({"number": number, **observation}, timeout=limit)
        self.fault.stale += reply["number"] != number
        assert reply["number"] == number, f"{self.fault.name}: a stale action"
        self.fault.saw("right")
        return reply

    def fails(
        self,
        kind: type[BaseException] | tuple[type[BaseException], ...],
        said: str | None = None,
        deadline: float | None = None,
        **observation: Any,
    ) -> BaseException:
        """Asks, and fails unless that raises ``kind`` with a message that matches ``said``."""
        with pytest.raises(kind, match=said) as caught:
            self.ask(deadline, **observation)
        return caught.value


TABLE: list[Fault] = []


@contextlib.contextmanager
def watched(name: str, deadline: float) -> Iterator[Fault]:
    """Fails when what runs inside leaves descriptors or threads behind. Servers are started outside of it."""
    gc.collect()
    files, threads = open_files(), _settled_threads()
    fault = Fault(name, deadline)
    TABLE.append(fault)
    yield fault
    gc.collect()
    fault.leaks = f"{open_files() - files} files, {_settled_threads() - threads} threads"
    assert fault.leaks == "0 files, 0 threads", f"{name}: {fault.leaks} left behind"
    fault.leaks = "none"


def _settled_threads() -> int:
    """How many threads there are when those of the tests' own that have ended are gone from the kernel's list."""
    count, since = running_threads(), time.monotonic()
    while time.monotonic() - since < 0.1:
        time.sleep(0.01)
        if running_threads() != count:
            count, since = running_threads(), time.monotonic()
    return count


def print_table(reporter: pytest.TerminalReporter) -> None:
    """The rows of the faults that ran."""
    if not TABLE:
        return
    head = ["fault", "the caller saw", "deadline", "longest", "stale", "left behind"]
    rows = [head, *(fault.row() for fault in TABLE)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    reporter.section("faults")
    for row in rows:
        reporter.write_line("  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip())
