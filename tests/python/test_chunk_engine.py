"""The chunk engine: over openpi-server, over our own server, and over policies in Python."""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import signal
import threading
import time
import weakref
from typing import Any, Iterator

import numpy as np
import pytest
import support
from peers import harness
from support import running_threads, wait_until

from service_clients._axon import (
    AxonProtocolError,
    AxonServerError,
    AxonTimeout,
    AxonTypeError,
    AxonValueError,
)
from service_clients._axon.msgpack_numpy import unpackb
from service_clients.demo.backends import Backend
from service_clients.openpi.client import WebsocketClientPolicy
from service_clients.openpi.server import WebsocketPolicyServer
from service_clients.runtime.action_chunk_broker import ActionChunkBroker
from service_clients.runtime.base_policy import BasePolicy
from service_clients.runtime.chunk_engine import ChunkEngine
from service_clients.runtime.policy_agent import PolicyAgent
from service_clients.webpolicy.client import Client
from service_clients.webpolicy.server import Server


class Planner:
    """Four steps of (at + i, -(at + i)); does what the observation says."""

    def __init__(self, steps: int = 4) -> None:
        self.steps = steps
        self.asked: list[dict[str, Any]] = []
        self.resets: list[Any] = []
        self.go = threading.Event()
        self.go.set()

    def infer(self, obs: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(obs)
        assert self.go.wait(20)
        if obs.get("do") == "raise":
            raise KeyError("no such joint")
        steps = np.arange(self.steps, dtype=np.float32) + obs["at"]
        return {"actions": np.stack([steps, -steps], axis=1), "name": "planner"}

    def reset(self, payload: Any = None) -> None:
        self.resets.append(payload)


@contextlib.contextmanager
def served(policy: Any, kind: Any = WebsocketPolicyServer, **metadata: Any) -> Iterator[str]:
    with support.served(kind(policy, port=0, metadata=metadata)) as server:
        yield server.url


@pytest.fixture(scope="module")
def openpi_server() -> Iterator[Backend]:
    with harness.start_peer("openpi_server_peer.py", "planner") as server:
        yield server


def planned(engine: ChunkEngine, at: float, now: float | None = None) -> None:
    """Hands over an observation, which is wanted, and waits for what comes of it."""
    assert engine.submit({"at": at}, now)
    engine.wait(20)


def test_an_ensemble_of_long_chunks_is_acts() -> None:
    """As in ACT's temporal aggregation: 100 steps, asked in every one, weights exp(-m i), i = 0 for the oldest."""
    steps, m = 100, 0.01
    chunks = np.random.default_rng(0).normal(size=(steps + 20, steps, 3))

    class Drawn(Planner):
        def infer(self, obs: dict[str, Any]) -> dict[str, Any]:
            return {"actions": chunks[obs["at"]]}

    with ChunkEngine(Drawn(), "ensemble", ensemble_m=m) as engine:
        for now in range(len(chunks)):
            planned(engine, now)
            said = np.array([chunks[at][now - at] for at in range(max(0, now - steps + 1), now + 1)])
            weights = np.exp(-m * np.arange(len(said)))
            wanted = (weights[:, None] * said).sum(axis=0) / weights.sum()
            np.testing.assert_allclose(engine.next_action(), wanted, rtol=1e-12, atol=1e-12)


# ---- over a server -------------------------------------------------------------------------------


@pytest.mark.parametrize("horizon", [10, 4])
def test_blocking_and_our_broker_give_what_openpis_broker_gives(openpi_server: Backend, horizon: int) -> None:
    theirs: Any = unpackb(
        harness.run_peer("action_chunk_broker_peer.py", openpi_server.url, str(horizon), "23")
    )
    with WebsocketClientPolicy(openpi_server.url) as first, WebsocketClientPolicy(
        openpi_server.url
    ) as second, ChunkEngine(second, "blocking", action_horizon=horizon) as engine:
        broker = ActionChunkBroker(first, horizon)
        for call, expected in enumerate(theirs):
            for policy in (broker, engine):
                ours = policy.infer({"at": 100.0 * call})["actions"]
                assert ours.dtype == expected.dtype
                np.testing.assert_array_equal(ours, expected)


def test_prefetch_over_openpi_server_leaves_no_gap(openpi_server: Backend) -> None:
    with WebsocketClientPolicy(openpi_server.url) as policy, ChunkEngine(policy) as engine:
        planned(engine, 0.0)
        taken = 1
        for tick in range(60):
            if engine.submit({"at": 10.0 * taken}):
                engine.wait(20)
                taken += 1
            assert engine.next_action()[0] == tick
        assert engine.stats().starved == engine.stats().late == 0


def test_a_servers_error_reaches_next_action_once(openpi_server: Backend) -> None:
    with WebsocketClientPolicy(openpi_server.url) as policy, ChunkEngine(policy, "blocking") as engine:
        engine.submit({"at": 0.0, "do": "raise"})
        with pytest.raises(AxonServerError, match="no such joint"):
            engine.next_action()
        engine.submit({"at": 50.0})
        assert engine.next_action()[0] == 50
        assert engine.stats().failures == 1
        assert "no such joint" in engine.stats().failure


def test_a_late_reply_is_never_taken_for_that_of_a_later_observation(openpi_server: Backend) -> None:
    with WebsocketClientPolicy(openpi_server.url, infer_timeout=0.3) as policy, ChunkEngine(
        policy, "aligned"
    ) as engine:
        engine.submit({"at": 1000.0, "sleep": 0.8})
        with pytest.raises(AxonTimeout, match="infer_timeout_ms"):
            engine.next_action()
        actions: list[float] = []
        while not actions:
            engine.submit({"at": 50.0})
            with contextlib.suppress(AxonTimeout):  # the late reply is still owed
                actions.append(engine.next_action()[0])
        assert actions == [50]


def test_a_reset_cancels_what_is_under_way(openpi_server: Backend) -> None:
    with WebsocketClientPolicy(openpi_server.url) as policy, ChunkEngine(policy, "prefetch") as engine:
        engine.submit({"at": 1000.0, "sleep": 1.0})
        time.sleep(0.1)
        engine.reset()
        assert engine.submit({"at": 7.0})
        assert engine.next_action()[0] == 7
        assert engine.stats().discarded == 1


def test_a_session_is_the_engines_alone_until_it_is_closed(openpi_server: Backend) -> None:
    with WebsocketClientPolicy(openpi_server.url) as policy:
        engine = ChunkEngine(policy, "blocking")
        with pytest.raises(AxonValueError, match="is in use by <ChunkEngine blocking>"):
            policy.infer({"at": 1.0})
        with pytest.raises(AxonValueError, match="is in use by"):
            ChunkEngine(policy)
        assert policy.get_server_metadata() == {"action_horizon": 10}
        engine.close()
        assert policy.infer({"at": 1.0})["actions"][0, 0] == 1
        ChunkEngine(policy)  # nobody keeps it
        gc.collect()
        assert policy.infer({"at": 2.0})["actions"][0, 0] == 2


def test_closing_the_session_closes_the_engine(openpi_server: Backend) -> None:
    policy = WebsocketClientPolicy(openpi_server.url)
    engine = ChunkEngine(policy)
    engine.submit({"at": 0.0, "sleep": 5.0})
    policy.close()
    assert engine.closed
    with pytest.raises(AxonValueError, match="the chunk engine is closed"):
        engine.next_action()


@pytest.mark.parametrize(
    "metadata",
    [{"supports_rtc": True}, {"rtc_enabled": True}, {"rtc": True}, {"rtc": {"supported": True}}],
)
def test_a_server_that_takes_it_is_told_what_is_left(metadata: dict[str, Any]) -> None:
    planner = Planner(6)
    with served(planner, **metadata) as url, WebsocketClientPolicy(url) as policy, ChunkEngine(
        policy, "rtc", prefetch_steps=6
    ) as engine:
        planned(engine, 0.0)
        engine.next_action()
        engine.next_action()
        planned(engine, 2.0)
        first, second = planner.asked
        assert set(first) == {"at"}
        assert second["prev_chunk_left_over"].tolist() == [[2, -2], [3, -3], [4, -4], [5, -5]]
        assert second["prev_chunk_left_over"].dtype == np.float32
        assert second["inference_delay"] == 0
        assert engine.stats().rtc


@pytest.mark.parametrize("metadata", [{}, {"rtc": False}, {"rtc": {"supported": False}}, {"supports_rtc": 0}])
def test_a_server_that_does_not_say_so_is_told_nothing(metadata: dict[str, Any]) -> None:
    planner = Planner(6)
    with served(planner, **metadata) as url, WebsocketClientPolicy(url) as policy, ChunkEngine(
        policy, "rtc", prefetch_steps=6
    ) as engine:
        planned(engine, 0.0)
        engine.next_action()
        planned(engine, 1.0)
        assert [set(observation) for observation in planner.asked] == [{"at"}, {"at"}]
        assert not engine.stats().rtc


def test_a_reset_and_its_payload_reach_a_webpolicy_server_before_the_next_observation() -> None:
    planner = Planner()
    with served(planner, Server) as url, Client(url) as policy, ChunkEngine(policy, "blocking") as engine:
        engine.infer({"at": 0.0})
        engine.reset({"seed": 3})
        assert engine.infer({"at": 9.0})["actions"][0] == 9
        assert planner.resets == [{"seed": 3}]


# ---- over a policy in Python ---------------------------------------------------------------------


def test_what_a_policy_raises_comes_out_of_next_action_as_it_is() -> None:
    with ChunkEngine(Planner(), "blocking") as engine:
        engine.submit({"at": 0.0, "do": "raise"})
        with pytest.raises(KeyError, match="no such joint"):
            engine.next_action()
        assert engine.infer({"at": 5.0})["actions"].tolist() == [5, -5]


def test_an_exception_with_a_long_text_of_many_lines_is_itself_too() -> None:
    class Wordy(BasePolicy):
        def infer(self, obs: dict[str, Any]) -> dict[str, Any]:
            raise OSError("\N{FIRE} no\nsuch\tcup\0" * 100)

    with ChunkEngine(Wordy(), "blocking") as engine, pytest.raises(OSError, match="no\nsuch") as caught:
        engine.infer({"at": 1.0})
    assert str(caught.value).endswith("cup\0")


def test_a_policy_that_fails_is_asked_again_where_that_is_wanted() -> None:
    class Twice(Planner):
        def infer(self, obs: dict[str, Any]) -> dict[str, Any]:
            if len(self.asked) < 2:
                obs = {**obs, "do": "raise"}
            return super().infer(obs)

    with ChunkEngine(Twice(), "aligned", on_error="retry") as engine:
        assert engine.infer({"at": 5.0})["actions"].tolist() == [5, -5]
        assert engine.stats().failures == 2


def test_an_observation_is_copied_when_it_is_taken() -> None:
    planner = Planner()
    planner.go.clear()
    camera = np.zeros((2, 2))
    with ChunkEngine(planner, "prefetch") as engine:
        engine.submit({"at": 1.0, "deep": [{"camera": camera}]})
        camera[:] = 9
        planner.go.set()
        engine.next_action()
    assert planner.asked[0]["deep"][0]["camera"].tolist() == [[0, 0], [0, 0]]


def test_an_observation_that_is_not_wanted_is_left_alone() -> None:
    planner = Planner()
    with ChunkEngine(planner, "prefetch", prefetch_steps=1) as engine:
        planned(engine, 0.0)
        engine.next_action()
        assert not engine.wants
        assert not engine.submit({"at": 1.0})
        assert len(planner.asked) == 1


def test_what_is_no_chunk_of_a_reply_need_not_travel() -> None:
    class Odd(Planner):
        def infer(self, obs: dict[str, Any]) -> dict[str, Any]:
            return {**super().infer(obs), "debug": object(), "n": 1 << 99, "deep": {"more": None}}

    with ChunkEngine(Odd(), "blocking") as engine:
        assert set(engine.infer({"at": 1.0})) == {"actions"}


def test_policies_that_step_are_asked_too() -> None:
    class Steps(BasePolicy):
        def step(self, obs: dict[str, Any]) -> dict[str, Any]:
            return {"action.arm": np.zeros((2, 3)), "gripper": np.array([True, False]), "pose": np.zeros(9)}

    with ChunkEngine(Steps(), "blocking") as engine:
        first, second = engine.step({}), engine.step({})
        assert {key: value.dtype for key, value in first.items()} == {"action.arm": float, "gripper": bool}
        assert (first["gripper"], second["gripper"]) == (True, False)
        assert [field.key for field in engine.fields()] == ["action.arm", "gripper"]
        assert [field.shape for field in engine.fields()] == [(3,), ()]
        assert engine.width == 4


def test_an_action_has_the_structure_of_the_reply_as_with_the_broker() -> None:
    steps = np.arange(12.0).reshape(4, 3)

    class Nested:
        def infer(self, obs: dict[str, Any]) -> dict[str, Any]:
            return {
                "actions": {"arm": {"left": steps, "right": -steps}, "grip.force": steps[:, 0]},
                "action.base": steps[:, :2],
            }

    broker = ActionChunkBroker(Nested(), 4)
    with ChunkEngine(Nested(), "blocking") as engine:
        for _ in range(9):
            wanted = broker.infer({})
            found = engine.infer({})
            assert repr(sorted(_flat(found))) == repr(sorted(_flat(wanted)))
        assert ("actions", "grip.force") in [field.path for field in engine.fields()]


def _flat(action: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    for key, value in action.items():
        if isinstance(value, dict):
            yield from ((key, *rest) for rest in _flat(value))
        else:
            yield key, value.tolist()


def test_an_engine_is_a_policy_for_an_agent() -> None:
    planner = Planner()
    with ChunkEngine(planner, "blocking") as engine:
        agent = PolicyAgent(engine)
        assert isinstance(engine, BasePolicy)
        assert [agent.get_action({"at": 10.0 * i})["actions"][0] for i in range(6)] == [0, 1, 2, 3, 40, 41]
        agent.reset()
        assert agent.get_action({"at": 70.0})["actions"][0] == 70
        assert planner.resets == [None]


def test_two_threads_and_simulated_time() -> None:
    planner = Planner(20)
    with ChunkEngine(planner, "aligned", action_hz=10) as engine:
        planned(engine, 0.0, 5.0)
        assert engine.next_action(5.0).tolist() == [0, 0]
        assert engine.next_action(5.25).tolist() == [2.5, -2.5]
        assert engine.info == (1, 2.5, False, False)
        assert engine.next_action(6.0)[0] == 10
        planned(engine, 100.0, 6.0)
        assert engine.next_action(6.13)[0] == pytest.approx(101.3)
        with pytest.raises(AxonValueError, match=r"is 0\.130000 s before that of the last call"):
            engine.next_action(6.0)
        engine.reset()
        planned(engine, 7.0, 0.0)
        assert engine.next_action(0.0)[0] == 7


def test_dimensions_by_their_names() -> None:
    with ChunkEngine(
        Planner(), action_hz=1, dimensions=["angle", "stepped+velocity"], on_empty="hold"
    ) as engine:
        planned(engine, 1.0, 0.0)
        engine.next_action(0.0)
        assert engine.next_action(2.5) == pytest.approx([3.5 - 2 * np.pi, -3])
        assert engine.next_action(9.0).tolist() == [pytest.approx(3.5 - 2 * np.pi), 0]
        assert engine.info.starved
        assert engine.stats().starved == 1


def test_actions_are_copies_unless_one_array_is_wanted() -> None:
    with ChunkEngine(Planner()) as engine:
        planned(engine, 0.0)
        first = engine.next_action()
        assert engine.next_action()[0] == 1
        assert first[0] == 0
        first[:] = 9
        assert engine.next_action()[0] == 2
    with ChunkEngine(Planner(), reuse_array=True) as engine:
        planned(engine, 0.0)
        first = engine.next_action()
        assert engine.next_action() is first
        assert first[0] == 1


# ---- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("actions", "options", "words"),
    [
        (np.zeros((4, 2)), {"action_horizon": 9}, r"actions has 4 steps, fewer than 9 \(action_horizon\)"),
        (np.array([[1, 2], [3, np.nan]]), {}, r"actions\[1, 1\] is NaN \(allow_nan\)"),
        (np.zeros((0, 2)), {}, "actions has 0 steps"),
        (np.zeros(()), {}, "no array named actions or action"),
        (np.zeros((4, 2)), {"keys": ["arm"]}, r"arm is not there \(keys\)"),
        (np.array([["left"], ["right"]]), {}, "no array named actions or action"),
    ],
)
def test_replies_that_cannot_be_used(actions: Any, options: dict[str, Any], words: str) -> None:
    class Given(BasePolicy):
        def infer(self, obs: dict[str, Any]) -> dict[str, Any]:
            return {"actions": actions}

    with ChunkEngine(Given(), "blocking", **options) as engine, pytest.raises(AxonProtocolError, match=words):
        engine.infer({})


def test_a_chunk_of_another_width_is_refused() -> None:
    class Growing(Planner):
        def infer(self, obs: dict[str, Any]) -> dict[str, Any]:
            self.asked.append(obs)
            return {"actions": np.zeros((1, len(self.asked)))}

    with ChunkEngine(Growing(), "blocking") as engine:
        engine.infer({})
        with pytest.raises(AxonProtocolError, match=r"has the shape \(2\), in the first chunk \(1\)"):
            engine.infer({})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mode": "fast"}, "mode is 'fast', not one of"),
        ({"action_hz": 0}, "action_hz is 0, not a positive number"),
        ({"action_hz": 1e9}, r"action_hz is 1e\+09, not 0.001 to 10000"),
        ({"action_hz": float("nan")}, "action_hz is nan"),
        ({"action_hz": 10**400}, "action_hz is inf"),
        ({"ensemble_m": 10**400}, "ensemble_m is inf"),
        ({"mode": "blocking", "action_hz": 10, "control_hz": 1e9}, r"control_hz is 1e\+09"),
        ({"mode": "blocking", "action_hz": 10, "control_hz": 5}, "control_hz is 5, less than action_hz"),
        ({"action_horizon": 0}, "action_horizon is 0, not 1 or more"),
        ({"action_horizon": 2.5}, "action_horizon is 2.5, not a whole number"),
        ({"dimensions": ["linear", "round"]}, r"dimensions\[1\] is 'round', not one of"),
        ({"dimensions": "linear"}, "dimensions is 'linear', not a list of str"),
        ({"ensemble_m": -1}, "ensemble_m is -1, not 0 or more"),
        ({"wait": 0}, "wait is 0, not a positive number"),
        ({"on_empty": "stop"}, "on_empty is 'stop'"),
        ({"on_error": "ignore"}, "on_error is 'ignore'"),
        ({"keys": "actions"}, "keys is 'actions', not a list of str"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], words: str) -> None:
    with pytest.raises(AxonValueError, match=words):
        ChunkEngine(Planner(), **options)


