"""One client of the policy benchmark, in a process of its own: takes orders, answers in numbers.

    python -m benchmarks.contender NAME HOST PORT IMAGES HEIGHT WIDTH

Orders, a line each on standard input, and what is answered on standard output:

    check           one round trip    bytes received, their CRC-32, sum of the action chunk's 32-bit words
    round WARM N    WARM + N of them  N times in nanoseconds
    load MS         for so long       how many there were, and nanoseconds
    memory          none              resident KiB before the first round trip, and the peak since then

A round trip begins with the observation as a dict of arrays and ends with the actions as an array: packing
and unpacking belong to it. contender.c is the same for C.
"""

from __future__ import annotations

import asyncio
import sys
import time
from importlib import import_module
from typing import Any, Callable, Dict

import numpy as np

Observation = Dict[str, Any]
Reply = Dict[str, Any]


def make_observation(images: int, height: int, width: int) -> Observation:
    """Images uint8 (height, width, 3), state float32 (8,), and a prompt; contender.c makes the same."""
    positions = np.arange(height * width * 3, dtype=np.uint32)
    observation: Observation = {
        f"observation/image_{i}": ((positions + np.uint32(i)) * np.uint32(2654435761) >> np.uint32(24))
        .astype(np.uint8)
        .reshape(height, width, 3)
        for i in range(images)
    }
    observation["observation/state"] = np.arange(8, dtype=np.float32) / np.float32(8)
    observation["prompt"] = "pick up the red cup"
    return observation


def check_length(reply: Reply, expected: int) -> None:
    """Refuses a reply whose request did not arrive whole."""
    if reply["received_bytes"] != expected:
        raise RuntimeError(f"the server received {reply['received_bytes']} bytes, not {expected}")


class Client:
    """A client whose infer() blocks."""

    def __init__(self, infer: Callable[[Observation], Reply], close: Callable[[], object]) -> None:
        self.infer = infer
        self.close = close

    def times(self, observation: Observation, warm: int, count: int, expected: int) -> list[int]:
        """Nanoseconds of `count` round trips after `warm` that are not reported."""
        clock = time.perf_counter_ns
        times = []
        for i in range(-warm, count):
            start = clock()
            reply = self.infer(observation)
            end = clock()
            check_length(reply, expected)
            if i >= 0:
                times.append(end - start)
        return times

    def load(self, observation: Observation, milliseconds: int, expected: int) -> tuple[int, int]:
        """Round trips one after the other for so long: how many, and the nanoseconds they took together."""
        start = end = time.perf_counter_ns()
        count = 0
        while end - start < milliseconds * 1_000_000:
            check_length(self.infer(observation), expected)
            end = time.perf_counter_ns()
            count += 1
        return count, end - start


def open_axon(host: str, port: int) -> Client:
    """axon's drop-in for openpi-client."""
    from service_clients.openpi.client import WebsocketClientPolicy

    policy = WebsocketClientPolicy(host, port)
    return Client(policy.infer, policy.close)


def open_openpi(host: str, port: int) -> Client:
    """openpi-client as it comes from PyPI."""
    policy = import_module("openpi_client.websocket_client_policy").WebsocketClientPolicy(host, port)
    return Client(policy.infer, policy._ws.close)


class PicowsClient(Client):
    """picows' core API, timed inside its event loop, with openpi's msgpack around it."""

    def __init__(self, host: str, port: int) -> None:
        self._loop = new_event_loop()
        self._transport, self._listener = self._loop.run_until_complete(connect_picows(host, port))
        super().__init__(self._infer_once, self._transport.disconnect)

    def _infer_once(self, observation: Observation) -> Reply:
        return self._loop.run_until_complete(self._listener.infer(observation))

    def times(self, observation: Observation, warm: int, count: int, expected: int) -> list[int]:
        return self._loop.run_until_complete(self._times(observation, warm, count, expected))

    async def _times(self, observation: Observation, warm: int, count: int, expected: int) -> list[int]:
        clock = time.perf_counter_ns
        infer = self._listener.infer
        times = []
        for i in range(-warm, count):
            start = clock()
            reply = await infer(observation)
            end = clock()
            check_length(reply, expected)
            if i >= 0:
                times.append(end - start)
        return times


def new_event_loop() -> asyncio.AbstractEventLoop:
    """uvloop's, which picows recommends, where it can be installed."""
    try:
        loop: asyncio.AbstractEventLoop = import_module("uvloop").new_event_loop()
    except ImportError:
        loop = asyncio.new_event_loop()
    return loop


async def connect_picows(host: str, port: int) -> tuple[Any, Any]:
    """Connects and waits for the metadata; gives (transport, listener)."""
    import picows

    msgpack = import_module("msgpack")

    def pack_array(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return {
                b"__ndarray__": True,
                b"data": value.tobytes(),
                b"dtype": value.dtype.str,
                b"shape": value.shape,
            }
        raise TypeError(f"cannot pack {type(value)}")

    def unpack_array(fields: dict[Any, Any]) -> Any:
        if b"__ndarray__" in fields:
            return np.ndarray(
                buffer=fields[b"data"], dtype=np.dtype(fields[b"dtype"]), shape=fields[b"shape"]
            )
        return fields

    class Listener(picows.WSListener):
        def on_ws_connected(self, transport: Any) -> None:
            self.transport = transport
            self.packer = msgpack.Packer(default=pack_array)
            self.loop = asyncio.get_running_loop()
            self.reply = self.loop.create_future()

        def on_ws_frame(self, transport: Any, frame: Any) -> None:
            if frame.msg_type == picows.WSMsgType.BINARY:
                # Unpacked where it lies: the memory is picows' own, and only until this returns.
                self.reply.set_result(
                    msgpack.unpackb(frame.get_payload_as_memoryview(), object_hook=unpack_array)
                )

        async def infer(self, observation: Observation) -> Reply:
            self.reply = self.loop.create_future()
            self.transport.send(picows.WSMsgType.BINARY, self.packer.pack(observation))
            reply: Reply = await self.reply
            return reply

    transport: Any
    listener: Any
    transport, listener = await picows.ws_connect(Listener, f"ws://{host}:{port}")
    await listener.reply
    return transport, listener


OPENERS: dict[str, Callable[[str, int], Client]] = {
    "axon-python": open_axon,
    "openpi-client": open_openpi,
    "picows": PicowsClient,
}


def forget_peak() -> None:
    """Makes the peak that /proc reports the present size, so that later peaks are those of the calls."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def peak_kib() -> int:
    """The most resident memory this process had since forget_peak(), in KiB."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM:"))


def obey(client: Client, observation: Observation) -> None:
    """Carries out orders until standard input ends."""
    forget_peak()
    baseline = peak_kib()
    expected = 0
    print("ready", flush=True)
    for line in sys.stdin:
        order, *numbers = line.split()
        if order == "check":
            reply = client.infer(observation)
            expected = reply["received_bytes"]
            actions_sum = int(reply["actions"].view(np.uint32).sum(dtype=np.uint32))
            print(expected, reply["checksum"], actions_sum, flush=True)
        elif order == "round":
            print(*client.times(observation, int(numbers[0]), int(numbers[1]), expected), flush=True)
        elif order == "load":
            print(*client.load(observation, int(numbers[0]), expected), flush=True)
        elif order == "memory":
            print(baseline, peak_kib(), flush=True)
        else:
            raise ValueError(f"no such order: {line!r}")


def main() -> None:
    name, host, port, *shape = sys.argv[1:]
    observation = make_observation(*map(int, shape))
    client = OPENERS[name](host, int(port))
    obey(client, observation)
    client.close()


if __name__ == "__main__":
    main()
