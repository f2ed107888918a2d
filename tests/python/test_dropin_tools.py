"""msgpack_numpy, runtime and deco.validate beside the originals; what may be imported, and without what."""

from __future__ import annotations

import ast
import io
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service_clients.openpi import msgpack_numpy
from service_clients.webpolicy.deco.validate import inp, out, validate

ROOT = Path(__file__).resolve().parents[2]
PEERS = ROOT / ".venv-peers/bin/python"
CLIENTS = ROOT / "service_clients"

OPENPI = [
    "base_policy",
    "msgpack_numpy",
    "image_tools",
    "action_chunk_broker",
    "websocket_client_policy",
    "runtime.runtime",
    "runtime.agent",
    "runtime.environment",
    "runtime.subscriber",
    "runtime.agents.policy_agent",
]
WEBPOLICY = [
    "base_policy",
    "msgpack_numpy",
    "image_tools",
    "action_chunk_broker",
    "runtime.runtime",
    "runtime.agent",
    "runtime.environment",
    "runtime.subscriber",
    "runtime.agents.policy_agent",
    "deco.validate",
]

VALUES = [
    1,
    -(2**63),
    2**64 - 1,
    1.5,
    "hällo",
    b"bytes",
    None,
    True,
    [1, 2.0, "x"],
    (1, (2,)),
    {"key": {"nested": [1, {"deep": b""}]}},
    np.bool_(True),
    np.array([1, 2, 3])[0],
    np.float32(0.1),
    np.float64(0.1),
    np.str_("asdf"),
    np.array(1.0),
    np.array([], np.float32),
    np.arange(6, dtype=np.int32).reshape(2, 3),
    np.arange(6, dtype=np.int16).reshape(2, 3).T,
    np.arange(10)[::-2],
    np.arange(3, dtype=">f4"),
    np.array(["asdf", "qwerty"]),
    np.array([b"asdf", b"q"]),
    np.array([True, False]),
    np.array([np.nan, np.inf, -np.inf]),
    np.zeros((3, 4, 5), np.float16),
    {"arr": np.array([1, 2, 3]), "nested": {"arr": np.array([4, 5, 6], np.uint8)}},
    [np.array([1, 2]), np.array([3, 4])],
]


def theirs(script: str, given: Any) -> Any:
    """What a script makes of `given` with the real openpi_client: it finds `given` and leaves `result`."""
    frame = "import pickle, sys\ngiven = pickle.load(sys.stdin.buffer)\n{}\npickle.dump(result, sys.stdout.buffer)"
    done = subprocess.run(
        [PEERS, "-c", frame.format(script)],
        input=pickle.dumps(given, protocol=4),
        check=True,
        capture_output=True,
        timeout=100,
    )
    return pickle.loads(done.stdout)


def ours(script: str, given: Any) -> Any:
    """The same, in this process, with the one word replaced."""
    names: dict[str, Any] = {"given": given}
    exec(script.replace("openpi_client", "service_clients.openpi"), names)
    return names["result"]


