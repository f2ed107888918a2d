"""Every dialect of the policy wire, spoken by small servers on PyPI's `websockets` and `msgpack` as the field has them."""

from __future__ import annotations

import contextlib
import io
import threading
from typing import Any, Callable, Iterator

import cv2
import msgpack  # type: ignore[import-untyped]
import numpy as np
import pytest
from support import served
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.sync.server import ServerConnection, serve

from service_clients._axon import AxonProtocolError, AxonServerError, AxonTooBig, AxonValueError, Policy
from service_clients._axon.values import packb, unpackb
from service_clients.openpi.client import WebsocketClientPolicy
from service_clients.openpi.server import WebsocketPolicyServer
from service_clients.webpolicy.client import Client
from service_clients.webpolicy.server import Server

ACTIONS = np.arange(16, dtype=np.float32).reshape(2, 8)
ROBOARENA = {
    "image_resolution": [180, 320],
    "n_external_cameras": 2,
    "needs_wrist_camera": True,
    "needs_stereo_camera": False,
    "needs_session_id": True,
    "action_space": "joint_position",
}
TRACEBACK = "Traceback (most recent call last):\n  File \"policy.py\", line 3\nKeyError: 'state'\n"

Answer = Callable[[Any], "bytes | str | None"]


def marked(array: np.ndarray[Any, Any]) -> dict[bytes, Any]:
    """An array as openpi-client's msgpack_numpy marks it."""
    return {
        b"__ndarray__": True,
        b"data": array.tobytes(),
        b"dtype": array.dtype.str,
        b"shape": list(array.shape),
    }


def pack(value: Any) -> bytes:
    return bytes(msgpack.packb(value, default=marked))


class Peer:
    """A server that answers each message as `answer` says, None being a hang-up; `requests` are what it got."""

    def __init__(self, metadata: Any, answer: Answer) -> None:
        self.metadata = metadata
        self.answer = answer
        self.requests: list[Any] = []
        self.messages: list[bytes] = []
        self.connections = 0
        self.agents: list[str | None] = []

    def __call__(self, connection: ServerConnection) -> None:
        self.connections += 1
        assert connection.request
        self.agents.append(connection.request.headers.get("User-Agent"))
        with contextlib.suppress(ConnectionClosed):
            connection.send(pack(self.metadata))
            for message in connection:
                assert isinstance(message, bytes)
                self.messages.append(message)
                self.requests.append(msgpack.unpackb(message))
                reply = self.answer(self.requests[-1])
                if reply is None:
                    return
                connection.send(reply)


@contextlib.contextmanager
def hosted(peer: Peer, path: str = "") -> Iterator[str]:
    with serve(peer, "127.0.0.1", 0, max_size=None, compression=None) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}{path}"
        server.shutdown()
        thread.join(10)


@contextlib.contextmanager
def session(peer: Peer, path: str = "", **options: Any) -> Iterator[Policy]:
    with hosted(peer, path) as url, Policy(url, connect_timeout=10, infer_timeout=10, **options) as policy:
        yield policy


# ---- webpolicy -----------------------------------------------------------------------------------


def webpolicy(request: Any) -> bytes:
    if request.get("__webpolicy_op__") == "reset":
        return pack({"__webpolicy_reset_ack__": True})
    assert request["__webpolicy_op__"] == "step"
    return pack({"action": {"actions": ACTIONS, "got": request["obs"]}})


def test_webpolicy_steps_and_resets() -> None:
    peer = Peer({"policy": "test"}, webpolicy)
    with hosted(peer) as url, Client(url, connect_timeout=10, infer_timeout=10) as client:
        client.reset()
        client.reset({"task": "cup"})
        reply = client.step({"a": 1})
        assert set(reply) == {"actions", "got"}
        np.testing.assert_array_equal(reply["actions"], ACTIONS)
        assert client.dialect == "webpolicy"
    assert peer.requests == [
        {"__webpolicy_op__": "reset"},
        {"__webpolicy_op__": "reset", "payload": {"task": "cup"}},
        {"__webpolicy_op__": "step", "obs": {"a": 1}},
    ]


