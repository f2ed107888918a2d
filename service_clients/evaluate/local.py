"""Servers of our own for a quick try: the tabletop with its expert, or a gymnasium environment."""

from __future__ import annotations

import contextlib
import threading
from typing import Any, Callable, Iterator, NamedTuple

from service_clients.evaluate.episodes import Rule
from service_clients.openpi.server import WebsocketPolicyServer
from service_clients.simulator.backend import Backend
from service_clients.simulator.server import SimulatorServer

__all__ = ["Local", "LocalError", "start_local"]


class LocalError(Exception):
    """What cannot be started here."""


class Local(NamedTuple):
    """Where the servers listen ("": not started), the task that is meant, and what counts as success in it."""

    policy: str
    simulator: str
    task: str
    rule: Rule


class _World(NamedTuple):
    backend: Callable[[], Backend]
    task: str
    rule: Rule
    policy: Callable[[], Any] | None = None
    metadata: dict[str, Any] = {}  # noqa: RUF012 - nobody changes it


@contextlib.contextmanager
def start_local(name: str, seed: int, needs_policy: bool, needs_simulator: bool) -> Iterator[Local]:
    """Servers on loopback, in threads of this process, for a `with` block.

    Args:
        name: "tabletop" or a gymnasium environment's, "CartPole-v1".
        seed: of the simulator's episodes.
        needs_policy, needs_simulator: which of both to start.

    Raises:
        LocalError: there is no such simulator here, or no policy of ours for it, or something is not installed.
    """
    world = _tabletop(seed) if name == "tabletop" else _gymnasium(name, seed)
    if needs_policy and world.policy is None:
        raise LocalError(f"--local {name}: there is no policy of ours for it; name a server with --policy")
    policy = simulator = ""
    with contextlib.ExitStack() as stack:
        if needs_simulator:
            server = SimulatorServer({name: world.backend}, host="127.0.0.1", port=0)
            server.start()
            stack.callback(server.stop)
            simulator = server.address
        if needs_policy and world.policy is not None:
            policy = stack.enter_context(_serving(world.policy(), world.metadata))
        yield Local(policy, simulator, world.task, world.rule)


@contextlib.contextmanager
def _serving(policy: Any, metadata: dict[str, Any]) -> Iterator[str]:
    server = WebsocketPolicyServer(policy, host="127.0.0.1", port=0, metadata=metadata)
    server.start()
    url = server.url
    thread = threading.Thread(target=server.serve_forever, name="policy", daemon=True)
    thread.start()
    try:
        yield url
    finally:
        server.stop()
        thread.join(10.0)


def _tabletop(seed: int) -> _World:
    from service_clients.demo.expert import METADATA, Expert
    from service_clients.simulator.backends.tabletop import TabletopBackend

    pictures = ("agentview_image", "agentview_depth")
    return _World(
        lambda: TabletopBackend(seed=seed, pictures=pictures),
        "place_red_block",
        Rule("info"),
        Expert,
        METADATA,
    )


def _gymnasium(name: str, seed: int) -> _World:
    """Success is the return that gymnasium itself calls solved, where it has one."""
    try:
        import gymnasium

        from service_clients.simulator.backends.gymnasium import GymnasiumBackend
    except ImportError as error:
        raise LocalError(f"--local {name}: {error}; of itself axon has tabletop") from error
    try:
        threshold = gymnasium.spec(name).reward_threshold
    except gymnasium.error.Error as error:
        raise LocalError(
            f"--local {name}: there is tabletop, and gymnasium has none so called: {error}"
        ) from error
    rule = Rule("info") if threshold is None else Rule("return", float(threshold))
    if name != "CartPole-v1":
        return _World(lambda: GymnasiumBackend(seed=seed), name, rule)
    from service_clients.demo.cartpole import METADATA, Balance

    return _World(lambda: GymnasiumBackend(seed=seed), name, rule, Balance, METADATA)