def assert_same(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for pair in zip(one, other):
            assert_same(*pair)
    elif isinstance(one, (np.ndarray, np.generic)):
        assert one.dtype.newbyteorder("=") == other.dtype.newbyteorder("=")
        np.testing.assert_array_equal(one, other)
    else:
        assert one == other


def without_numpy_2(value: Any) -> Any:
    """As plain pieces: what numpy 2 pickles, numpy 1 of the peers cannot load."""
    if isinstance(value, np.ndarray):
        return ("array", value.dtype.str, value.shape, value.tobytes())
    if isinstance(value, np.generic):
        return ("scalar", value.dtype.str, value.tobytes())
    if isinstance(value, dict):
        return ("dict", [(key, without_numpy_2(child)) for key, child in value.items()])
    if isinstance(value, (list, tuple)):
        return (type(value).__name__, [without_numpy_2(child) for child in value])
    return value


BACK = """
import numpy as np
def back(v):
    if not isinstance(v, tuple): return v
    if v[0] == "array": return np.frombuffer(v[3], v[1]).reshape(v[2])
    if v[0] == "scalar": return np.frombuffer(v[2], v[1])[0]
    if v[0] == "dict": return {k: back(c) for k, c in v[1]}
    return (list if v[0] == "list" else tuple)(back(c) for c in v[1])
"""


def test_messages_are_the_bytes_that_openpi_client_makes() -> None:
    script = "from openpi_client import msgpack_numpy\nresult = [msgpack_numpy.packb(back(v)) for v in given]"
    expected = theirs(BACK + script, [without_numpy_2(value) for value in VALUES])
    packer = msgpack_numpy.Packer()
    for value, message in zip(VALUES, expected):
        assert msgpack_numpy.packb(value) == packer.pack(value) == message


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_what_is_packed_is_unpacked(value: Any) -> None:
    back = msgpack_numpy.unpackb(msgpack_numpy.packb(value))
    if isinstance(value, tuple):
        value = [1, [2]]
    if isinstance(value, np.str_):
        value = str(value)
    if isinstance(value, np.float64):
        value = float(value)
    assert_same(back, value)
    if isinstance(back, np.ndarray):
        assert back.flags.writeable


@pytest.mark.parametrize(
    "value",
    [np.array([{}], object), np.array([1j]), np.zeros(2, [("a", int)]), np.complex64(1)],
    ids=["object", "complex", "structured", "scalar"],
)
def test_dtypes_that_do_not_travel_are_value_errors(value: Any) -> None:
    for pack in (msgpack_numpy.packb, msgpack_numpy.Packer().pack, msgpack_numpy.pack_array):
        with pytest.raises(ValueError, match="dtype"):
            pack(value)


def test_the_hooks_turn_arrays_into_maps_and_back() -> None:
    array = np.arange(6, dtype=np.int16).reshape(2, 3)
    packed = msgpack_numpy.pack_array(array)
    assert packed == {b"__ndarray__": True, b"data": array.tobytes(), b"dtype": "<i2", b"shape": (2, 3)}
    back = msgpack_numpy.unpack_array(packed)
    assert_same(back, array)
    back[0, 0] = 5
    scalar = msgpack_numpy.unpack_array(msgpack_numpy.pack_array(np.int8(3)))
    assert_same(scalar, np.int8(3))
    assert msgpack_numpy.pack_array("text") == "text"
    assert msgpack_numpy.unpack_array({"a": 1}) == {"a": 1}


def test_an_unpacker_reads_messages_as_they_come() -> None:
    stream = b"".join(msgpack_numpy.packb(value) for value in VALUES)
    unpacker, found = msgpack_numpy.Unpacker(), []
    for at in range(0, len(stream), 7):
        unpacker.feed(stream[at : at + 7])
        found += list(unpacker)
    assert len(found) == len(VALUES)
    assert_same(found[-1], VALUES[-1])
    with pytest.raises(msgpack_numpy.OutOfData):
        unpacker.unpack()


def test_an_unpacker_reads_from_a_file() -> None:
    stream = b"".join(msgpack_numpy.packb(value) for value in VALUES)
    unpacker = msgpack_numpy.Unpacker(io.BytesIO(stream), read_size=10)
    assert unpacker.unpack() == 1
    assert len(list(unpacker)) == len(VALUES) - 1


def test_an_unpacker_refuses_what_is_broken_or_too_long() -> None:
    unpacker = msgpack_numpy.Unpacker(max_buffer_size=10)
    unpacker.feed(b"\x92\x01")
    with pytest.raises(ValueError, match=r"11 bytes wait .* at most 10 \(max_buffer_size\)"):
        unpacker.feed(bytes(9))
    unpacker.feed(b"\xc1")
    with pytest.raises(ValueError, match="0xc1"):
        unpacker.unpack()
    for message in (b"", b"\x92\x01", b"\x01\x01"):
        with pytest.raises(ValueError, match="byte"):
            msgpack_numpy.unpackb(message)


MSGPACKS_OPTIONS = """
import io
from openpi_client import msgpack_numpy as m

def feed(unpacker, data):
    unpacker.feed(data)
    return unpacker

kept = m.Packer(autoreset=False)
built = m.Packer(use_bin_type=True)
result = [
    m.packb({"a": [1, b"2"]}, use_bin_type=True, strict_types=False, datetime=False, unicode_errors=None),
    m.Packer(use_single_float=False).pack(1.5),
    m.unpackb(b"\\x81\\xa1a\\x92\\x01\\x91\\x02", raw=False, strict_map_key=False, max_bin_len=1 << 20),
    m.unpackb(b"\\x81\\xa1a\\x92\\x01\\x91\\x02", use_list=False, object_pairs_hook=None),
    [kept.pack(1), kept.pack_map_pairs([("a", 2)]), kept.bytes(), bytes(kept.getbuffer())],
    [kept.reset(), kept.bytes()],
    [built.pack_array_header(size) for size in (0, 15, 16, 65535, 65536)],
    [built.pack_map_header(size) for size in (0, 15, 16, 65535, 65536)],
    built.pack_map_pairs([("a", 1), ("b", [2])]),
    list(feed(m.Unpacker(raw=False, use_list=False, max_buffer_size=0), b"\\x91\\x01\\x02")),
    list(m.Unpacker(io.BytesIO(b"\\x01\\x02"), read_size=0, strict_map_key=True)),
]
parts = feed(m.Unpacker(), b"\\x01\\xdc\\x00\\x02\\x02\\x81\\x03\\x04\\xff\\xfe")
parts.skip()
result += [parts.tell(), parts.read_array_header(), parts.unpack(), parts.read_map_header()]
result += [parts.unpack(), parts.unpack(), parts.tell(), parts.read_bytes(1), parts.read_bytes(9), parts.tell()]
"""


def test_msgpacks_own_options_and_methods_do_what_they_do_there() -> None:
    assert ours(MSGPACKS_OPTIONS, None) == theirs(MSGPACKS_OPTIONS, None)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: msgpack_numpy.packb(1.5, use_single_float=True), "use_single_float=True is not possible"),
        (lambda: msgpack_numpy.Packer(default=str), "default=.* is not possible"),
        (lambda: msgpack_numpy.Packer().pack_array_header(-1), "a list of -1 members"),
        (lambda: msgpack_numpy.unpackb(b"\x01", raw=True), "raw=True is not possible, only False"),
        (lambda: msgpack_numpy.unpackb(b"\x91\x01", max_array_len=1), "max_array_len=1 is not possible"),
        (lambda: msgpack_numpy.Unpacker(object_hook=dict), "object_hook=.* is not possible"),
        (lambda: msgpack_numpy.Unpacker(io.BytesIO(b"\x01")).read_map_header(), "no map begins here"),
    ],
)
def test_msgpacks_options_that_ask_for_something_else_are_refused(call: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()


def test_options_that_msgpack_does_not_know_are_type_errors() -> None:
    with pytest.raises(TypeError, match="'binary'"):
        msgpack_numpy.packb(1, binary=True)
    with pytest.raises(TypeError, match="'binary'"):
        msgpack_numpy.Unpacker(binary=True)


def test_openpi_client_gives_the_same_pictures() -> None:
    script = """
from openpi_client import image_tools
result = [image_tools.convert_to_uint8(image_tools.resize_with_pad(image, 37, 53)).tobytes() for image in images]
"""
    head = "import numpy as np\nimages = [np.random.default_rng(s).integers(0, 256, (2, 90, 60 + s, 3), np.uint8) for s in range(9)]"
    assert ours(head + script, None) == theirs(head + script, None)


EPISODES = """
import numpy as np
from openpi_client import action_chunk_broker, base_policy
from openpi_client.runtime import agent, environment, runtime, subscriber
from openpi_client.runtime.agents import policy_agent

result = []

class Policy(base_policy.BasePolicy):
    def infer(self, obs):
        return {"actions": np.arange(12.0).reshape(4, 3) + obs["t"], "policy": "p"}
    def reset(self):
        result.append("policy reset")

class World(environment.Environment):
    def reset(self):
        self.t = 0
        result.append("reset")
    def is_episode_complete(self):
        return self.t >= 6
    def get_observation(self):
        return {"t": self.t}
    def apply_action(self, action):
        self.t += 1
        result.append(("act", action["actions"].tolist(), action["policy"]))

class Recorder(subscriber.Subscriber):
    def on_episode_start(self):
        result.append("start")
    def on_step(self, observation, action):
        result.append(("step", observation["t"]))
    def on_episode_end(self):
        result.append("end")

broker = action_chunk_broker.ActionChunkBroker(policy=Policy(), action_horizon=4)
runner = runtime.Runtime(
    environment=World(), agent=policy_agent.PolicyAgent(policy=broker), subscribers=[Recorder()],
    max_hz=200, num_episodes=2, max_episode_steps=0,
)
runner.run_in_new_thread().join()
"""


def test_a_script_for_openpi_client_runs_with_the_word_replaced() -> None:
    assert ours(EPISODES, None) == theirs(EPISODES, None)


class Model:
    @classmethod
    def model_validate(cls, data: Any) -> None:
        if "id" not in data:
            raise ValueError("no id")


def test_what_a_function_is_given_is_validated(capsys: pytest.CaptureFixture[str]) -> None:
    class Policy:
        @inp(Model)
        def step(self, obs: dict[str, Any]) -> dict[str, Any]:
            """Steps."""
            return obs

    good: dict[str, Any] = {"id": "3"}
    assert Policy().step(good) is Policy().step(obs=good) is good
    assert Policy.step.__doc__ == "Steps."
    with pytest.raises(ValueError, match="no id"):
        Policy().step({})
    assert "no id" in capsys.readouterr().err
    assert validate(Model)(lambda x: x)(x=good) is good
    with pytest.raises(TypeError, match="without a dict"):
        inp(Model)(lambda: None)()


def test_what_a_function_returns_is_validated() -> None:
    answers: list[Any] = [{"id": 1}, {}]

    @out(Model)
    def function() -> Any:
        return answers.pop(0)

    assert function() == {"id": 1}
    with pytest.raises(ValueError, match="no id"):
        function()


IMPORTS = "".join(
    f"import service_clients.{folder}.{name}\n"
    for folder, names in (("openpi", OPENPI), ("webpolicy", WEBPOLICY))
    for name in names
)
WITHOUT = """
import sys
for name in "jax tree msgpack websockets PIL pydantic rich typing_extensions".split():
    sys.modules[name] = None
"""


def test_everything_is_there_without_the_originals_dependencies() -> None:
    use = "from service_clients.openpi.image_tools import resize_with_pad as r\nimport numpy as np\n"
    use += "assert r(np.zeros((9, 9, 3), np.uint8), 5, 7).shape == (5, 7, 3)\n"
    subprocess.run([sys.executable, "-c", WITHOUT + IMPORTS + use], cwd=ROOT, check=True, timeout=60)


def test_the_sandbox_lets_everything_in(tmp_path: Path) -> None:
    script = tmp_path / "skill.py"
    script.write_text(IMPORTS)
    command = [sys.executable, "-m", "service_clients.demo.sandbox", str(script)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=60)


def test_everything_is_python_3_8() -> None:
    for folder in ("runtime", "openpi", "webpolicy", "_axon"):
        for source in (CLIENTS / folder).rglob("*.py"):
            ast.parse(source.read_text(), feature_version=(3, 8))


def test_the_wheel_holds_every_folder() -> None:
    script = "from setuptools import find_namespace_packages as f; print(*f(include=['service_clients.*']))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, check=True, capture_output=True, text=True, timeout=60
    )
    folders = {".".join(("service_clients", folder)) for folder in ("openpi", "webpolicy", "runtime")}
    folders |= {
        f"service_clients.{word}.runtime{rest}"
        for word in ("openpi", "webpolicy")
        for rest in ("", ".agents")
    }
    assert folders | {"service_clients.webpolicy.deco"} <= set(done.stdout.split())