@pytest.mark.parametrize(
    "answered",
    [
        {"actions": [1, 2]},
        {"action": [1, 2]},
        {"action": {"arm": 1}, "gripper": 2},
        {"action": [1, 2], "server_timing": {"infer_ms": 3.5}},
    ],
)
def test_an_old_servers_bare_actions_are_not_lost(answered: dict[str, Any]) -> None:
    with session(Peer({}, lambda _request: pack(answered)), dialect="webpolicy") as policy:
        assert policy.infer({"a": 1}) == answered


def test_timings_beside_the_envelope_stay_with_the_actions() -> None:
    answered = {"action": {"actions": [1]}, "server_timing": {"infer_ms": 3.5}}
    with session(Peer({}, lambda _request: pack(answered)), dialect="webpolicy") as policy:
        assert policy.infer({"a": 1}) == {"actions": [1], "server_timing": {"infer_ms": 3.5}}


def test_the_last_reset_is_said_again_after_a_reconnect() -> None:
    def answer(request: Any) -> bytes | None:
        if "obs" in request and request["obs"].get("hang_up"):
            return None
        return webpolicy(request)

    peer = Peer({}, answer)
    with session(peer, dialect="webpolicy") as policy:
        policy.reset({"task": "cup"})
        with pytest.raises(RuntimeError):
            policy.infer({"hang_up": True})
        policy.infer({"a": 1})
    assert [request["__webpolicy_op__"] for request in peer.requests] == ["reset", "step", "reset", "step"]
    assert peer.requests[2] == {"__webpolicy_op__": "reset", "payload": {"task": "cup"}}
    assert peer.connections == 2


# ---- RoboArena, DreamZero ------------------------------------------------------------------------


def roboarena(request: Any) -> bytes | str:
    if request.pop("endpoint") == "reset":
        return "reset successful"
    return TRACEBACK if "state" not in request else pack(ACTIONS)


def test_roboarena_is_recognised_and_its_bare_array_becomes_actions() -> None:
    peer = Peer(ROBOARENA, roboarena)
    with session(peer) as policy:
        assert policy.dialect == "roboarena"
        assert policy.metadata == ROBOARENA
        policy.reset({"session_id": "one"})
        reply = policy.infer({"state": ACTIONS[0], "session_id": "one"})
        assert list(reply) == ["actions"]
        np.testing.assert_array_equal(reply["actions"], ACTIONS)
    first, second = (msgpack.unpackb(message) for message in peer.messages)
    assert first == {"endpoint": "reset", "session_id": "one"}
    assert second["endpoint"] == "infer"
    assert second["session_id"] == "one"


def test_roboarenas_other_texts_are_errors() -> None:
    with session(Peer(ROBOARENA, roboarena)) as policy:
        with pytest.raises(AxonServerError, match="KeyError: 'state'") as caught:
            policy.infer({"prompt": "wave"})
        assert caught.value.traceback == TRACEBACK
        policy.infer({"state": 1})  # the connection was kept


# ---- vllm-omni -----------------------------------------------------------------------------------


OMNI = "/v1/realtime/robot/openpi"


def omni(request: Any) -> bytes:
    if request["endpoint"] == "reset":
        return pack({"status": "reset successful"})
    if "state" not in request:
        return pack({"type": "error", "message": "state is missing"})
    return pack({"joint_position": ACTIONS, "gripper_position": ACTIONS[:, :1]})


def test_vllm_omni_is_recognised_by_its_path() -> None:
    peer = Peer(ROBOARENA, omni)
    with session(peer, OMNI) as policy:
        assert policy.dialect == "vllm-omni"
        policy.reset()
        reply = policy.infer({"state": 1})
        assert set(reply) == {"joint_position", "gripper_position"}
        with pytest.raises(AxonServerError, match="server error: state is missing"):
            policy.infer({"prompt": "wave"})
        policy.infer({"state": 1})
    assert peer.connections == 1


# ---- openpi --------------------------------------------------------------------------------------


def test_openpi_sends_the_observation_itself_and_no_reset() -> None:
    peer = Peer({}, lambda request: pack({"actions": ACTIONS}))
    with hosted(peer) as url, WebsocketClientPolicy(url, connect_timeout=10) as client:
        assert client.dialect == "openpi"
        client.reset()
        np.testing.assert_array_equal(client.infer({"a": 1})["actions"], ACTIONS)
    assert peer.requests == [{"a": 1}]