def test_arguments_that_cannot_be() -> None:
    with pytest.raises(AxonTypeError, match="neither infer nor step"):
        ChunkEngine(object())
    with ChunkEngine(Planner(), wait_first=False) as engine:
        with pytest.raises(AxonTypeError, match="observation is list, not a dict"):
            engine.submit([1])  # type: ignore[arg-type]
        with pytest.raises(AxonValueError, match="now is 'soon'"):
            engine.submit({"at": 1.0}, "soon")  # type: ignore[arg-type]
        for now in (-1.0, float("nan"), float("inf"), 1e30, "soon"):
            with pytest.raises(AxonValueError, match=r"now is .*, not a number of seconds of 0 or more"):
                engine.next_action(now)  # type: ignore[arg-type]
        with pytest.raises(AxonTypeError, match="payload is int"):
            engine.reset(3)  # type: ignore[arg-type]
        with pytest.raises(AxonTimeout, match="no action yet"):
            engine.next_action()
        with pytest.raises(AxonTypeError, match="cannot be copied or pickled"):
            pickle.dumps(engine)


# ---- ending --------------------------------------------------------------------------------------


def test_close_from_another_thread_ends_a_wait() -> None:
    planner = Planner()
    engine = ChunkEngine(planner, "blocking")
    timer = threading.Timer(0.2, engine.close)
    timer.start()
    with pytest.raises(AxonValueError, match="the chunk engine is closed"):
        engine.next_action()
    timer.join(20)
    engine.close()
    with pytest.raises(AxonValueError, match="closed"):
        engine.submit({"at": 1.0})
    with pytest.raises(AxonValueError, match="closed"):
        engine.stats()


