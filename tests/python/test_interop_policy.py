"""Our policy client and the world's: openpi-server, a server on `websockets`, and openpi-client beside us."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from typing import Any, Iterator

import numpy as np
import pytest
from peers import codec, harness
from peers import visual_servo as policy
from peers.observations import table

from service_clients.demo.backends import Backend
from service_clients.openpi.client import WebsocketClientPolicy

OBSERVATIONS = table()
SHORTEST_HEADS = [
    (126, 2),
    (65536, 4),
    (2**64, 10),
]  # payloads below this many bytes, and how long the head is


def assert_same(ours: Any, theirs: Any, where: str = "reply") -> None:
    """Fails unless two trees are alike to the last bit, dtypes and key order included.

    Byte order is left out: our arrays arrive in the machine's own, theirs in the sender's.
    """
    if isinstance(theirs, (np.ndarray, np.generic)):
        assert type(ours) is type(theirs), where
        assert ours.dtype == theirs.dtype.newbyteorder("="), where
        assert ours.shape == theirs.shape, where
        assert ours.tobytes() == theirs.astype(ours.dtype).tobytes(), where
    elif isinstance(theirs, dict):
        assert list(ours) == list(theirs), where
        for key, value in theirs.items():
            assert_same(ours[key], value, f"{where}[{key!r}]")
    elif isinstance(theirs, list):
        assert type(ours) is list, where
        assert len(ours) == len(theirs), where
        for index, (our, their) in enumerate(zip(ours, theirs)):
            assert_same(our, their, f"{where}[{index}]")
    else:
        assert type(ours) is type(theirs), where
        assert ours == theirs or (ours != ours and theirs != theirs), where


def without_timing(reply: dict[str, Any]) -> dict[str, Any]:
    """A reply but for what differs from call to call."""
    return {key: value for key, value in reply.items() if key != "server_timing"}


# ---- openpi-client beside ours, against openpi-server --------------------------------------------


@pytest.fixture(scope="module")
def echo() -> Iterator[Backend]:
    with harness.start_peer("openpi_server_peer.py", "echo") as server:
        yield server


@pytest.fixture(scope="module")
def theirs(echo: Backend) -> dict[str, Any]:
    """What openpi-client got for every observation, and as metadata."""
    answer: dict[str, Any] = codec.unpack(harness.run_peer("openpi_client_peer.py", echo.url, ""))
    return answer


@pytest.fixture(scope="module")
def ours(echo: Backend) -> Iterator[WebsocketClientPolicy]:
    with WebsocketClientPolicy(host=echo.url) as client:
        yield client


@pytest.mark.parametrize("name", OBSERVATIONS)
def test_the_same_observation_gets_the_same_answer(
    name: str, ours: WebsocketClientPolicy, theirs: dict[str, Any]
) -> None:
    reply = ours.infer(OBSERVATIONS[name])
    assert_same(without_timing(reply), without_timing(theirs["replies"][name]))
    assert set(reply["server_timing"]) >= {"infer_ms"}


def test_the_metadata_is_the_same(ours: WebsocketClientPolicy, theirs: dict[str, Any]) -> None:
    assert_same(ours.get_server_metadata(), theirs["metadata"], "metadata")
    assert ours.get_server_metadata()["nested"]["horizon"] == 16


def test_arrays_of_a_reply_are_the_callers_to_change(ours: WebsocketClientPolicy) -> None:
    reply = ours.infer(OBSERVATIONS["droid"])["echo"]
    for name in ("observation/image", "observation/state"):
        reply[name][...] = 1
        assert (reply[name] == 1).all()


# ---- what both put on the wire -------------------------------------------------------------------


class Recorded:
    """What one client put on the wire, from its first byte on."""

    def __init__(self, file: Path) -> None:
        record = json.loads(file.read_text())
        self.headers: dict[str, str] = record["headers"]
        self.messages: dict[str, list[dict[str, Any]]] = dict(zip(OBSERVATIONS, record["messages"]))

    def payload(self, name: str) -> bytes:
        """The message of one observation, unmasked and put together."""
        return b"".join(base64.b64decode(frame["payload"]) for frame in self.messages[name])


@pytest.fixture(scope="module")
def wire(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recorded, Recorded]:
    """The same observations from both clients, ours first."""
    folder = tmp_path_factory.mktemp("wire")
    with harness.start_fake("capture.py", str(folder)) as server:
        with WebsocketClientPolicy(host=server.url, api_key="a key") as client:
            counts = [client.infer(observation) for observation in OBSERVATIONS.values()]
        assert counts[-1] == {"messages": len(OBSERVATIONS)}
        harness.run_peer("openpi_client_peer.py", server.url, "a key")
    return Recorded(folder / "1.json"), Recorded(folder / "2.json")


def test_the_table_is_long_enough_to_mean_something() -> None:
    assert len(OBSERVATIONS) >= 50


@pytest.mark.parametrize("name", OBSERVATIONS)
def test_the_bytes_on_the_wire_are_the_same(name: str, wire: tuple[Recorded, Recorded]) -> None:
    ours, theirs = (recorded.payload(name) for recorded in wire)
    first = next((at for at, (our, their) in enumerate(zip(ours, theirs)) if our != their), None)
    assert ours == theirs, f"{len(ours)} and {len(theirs)} bytes, first different at {first}"


@pytest.mark.parametrize("name", OBSERVATIONS)
def test_every_observation_is_one_masked_binary_frame_in_its_shortest_form(
    name: str, wire: tuple[Recorded, Recorded]
) -> None:
    (frame,) = wire[0].messages[name]
    assert (frame["is_last"], frame["reserved"], frame["opcode"]) == (True, 0, 2)
    assert len(frame["mask"]) == 8
    length = len(wire[0].payload(name))
    assert len(frame["head"]) / 2 == next(size for limit, size in SHORTEST_HEADS if length < limit)


def test_every_frame_has_a_mask_of_its_own(wire: tuple[Recorded, Recorded]) -> None:
    masks = [frames[0]["mask"] for frames in wire[0].messages.values()]
    assert len(set(masks)) == len(masks)


def test_the_upgrade_asks_for_the_same(wire: tuple[Recorded, Recorded]) -> None:
    ours, theirs = (recorded.headers for recorded in wire)
    for name in ("upgrade", "sec-websocket-version", "authorization"):
        assert ours[name].lower() == theirs[name].lower(), name
    assert ours["authorization"] == "Api-Key a key"
    assert "sec-websocket-extensions" not in ours, "permessage-deflate costs more than it saves"
    assert "sec-websocket-protocol" not in ours


# ---- openpi-server's errors ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def moody() -> Iterator[Backend]:
    with harness.start_peer("openpi_server_peer.py", "moody") as server:
        yield server


@pytest.mark.parametrize(
    ("prompt", "last_line"),
    [("raise", "ValueError: the gripper is on fire \U0001f525"), ("object", "TypeError: can not serialize")],
)
def test_a_policy_that_fails_raises_its_traceback_here(moody: Backend, prompt: str, last_line: str) -> None:
    with WebsocketClientPolicy(host=moody.url) as client:
        assert client.get_server_metadata() == {}
        assert client.infer({"prompt": "go"})["actions"] == [[1.0]]
        with pytest.raises(RuntimeError) as caught:
            client.infer({"prompt": prompt})
        assert last_line in str(caught.value)
        assert "Traceback (most recent call last)" in str(caught.value)
        assert "openpi_server" in str(caught.value)
        # the server closed with 1011: the session has opened another connection
        assert client.infer({"prompt": "go"})["actions"] == [[1.0]]


def test_a_policy_that_takes_too_long_is_a_timeout_and_never_answers_a_later_call() -> None:
    with harness.start_peer("openpi_server_peer.py", "moody") as server:
        client = WebsocketClientPolicy(host=server.url, infer_timeout=0.4)
        with pytest.raises(TimeoutError):
            client.infer({"prompt": "sleep"})
        assert client.infer({"prompt": "go"}, timeout=30)["actions"] == [[1.0]]
        client.close()


def test_a_server_that_dies_is_a_lost_connection() -> None:
    with harness.start_peer("openpi_server_peer.py", "echo") as server:
        client = WebsocketClientPolicy(host=server.url)
        assert client.infer({"a": 1})["echo"] == {"a": 1}
        server.kill()
        with pytest.raises(ConnectionError):
            client.infer({"a": 2}, timeout=2)  # it is dialled again until then
        client.close()
        started = time.monotonic()
        with pytest.raises((ConnectionError, TimeoutError)):
            WebsocketClientPolicy(host=server.url, connect_timeout=0.5)
        assert time.monotonic() - started < 10.0


# ---- a server on `websockets`, with numbers that must be right -----------------------------------


@pytest.fixture(scope="module", params=["websockets", "openpi-server"])
def servo(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """The visual servo behind a server on `websockets`, and behind openpi-server."""
    if request.param == "websockets":
        server = harness.start_script("websockets_server.py")
    else:
        server = harness.start_peer("openpi_server_peer.py", "servo")
    with server:
        yield server


def test_one_changed_bit_anywhere_in_the_observation_changes_the_servos_chunk() -> None:
    random = np.random.RandomState(3)
    pictures = {
        key: random.randint(0, 256, (224, 224, 3)).astype(np.uint8) for key in (policy.SCENE, policy.WRIST)
    }
    state = np.linspace(-1, 1, 7, dtype=np.float32)
    observation: dict[str, Any] = {**pictures, policy.STATE: state, policy.PROMPT: "pick it up"}
    answer = policy.VisualServo().infer(observation)["actions"]
    for key in (policy.SCENE, policy.WRIST, policy.STATE):
        changed = {**observation, key: observation[key].copy()}
        changed[key].view(np.uint8).reshape(-1)[-3] ^= 1
        assert (policy.VisualServo().infer(changed)["actions"] != answer).any(), key
    changed = {**observation, policy.PROMPT: "pick it up!"}
    assert (policy.VisualServo().infer(changed)["actions"] != answer).any()
    assert np.array_equal(policy.VisualServo().infer(observation)["actions"], answer)


def test_the_chunk_is_what_the_policy_computes(servo: Backend) -> None:
    random = np.random.RandomState(5)
    with WebsocketClientPolicy(host=servo.url) as client:
        assert client.get_server_metadata() == policy.METADATA
        for step in range(20):
            observation = {
                policy.SCENE: random.randint(0, 256, (224, 224, 3)).astype(np.uint8),
                policy.WRIST: random.randint(0, 256, (480, 640, 3)).astype(np.uint8)[::2, ::2],
                policy.STATE: random.standard_normal(7).astype(np.float32),
                policy.PROMPT: f"pick up cup {step}",
            }
            reply = client.infer(observation)
            assert_same(reply["actions"], policy.VisualServo().infer(observation)["actions"])
            expected = {"infer_ms", "prev_total_ms"} if step else {"infer_ms"}
            assert set(reply["server_timing"]) == expected


def test_an_observation_without_a_key_is_the_servers_error_and_names_it(servo: Backend) -> None:
    with WebsocketClientPolicy(host=servo.url) as client, pytest.raises(
        RuntimeError, match="KeyError"
    ) as caught:
        client.infer({policy.PROMPT: "pick"})
    assert repr(policy.SCENE) in str(caught.value)


def test_host_and_port_may_be_given_apart_as_openpi_client_takes_them(servo: Backend) -> None:
    host, _, port = servo.url[len("ws://") :].partition(":")
    with WebsocketClientPolicy(host, int(port)) as client:
        assert client.get_server_metadata()["action_dim"] == policy.DIM
    with WebsocketClientPolicy(host=f"ws://{host}", port=int(port)) as client:
        client.reset()
        assert client.get_server_metadata()["action_dim"] == policy.DIM


def test_many_clients_share_a_server(servo: Backend) -> None:
    clients = [WebsocketClientPolicy(host=servo.url) for _ in range(8)]
    observation = {
        policy.SCENE: np.full((8, 8, 3), 9, np.uint8),
        policy.WRIST: np.full((8, 8, 3), 7, np.uint8),
        policy.STATE: np.zeros(7, np.float32),
    }
    for number, client in enumerate(clients):
        mine = {**observation, policy.PROMPT: f"open {number}"}
        assert_same(client.infer(mine)["actions"], policy.VisualServo().infer(mine)["actions"])
    for client in clients:
        client.close()