@pytest.mark.parametrize("text", ["reset successful", TRACEBACK])
def test_a_text_is_an_error_where_nothing_was_reset(text: str) -> None:
    with session(Peer({}, lambda _request: text)) as policy, pytest.raises(
        AxonServerError, match="server error"
    ):
        policy.infer({"a": 1})


def test_a_reset_that_is_not_acknowledged_is_no_reset() -> None:
    peer = Peer({}, lambda _request: pack({"actions": 1}))
    words = "does not acknowledge the reset"
    with session(peer, dialect="webpolicy") as policy, pytest.raises(AxonProtocolError, match=words):
        policy.reset()


# ---- markers in replies --------------------------------------------------------------------------


def photograph() -> np.ndarray[Any, Any]:
    rows, columns = np.mgrid[0:48, 0:64]
    return np.stack([4 * columns, 5 * rows, columns + rows], -1).astype(np.uint8)


def file_of(image: np.ndarray[Any, Any], kind: str) -> bytes:
    bgr = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return bytes(cv2.imencode(kind, bgr, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes())


def npy(array: np.ndarray[Any, Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def picture(image: np.ndarray[Any, Any], kind: str) -> dict[str, Any]:
    return {"__image__": True, "format": kind, "data": file_of(image, "." + kind), "shape": list(image.shape)}


def strings(map_: dict[bytes, Any]) -> dict[str, Any]:
    return {key.decode(): value for key, value in map_.items()}


@pytest.mark.parametrize(
    "form",
    [
        marked(ACTIONS),
        strings(marked(ACTIONS)),
        {"__type__": "ndarray", "shape": [2, 8], "dtype": "float32", "data": ACTIONS.tobytes()},
        {"__ndarray_class__": True, "as_npy": npy(ACTIONS)},
        {b"__ndarray_class__": True, b"as_npy": npy(np.asfortranarray(ACTIONS))},
    ],
)
def test_every_marker_of_an_array_is_read(form: dict[Any, Any]) -> None:
    with session(Peer({}, lambda _request: pack({"actions": form}))) as policy:
        actions = policy.infer({"a": 1})["actions"]
    assert actions.dtype == np.float32
    np.testing.assert_array_equal(actions, ACTIONS)
    actions[0, 0] = 5  # the caller's own


@pytest.mark.parametrize(
    "array",
    [
        np.array([True, False]),
        np.array(["a", "βγ"]),
        np.arange(6, dtype=">i2").reshape(1, 2, 3),
        np.zeros((1, 1, 4, 5, 3), np.uint8),
        np.zeros((0, 3), np.float64),
        np.float32(2.5).reshape(()),
    ],
)
def test_npy_files_of_any_dtype_and_shape_are_read(array: np.ndarray[Any, Any]) -> None:
    read = unpackb(pack({"__ndarray_class__": True, "as_npy": npy(array)}))
    np.testing.assert_array_equal(read, array)
    assert read.dtype == array.dtype.newbyteorder("=")


def test_pictures_are_read_as_rgb() -> None:
    image = photograph()
    np.testing.assert_array_equal(unpackb(pack(picture(image, "png"))), image)
    assert np.abs(unpackb(pack(picture(image, "jpeg"))).astype(int) - image).mean() < 4


def test_positronics_frames_are_read() -> None:
    image = photograph()
    frame = file_of(image, ".jpg")
    one = unpackb(pack({b"__jpeg__": True, b"frames": [frame], b"ndim": 3}))
    two = unpackb(pack({b"__jpeg__": True, b"frames": [frame, frame], b"ndim": 4}))
    assert one.shape == (48, 64, 3)
    assert two.shape == (2, 48, 64, 3)
    np.testing.assert_array_equal(two[1], one)
    assert np.abs(one.astype(int) - image).mean() < 4


def test_a_bomb_of_pixels_is_refused_by_its_size() -> None:
    bomb = picture(np.zeros((16384, 16384, 3), np.uint8)[:1, :1], "png")
    bomb["data"] = bomb["data"][:16] + (16384).to_bytes(4, "big") * 2 + bomb["data"][24:]
    bomb["shape"] = [16384, 16384, 3]
    with pytest.raises(AxonTooBig, match="16384x16384 pixels"):
        unpackb(pack(bomb))


# ---- pictures in observations --------------------------------------------------------------------


def seen(request: Any) -> bytes:
    """Tells what the pictures looked like on the wire."""
    return pack({"forms": {key: sorted(map(str, value)) for key, value in request.items()}})


IMAGE_KEYS = ["__image__", "data", "format", "shape"]
ARRAY_KEYS = sorted(map(str, marked(ACTIONS)))


@pytest.mark.parametrize("compress", ["jpeg", "png"])
def test_pictures_go_as_files_to_a_server_that_declares_it(compress: str) -> None:
    image = photograph()
    peer = Peer({"__axon__": {"codecs": ["jpeg", "png"]}, "model": "m"}, seen)
    with session(peer, compress=compress) as policy:
        assert policy.metadata == {"model": "m"}
        forms = policy.infer({"image": image, "turned": image[::-1, ::-1], "state": ACTIONS})["forms"]
    assert forms == {"image": IMAGE_KEYS, "turned": IMAGE_KEYS, "state": ARRAY_KEYS}
    request = peer.requests[0]
    assert request["image"]["format"] == compress
    assert request["image"]["shape"] == [48, 64, 3]
    decoded = cv2.imdecode(np.frombuffer(request["turned"]["data"], np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    difference = np.abs(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB).astype(int) - image[::-1, ::-1])
    assert difference.max() <= (0 if compress == "png" else 12)
    assert len(peer.messages[0]) < image.nbytes


@pytest.mark.parametrize(
    "metadata",
    [{}, {"__axon__": {"codecs": ["png"]}}, {"codecs": ["jpeg"]}, {"__axon__": {"codecs": "jpeg"}}],
)
def test_pictures_go_raw_to_a_server_that_did_not_declare_it(metadata: dict[str, Any]) -> None:
    with session(Peer(metadata, seen), compress="jpeg") as policy:
        assert policy.infer({"image": photograph()})["forms"] == {"image": ARRAY_KEYS}


class Same:
    """Answers with what it saw, and keeps it."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def infer(self, obs: dict[str, Any]) -> dict[str, Any]:
        self.seen.append(obs)
        return {"actions": ACTIONS}

    def reset(self, payload: Any = None) -> None:
        self.seen.append(payload)


@pytest.mark.parametrize(
    ("kind", "client"), [(WebsocketPolicyServer, WebsocketClientPolicy), (Server, Client)]
)
def test_our_server_declares_what_it_decodes_to_our_client_alone(kind: Any, client: Any) -> None:
    image, policy = photograph(), Same()
    with served(kind(policy, port=0, metadata={"model": "m"})) as server:
        with client(server.url, compress="png") as ours:
            assert ours.get_server_metadata() == {"model": "m"}
            small = ours.infer({"image": image, "turned": image[:, ::-1]}).timing.sent_bytes
        with connect(server.url, compression=None) as stock:
            metadata = stock.recv()
    assert small < image.nbytes
    np.testing.assert_array_equal(policy.seen[0]["image"], image)
    np.testing.assert_array_equal(policy.seen[0]["turned"], image[:, ::-1])
    assert isinstance(metadata, bytes)
    assert msgpack.unpackb(metadata) == {"model": "m"}


def test_pictures_go_raw_when_nobody_asked() -> None:
    with session(Peer({"__axon__": {"codecs": ["jpeg", "png"]}}, seen)) as policy:
        assert policy.infer({"image": photograph()})["forms"] == {"image": ARRAY_KEYS}


def test_an_unknown_codec_is_named() -> None:
    with pytest.raises(AxonValueError, match=r"compress.*webp"):
        Policy("ws://127.0.0.1:9", compress="webp")


def test_the_agent_says_who_it_is() -> None:
    peer = Peer({}, lambda _request: pack({}))
    with session(peer):
        pass
    assert [str(agent).split("/")[0] for agent in peer.agents] == ["axon"]


def test_arrays_are_written_in_openpis_form() -> None:
    assert msgpack.unpackb(packb({"a": ACTIONS})) == {"a": marked(ACTIONS)}