def test_ctrl_c_ends_a_wait_and_costs_the_engine_nothing() -> None:
    planner = Planner()
    planner.go.clear()
    with ChunkEngine(planner, "blocking") as engine:
        for _ in range(2):
            engine.submit({"at": 3.0})
            timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
            timer.start()
            with pytest.raises(KeyboardInterrupt):
                engine.next_action()
            timer.join()
        planner.go.set()
        assert engine.next_action()[0] == 3


def test_close_in_a_signal_handler_ends_its_own_threads_wait() -> None:
    engine = ChunkEngine(Planner(), "blocking")
    before = signal.signal(signal.SIGUSR1, lambda *_: engine.close())
    try:
        timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGUSR1))
        timer.start()
        with pytest.raises(AxonValueError, match="the chunk engine is closed"):
            engine.next_action()
        timer.join()
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_forked_child_may_end(openpi_server: Backend, run_script: Any) -> None:
    ended = run_script(
        "import os, sys\n"
        "from service_clients.openpi.client import WebsocketClientPolicy\n"
        "from service_clients.runtime.chunk_engine import ChunkEngine\n"
        "with WebsocketClientPolicy(sys.argv[1]) as policy, ChunkEngine(policy) as engine:\n"
        "    engine.infer({'at': 1.0})\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        try:\n"
        "            engine.reset()\n"
        "        except ValueError as error:\n"
        "            print(error, flush=True)\n"
        "        sys.exit()\n"
        "    os.waitpid(child, 0)\n"
        "    print(engine.infer({'at': 1.0})['actions'][0])\n",
        openpi_server.url,
        PYTHONWARNINGS="ignore:This process:DeprecationWarning",  # Python 3.12's word on threads and fork()
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines() == [
        "engine: it was opened before fork(); open another in the child",
        "2.0",
    ]


def test_an_engine_that_nobody_keeps_ends_its_thread() -> None:
    before = running_threads()
    engine = ChunkEngine(Planner())
    planned(engine, 0.0)
    kept = weakref.ref(engine)
    del engine
    gc.collect()
    assert kept() is None
    wait_until(lambda: running_threads() <= before)


def test_an_engine_that_its_own_policy_holds_is_collected_with_it() -> None:
    before = running_threads()
    policy: Any = Planner()
    policy.engine = ChunkEngine(policy)
    planned(policy.engine, 0.0)
    kept = weakref.ref(policy.engine)
    del policy
    gc.collect()
    assert kept() is None
    wait_until(lambda: running_threads() <= before)


def test_a_program_may_end_while_a_policy_is_being_asked(run_script: Any) -> None:
    ended = run_script(
        "import time\n"
        "from service_clients.runtime.chunk_engine import ChunkEngine\n"
        "class Slow:\n"
        "    def infer(self, obs):\n"
        "        time.sleep(0.5)\n"
        "        return {}\n"
        "engine = ChunkEngine(Slow())\n"
        "engine.submit({'at': 1.0})\n"
        "print('over')\n"
    )
    assert (ended.returncode, ended.stdout.strip(), ended.stderr) == (0, "over", "")


def test_threads_submit_and_take_at_once(openpi_server: Backend) -> None:
    """The plan goes on where the robot is, so that actions only ever grow by a step."""
    with WebsocketClientPolicy(openpi_server.url) as policy, ChunkEngine(
        policy, "prefetch", wait_first=True
    ) as engine:
        over = threading.Event()
        chunks = iter(range(1, 1 << 30))

        def observe() -> None:
            at = 0
            while not over.is_set():
                if engine.wants and engine.submit({"at": 10.0 * at}):
                    at = next(chunks)
                time.sleep(0.0005)

        thread = threading.Thread(target=observe)
        thread.start()
        try:
            given = []
            for _ in range(300):
                given.append(engine.next_action()[0])
                time.sleep(0.002)
        finally:
            over.set()
            thread.join(20)
        steps = np.diff(given)
        assert set(steps) <= {0.0, 1.0}
        assert engine.stats().starved == np.count_nonzero(steps == 0)
